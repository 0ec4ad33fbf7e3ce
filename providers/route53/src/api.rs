//! The five calls that are made, each with the deadline, in its turn, and without a log of the SDK's.

use std::error::Error as StdError;

use acmekit_core::{Deadline, DnsName, Error, ErrorKind, Result, Secret};
use aws_sdk_route53::Client;
use aws_sdk_route53::config::SharedHttpClient;
use aws_sdk_route53::config::http::HttpResponse;
use aws_sdk_route53::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_route53::types::{self, ChangeBatch, ChangeInfo, ChangeStatus, ResourceRecordSet, RrType};
use tokio::sync::OnceCell;

use crate::client::{self, silently};
use crate::config::{Config, Credential};
use crate::pace::Pace;
use crate::{refusal, text};

/// No account has more pages: 500 zones are the default quota, 100 a page.
const MAX_PAGES: usize = 1000;

/// A hosted zone, as Route 53 tells it.
#[derive(Debug)]
pub(crate) struct HostedZone {
    pub(crate) id: String,
    /// In lower case, without a dot at the end.
    pub(crate) name: String,
    pub(crate) private: bool,
}

impl From<&types::HostedZone> for HostedZone {
    fn from(zone: &types::HostedZone) -> Self {
        Self {
            id: bare(zone.id(), "/hostedzone/"),
            name: text::name(zone.name()),
            private: zone.config().is_some_and(types::HostedZoneConfig::private_zone),
        }
    }
}

/// A change that was taken.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) id: String,
    pub(crate) in_sync: bool,
}

pub(crate) struct Api {
    config: Config,
    http: SharedHttpClient,
    client: OnceCell<Client>,
    pace: Pace,
    secrets: Vec<Secret<String>>,
}

impl Api {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let secrets = match &config.credential {
            Credential::Found { .. } => Vec::new(),
            Credential::Keys { secret_access_key, session_token, .. } => {
                std::iter::once(secret_access_key).chain(session_token).cloned().collect()
            }
        };
        let (config, http) = (config.clone(), client::http()?);
        Ok(Self { config, http, client: OnceCell::new(), pace: Pace::default(), secrets })
    }

    async fn client(&self, op: &'static str, deadline: Deadline) -> Result<&Client> {
        // The SDK's futures are large.
        let loaded =
            Box::pin(silently(self.client.get_or_init(|| client::load(&self.config, self.http.clone()))));
        deadline.run(op, "read the SDK's files", async { Ok(loaded.await) }).await
    }

    /// Makes one request.
    async fn ask<T, E, F>(
        &self,
        op: &'static str,
        asked: &'static str,
        deadline: Deadline,
        call: impl FnOnce(&Client) -> F + Send,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
        E: ProvideErrorMetadata + StdError + Send + 'static,
        T: Send,
    {
        if !self.pace.turn(deadline).await {
            return Err(deadline.missed(op, asked));
        }
        let answer = Box::pin(silently(call(self.client(op, deadline).await?)));
        let answer = deadline.run(op, asked, async {
            answer.await.map_err(|failed| refusal::error(op, asked, &failed, &self.secrets))
        });
        let answer = answer.await;
        match &answer {
            Ok(_) => tracing::debug!(request = asked, "Route 53 has answered"),
            Err(error) => tracing::debug!(request = asked, %error, "Route 53 has not done it"),
        }
        answer
    }

    /// <https://docs.aws.amazon.com/Route53/latest/APIReference/API_ListHostedZones.html>
    pub(crate) async fn zones(&self, op: &'static str, deadline: Deadline) -> Result<Vec<HostedZone>> {
        let (mut zones, mut marker) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let page = self.ask(op, "ListHostedZones", deadline, |client| {
                client.list_hosted_zones().set_marker(marker.take()).send()
            });
            let page = page.await?;
            is_whole(op, page.max_items())?;
            zones.extend(page.hosted_zones().iter().map(HostedZone::from));
            marker = page.next_marker().filter(|_| page.is_truncated()).map(str::to_owned);
            if marker.is_none() {
                return Ok(zones);
            }
        }
        Err(Error::new(
            ErrorKind::Protocol,
            op,
            format!("the list of zones does not end after {MAX_PAGES} pages"),
        ))
    }

    /// <https://docs.aws.amazon.com/Route53/latest/APIReference/API_GetHostedZone.html>
    pub(crate) async fn zone(&self, op: &'static str, id: &str, deadline: Deadline) -> Result<HostedZone> {
        let found = self.ask(op, "GetHostedZone", deadline, |client| client.get_hosted_zone().id(id).send());
        found.await?.hosted_zone().map(HostedZone::from).ok_or_else(|| missing(op, "HostedZone"))
    }

    /// The TXT record sets at a name, with what changes are pending.
    /// <https://docs.aws.amazon.com/Route53/latest/APIReference/API_ListResourceRecordSets.html>
    pub(crate) async fn records(
        &self,
        op: &'static str,
        zone: &str,
        name: &DnsName,
        deadline: Deadline,
    ) -> Result<Vec<ResourceRecordSet>> {
        let page = self.ask(op, "ListResourceRecordSets", deadline, |client| {
            let list = client.list_resource_record_sets().hosted_zone_id(zone);
            // They come in order, so those that are meant are the first. All have a set identifier if there
            // are more than one.
            list.start_record_name(format!("{name}.")).start_record_type(RrType::Txt).max_items(20).send()
        });
        let is_meant =
            |set: &ResourceRecordSet| *set.r#type() == RrType::Txt && text::name(set.name()) == name.as_str();
        let page = page.await?;
        is_whole(op, page.max_items())?;
        Ok(page.resource_record_sets.into_iter().filter(is_meant).collect())
    }

    /// <https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html>
    pub(crate) async fn change(
        &self,
        op: &'static str,
        zone: &str,
        changes: Vec<types::Change>,
        deadline: Deadline,
    ) -> Result<Change> {
        let batch =
            ChangeBatch::builder().comment("acmekit").set_changes(Some(changes)).build().map_err(|e| {
                Error::new(ErrorKind::Other, op, "the change cannot be written").with_source(e)
            })?;
        let done = self.ask(op, "ChangeResourceRecordSets", deadline, |client| {
            client.change_resource_record_sets().hosted_zone_id(zone).change_batch(batch).send()
        });
        let info = done.await?.change_info.ok_or_else(|| missing(op, "ChangeInfo"))?;
        Ok(Change { id: bare(info.id(), "/change/"), in_sync: is_in_sync(&info) })
    }

    /// <https://docs.aws.amazon.com/Route53/latest/APIReference/API_GetChange.html>
    pub(crate) async fn is_in_sync(&self, op: &'static str, id: &str, deadline: Deadline) -> Result<bool> {
        let told = self.ask(op, "GetChange", deadline, |client| client.get_change().id(id).send());
        told.await?.change_info().map(is_in_sync).ok_or_else(|| missing(op, "ChangeInfo"))
    }
}

/// The SDK takes a list that was cut for a shorter one, and a value would count as removed that is still there. What comes
/// last in every list is missing then.
fn is_whole(op: &'static str, max_items: i32) -> Result<()> {
    if max_items > 0 { Ok(()) } else { Err(missing(op, "MaxItems")) }
}

fn is_in_sync(info: &ChangeInfo) -> bool {
    *info.status() == ChangeStatus::Insync
}

fn missing(op: &'static str, what: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, op, "the answer lacks what it is about").with("element", what)
}

fn bare(id: &str, prefix: &str) -> String {
    id.strip_prefix(prefix).unwrap_or(id).to_owned()
}
