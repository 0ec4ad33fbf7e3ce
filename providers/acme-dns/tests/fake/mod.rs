//! An acme-dns server, byte for byte as its README and source have it, which shows its values in
//! memory, or in a BIND.
//!
//! <https://github.com/joohoi/acme-dns#api>; which of the two values an update overwrites:
//! <https://github.com/joohoi/acme-dns/blob/master/pkg/database/db.go>.

#![expect(clippy::unwrap_used, reason = "test code: what is impossible here may panic")]
#![expect(clippy::disallowed_methods, reason = "the server has its own clock")]
#![expect(dead_code, reason = "no test binary uses all of it")]

use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use acmekit_acme_dns::{AcmeDns, Config};
use acmekit_conformance::api::{Answer, Api, Asked};
use acmekit_core::Store;
use acmekit_testbed::Bind;

pub(crate) const ZONE: &str = "auth.test";

#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) subdomain: String,
    /// Values, and when they were written: in whole seconds.
    slots: [(String, u64); 2],
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) accounts: Vec<Account>,
    pub(crate) registration_is_off: bool,
}

impl Inner {
    /// Makes the `number`th account.
    fn register(&mut self, subdomain: Option<&str>) -> Account {
        let number = self.accounts.len() + 1;
        let account = Account {
            username: format!("c36f50e8-4632-44f0-83fe-{number:012x}"),
            password: format!("htB9mR9DYgcu9bX_afHF62erXaH2TS7bg9{number:06}"),
            subdomain: subdomain
                .map_or_else(|| format!("8e5700ea-a4bf-41c7-8a77-{number:012x}"), str::to_owned),
            slots: Default::default(),
        };
        self.accounts.push(account.clone());
        account
    }

    fn answer(&mut self, asked: &Asked) -> Answer {
        match asked.line().as_str() {
            "POST /register" if !self.registration_is_off => {
                let Account { username, password, subdomain, .. } = self.register(None);
                Answer::json(
                    201,
                    format!(
                        r#"{{"username":"{username}","password":"{password}","fulldomain":"{subdomain}.{ZONE}","subdomain":"{subdomain}","allowfrom":[]}}"#
                    ),
                )
            }
            "POST /update" => self.update(asked),
            _ => Answer::text(404, "404 page not found\n"),
        }
    }

    fn update(&mut self, asked: &Asked) -> Answer {
        let said: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
        let (subdomain, txt) = (said["subdomain"].as_str().unwrap(), said["txt"].as_str().unwrap());
        let right = |account: &&mut Account| {
            asked.header("x-api-user") == Some(&account.username)
                && asked.header("x-api-key") == Some(&account.password)
                && account.subdomain == subdomain
        };
        let Some(account) = self.accounts.iter_mut().find(right) else {
            return Answer::json(401, r#"{"error": "forbidden"}"#);
        };
        if txt.len() != 43 {
            return Answer::json(400, r#"{"error": "bad_txt"}"#);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        // Of two as old as each other, the first.
        let oldest = account.slots.iter_mut().min_by_key(|(_, written)| *written).unwrap();
        *oldest = (txt.to_owned(), now);
        Answer::json(200, format!(r#"{{"txt": "{txt}"}}"#))
    }

    fn values(&self, subdomain: &str) -> Vec<String> {
        let at = self.accounts.iter().filter(|account| account.subdomain == subdomain);
        at.flat_map(|account| &account.slots)
            .map(|(value, _)| value.clone())
            .filter(|v| !v.is_empty())
            .collect()
    }
}

pub(crate) struct Fake {
    pub(crate) api: Api,
    inner: Arc<Mutex<Inner>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::started(None).await
    }

    /// It shows its values in this server's zone.
    pub(crate) async fn before(bind: Arc<Bind>) -> Self {
        Self::started(Some(bind)).await
    }

    async fn started(bind: Option<Arc<Bind>>) -> Self {
        let inner = Arc::new(Mutex::new(Inner::default()));
        let shared = Arc::clone(&inner);
        let api = Api::start(move |asked| {
            let (shared, bind) = (Arc::clone(&shared), bind.clone());
            async move {
                let answer = shared.lock().unwrap().answer(&asked);
                if let (Some(bind), 200, "/update") = (bind, answer.status, asked.path.as_str()) {
                    show(&bind, &shared, &asked).await;
                }
                answer
            }
        })
        .await;
        Self { api, inner }
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap())
    }

    /// Makes an account past the API.
    pub(crate) fn register(&self, subdomain: &str) -> Account {
        self.change(|inner| inner.register(Some(subdomain)))
    }

    pub(crate) fn config(&self) -> Config {
        Config::new(self.api.url()).with_domains(["example.test".parse().unwrap()])
    }

    pub(crate) fn provider(&self, store: &Arc<dyn Store>) -> AcmeDns {
        AcmeDns::new(self.config(), Arc::clone(store)).unwrap()
    }

    /// The values at a full name.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let subdomain = name.strip_suffix(ZONE).and_then(|name| name.strip_suffix('.'));
        subdomain.map(|subdomain| self.change(|inner| inner.values(subdomain))).unwrap_or_default()
    }
}

async fn show(bind: &Bind, inner: &Mutex<Inner>, asked: &Asked) {
    let said: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    let subdomain = said["subdomain"].as_str().unwrap();
    let mut lines = format!("delete {subdomain}.{ZONE}. TXT");
    for value in inner.lock().unwrap().values(subdomain) {
        write!(lines, "\nadd {subdomain}.{ZONE}. 1 TXT \"{value}\"").unwrap();
    }
    bind.update(bind.tsig(), ZONE, &lines).await.unwrap();
}
