//! What the API answers when nothing is wrong with it.

use acmekit_conformance::api::{Answer, Asked};

use super::{BASE, Inner, Record, Scope};

/// An error envelope: <https://developers.cloudflare.com/fundamentals/api/reference/responses/>.
pub(super) fn refused(status: u16, code: u32, message: &str) -> Answer {
    Answer::json(
        status,
        format!(
            r#"{{"success":false,"errors":[{{"code":{code},"message":"{message}"}}],"messages":[],"result":null}}"#
        ),
    )
}

fn chained(code: u32, message: &str, inner: u32, cause: &str) -> Answer {
    Answer::json(
        400,
        format!(
            r#"{{"success":false,"errors":[{{"code":{code},"message":"{message}","error_chain":[{{"code":{inner},"message":"{cause}"}}]}}],"messages":[],"result":null}}"#
        ),
    )
}

pub(super) fn malformed(code: u32, message: &str) -> Answer {
    chained(6003, "Invalid request headers", code, message)
}

/// What a token without the permission meets: <https://github.com/hieunc229/mailflare/issues/1>.
fn unauthorized() -> Answer {
    refused(403, 10000, "Authentication error")
}

/// <https://github.com/troglobit/inadyn/pull/285>
fn may_not_list() -> Answer {
    refused(
        403,
        0,
        "Actor 'com.cloudflare.api.token.0123456789abcdef' requires permission 'com.cloudflare.api.account.zone.list' to list zones",
    )
}

/// <https://github.com/timothymiller/cloudflare-ddns/issues/152>
fn no_route(path: &str) -> Answer {
    let message = format!("Could not route to /client/v4{path}, perhaps your object identifier is invalid?");
    refused(404, 7003, &message)
}

fn absent() -> Answer {
    // https://github.com/zanjie1999/cloudflare-api-v4-ddns/issues/5
    refused(404, 81044, "Record does not exist.")
}

/// As in the example of <https://developers.cloudflare.com/api/resources/zones/methods/list/>.
fn zone((id, name, status): &(String, String, &str)) -> String {
    format!(
        r#"{{"id":"{id}","account":{{"id":"023e105f4ecef8ad9ca31a8372d0c353","name":"Example Account Name"}},"activated_on":"2014-01-02T00:01:00.12345Z","created_on":"2014-01-01T05:20:00.12345Z","development_mode":0,"meta":{{"cdn_only":true,"custom_certificate_quota":1,"dns_only":true,"foundation_dns":true,"page_rule_quota":100,"phishing_detected":false,"step":2}},"modified_on":"2014-01-01T05:20:00.12345Z","name":"{name}","name_servers":["bob.ns.cloudflare.com","lola.ns.cloudflare.com"],"original_dnshost":"NameCheap","original_name_servers":["ns1.originaldnshost.com","ns2.originaldnshost.com"],"original_registrar":"GoDaddy","owner":{{"id":"023e105f4ecef8ad9ca31a8372d0c353","name":"Example Org","type":"organization"}},"paused":false,"status":"{status}","type":"full"}}"#
    )
}

/// As in the examples of <https://developers.cloudflare.com/api/resources/dns/subresources/records/>.
fn record(record: &Record) -> String {
    let Record { id, kind, name, ttl, .. } = record;
    let content = serde_json::to_string(&record.content).unwrap();
    format!(
        r#"{{"name":"{name}","ttl":{ttl},"type":"{kind}","comment":"Domain verification record","content":{content},"proxied":false,"settings":{{}},"tags":["owner:dns-team"],"id":"{id}","created_on":"2014-01-01T05:20:00.12345Z","meta":{{}},"modified_on":"2014-01-01T05:20:00.12345Z","proxiable":false,"comment_modified_on":"2024-01-01T05:20:00.12345Z","tags_modified_on":"2025-01-01T05:20:00.12345Z"}}"#
    )
}

fn one(result: &str) -> Answer {
    Answer::json(200, format!(r#"{{"errors":[],"messages":[],"success":true,"result":{result}}}"#))
}

struct Query<'a>(&'a str);

impl Query<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let mut pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    }

    fn number(&self, name: &str, default: usize) -> usize {
        self.get(name).map_or(default, |text| text.parse().unwrap())
    }
}

