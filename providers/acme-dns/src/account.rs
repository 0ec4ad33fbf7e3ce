//! What a registration gives, and what is known of the values at its name: two entries of the store.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use acmekit_core::{DnsName, Error, ErrorKind, Result, Secret};
use serde::{Deserialize, Serialize};

/// A registration, as `POST /register` answers it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Account {
    pub(crate) fulldomain: DnsName,
    pub(crate) subdomain: String,
    pub(crate) username: Secret<String>,
    pub(crate) password: Secret<String>,
    /// Which server has it; not told by it.
    #[serde(default, alias = "server_url")]
    pub(crate) server: Option<String>,
    /// For which domain it was made.
    #[serde(default)]
    pub(crate) domain: Option<DnsName>,
}

/// The one place where a registration's secrets are written: the store's entry.
#[derive(Serialize)]
struct Written<'a> {
    fulldomain: &'a DnsName,
    subdomain: &'a str,
    username: &'a str,
    password: &'a str,
    server: &'a Option<String>,
    domain: &'a Option<DnsName>,
}

impl Account {
    pub(crate) fn octets(&self) -> Result<Secret<Vec<u8>>> {
        let Self { fulldomain, subdomain, server, domain, .. } = self;
        let (username, password) = (self.username.expose(), self.password.expose());
        octets(&Written { fulldomain, subdomain, username, password, server, domain })
    }

    /// The zone that the server serves.
    pub(crate) fn zone(&self) -> DnsName {
        let rest =
            self.fulldomain.as_str().strip_prefix(&self.subdomain).and_then(|rest| rest.strip_prefix('.'));
        rest.and_then(|rest| rest.parse().ok()).unwrap_or_else(|| self.fulldomain.clone())
    }
}

/// Two updates in one second are in no order for the server, which counts in seconds.
pub(crate) const APART: Duration = Duration::from_millis(1100);

/// What stands at a name, as far as is known, and who still needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Values {
    /// The latest values that were written, at most two, the older one first.
    pub(crate) slots: Vec<String>,
    /// Whether that is certain: not so while an answer is outstanding.
    pub(crate) sure: bool,
    /// The values that orders still need.
    pub(crate) held: Vec<Held>,
    /// When the last one was written: milliseconds of the Unix time.
    pub(crate) written: u64,
}

/// A value that an order needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) value: String,
    /// Since when: seconds of the Unix time.
    pub(crate) since: u64,
    /// Whether it is there for certain, and must stay.
    pub(crate) shown: bool,
}

impl Default for Values {
    /// Nothing was written yet, at least by us: nobody needs what may stand there.
    fn default() -> Self {
        Self { slots: Vec::new(), sure: true, held: Vec::new(), written: 0 }
    }
}

impl Values {
    /// What must be written so that this value is there and those still needed stay: each update
    /// overwrites the older of the two. Nothing if it is there.
    fn updates_for(&self, value: &str) -> Vec<String> {
        if self.sure && self.slots.iter().any(|slot| slot == value) {
            return Vec::new();
        }
        let others = self.held.iter().filter(|held| held.shown && held.value != value);
        // Of the two the older one, or whatever it is if that is not certain; written again, it is the younger.
        let older = self.slots.first().filter(|_| self.slots.len() == 2);
        let endangered = others.map(|held| &held.value).filter(|held| !self.sure || older == Some(*held));
        // What must stay comes first: it is there all the time, whatever becomes of the next one.
        endangered.cloned().chain([value.to_owned()]).collect()
    }

    pub(crate) fn is_held(&self, value: &str) -> bool {
        self.held.iter().any(|held| held.value == value)
    }

    /// That this value is needed, and is about to be written: with the updates for it, from the first
    /// of which on nothing is certain until [`end`](Self::end).
    pub(crate) fn begin(&mut self, value: &str, now: Duration) -> Vec<String> {
        let now_millis = millis(now);
        let updates = self.updates_for(value);
        if !self.is_held(value) {
            self.held.push(Held { value: value.to_owned(), since: now.as_secs(), shown: false });
        }
        if !self.sure {
            // What stood there before may have been overwritten, a moment ago.
            self.slots.clear();
            self.written = now_millis;
        }
        self.sure = false;
        if updates.is_empty() {
            self.end(value);
        }
        updates
    }

