//! The SDK's client: made when it is first needed, and kept silent.
//!
//! At level trace the SDK logs requests and answers whole: session tokens, and from STS new keys. So all
//! that it does is done without a log, and what is of interest is told here.

use std::time::Duration;

use acmekit_core::{Error, ErrorKind, Result};
use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_route53::Client;
use aws_sdk_route53::config::{Credentials, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use crate::config::{Config, Credential};

/// How long a connection and its TLS handshake may take, one attempt, and finding the credential.
const CONNECT: Duration = Duration::from_secs(10);
const ATTEMPT: Duration = Duration::from_secs(30);
const CREDENTIAL: Duration = Duration::from_secs(30);
/// The SDK repeats what was throttled, what found no answer, and 5xx. A change that is made twice is
/// refused the second time, because it names what it is to replace.
const ATTEMPTS: u32 = 4;

#[cfg(feature = "aws-lc-rs")]
const CRYPTO: CryptoMode = CryptoMode::AwsLc;
#[cfg(not(feature = "aws-lc-rs"))]
const CRYPTO: CryptoMode = CryptoMode::Ring;

/// Runs what the SDK does without a log.
pub(crate) fn silently<F: Future>(call: F) -> impl Future<Output = F::Output> {
    call.with_subscriber(Dispatch::none())
}

/// The way to AWS. HTTPS goes through the environment's proxy; http, which is how a machine's metadata
/// service is asked for its credential, never does.
pub(crate) fn http() -> Result<SharedHttpClient> {
    let read = |names: [&str; 2]| {
        names.iter().find_map(|name| std::env::var(name).ok().filter(|text| !text.trim().is_empty()))
    };
    let proxy = match read(["HTTPS_PROXY", "https_proxy"]).or_else(|| read(["ALL_PROXY", "all_proxy"])) {
        None => ProxyConfig::disabled(),
        Some(url) => {
            // Its address may carry a password, and so may the error.
            let proxy = ProxyConfig::https(url.trim()).map_err(|_| {
                Error::new(
                    ErrorKind::Config,
                    "route53.proxy",
                    "HTTPS_PROXY or ALL_PROXY is no URL of a proxy",
                )
                .with_hint("write it as in http://proxy.example.com:3128")
            })?;
            match read(["NO_PROXY", "no_proxy"]) {
                Some(except) => proxy.no_proxy(except),
                None => proxy,
            }
        }
    };
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder();
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.tls_provider(tls::Provider::rustls(CRYPTO)).proxy_config(proxy.clone()).build()
    }))
}

/// Reads what the SDK has in files and environment. A credential is looked for with the first request.
pub(crate) async fn load(config: &Config, http: SharedHttpClient) -> Client {
    let timeouts =
        TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ATTEMPT).build();
    let retry = RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(Duration::from_millis(250))
        .with_max_backoff(Duration::from_secs(5));
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(Region::new(config.region.clone()))
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(retry)
        .identity_cache(IdentityCache::lazy().load_timeout(CREDENTIAL).build());
    match &config.credential {
        Credential::Found { profile: None } => {}
        Credential::Found { profile: Some(profile) } => loader = loader.profile_name(profile),
        Credential::Keys { access_key_id, secret_access_key, session_token } => {
            loader = loader.credentials_provider(Credentials::new(
                access_key_id,
                secret_access_key.expose(),
                session_token.as_ref().map(|token| token.expose().clone()),
                None,
                "acmekit",
            ));
        }
    }
    let shared = loader.load().await;
    let mut own = aws_sdk_route53::config::Builder::from(&shared);
    if let Some(role) = &config.role {
        let mut sts = shared.into_builder();
        if let Some(url) = &config.sts_endpoint {
            sts.set_endpoint_url(Some(url.clone()));
        }
        let mut provider = AssumeRoleProvider::builder(&role.arn)
            .session_name(&role.session_name)
            .region(Region::new(config.region.clone()))
            .configure(&sts.build());
        if let Some(id) = &role.external_id {
            provider = provider.external_id(id);
        }
        own = own.credentials_provider(provider.build().await);
    }
    if let Some(url) = &config.endpoint {
        own = own.endpoint_url(url);
    }
    Client::from_conf(own.build())
}
