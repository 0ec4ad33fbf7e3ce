//! A server of the HTTP request protocol, which keeps its values in memory, or in a BIND.
//!
//! The protocol: <https://go-acme.github.io/lego/dns/httpreq/>. What it leaves open is answered as a
//! server in Go does that keeps to its standard library: text for errors, nothing for success.

#![expect(clippy::unwrap_used, reason = "test code: what is impossible here may panic")]
#![expect(dead_code, reason = "no test binary uses all of it")]

use std::sync::{Arc, Mutex};

use acmekit_conformance::api::{Answer, Api, Asked};
use acmekit_httpreq::{BasicAuth, Config, HttpReq};
use acmekit_testbed::Bind;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub(crate) const USER: &str = "acme";
pub(crate) const PASSWORD: &str = "pass: w0rd-of-the-server";

/// Names without a dot at the end, and values.
type Records = Arc<Mutex<Vec<(String, String)>>>;

pub(crate) struct Fake {
    pub(crate) api: Api,
    records: Records,
    /// Names that have a record of another type, which no call of the protocol reaches.
    others: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::started(None).await
    }

    /// It has its values in this server's zone `example.test`, too.
    pub(crate) async fn before(bind: Arc<Bind>) -> Self {
        Self::started(Some(bind)).await
    }

    async fn started(bind: Option<Arc<Bind>>) -> Self {
        let records = Records::default();
        let shared = Arc::clone(&records);
        let api = Api::start(move |asked| serve(asked, Arc::clone(&shared), bind.clone())).await;
        Self { api, records, others: Arc::default() }
    }

    pub(crate) fn config(&self) -> Config {
        Config::new(format!("{}/acme/", self.api.url()))
            .with_zones(["example.test", "deep.example.test"].map(|zone| zone.parse().unwrap()))
            .with_auth(BasicAuth::new(USER, PASSWORD))
    }

    pub(crate) fn provider(&self) -> HttpReq {
        HttpReq::new(self.config()).unwrap()
    }

    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let records = self.records.lock().unwrap();
        records.iter().filter(|(at, _)| at == name).map(|(_, value)| value.clone()).collect()
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.records.lock().unwrap().is_empty()
    }

    /// Puts a value there, past the protocol. It is not there twice.
    pub(crate) fn plant(&self, name: &str, value: &str) {
        add(&self.records, name, value);
        self.others.lock().unwrap().push(name.to_owned());
    }

    pub(crate) fn has_other(&self, name: &str) -> bool {
        self.others.lock().unwrap().iter().any(|at| at == name)
    }
}

fn add(records: &Records, name: &str, value: &str) {
    let (mut records, new) = (records.lock().unwrap(), (name.to_owned(), value.to_owned()));
    if !records.contains(&new) {
        records.push(new);
    }
}

async fn serve(asked: Asked, records: Records, bind: Option<Arc<Bind>>) -> Answer {
    let right = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    if asked.header("authorization") != Some(&right) {
        return Answer::text(401, "Unauthorized\n").with("www-authenticate", "Basic realm=\"acme\"");
    }
    let said: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    let (Some(fqdn), Some(value)) = (said["fqdn"].as_str(), said["value"].as_str()) else {
        return Answer::text(400, "fqdn or value is missing\n");
    };
    let Some(name) = fqdn.strip_suffix('.') else {
        return Answer::text(400, "fqdn does not end with a dot\n");
    };
    let update = match asked.line().as_str() {
        "POST /acme/present" => {
            add(&records, name, value);
            format!("add {fqdn} 1 TXT \"{value}\"")
        }
        "POST /acme/cleanup" => {
            records.lock().unwrap().retain(|(at, there)| (at.as_str(), there.as_str()) != (name, value));
            format!("delete {fqdn} TXT \"{value}\"")
        }
        _ => return Answer::text(404, "404 page not found\n"),
    };
    if let Some(bind) = bind {
        bind.update(bind.tsig(), "example.test", &update).await.unwrap();
    }
    Answer::new(200, "")
}
