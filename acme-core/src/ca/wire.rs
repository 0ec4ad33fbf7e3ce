//! What a CA sends, as forgiving as it has to be: unknown words never break known ones.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::clock::rfc3339;
use crate::error::null_as_empty;
use crate::order::{
    AuthorizationSnapshot, AuthorizationStatus, ChallengeSnapshot, ChallengeStatus, OrderSnapshot,
    OrderStatus,
};
use crate::renewal::Window;
use crate::{ChallengeKind, Error, ErrorKind, Identifier, Problem, Result};

/// The directory (RFC 8555 section 7.1.1).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Directory {
    pub(crate) new_nonce: String,
    pub(crate) new_account: String,
    pub(crate) new_order: String,
    /// Only a CA that has renewal information knows what `replaces` means (RFC 9773 section 5).
    #[serde(default)]
    pub(crate) renewal_info: Option<String>,
    #[serde(default)]
    pub(crate) revoke_cert: Option<String>,
    #[serde(default)]
    pub(crate) meta: Meta,
}

/// What a CA says of itself (RFC 8555 section 9.7.6, draft-ietf-acme-profiles).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    pub(crate) terms_of_service: Option<String>,
    pub(crate) external_account_required: bool,
    pub(crate) profiles: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "null_as_empty")]
    pub(crate) caa_identities: Vec<String>,
}

/// An order object (RFC 8555 section 7.1.3), with the quirks seen in the wild let pass.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Order {
    #[serde(default)]
    status: String,
    #[serde(default)]
    expires: Option<String>,
    #[serde(default, deserialize_with = "null_as_empty")]
    identifiers: Vec<WireIdentifier>,
    // `null` from Telia and Venafi.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(crate) authorizations: Vec<String>,
    #[serde(default)]
    finalize: String,
    #[serde(default)]
    certificate: Option<String>,
    #[serde(default)]
    error: Option<Problem>,
}

impl Order {
    pub(crate) fn into_snapshot(self, url: String) -> OrderSnapshot {
        OrderSnapshot {
            url,
            status: match self.status.as_str() {
                "pending" => OrderStatus::Pending,
                "ready" => OrderStatus::Ready,
                "processing" => OrderStatus::Processing,
                "valid" => OrderStatus::Valid,
                "invalid" => OrderStatus::Invalid,
                _ => OrderStatus::Unknown,
            },
            expires: self.expires.as_deref().and_then(rfc3339::parse),
            identifiers: self.identifiers.iter().filter_map(|id| id.read(false).ok()).collect(),
            authorizations: Vec::new(),
            finalize: self.finalize,
            certificate: self.certificate.filter(|url| !url.is_empty()),
            error: self.error,
        }
    }
}

/// An identifier object; unlike ours it may carry `*.` inside a DNS value, or a flag beside it.
#[derive(Debug, Deserialize)]
struct WireIdentifier {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    value: String,
}

impl WireIdentifier {
    fn read(&self, wildcard: bool) -> Result<Identifier> {
        match (self.kind.as_str(), wildcard) {
            ("dns", false) | ("ip", _) => self.value.parse(),
            ("dns", true) => format!("*.{}", self.value).parse(),
            _ => Err(Error::new(
                ErrorKind::Protocol,
                "ca.authorization",
                "the CA names an identifier of an unknown type",
            )
            .with("type", &self.kind)),
        }
    }
}

/// An authorization object (RFC 8555 section 7.1.4).
#[derive(Debug, Deserialize)]
pub(crate) struct Authorization {
    #[serde(default)]
    status: String,
    identifier: WireIdentifier,
    #[serde(default, deserialize_with = "null_as_empty")]
    challenges: Vec<Challenge>,
    #[serde(default)]
    wildcard: Option<bool>,
}

/// A challenge object (RFC 8555 section 7.1.5).
#[derive(Debug, Deserialize)]
struct Challenge {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    token: Option<String>,
    #[serde(rename = "issuer-domain-names", default, deserialize_with = "null_as_empty")]
    issuers: Vec<String>,
    #[serde(default)]
    status: String,
    #[serde(default)]
    error: Option<Problem>,
}

