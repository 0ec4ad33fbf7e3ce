//! Where TXT values are put.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use acmekit_core::{
    Challenge, ChallengeKind, ChallengeSolver, Deadline, Error, ErrorKind, Presentation, Result, async_trait,
};

/// In this process, or at a DNS server with the API of pebble-challtestsrv
/// (<https://github.com/letsencrypt/pebble/tree/main/cmd/pebble-challtestsrv>).
#[derive(Debug, Clone)]
pub(crate) enum Txt {
    Here(Arc<Mutex<BTreeMap<String, String>>>),
    There { client: reqwest::Client, api: String },
}

impl Txt {
    pub(crate) fn new(api: Option<&str>, client: reqwest::Client) -> Self {
        match api {
            None => Self::Here(Arc::default()),
            Some(api) => Self::There { client, api: api.trim_end_matches('/').to_owned() },
        }
    }

    pub(crate) async fn set(&self, name: &str, value: String) -> Result<()> {
        match self {
            Self::Here(records) => {
                records.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), value);
                Ok(())
            }
            Self::There { client, api } => {
                let body = serde_json::json!({ "host": format!("_acme-challenge.{name}."), "value": value });
                post(client, format!("{api}/set-txt"), &body).await
            }
        }
    }

    pub(crate) async fn clear(&self, name: &str) -> Result<()> {
        match self {
            Self::Here(records) => {
                records.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
                Ok(())
            }
            Self::There { client, api } => {
                let body = serde_json::json!({ "host": format!("_acme-challenge.{name}.") });
                post(client, format!("{api}/clear-txt"), &body).await
            }
        }
    }
}

async fn post(client: &reqwest::Client, url: String, body: &serde_json::Value) -> Result<()> {
    let refused = |error: reqwest::Error| {
        Error::new(ErrorKind::Unavailable, "txt_api", "the DNS server's API fails").with_source(error)
    };
    let answer = client.post(url).body(body.to_string()).send().await.map_err(refused)?;
    answer.error_for_status().map_err(refused).map(drop)
}

/// dns-01 for acmekit.
#[async_trait]
impl ChallengeSolver for Txt {
    fn kind(&self) -> ChallengeKind {
        ChallengeKind::Dns01
    }

    async fn prepare(&self, challenge: &Challenge, _: Deadline) -> Result<Presentation> {
        Ok(Presentation::new(challenge.clone()))
    }

    async fn present(&self, presentation: &Presentation, _: Deadline) -> Result<Presentation> {
        let challenge = presentation.challenge();
        self.set(&challenge.identifier.to_string(), challenge.key_authorization.txt_value()).await?;
        Ok(presentation.clone())
    }

    async fn ready(&self, _: &Presentation, _: Deadline) -> Result<()> {
        Ok(())
    }

    async fn cleanup(&self, presentation: &Presentation, _: Deadline) -> Result<()> {
        self.clear(&presentation.challenge().identifier.to_string()).await
    }
}
