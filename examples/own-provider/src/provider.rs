//! DNS-01 by the DNS server of a company, which has an API of its own:
//!
//! | request | does | answer |
//! |---|---|---|
//! | `GET /zones` | | `{"zones":["example.com"]}` |
//! | `POST /add` | adds a value, unless it is there | `{"values":["…"]}`: all that are there now |
//! | `POST /remove` | removes this value | the same; 404 if it is not there |
//!
//! Both changes are told `{"zone":"example.com","name":"_acme-challenge.example.com","value":"…","ttl":60}`. Each request has
//! `Authorization: Bearer TOKEN`. A refusal says why: `{"error":"…"}`.

use std::time::Duration;

use acmekit::rest::{Client, Pool, Refusal};
use acmekit::{
    DnsName, DnsProvider, Error, ErrorKind, RecordHandle, Result, Secret, TxtRecord, Zone, async_trait,
};
use http::Method;
use serde::{Deserialize, Serialize};

/// The provider's id: in handles, in the journal, in metrics. It never changes.
pub const ID: &str = "in-house";

/// The API, with the token it is asked with.
#[derive(Debug, Clone)]
pub struct InHouse {
    // It shows no credential, ends every call in time, and tells by status what went wrong.
    client: Client,
}

#[derive(Debug, Deserialize)]
struct Zones {
    zones: Vec<DnsName>,
}

#[derive(Debug, Serialize)]
struct Change<'a> {
    zone: &'a DnsName,
    name: &'a DnsName,
    value: &'a str,
    ttl: u64,
}

/// What a change answers. That it is read means that nobody else has answered: no proxy, no login page.
#[derive(Debug, Deserialize)]
struct Changed {
    values: Vec<String>,
}

impl InHouse {
    /// The API below this URL. Nothing is sent yet.
    ///
    /// # Errors
    /// `Config` if the URL is neither `https://` nor one of this machine, or the token cannot be sent.
    pub fn new(url: &str, token: &Secret<String>) -> Result<Self> {
        let client = Client::new(url, &Pool::new()?)?.with_bearer(token)?.with_refusals(|status, body| {
            if status.is_success() {
                return None;
            }
            let said: serde_json::Value = serde_json::from_slice(body).ok()?;
            Some(Refusal::new(said.get("error")?.as_str()?))
        });
        Ok(Self { client })
    }

    /// How long one request may take (default 30 s).
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { client: self.client.with_timeout(timeout) }
    }

    async fn change(
        &self,
        op: &'static str,
        path: &str,
        zone: &Zone,
        record: &TxtRecord,
    ) -> Result<Vec<String>> {
        let (name, value, ttl) = (&record.name, record.value.as_str(), record.ttl.as_secs());
        let request = self.client.request(op, Method::POST, &[path]).json(&Change {
            zone: &zone.name,
            name,
            value,
            ttl,
        });
        let changed: Result<Changed> = request.send().await;
        changed.map(|changed| changed.values).map_err(|e| explained(e).with("name", name))
    }
}

#[async_trait]
impl DnsProvider for InHouse {
    fn id(&self) -> &str {
        ID
    }

    async fn zone(&self, name: &DnsName) -> Result<Option<Zone>> {
        let request = self.client.request("in-house.zone", Method::GET, &["zones"]);
        let held: Zones = request.send().await.map_err(explained)?;
        // From the name itself upwards, so that the first one is the longest.
        Ok(name.ancestors().find(|candidate| held.zones.contains(candidate)).map(Zone::new))
    }

    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        let op = "in-house.add_txt";
        let values = self.change(op, "add", zone, record).await?;
        if !values.contains(&record.value) {
            let why = "the API says that it is done, but the value is not there";
            return Err(Error::new(ErrorKind::Protocol, op, why).with("name", &record.name));
        }
        // Zone, name and value are enough to find it again: this API has no ids, else `with_id` would keep it.
        Ok(RecordHandle::intent(ID, zone.clone(), record.clone()))
    }

    async fn remove_txt(&self, handle: &RecordHandle) -> Result<()> {
        match self.change("in-house.remove_txt", "remove", &handle.zone, &handle.record).await {
            // It is not there: all is as it should be.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done.map(drop),
        }
    }
}

/// Says what to do where only this API's users know.
fn explained(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Auth => error.with_hint("check the token, and whether it is for this zone"),
        _ => error,
    }
}
