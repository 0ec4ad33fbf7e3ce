//! What the API answers when nothing is wrong with it.

use acmekit_conformance::api::{Answer, Asked};
use serde_json::Value;
use tokio::time::Instant;

use super::{Inner, RESTRICTED, Rrset, TOKEN};

fn detail(status: u16, words: &str) -> Answer {
    Answer::json(status, format!(r#"{{"detail":"{words}"}}"#))
}

/// <https://github.com/go-acme/lego/issues/1159>
fn not_found() -> Answer {
    detail(404, "Not found.")
}

/// <https://github.com/rmbolger/Posh-ACME/issues/272>; the header:
/// <https://desec.readthedocs.io/en/latest/rate-limits.html>.
pub(crate) fn throttled(seconds: u64) -> Answer {
    let unit = if seconds == 1 { "second" } else { "seconds" };
    let words = format!("Request was throttled. Expected available in {seconds} {unit}.");
    detail(429, &words).with("retry-after", &seconds.to_string())
}

/// <https://github.com/desec-io/desec-stack/blob/main/api/desecapi/serializers/records.py>
const EXISTS: &str = r#"{"non_field_errors":["Another RRset with the same subdomain and type exists for this domain. (Try modifying it.)"]}"#;
const CNAME: &str = r#"{"non_field_errors":["RRset with conflicting type present: database (CNAME). (No other RRsets are allowed alongside CNAME.)"]}"#;

/// As in <https://desec.readthedocs.io/en/latest/dns/domains.html#domain-field-reference>; the keys
/// are in no list.
fn domain((name, ttl): &(String, u64), keys: &str) -> String {
    format!(
        r#"{{"created":"2018-09-18T16:36:16.510368Z","published":"2018-09-18T17:21:38.348112Z","name":"{name}",{keys}"minimum_ttl":{ttl},"touched":"2018-09-18T17:21:38.348112Z"}}"#
    )
}

const KEYS: &str = r#""keys":[{"dnskey":"257 3 13 WFRl60...","ds":["6006 13 2 f34b75...","6006 13 4 2fdcf8..."],"flags":257,"keytype":"csk"}],"#;

/// As in <https://desec.readthedocs.io/en/latest/dns/rrsets.html#rrset-field-reference>.
fn rrset(status: u16, set: &Rrset) -> Answer {
    let Rrset { domain, subname, kind, ttl, records } = set;
    let name = if subname.is_empty() { format!("{domain}.") } else { format!("{subname}.{domain}.") };
    let records = serde_json::to_string(records).unwrap();
    Answer::json(
        status,
        format!(
            r#"{{"created":"2019-09-18T16:32:16.510368Z","domain":"{domain}","subname":"{subname}","name":"{name}","records":{records},"ttl":{ttl},"type":"{kind}","touched":"2020-04-06T09:24:09.987436Z"}}"#
        ),
    )
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

impl Inner {
    pub(super) fn answer(&mut self, asked: &Asked) -> Answer {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        // Django's APPEND_SLASH: https://github.com/desec-io/certbot-dns-desec/pull/9
        let Some(path) = path.strip_prefix("/api/v1/").and_then(|path| path.strip_suffix('/')) else {
            return Answer::html(301, "").with("location", &format!("{path}/"));
        };
        let token = asked.header("authorization").and_then(|value| value.strip_prefix("Token "));
        let only = match token {
            Some(TOKEN) => None,
            Some(RESTRICTED) => Some("deep.example.test"),
            // https://www.django-rest-framework.org/api-guide/authentication/#tokenauthentication
            _ => return detail(401, "Invalid token.").with("www-authenticate", "Token"),
        };
        let segments: Vec<&str> = path.split('/').collect();
        let (method, segments) = (asked.method.as_str(), segments.as_slice());
        if let ("GET", ["domains"]) = (method, segments) {
            return self.responsible(query.strip_prefix("owns_qname=").unwrap());
        }
        let found = self.domains.iter().find(|(name, _)| segments.get(1) == Some(&name.as_str())).cloned();
        let Some(found) = found else { return not_found() };
        let name = found.0.clone();
        if method != "GET" {
            // https://desec.readthedocs.io/en/latest/auth/tokens.html#token-scoping-policies
            if only.is_some_and(|only| only != name) {
                return detail(403, "Insufficient token permissions.");
            }
            if let Some(refusal) = self.throttle(&name) {
                return refusal;
            }
        }
        match (method, segments) {
            ("GET", ["domains", _]) => Answer::json(200, domain(&found, KEYS)),
            ("POST", ["domains", _, "rrsets"]) => self.create(&name, &asked.body),
            (_, ["domains", _, "rrsets", subname, kind]) => {
                let subname = if *subname == "@" { "" } else { subname };
                self.at(method, &name, subname, kind, &asked.body)
            }
            _ => not_found(),
        }
    }

    /// <https://desec.readthedocs.io/en/latest/dns/domains.html#identifying-the-responsible-domain-for-a-dns-name>
    fn responsible(&self, name: &str) -> Answer {
        let holds = |it: &&(String, u64)| format!(".{name}").ends_with(&format!(".{}", it.0));
        let found = self.domains.iter().filter(holds).max_by_key(|it| it.0.len());
        Answer::json(200, format!("[{}]", found.map(|it| domain(it, "")).unwrap_or_default()))
    }

    /// Changes that were refused for this do not count.
    fn throttle(&mut self, domain: &str) -> Option<Answer> {
        let (most, window) = self.limit?;
        self.changes.retain(|(_, at)| at.elapsed() < window);
        let mut at = self.changes.iter().filter(|(name, _)| name == domain).map(|(_, at)| *at).rev();
        if let Some(first) = at.nth(most - 1) {
            let wait = window.saturating_sub(first.elapsed());
            return Some(throttled(wait.as_secs() + 1));
        }
        self.changes.push((domain.to_owned(), Instant::now()));
        None
    }

    /// <https://desec.readthedocs.io/en/latest/dns/rrsets.html#creating-an-rrset>
    fn create(&mut self, name: &str, body: &str) -> Answer {
        let sent: Value = serde_json::from_str(body).unwrap();
        let (subname, kind) = (sent["subname"].as_str().unwrap(), sent["type"].as_str().unwrap());
        let (ttl, records) = (sent["ttl"].as_u64().unwrap(), texts(&sent["records"]));
        let least = self.domains.iter().find(|(it, _)| it == name).unwrap().1;
        if ttl < least {
            // https://github.com/Valodim/terraform-provider-desec/pull/9
            let words = format!(r#"{{"ttl":["Ensure this value is greater than or equal to {least}."]}}"#);
            return Answer::json(400, words);
        }
        if self.find(name, subname, "CNAME").is_some() {
            return Answer::json(400, CNAME);
        }
        if self.find(name, subname, kind).is_some() {
            return Answer::json(400, EXISTS);
        }
        self.set(name, subname, kind, Some(ttl), records);
        let made = rrset(201, self.find(name, subname, kind).unwrap());
        self.meddle(name, subname, kind);
        made
    }

    fn at(&mut self, method: &str, name: &str, subname: &str, kind: &str, body: &str) -> Answer {
        let found = self.find(name, subname, kind);
        let answer = match (method, found) {
            ("GET", Some(found)) => return rrset(200, found),
            // https://desec.readthedocs.io/en/latest/dns/rrsets.html#deleting-an-rrset
            ("DELETE", _) => {
                self.set(name, subname, kind, None, Vec::new());
                Answer::new(204, "")
            }
            // https://desec.readthedocs.io/en/latest/dns/rrsets.html#modifying-an-rrset
            ("PATCH", Some(_)) => {
                let sent: Value = serde_json::from_str(body).unwrap();
                self.set(name, subname, kind, sent["ttl"].as_u64(), texts(&sent["records"]));
                match self.find(name, subname, kind) {
                    Some(changed) => rrset(200, changed),
                    None => Answer::new(204, ""),
                }
            }
            _ => return not_found(),
        };
        self.meddle(name, subname, kind);
        answer
    }

    fn meddle(&mut self, name: &str, subname: &str, kind: &str) {
        if let Some(records) = self.meddling.pop_front() {
            let records = records.into_iter().map(str::to_owned).collect();
            self.set(name, subname, kind, None, records);
        }
    }
}
