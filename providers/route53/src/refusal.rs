//! What Route 53, STS and the SDK mean when they refuse.

use std::error::Error as StdError;

use acmekit_core::{Error, ErrorKind, Secret};
use aws_sdk_route53::config::http::HttpResponse;
use aws_sdk_route53::error::{ProvideErrorMetadata, SdkError};

/// More of what AWS says helps nobody.
const MAX_WORDS: usize = 400;

/// Route 53 says this in a batch that others were faster than:
/// `Tried to delete resource record set [name='a.example.com.', type='TXT'] but it was not found`,
/// `… but the values provided do not match the current values`,
/// `Tried to create resource record set [name='a.example.com.', type='TXT'] but it already exists`.
const FASTER: [(&str, &str); 3] = [
    ("Tried to delete resource record set", "but it was not found"),
    ("Tried to delete resource record set", "but the values provided do not match the current values"),
    ("Tried to create resource record set", "but it already exists"),
];

/// What an SDK error means. `secrets` are in none.
pub(crate) fn error<E>(
    op: &'static str,
    asked: &'static str,
    failed: &SdkError<E, HttpResponse>,
    secrets: &[Secret<String>],
) -> Error
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let error = match failed {
        SdkError::ServiceError(context) => {
            let (said, status) = (context.err().meta(), context.raw().status().as_u16());
            let code = said.code().map(str::to_owned).or_else(|| root_element(context.raw()));
            refused(op, code.as_deref(), said.message().unwrap_or_default(), status, secrets)
        }
        SdkError::ResponseError(context) => {
            let status = context.raw().status().as_u16();
            let kind = if status >= 500 { ErrorKind::Unavailable } else { ErrorKind::Protocol };
            Error::new(kind, op, "what came is no answer of Route 53's").with("status", status)
        }
        SdkError::TimeoutError(_) => Error::new(ErrorKind::Timeout, op, "Route 53 does not answer"),
        other => match credential(op, other, secrets) {
            Some(error) => error,
            None if matches!(other, SdkError::DispatchFailure(_)) => Error::new(
                ErrorKind::Unavailable,
                op,
                "Route 53 cannot be reached",
            )
            .with("why", words(&innermost(other), secrets))
            .with_hint(
                "check the network, the proxy that HTTPS_PROXY names, and the system's root certificates",
            ),
            None => Error::new(ErrorKind::Config, op, "the request cannot be made")
                .with("why", words(&innermost(other), secrets)),
        },
    };
    error.with("request", asked)
}

/// <https://docs.aws.amazon.com/Route53/latest/APIReference/CommonErrors.html>
fn refused(
    op: &'static str,
    code: Option<&str>,
    said: &str,
    status: u16,
    secrets: &[Secret<String>],
) -> Error {
    let said = words(said, secrets);
    let (kind, message, hint) = match code.unwrap_or_default() {
        "AccessDenied" | "AccessDeniedException" | "NotAuthorizedException" => (
            ErrorKind::Auth,
            "the credential may not do this",
            "its policy needs route53:ListHostedZones (or, with hosted_zone_id, route53:GetHostedZone), \
             route53:ListResourceRecordSets, route53:ChangeResourceRecordSets and route53:GetChange",
        ),
        "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "InvalidAccessKeyId"
        | "InvalidToken"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "AuthFailure"
        | "OptInRequired" => (
            ErrorKind::Auth,
            "the credential is refused",
            "check the access key's id, the key and, with a temporary key, its session token; and this machine's clock",
        ),
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => (
            ErrorKind::Auth,
            "the credential has expired",
            "get a new one, for example by `aws sso login`; and check this machine's clock",
        ),
        "NoSuchHostedZone" => (
            ErrorKind::NotFound,
            "there is no such hosted zone",
            "check hosted_zone_id; or the zone has been deleted",
        ),
        "NoSuchChange" => (ErrorKind::NotFound, "there is no such change", ""),
        "InvalidChangeBatch" if is_faster(&said) => {
            (ErrorKind::Conflict, "somebody else changed the record at the same time", "")
        }
        "InvalidChangeBatch" => (
            ErrorKind::Config,
            "Route 53 refuses this change of the zone",
            "a CNAME at the same name is the usual reason: remove it, or let it lead to another zone",
        ),
        "InvalidInput" | "InvalidDomainName" | "ValidationError" => (
            ErrorKind::Config,
            "Route 53 refuses this input",
            "check hosted_zone_id and the record's name and value",
        ),
        "PriorRequestNotComplete" => {
            (ErrorKind::RateLimited, "the zone's last change is still being made", "")
        }
        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequestsException" => (
            ErrorKind::RateLimited,
            "Route 53 asks to slow down",
            "five requests a second are allowed to an account, by whatever program",
        ),
        _ if status == 429 => (ErrorKind::RateLimited, "Route 53 asks to slow down", ""),
        _ if status >= 500 => (ErrorKind::Unavailable, "Route 53 is out of order", ""),
        _ if matches!(status, 401 | 403) => {
            (ErrorKind::Auth, "the credential is refused", "check the credential and its policy")
        }
        _ => (ErrorKind::Protocol, "Route 53 refuses, and does not say why in a way that is known", ""),
    };
    let message = if said.is_empty() { message.to_owned() } else { format!("{message}: {said}") };
    let mut error = Error::new(kind, op, message).with("status", status);
    if let Some(code) = code {
        error = error.with_vendor_code(code);
    }
    if hint.is_empty() { error } else { error.with_hint(hint) }
}