impl Inner {
    pub(super) fn answer(&mut self, asked: &Asked) -> Answer {
        let scope = match self.authorize(asked) {
            Ok(scope) => scope,
            Err(refusal) => return refusal,
        };
        let path = asked.path.strip_prefix(BASE).unwrap();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (asked.method.as_str(), segments.as_slice()) {
            ("GET", ["zones"]) => self.zones(&scope, &Query(query)),
            (_, ["zones", id, ..]) if id.len() != 32 => no_route(path),
            ("GET", ["zones", id]) => match self.zones.iter().find(|(known, ..)| known == id) {
                Some(found) if scope != Scope::DnsOnly && may_see(&scope, id) => one(&zone(found)),
                // https://github.com/octodns/octodns-cloudflare/issues/60
                _ => refused(403, 9109, "Unauthorized to access requested resource"),
            },
            (_, ["zones", id, "dns_records", ..])
                if !may_see(&scope, id) || !self.zones.iter().any(|(known, ..)| known == id) =>
            {
                unauthorized()
            }
            (write, ["zones", ..]) if write != "GET" && scope == Scope::ReadOnly => unauthorized(),
            ("GET", ["zones", id, "dns_records"]) => self.list(id, &Query(query)),
            ("POST", ["zones", id, "dns_records"]) => self.create(id, &asked.body),
            ("GET", ["zones", _, "dns_records", id]) => {
                self.records.iter().find(|it| it.id == *id).map_or_else(absent, |found| one(&record(found)))
            }
            ("DELETE", ["zones", _, "dns_records", id]) => {
                let Some(at) = self.records.iter().position(|it| it.id == *id) else { return absent() };
                self.records.remove(at);
                // This answer has no more to it:
                // https://developers.cloudflare.com/api/resources/dns/subresources/records/methods/delete/
                Answer::json(200, format!(r#"{{"result":{{"id":"{id}"}}}}"#))
            }
            _ => no_route(path),
        }
    }

    fn zones(&self, scope: &Scope, query: &Query<'_>) -> Answer {
        let name = query.get("name");
        let is_asked = |named: &str| name.as_ref().is_none_or(|name| name == named);
        let own =
            |id: &str| self.zones.iter().any(|(known, own, _)| known == id && name.as_ref() == Some(own));
        match scope {
            // https://github.com/octodns/octodns-cloudflare/issues/60
            Scope::DnsOnly => return refused(403, 9109, "Unauthorized to access requested resource"),
            // https://github.com/TimothyYe/godns/pull/83
            Scope::One(_) if name.is_none() => return may_not_list(),
            // https://github.com/cloudflare/terraform-provider-cloudflare/issues/906
            Scope::OneStrictly(id) if !own(id) => return may_not_list(),
            _ => {}
        }
        let found = self.zones.iter().filter(|(id, named, _)| is_asked(named) && may_see(scope, id));
        // Five to fifty a page, twenty unless asked.
        self.page(found.map(zone).collect(), query, query.number("per_page", 20).clamp(5, 50))
    }

    fn list(&self, zone: &str, query: &Query<'_>) -> Answer {
        let is = |filter: &str, text: &str| query.get(filter).is_none_or(|wanted| wanted == text);
        let found = self.records.iter().filter(|it| {
            it.zone == zone
                && is("type", &it.kind)
                && is("name.exact", &it.name)
                && self.unlisted.as_ref() != Some(&it.id)
        });
        self.page(found.map(record).collect(), query, query.number("per_page", 100))
    }

    fn page(&self, entries: Vec<String>, query: &Query<'_>, asked: usize) -> Answer {
        let (page, size) = (query.number("page", 1), self.page.unwrap_or(asked));
        let (total, pages) = (entries.len(), entries.len().div_ceil(size));
        let shown: Vec<String> = entries.into_iter().skip((page - 1) * size).take(size).collect();
        let (count, shown) = (shown.len(), shown.join(","));
        Answer::json(
            200,
            format!(
                r#"{{"errors":[],"messages":[],"success":true,"result":[{shown}],"result_info":{{"count":{count},"page":{page},"per_page":{size},"total_count":{total},"total_pages":{pages}}}}}"#
            ),
        )
    }

    fn create(&mut self, zone: &str, body: &str) -> Answer {
        let sent: serde_json::Value = serde_json::from_str(body).unwrap();
        let text = |member: &str| sent[member].as_str().unwrap().to_owned();
        let (kind, mut name, content, ttl) =
            (text("type"), text("name"), text("content"), sent["ttl"].as_u64().unwrap());
        if ttl != 1 && !(self.min_ttl..=86400).contains(&ttl) {
            // https://github.com/timothymiller/cloudflare-ddns/issues/179
            let cause =
                format!("TTL must be between {} and 86400 seconds, or 1 for Automatic.", self.min_ttl);
            return chained(1004, "DNS Validation Error", 9021, &cause);
        }
        // A name outside the zone is taken for one relative to it: https://github.com/NewFuture/DDNS/issues/21
        let (_, apex, _) = self.zones.iter().find(|(known, ..)| known == zone).unwrap();
        if !format!(".{name}").ends_with(&format!(".{apex}")) {
            name = format!("{name}.{apex}");
        }
        if self.records.iter().any(|it| it.name == name && it.kind == "CNAME") {
            // https://github.com/favonia/cloudflare-ddns/issues/990
            return refused(400, 81054, "A CNAME record with that host already exists.");
        }
        if self.twin(&kind, &name, &content).is_some() {
            // https://github.com/certbot/certbot/pull/10725
            return refused(400, 81058, "An identical record already exists.");
        }
        let id = self.insert(zone, &kind, &name, &content, ttl);
        one(&record(self.records.iter().find(|it| it.id == id).unwrap()))
    }
}

fn may_see(scope: &Scope, id: &str) -> bool {
    match scope {
        Scope::One(own) | Scope::OneStrictly(own) => *own == id,
        Scope::All | Scope::ReadOnly | Scope::DnsOnly => true,
    }
}