impl Authorization {
    pub(crate) fn into_snapshot(self, url: String) -> Result<AuthorizationSnapshot> {
        Ok(AuthorizationSnapshot {
            url,
            status: match self.status.as_str() {
                "pending" => AuthorizationStatus::Pending,
                "valid" => AuthorizationStatus::Valid,
                "invalid" => AuthorizationStatus::Invalid,
                "deactivated" | "expired" | "revoked" => AuthorizationStatus::Gone,
                _ => AuthorizationStatus::Unknown,
            },
            identifier: self.identifier.read(self.wildcard.unwrap_or(false))?,
            challenges: self
                .challenges
                .into_iter()
                .filter(|challenge| !challenge.url.is_empty())
                .map(|challenge| ChallengeSnapshot {
                    kind: ChallengeKind::from(challenge.kind),
                    url: challenge.url,
                    token: challenge.token.filter(|token| !token.is_empty()),
                    issuers: challenge.issuers,
                    status: match challenge.status.as_str() {
                        "pending" => ChallengeStatus::Pending,
                        "processing" => ChallengeStatus::Processing,
                        "valid" => ChallengeStatus::Valid,
                        "invalid" => ChallengeStatus::Invalid,
                        _ => ChallengeStatus::Unknown,
                    },
                    error: challenge.error,
                })
                .collect(),
        })
    }
}

/// The `identifiers` member of a new order (RFC 8555 section 7.4).
pub(crate) fn identifiers(list: &BTreeSet<Identifier>) -> serde_json::Value {
    list.iter()
        .map(|identifier| {
            let kind = if matches!(identifier, Identifier::Ip(_)) { "ip" } else { "dns" };
            serde_json::json!({ "type": kind, "value": identifier.to_string() })
        })
        .collect()
}

/// Renewal information (RFC 9773 section 4.2).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RenewalInfo {
    suggested_window: SuggestedWindow,
    #[serde(rename = "explanationURL", default)]
    explanation_url: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SuggestedWindow {
    start: String,
    end: String,
}

impl RenewalInfo {
    /// `None` if the window is none: a time that cannot be read, or an end before the start.
    pub(crate) fn into_window(self) -> Option<Window> {
        let SuggestedWindow { start, end } = self.suggested_window;
        let mut window = Window::new(rfc3339::parse(&start)?, rfc3339::parse(&end)?)?;
        window.explanation_url = self.explanation_url;
        Some(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quirks_of_real_cas_do_not_break_an_order() {
        let text = r#"{"status":"telephoned","authorizations":null,"replaces":"","finalize":"https://f","expires":"soon","wat":[1]}"#;
        let order = serde_json::from_str::<Order>(text).unwrap().into_snapshot("u".into());
        assert_eq!(order.status, OrderStatus::Unknown);
        assert!(order.expires.is_none() && order.authorizations.is_empty());
    }

    #[test]
    fn the_names_a_ca_goes_by_in_caa_records_are_read() {
        for (meta, want) in [
            (r#"{"caaIdentities":["a.example","b.example"]}"#, &["a.example", "b.example"][..]),
            (r#"{"caaIdentities":null}"#, &[]),
            ("{}", &[]),
        ] {
            assert_eq!(serde_json::from_str::<Meta>(meta).unwrap().caa_identities, want, "{meta}");
        }
    }

    #[test]
    fn a_new_kind_of_challenge_does_not_break_the_others() {
        let text = r#"{"status":"pending","identifier":{"type":"dns","value":"example.com"},"wildcard":true,"challenges":[
            {"type":"carrier-pigeon-01","url":"https://c/1","status":"pending"},
            {"type":"dns-01","url":"https://c/2","token":"abc","status":"pending"},
            {"type":"http-01","status":"pending"}]}"#;
        let authz = serde_json::from_str::<Authorization>(text).unwrap().into_snapshot("u".into()).unwrap();
        assert_eq!(authz.identifier.to_string(), "*.example.com");
        assert_eq!(authz.challenges.len(), 2);
        assert_eq!(authz.challenges[0].kind, ChallengeKind::Other("carrier-pigeon-01".into()));
        assert_eq!(authz.challenges[0].token, None);
    }

    #[test]
    fn addresses_are_ordered_as_addresses() {
        let list = ["192.0.2.1", "*.example.com"].iter().map(|name| name.parse().unwrap()).collect();
        assert_eq!(
            identifiers(&list).to_string(),
            r#"[{"type":"dns","value":"*.example.com"},{"type":"ip","value":"192.0.2.1"}]"#
        );
    }
}