    /// That all updates for this value have ended well.
    pub(crate) fn end(&mut self, value: &str) {
        self.sure = true;
        self.held.iter_mut().filter(|held| held.value == value).for_each(|held| held.shown = true);
    }

    /// That it is no longer needed.
    pub(crate) fn forget(&mut self, value: &str) {
        self.held.retain(|held| held.value != value);
    }

    /// That this was written.
    pub(crate) fn wrote(&mut self, value: &str, now: Duration) {
        self.slots.push(value.to_owned());
        let over = self.slots.len().saturating_sub(2);
        self.slots.drain(..over);
        self.written = millis(now);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn octets(value: &impl Serialize) -> Result<Secret<Vec<u8>>> {
    serde_json::to_vec(value).map(Secret::new).map_err(|e| {
        Error::new(ErrorKind::Other, "acme-dns.save", "the entry cannot be written as JSON").with_source(e)
    })
}

/// The accounts in a file as lego keeps it: an object of domains.
pub(crate) fn from_lego(path: &Path) -> Result<Vec<Account>> {
    let refuse =
        |why: String| Error::new(ErrorKind::Config, "acme-dns.accounts", why).with("path", path.display());
    let text = std::fs::read_to_string(path)
        .map_err(|e| refuse(format!("the file of accounts cannot be read: {e}")).with_source(e))?;
    let text = Secret::new(text);
    // What serde says of a wrong value would show it.
    let read: BTreeMap<DnsName, Account> = serde_json::from_str(text.expose()).map_err(|e| {
        refuse("this is no file of acme-dns accounts as lego keeps it".to_owned())
            .with("at", format!("line {}, column {}", e.line(), e.column()))
    })?;
    Ok(read.into_iter().map(|(domain, account)| Account { domain: Some(domain), ..account }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that keeps two values, the older one of which each update overwrites; what is known of
    /// it; and the values whose adding has come to its end.
    #[derive(Debug, Clone, Default)]
    struct Played {
        server: [String; 2],
        known: Values,
        added: Vec<String>,
    }

    impl Played {
        /// Adds a value, but no answer comes after so many updates; the last one of them is done, or is not.
        fn add(mut self, value: &str, stop: Option<(usize, bool)>) -> Self {
            for (number, update) in self.known.begin(value, Duration::ZERO).into_iter().enumerate() {
                let stops = stop.filter(|(at, _)| *at == number);
                if stops.is_none_or(|(_, done)| done) {
                    self.server.rotate_left(1);
                    self.server[1].clone_from(&update);
                }
                if stops.is_some() {
                    return self;
                }
                self.known.wrote(&update, Duration::ZERO);
            }
            self.known.end(value);
            self.added.push(value.to_owned());
            self
        }

        fn remove(mut self, value: &str) -> Self {
            self.known.forget(value);
            self.added.retain(|added| added != value);
            self
        }

        fn go_on(&self, depth: u32) {
            for added in &self.added {
                assert!(self.server.contains(added), "{added} is gone: {self:?}");
            }
            for value in ["a", "b", "c"].iter().filter(|_| depth > 0) {
                if self.known.is_held(value) {
                    self.clone().remove(value).go_on(depth - 1);
                } else if self.known.held.len() == 2 {
                    continue;
                }
                for stop in [None, Some((0, true)), Some((0, false)), Some((1, true)), Some((1, false))] {
                    self.clone().add(value, stop).go_on(depth - 1);
                }
            }
        }
    }

    #[test]
    fn no_value_that_is_needed_is_ever_overwritten_whatever_answers_are_lost() {
        Played::default().go_on(5);
    }

    #[test]
    fn one_update_does_unless_something_would_be_lost() {
        let mut known = Values::default();
        assert_eq!(known.begin("a", Duration::ZERO), ["a"]);
        known.wrote("a", Duration::ZERO);
        known.end("a");
        assert_eq!(known.updates_for("a"), [""; 0]);
        // The other one is older than ours, whatever it is.
        assert_eq!(known.updates_for("b"), ["b"]);
        known.slots.push("x".to_owned());
        assert_eq!(known.updates_for("b"), ["a", "b"]);
        known.sure = false;
        assert_eq!(known.updates_for("b"), ["a", "b"]);
        assert_eq!(known.updates_for("a"), ["a"]);
    }
}