fn is_faster(said: &str) -> bool {
    FASTER.iter().any(|(what, why)| said.contains(what) && said.contains(why))
}

/// The error's name in its older form, `<InvalidChangeBatch><Messages>…`, which the SDK does not read.
fn root_element(answer: &HttpResponse) -> Option<String> {
    let body = std::str::from_utf8(answer.body().bytes()?).ok()?;
    let known = ["InvalidChangeBatch"];
    known.iter().find(|name| body.contains(&format!("<{name} "))).map(|&name| name.to_owned())
}

/// What went wrong before anything was sent: there is no credential, or the role is refused.
fn credential<E>(
    op: &'static str,
    failed: &SdkError<E, HttpResponse>,
    secrets: &[Secret<String>],
) -> Option<Error>
where
    E: StdError + 'static,
{
    use aws_credential_types::provider::error::CredentialsError;
    let causes = || std::iter::successors(failed.source(), |&error| error.source());
    let found = causes().find_map(|error| error.downcast_ref::<CredentialsError>())?;
    let why = words(&innermost(failed), secrets);
    let (kind, message) = match found {
        CredentialsError::CredentialsNotLoaded(_) => (ErrorKind::Auth, "no credential for AWS was found"),
        CredentialsError::ProviderTimedOut(_) => {
            (ErrorKind::Timeout, "who gives the credential does not answer")
        }
        CredentialsError::InvalidConfiguration(_) => {
            (ErrorKind::Config, "the configuration of the credential is wrong")
        }
        // STS, SSO or the metadata service: cannot be reached, or does not want to.
        _ if causes().any(|error| error.to_string() == "dispatch failure") => {
            (ErrorKind::Unavailable, "who gives the credential cannot be reached")
        }
        _ => (ErrorKind::Auth, "the credential is refused, or the role with it"),
    };
    let hint = "set an access key, or AWS_PROFILE, or run where there is a role; with `role`, check that its trust \
                policy names this credential and the external id";
    Some(Error::new(kind, op, message).with("why", why).with_hint(hint))
}

/// The last cause says what happened; those before it, where.
fn innermost(error: &dyn StdError) -> String {
    let last = std::iter::successors(Some(error), |&error| error.source()).last();
    last.map(ToString::to_string).unwrap_or_default()
}

/// The first line, without secrets: after it, a refused signature comes with all that was signed, the
/// session token too.
fn words(said: &str, secrets: &[Secret<String>]) -> String {
    let line = said.trim().lines().next().unwrap_or_default();
    let line = line.split("The Canonical String").next().unwrap_or_default().trim();
    let line =
        secrets.iter().fold(line.to_owned(), |line, secret| line.replace(secret.expose().as_str(), "…"));
    // Not sooner: the beginning of a secret would be left, and not found.
    line.chars().take(MAX_WORDS).collect()
}

