//! The provider keeps its contract on a server that does as the table in `provider.rs` says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use acmekit::{DnsName, DnsProvider, Secret, async_trait};
use acmekit_conformance::api::{Answer, Api, Asked};
use acmekit_conformance::{dns_api, dns_provider};
use own_provider::InHouse;
use serde_json::{Value, json};

const TOKEN: &str = "token-of-the-test";
const WRONG: &str = "one-that-nobody-knows";
/// One below the other, so that the longest one has to be found.
const ZONES: [&str; 2] = ["example.test", "deep.example.test"];

/// Names and values.
type Records = Arc<Mutex<Vec<(String, String)>>>;

/// The API, in this process.
struct Fake {
    api: Api,
    records: Records,
}

impl Fake {
    async fn start() -> Self {
        let records = Records::default();
        let shared = Arc::clone(&records);
        let api = Api::start(move |asked| {
            let answer = answer(&asked, &shared);
            async move { answer }
        });
        Self { api: api.await, records }
    }

    fn with(&self, token: &str) -> InHouse {
        InHouse::new(&self.api.url(), &Secret::from(token)).unwrap()
    }
}

fn answer(asked: &Asked, records: &Records) -> Answer {
    let refused = |status, why: &str| Answer::json(status, json!({ "error": why }).to_string());
    if asked.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
        return refused(401, "the token is not known");
    }
    if asked.line() == "GET /zones" {
        return Answer::json(200, json!({ "zones": ZONES }).to_string());
    }
    let said: Value = serde_json::from_str(&asked.body).unwrap();
    let text = |key: &str| said[key].as_str().unwrap().to_owned();
    if !ZONES.contains(&text("zone").as_str()) {
        return refused(404, "there is no such zone");
    }
    let (mut records, record) = (records.lock().unwrap(), (text("name"), text("value")));
    let place = records.iter().position(|there| *there == record);
    match (asked.line().as_str(), place) {
        ("POST /add", None) => records.push(record),
        ("POST /add", Some(_)) => {}
        ("POST /remove", Some(place)) => drop(records.remove(place)),
        ("POST /remove", None) => return refused(404, "there is no such value"),
        _ => return refused(404, "there is no such path"),
    }
    Answer::json(200, json!({ "values": values(&records, &text("name")) }).to_string())
}

fn values(records: &[(String, String)], name: &str) -> Vec<String> {
    records.iter().filter(|(at, _)| at == name).map(|(_, value)| value.clone()).collect()
}

#[async_trait]
impl dns_provider::Subject for Fake {
    fn provider(&self) -> Arc<dyn DnsProvider> {
        Arc::new(self.with(TOKEN))
    }

    fn another(&self) -> Arc<dyn DnsProvider> {
        self.provider()
    }

    fn zone(&self) -> DnsName {
        "deep.example.test".parse().unwrap()
    }

    fn foreign_name(&self) -> DnsName {
        "www.example.org".parse().unwrap()
    }

    async fn lookup(&self, name: &DnsName) -> Vec<String> {
        values(&self.records.lock().unwrap(), name.as_str())
    }

    async fn plant(&self, name: &DnsName, value: &str) {
        let (mut records, new) = (self.records.lock().unwrap(), (name.to_string(), value.to_owned()));
        if !records.contains(&new) {
            records.push(new);
        }
    }

    /// The API reaches no record of another type, so none can be lost by it.
    async fn has_planted_record(&self, _: &DnsName) -> bool {
        true
    }

    fn secret(&self) -> String {
        TOKEN.to_owned()
    }

    fn wrong_secret(&self) -> String {
        WRONG.to_owned()
    }

    fn with_wrong_credential(&self) -> Arc<dyn DnsProvider> {
        Arc::new(self.with(WRONG))
    }
}

impl dns_api::Subject for Fake {
    fn api(&self) -> &Api {
        &self.api
    }

    fn impatient(&self) -> Arc<dyn DnsProvider> {
        Arc::new(self.with(TOKEN).with_timeout(Duration::from_secs(2)))
    }
}

acmekit_conformance::dns_provider_suite!(Fake::start().await);
acmekit_conformance::dns_api_suite!(Fake::start().await);
