//! Route 53, and STS, as far as the provider asks them: as strict as they are documented to be.
//!
//! Requests and answers: <https://docs.aws.amazon.com/Route53/latest/APIReference/API_Operations_Amazon_Route_53.html>,
//! errors: <https://docs.aws.amazon.com/Route53/latest/APIReference/requests-rest-responses.html>,
//! STS: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>.

#![expect(clippy::unwrap_used, reason = "test code: what is impossible here may panic")]
#![expect(dead_code, reason = "no test binary uses all of it")]

mod xml;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use acmekit_conformance::api::{Answer, Api, Asked};
use acmekit_route53::{Config, Credential, Route53};

pub(crate) use self::xml::{error, invalid_change_batch};

pub(crate) const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// What STS gives.
pub(crate) const ROLE_KEY_ID: &str = "ASIAIOSFODNN7EXAMPLE";
pub(crate) const ROLE_SECRET: &str = "r0le-s3cret/YzdLPnEMI/K7MDENG";
pub(crate) const ROLE_TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQW";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) zone: String,
    /// With a dot at the end.
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) ttl: i64,
    /// Of a routing policy.
    pub(crate) set_identifier: Option<String>,
    /// As they were sent.
    pub(crate) values: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Id, name with a dot, and whether it is private.
    zones: Vec<(String, String, bool)>,
    records: Vec<Records>,
    /// How often each change is `PENDING` before it is `INSYNC`.
    pub(crate) pending: usize,
    asked_for_changes: usize,
    /// Set by somebody else just before the next change is looked at.
    pub(crate) rival: Option<(String, Vec<String>)>,
    /// Set by somebody else just before the next change is said to be `INSYNC`.
    pub(crate) overwritten: Option<(String, Vec<String>)>,
    changes: usize,
}

pub(crate) struct Fake {
    pub(crate) api: Api,
    state: Arc<Mutex<State>>,
}

pub(crate) const ZONE: &str = "Z0DEEPEXAMPLETEST";
const PAGE: usize = 2;

impl Fake {
    /// With five zones, on three pages, one of them private.
    pub(crate) async fn start() -> Self {
        let zones = [
            ("Z0OTHER", "other.test.", false),
            ("Z0EXAMPLETEST", "example.test.", false),
            ("Z0PRIVATE", "private.example.test.", true),
            ("Z0NET", "example.net.", false),
            (ZONE, "deep.example.test.", false),
        ];
        let zones = zones.map(|(id, name, private)| (id.to_owned(), name.to_owned(), private)).to_vec();
        let state = Arc::new(Mutex::new(State { zones, ..State::default() }));
        let shared = Arc::clone(&state);
        let api = Api::start(move |asked| {
            let answer = serve(&asked, &mut shared.lock().unwrap());
            async move { answer }
        });
        Self { api: api.await, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn config(&self) -> Config {
        self.config_with(SECRET)
    }

    pub(crate) fn config_with(&self, secret: &str) -> Config {
        let key_id = if secret == SECRET { KEY_ID } else { "AKIAWRONG" };
        Config::new(Credential::keys(key_id, secret)).with_endpoint(self.api.url())
    }

    pub(crate) fn provider(&self) -> Route53 {
        Route53::new(self.config()).unwrap()
    }

    /// With so little time for each call.
    pub(crate) fn hurried(&self, time: Duration) -> Route53 {
        let mut config = self.config();
        config.timeout = time;
        Route53::new(config).unwrap()
    }

    pub(crate) fn add_zone(&self, id: &str, name: &str) {
        self.state().zones.push((id.to_owned(), name.to_owned(), false));
    }

    /// All that is in all zones.
    pub(crate) fn records(&self) -> Vec<Records> {
        self.state().records.clone()
    }

    pub(crate) fn put(&self, kind: &str, name: &str, ttl: i64, values: &[&str]) {
        let set = xml::Set {
            name: format!("{name}."),
            kind: kind.to_owned(),
            ttl: Some(ttl),
            values: values.iter().map(|&value| value.to_owned()).collect(),
        };
        self.state().replace(ZONE, &set);
    }

    pub(crate) fn put_weighted(&self, name: &str) {
        self.put("TXT", name, 60, &["\"blue\""]);
        self.state().records.last_mut().unwrap().set_identifier = Some("blue".to_owned());
    }

    /// The TXT values at a name, as they were sent.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let found = |it: &&Records| it.kind == "TXT" && it.name == format!("{name}.");
        self.state().records.iter().filter(found).flat_map(|it| it.values.clone()).collect()
    }

    pub(crate) fn has(&self, kind: &str, name: &str) -> bool {
        self.state().records.iter().any(|it| it.kind == kind && it.name == format!("{name}."))
    }
}

impl State {
    fn position(&self, zone: &str, set: &xml::Set) -> Option<usize> {
        self.records.iter().position(|it| it.zone == zone && it.name == set.name && it.kind == set.kind)
    }

    fn replace(&mut self, zone: &str, set: &xml::Set) {
        if let Some(at) = self.position(zone, set) {
            self.records.remove(at);
        }
        self.records.push(Records {
            zone: zone.to_owned(),
            name: set.name.clone(),
            kind: set.kind.clone(),
            ttl: set.ttl.unwrap_or(300),
            set_identifier: None,
            values: set.values.clone(),
        });
    }