/// For the fuzz targets only: the words of a refusal show no credential, nor the part of one that no other text has.
pub(crate) fn fuzz(said: &str) {
    const SECRET: &str = "s3cr3t-t0ken-0f-f0rty-s1gns";
    let secrets = [Secret::from(SECRET)];
    for (code, status) in
        [(Some("InvalidChangeBatch"), 400), (Some("SignatureDoesNotMatch"), 403), (None, 503)]
    {
        let shown = refused("fuzz", code, said, status, &secrets).report();
        let part = &SECRET[..SECRET.len() / 2];
        assert!(!shown.contains(SECRET), "a refusal shows a credential");
        assert!(
            said.replace(SECRET, "").contains(part) || !shown.contains(part),
            "a refusal shows a part of it"
        );
        assert!(shown.chars().count() < 1500, "a refusal fills the log");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_to_do() {
        let kind = |code, status| refused("op", Some(code), "", status, &[]).kind();
        for (code, status, wanted) in [
            ("AccessDenied", 403, ErrorKind::Auth),
            ("InvalidClientTokenId", 403, ErrorKind::Auth),
            ("SignatureDoesNotMatch", 403, ErrorKind::Auth),
            ("ExpiredToken", 403, ErrorKind::Auth),
            ("NoSuchHostedZone", 404, ErrorKind::NotFound),
            ("InvalidInput", 400, ErrorKind::Config),
            ("InvalidChangeBatch", 400, ErrorKind::Config),
            // Throttling comes with 400.
            ("Throttling", 400, ErrorKind::RateLimited),
            ("PriorRequestNotComplete", 400, ErrorKind::RateLimited),
            ("ServiceUnavailable", 503, ErrorKind::Unavailable),
            ("InternalFailure", 500, ErrorKind::Unavailable),
            ("SomethingNew", 400, ErrorKind::Protocol),
        ] {
            assert_eq!(kind(code, status), wanted, "{code}");
        }
    }

    #[test]
    fn only_a_lost_race_is_a_conflict() {
        let kind = |said| refused("op", Some("InvalidChangeBatch"), said, 400, &[]).kind();
        for said in [
            "[Tried to delete resource record set [name='a.example.com.', type='TXT'] but it was not found]",
            "[Tried to delete resource record set [name='a.example.com.', type='TXT'] but the values provided do not match the current values]",
            "[Tried to create resource record set [name='a.example.com.', type='TXT'] but it already exists]",
        ] {
            assert_eq!(kind(said), ErrorKind::Conflict);
        }
        let cname = "[RRSet of type TXT with DNS name a.example.com. is not permitted because a conflicting RRSet of type CNAME with the same DNS name already exists in zone example.com.]";
        assert_eq!(kind(cname), ErrorKind::Config);
    }

    #[test]
    fn what_was_signed_is_not_told() {
        let said = "The request signature we calculated does not match the signature you provided. Check your AWS \
                    Secret Access Key and signing method. \n\nThe Canonical String for this request should have been\n\
                    'GET\nx-amz-security-token:t0ken'";
        let shown = refused("op", Some("SignatureDoesNotMatch"), said, 403, &[]).report();
        assert!(shown.contains("signing method") && !shown.contains("t0ken"), "{shown}");
        let secrets = [Secret::from("s3cr3t")];
        let shown = refused("op", Some("InvalidInput"), "key s3cr3t is none", 400, &secrets).report();
        assert!(shown.contains("key … is none"), "{shown}");
        // Nor the beginning of it where the words are cut.
        let said = format!("{}s3cr3t", "x".repeat(MAX_WORDS - 3));
        let shown = refused("op", Some("InvalidInput"), &said, 400, &secrets).report();
        assert!(shown.contains("x…") && !shown.contains("s3c"), "{shown}");
    }
}
