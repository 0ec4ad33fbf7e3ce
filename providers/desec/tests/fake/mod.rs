//! A deSEC in this process, which answers as it documents, and as its own code does where that says more.
//!
//! - Domains: <https://desec.readthedocs.io/en/latest/dns/domains.html>
//! - RRsets: <https://desec.readthedocs.io/en/latest/dns/rrsets.html>
//! - Limits: <https://desec.readthedocs.io/en/latest/rate-limits.html>
//! - Words of refusals: <https://github.com/desec-io/desec-stack/blob/main/api/desecapi/serializers/records.py>

#![expect(clippy::unwrap_used, reason = "test code: what is impossible here may panic")]
#![expect(dead_code, reason = "no test binary uses all of it")]

pub(crate) mod answers;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acmekit_conformance::api::{Answer, Api, Asked};
use acmekit_desec::{Config, Desec};
use acmekit_testbed::Bind;

/// Of the form of the one in <https://desec.readthedocs.io/en/latest/auth/tokens.html>.
pub(crate) const TOKEN: &str = "4pnk7u-NHvrEkFzrhFDRTjGFyX_S";
/// A token that may write to `deep.example.test` alone.
pub(crate) const RESTRICTED: &str = "mu4W4MHuSc0Hy-GD1h_dnKuZBond";

#[derive(Debug, Clone)]
pub(crate) struct Rrset {
    pub(crate) domain: String,
    pub(crate) subname: String,
    pub(crate) kind: String,
    pub(crate) ttl: u64,
    pub(crate) records: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    /// Names and smallest TTLs.
    pub(crate) domains: Vec<(String, u64)>,
    pub(crate) rrsets: Vec<Rrset>,
    /// So many changes of a domain are taken in so long a time.
    pub(crate) limit: Option<(usize, Duration)>,
    changes: Vec<(String, tokio::time::Instant)>,
    /// What somebody else, who has read before, sets right after each of the next changes; nothing is a removal.
    pub(crate) meddling: VecDeque<Vec<&'static str>>,
}

/// The API, served until it is dropped.
pub(crate) struct Fake {
    pub(crate) api: Api,
    inner: Arc<Mutex<Inner>>,
}

impl Fake {
    /// Two domains, `example.test` and `deep.example.test`.
    pub(crate) async fn start() -> Self {
        Self::started(None).await
    }

    /// It has its TXT records in this server's zone `example.test`, too.
    pub(crate) async fn before(bind: Arc<Bind>) -> Self {
        Self::started(Some(bind)).await
    }

    async fn started(bind: Option<Arc<Bind>>) -> Self {
        let domains = [("example.test", 3600), ("deep.example.test", 60)];
        let domains = domains.map(|(name, ttl)| (name.to_owned(), ttl)).to_vec();
        let inner = Arc::new(Mutex::new(Inner { domains, ..Inner::default() }));
        let shared = Arc::clone(&inner);
        let api = Api::start(move |asked| serve(asked, Arc::clone(&shared), bind.clone())).await;
        Self { api, inner }
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap())
    }

    /// With a `settle` that tests can wait for.
    pub(crate) fn config(&self, token: &str) -> Config {
        let mut config = Config::new(token);
        config.base_url = format!("{}/api/v1/", self.api.url());
        config.timeout = Duration::from_secs(10);
        config.settle = Duration::from_millis(20);
        config
    }

    pub(crate) fn provider(&self) -> Desec {
        Desec::new(self.config(TOKEN)).unwrap()
    }

    /// The TXT values at a name, as a resolver would see them.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let contents = self.contents(name, "TXT");
        contents.iter().map(|content| content.trim_matches('"').to_owned()).collect()
    }

    /// The records at a name, as they are written.
    pub(crate) fn contents(&self, name: &str, kind: &str) -> Vec<String> {
        self.change(|inner| {
            let (domain, subname) = inner.place(name);
            inner.find(&domain, &subname, kind).map(|found| found.records.clone()).unwrap_or_default()
        })
    }

    /// Puts a record there, past the API. It is not there twice.
    pub(crate) fn plant(&self, name: &str, kind: &str, content: &str) {
        self.change(|inner| {
            let (domain, subname) = inner.place(name);
            let mut records = inner.find(&domain, &subname, kind).map_or(Vec::new(), |it| it.records.clone());
            if !records.iter().any(|there| there == content) {
                records.push(content.to_owned());
            }
            inner.set(&domain, &subname, kind, None, records);
        });
    }

    /// The requests there were that start so, `POST /domains/`, and their bodies.
    pub(crate) fn asked(&self, start: &str) -> Vec<(String, String)> {
        let asked = self.api.asked().into_iter().map(|it| (it.line().replace("/api/v1", ""), it.body));
        asked.filter(|(line, _)| line.starts_with(start)).collect()
    }

    pub(crate) fn count(&self, start: &str) -> usize {
        self.asked(start).len()
    }

    /// How many changes were asked for.
    pub(crate) fn writes(&self) -> usize {
        self.api.asked().iter().filter(|asked| asked.method != "GET").count()
    }
}

impl Inner {
    /// The longest domain of a name, and the rest of the name.
    fn place(&self, name: &str) -> (String, String) {
        let holds = |domain: &&String| format!(".{name}").ends_with(&format!(".{domain}"));
        let domain = self.domains.iter().map(|(domain, _)| domain).filter(holds).max_by_key(|it| it.len());
        let domain = domain.unwrap().clone();
        let subname = name.strip_suffix(&domain).unwrap().trim_end_matches('.').to_owned();
        (domain, subname)
    }

    fn find(&self, domain: &str, subname: &str, kind: &str) -> Option<&Rrset> {
        self.rrsets.iter().find(|it| it.domain == domain && it.subname == subname && it.kind == kind)
    }

    fn set(&mut self, domain: &str, subname: &str, kind: &str, ttl: Option<u64>, records: Vec<String>) {
        let ttl = ttl.or(self.find(domain, subname, kind).map(|it| it.ttl)).unwrap_or(3600);
        self.rrsets.retain(|it| {
            (it.domain.as_str(), it.subname.as_str(), it.kind.as_str()) != (domain, subname, kind)
        });
        if !records.is_empty() {
            let [domain, subname, kind] = [domain, subname, kind].map(str::to_owned);
            self.rrsets.push(Rrset { domain, subname, kind, ttl, records });
        }
    }
}

async fn serve(asked: Asked, inner: Arc<Mutex<Inner>>, bind: Option<Arc<Bind>>) -> Answer {
    let (answer, after) = {
        let mut inner = inner.lock().unwrap();
        let answer = inner.answer(&asked);
        (answer, inner.rrsets.clone())
    };
    if let Some(bind) = bind.filter(|_| asked.method != "GET") {
        let mut update = "delete _acme-challenge.example.test. TXT".to_owned();
        for set in after.iter().filter(|set| set.kind == "TXT") {
            for content in &set.records {
                update.push_str(&format!("\nadd {}.{}. 1 TXT {content}", set.subname, set.domain));
            }
        }
        bind.update(bind.tsig(), "example.test", &update).await.unwrap();
    }
    answer
}