    fn somebody_else(&mut self, did: Option<(String, Vec<String>)>) {
        if let Some((name, values)) = did {
            let set = xml::Set { name: format!("{name}."), kind: "TXT".to_owned(), ttl: Some(300), values };
            self.replace(ZONE, &set);
        }
    }

    /// One change after the other on a copy, which counts only if all of them can be made.
    fn change(&mut self, zone: &str, body: &str) -> Result<(), Answer> {
        let before = self.records.clone();
        for (action, set) in xml::changes(body) {
            let told = format!("resource record set [name='{}', type='{}']", set.name, set.kind);
            let ended = match (action.as_str(), self.position(zone, &set)) {
                _ if set.values.is_empty() || set.ttl.is_none() => {
                    Err(error(400, "InvalidInput", "Invalid request: expected TTL and ResourceRecords"))
                }
                _ if set.values.iter().any(|value| set.kind == "TXT" && !xml::is_quoted(value)) => {
                    Err(invalid_change_batch(
                        "[Invalid Resource Record: 'FATAL problem: InvalidCharacterString (Value should be enclosed in quotation marks)']",
                    ))
                }
                ("CREATE", Some(_)) => {
                    Err(invalid_change_batch(&format!("[Tried to create {told} but it already exists]")))
                }
                ("DELETE", None) => {
                    Err(invalid_change_batch(&format!("[Tried to delete {told} but it was not found]")))
                }
                ("DELETE", Some(at)) if !set.is(&self.records[at]) => Err(invalid_change_batch(&format!(
                    "[Tried to delete {told} but the values provided do not match the current values]"
                ))),
                ("DELETE", Some(at)) => {
                    self.records.remove(at);
                    Ok(())
                }
                ("CREATE", None)
                    if self.records.iter().any(|it| it.kind == "CNAME" && it.name == set.name) =>
                {
                    Err(invalid_change_batch(&format!(
                        "[RRSet of type {} with DNS name {} is not permitted because a conflicting RRSet of type CNAME \
                         with the same DNS name already exists in zone deep.example.test.]",
                        set.kind, set.name
                    )))
                }
                ("CREATE" | "UPSERT", _) => {
                    self.replace(zone, &set);
                    Ok(())
                }
                _ => Err(error(400, "InvalidInput", "Invalid XML ; cvc-enumeration-valid")),
            };
            if let Err(answer) = ended {
                self.records = before;
                return Err(answer);
            }
        }
        Ok(())
    }
}

fn serve(asked: &Asked, state: &mut State) -> Answer {
    if asked.path == "/" && asked.body.contains("Action=AssumeRole") {
        return xml::assume_role(asked);
    }
    let authorization = asked.header("authorization").unwrap_or_default();
    let signed_by = |id: &str| authorization.starts_with(&format!("AWS4-HMAC-SHA256 Credential={id}/"));
    let by_role = signed_by(ROLE_KEY_ID) && asked.header("x-amz-security-token") == Some(ROLE_TOKEN);
    if !signed_by(KEY_ID) && !by_role {
        return error(403, "InvalidClientTokenId", "The security token included in the request is invalid.");
    }
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let query = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let path = path.trim_end_matches('/').strip_prefix("/2013-04-01/").unwrap_or_default();
    let known = |id: &str| state.zones.iter().any(|(zone, ..)| zone == id);
    let segments: Vec<&str> = path.split('/').collect();
    match (asked.method.as_str(), segments.as_slice()) {
        ("GET", ["hostedzone"]) => {
            let from = query("marker")
                .map_or(0, |marker| state.zones.iter().position(|zone| zone.0 == marker).unwrap());
            xml::list_hosted_zones(&state.zones, from, PAGE)
        }
        (_, ["hostedzone", id, ..]) if !known(id) => {
            error(404, "NoSuchHostedZone", &format!("No hosted zone found with ID: {id}"))
        }
        ("GET", ["hostedzone", id]) => {
            xml::get_hosted_zone(state.zones.iter().find(|zone| zone.0 == *id).unwrap())
        }
        ("GET", ["hostedzone", id, "rrset"]) => {
            let (name, kind) = (query("name").unwrap(), query("type").unwrap());
            xml::list_records(&state.records, id, name, kind, query("maxitems").unwrap())
        }
        ("POST", ["hostedzone", id, "rrset"]) => {
            let rival = state.rival.take();
            state.somebody_else(rival);
            if let Err(answer) = state.change(id, &asked.body) {
                return answer;
            }
            state.changes += 1;
            xml::change_info("ChangeResourceRecordSetsResponse", &format!("C{}", state.changes), false)
        }
        ("GET", ["change", id]) => {
            state.asked_for_changes += 1;
            let done = state.asked_for_changes > state.pending;
            if done {
                let overwritten = state.overwritten.take();
                state.somebody_else(overwritten);
            }
            xml::change_info("GetChangeResponse", id, done)
        }
        _ => error(404, "UnknownOperationException", "no such operation"),
    }
}
