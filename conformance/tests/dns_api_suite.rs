//! The suite for providers over an API: a right one passes, and each kind of wrong one fails the clause that is about it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use acmekit_conformance::api::{Answer, Api};
use acmekit_conformance::{dns_api as clauses, dns_provider};
use acmekit_core::rest::{Client, Pool};
use acmekit_core::{
    DnsName, DnsProvider, Error, ErrorKind, RecordHandle, Result, Secret, TxtRecord, Zone, async_trait,
};
use clauses::Subject;

const SECRET: &str = "open-sesame";

/// What is wrong with a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    KeepsTheTimeToItself,
    TakesAnOutageForARefusal,
    TakesARefusalForAnOutage,
    BelievesAnything,
    ShowsItsSecret,
    TellsEverythingAsAnOutage,
    CannotRemoveWhatItDidNotFinish,
}

#[derive(Debug)]
struct Provider {
    flaw: Flaw,
    client: Client,
}

impl Provider {
    fn wrong(&self, error: Error) -> Result<()> {
        let as_kind = |kind| Err(Error::new(kind, "test", "told for something else").with_hint("none"));
        match (self.flaw, error.kind()) {
            (Flaw::KeepsTheTimeToItself, kind @ ErrorKind::RateLimited) => as_kind(kind),
            (Flaw::TakesAnOutageForARefusal, ErrorKind::Unavailable) => as_kind(ErrorKind::Auth),
            (Flaw::TakesARefusalForAnOutage, ErrorKind::Auth) => as_kind(ErrorKind::Unavailable),
            (Flaw::BelievesAnything, ErrorKind::Protocol) => Ok(()),
            (Flaw::TellsEverythingAsAnOutage, _) => as_kind(ErrorKind::Unavailable),
            (Flaw::ShowsItsSecret, _) => Err(error.with("token", SECRET)),
            _ => Err(error.with_hint("look at the token")),
        }
    }

    async fn write(&self, method: http::Method, record: &TxtRecord) -> Result<()> {
        let path = [record.name.as_str(), record.value.as_str()];
        let done = self.client.request("test", method, &path).send::<BTreeMap<String, String>>().await;
        done.map(drop).or_else(|error| self.wrong(error))
    }
}

#[async_trait]
impl DnsProvider for Provider {
    fn id(&self) -> &str {
        "test"
    }

    async fn zone(&self, _: &DnsName) -> Result<Option<Zone>> {
        Ok(Some(Zone::new("zone.test".parse()?)))
    }

    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        self.write(http::Method::PUT, record).await?;
        Ok(RecordHandle::intent("test", zone.clone(), record.clone()).with_id("made"))
    }

    async fn remove_txt(&self, handle: &RecordHandle) -> Result<()> {
        if self.flaw == Flaw::CannotRemoveWhatItDidNotFinish && handle.id.is_none() {
            return Err(Error::new(ErrorKind::NotFound, "test", "it has no id"));
        }
        self.write(http::Method::DELETE, &handle.record).await
    }
}

struct World {
    flaw: Flaw,
    api: Api,
    /// Paths: a name and a value.
    there: Arc<Mutex<Vec<String>>>,
}

impl World {
    async fn with(flaw: Flaw) -> Self {
        let there = Arc::new(Mutex::new(Vec::new()));
        let records = Arc::clone(&there);
        let api = Api::start(move |asked| {
            let mut records = records.lock().unwrap_or_else(PoisonError::into_inner);
            records.retain(|path| *path != asked.path);
            if asked.method == "PUT" {
                records.push(asked.path);
            }
            async { Answer::json(200, "{}") }
        })
        .await;
        Self { flaw, api, there }
    }
}

#[async_trait]
impl dns_provider::Subject for World {
    fn provider(&self) -> Arc<dyn DnsProvider> {
        self.impatient()
    }
    fn another(&self) -> Arc<dyn DnsProvider> {
        self.impatient()
    }
    fn zone(&self) -> DnsName {
        "zone.test".parse().unwrap()
    }
    fn foreign_name(&self) -> DnsName {
        "www.other.test".parse().unwrap()
    }
    async fn lookup(&self, name: &DnsName) -> Vec<String> {
        let there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        there.iter().filter_map(|path| path.strip_prefix(&format!("/{name}/"))).map(str::to_owned).collect()
    }
    async fn plant(&self, _: &DnsName, _: &str) {}
    async fn has_planted_record(&self, _: &DnsName) -> bool {
        false
    }
    fn secret(&self) -> String {
        SECRET.to_owned()
    }
    fn wrong_secret(&self) -> String {
        "open-barley".to_owned()
    }
    fn with_wrong_credential(&self) -> Arc<dyn DnsProvider> {
        self.impatient()
    }
}

impl Subject for World {
    fn api(&self) -> &Api {
        &self.api
    }

    fn impatient(&self) -> Arc<dyn DnsProvider> {
        let client = Client::new(&self.api.url(), &Pool::new().unwrap()).unwrap();
        let client = client.with_bearer(&Secret::from(SECRET)).unwrap().with_timeout(Duration::from_secs(1));
        Arc::new(Provider { flaw: self.flaw, client })
    }
}

mod right {
    use super::*;
    acmekit_conformance::dns_api_suite!(World::with(Flaw::None).await);
}

macro_rules! found_out {
    ($($test:ident: $flaw:ident by $clause:ident)*) => {$(
        #[tokio::test]
        #[should_panic(expected = "D17")]
        async fn $test() {
            clauses::$clause(&World::with(Flaw::$flaw).await).await;
        }
    )*};
}

found_out! {
    the_time_is_not_handed_on: KeepsTheTimeToItself by d17_a_limit_is_told_with_the_vendors_time
    an_outage_is_told_as_a_refusal: TakesAnOutageForARefusal by d17_an_outage_is_told_as_one
    a_refusal_is_told_as_an_outage: TakesARefusalForAnOutage by d17_a_refusal_is_told_as_one
    nonsense_is_believed: BelievesAnything by d17_nonsense_is_no_success
    the_credential_is_shown: ShowsItsSecret by d17_an_outage_is_told_as_one
    what_was_not_finished_stays: CannotRemoveWhatItDidNotFinish by d17_a_connection_that_ends_is_told
    silence_is_told_for_something_else: TellsEverythingAsAnOutage by d17_silence_costs_its_time_and_no_more
}
