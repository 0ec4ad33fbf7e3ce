//! Orders, authorizations and certificates (RFC 8555 sections 7.4 to 7.6, RFC 9773).

#![cfg(feature = "test-ca")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::Duration;

use acmekit_core::Clock;
use acmekit_server::limits::{Limit, Limits};
use acmekit_server::{RenewalInfo, TestCa};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use common::{Client, Signer, credulous, csr, leaf, order_of, with};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test]
async fn names_wildcards_and_addresses_are_certified() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    let names =
        ["www.example.test", "*.example.test", "xn--bcher-kva.example.test", "192.0.2.7", "2001:db8::1"];
    let (order, key) = client.issue(&names).await;
    let pem = client.download(&order).await;
    assert_eq!(pem.header("content-type"), "application/pem-certificate-chain");
    let chain = pem::parse_many(&pem.text).unwrap();
    assert_eq!(chain.len(), 2);
    let (_, leaf) = X509Certificate::from_der(chain[0].contents()).unwrap();
    let (_, above) = X509Certificate::from_der(chain[1].contents()).unwrap();
    leaf.verify_signature(Some(above.public_key())).unwrap();
    let root = pem::parse(&ca.issuing_roots_pem()[0]).unwrap();
    let (_, root) = X509Certificate::from_der(root.contents()).unwrap();
    above.verify_signature(Some(root.public_key())).unwrap();
    assert_eq!(leaf.public_key().raw, rcgen::PublicKeyData::subject_public_key_info(&key));
    let sans = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len();
    assert_eq!(sans, names.len());
    assert_eq!(ca.certificates_issued(), 1);
}

#[tokio::test]
async fn every_root_has_a_chain_and_each_names_the_others() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    let (order, _) = client.issue(&["www.example.test"]).await;
    let first = client.download(&order).await;
    let alternate = |reply: &common::Reply| -> Vec<String> {
        let links = reply.headers("link").into_iter().filter(|link| link.ends_with(";rel=\"alternate\""));
        links.map(|link| link[1..link.find('>').unwrap()].to_owned()).collect()
    };
    let urls = alternate(&first);
    assert_eq!(urls.len(), ca.issuing_roots_pem().len() - 1);
    let second = client.get(&urls[0]).await;
    assert_eq!(alternate(&second), [order.json()["certificate"].as_str().unwrap()]);
    assert_eq!(leaf(&first.text), leaf(&second.text));
    let above = pem::parse_many(&second.text).unwrap().remove(1).into_contents();
    let root = pem::parse(&ca.issuing_roots_pem()[1]).unwrap();
    let (_, root) = X509Certificate::from_der(root.contents()).unwrap();
    let (_, above) = X509Certificate::from_der(&above).unwrap();
    above.verify_signature(Some(root.public_key())).unwrap();
    assert_eq!(
        client.get(&format!("{}/9", order.json()["certificate"].as_str().unwrap())).await.problem(),
        "404 malformed"
    );
}

#[tokio::test]
async fn profiles_say_how_long_a_certificate_lasts() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    assert_eq!(client.directory["meta"]["profiles"].as_object().unwrap().len(), 3);
    let cases = [
        (None, 90 * 24),
        (Some("classic"), 90 * 24),
        (Some("tlsserver"), 45 * 24),
        (Some("shortlived"), 160),
    ];
    for (profile, hours) in cases {
        let name = format!("{}.example.test", profile.unwrap_or("none"));
        let mut wish = order_of(&[&name]);
        if let Some(profile) = profile {
            wish["profile"] = json!(profile);
        }
        let (order, _) = client.issue_for(&wish, &[&name]).await;
        assert_eq!(order.json().get("profile"), wish.get("profile"));
        let der = leaf(&client.download(&order).await.text);
        let (_, leaf) = X509Certificate::from_der(&der).unwrap();
        let lifetime = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
        assert_eq!(lifetime + 1, hours * 3600, "{profile:?}");
    }
    let mut wish = order_of(&["www.example.test"]);
    wish["profile"] = json!("eternal");
    assert_eq!(client.post("newOrder", &wish).await.problem(), "400 invalidProfile");
}

#[tokio::test]
async fn orders_that_ask_for_nonsense_are_refused() {
    let ca = with(TestCa::builder().settings(|settings| settings.max_names = 3)).await;
    let client = Client::new(&ca).await;
    let one = |kind: &str, value: &str| json!({ "identifiers": [{ "type": kind, "value": value }] });
    let at = |name: &str, value: &str| {
        let mut wish = order_of(&["www.example.test"]);
        wish[name] = json!(value);
        wish
    };
    let cases = vec![
        (json!({}), "400 malformed"),
        (json!({ "identifiers": [] }), "400 malformed"),
        (json!({ "identifiers": "www.example.test" }), "400 malformed"),
        (json!({ "identifiers": [{ "type": "dns" }] }), "400 malformed"),
        (one("dns", "foo..example.test"), "400 rejectedIdentifier"),
        (one("dns", "foo_bar.example.test"), "400 rejectedIdentifier"),
        (one("dns", "a.*.example.test"), "400 rejectedIdentifier"),
        (one("dns", "bücher.example.test"), "400 rejectedIdentifier"),
        (one("dns", "192.0.2.7"), "400 rejectedIdentifier"),
        (one("dns", "www.example.test."), "400 rejectedIdentifier"),
        (one("ip", "www.example.test"), "400 malformed"),
        (one("ip", "192.0.2.007"), "400 malformed"),
        (one("email", "a@example.test"), "400 unsupportedIdentifier"),
        (
            order_of(&["a.example.test", "b.example.test", "c.example.test", "d.example.test"]),
            "400 malformed",
        ),
        (at("notBefore", "tomorrow"), "400 malformed"),
        (at("notAfter", "2020-01-01T00:00:00Z"), "400 malformed"),
        (at("notAfter", "9999-12-31T23:59:59Z"), "400 malformed"),
        (at("notBefore", "1700-01-01T00:00:00Z"), "400 malformed"),
        (at("replaces", "AAAA.BBBB"), "404 malformed"),
    ];
    for (wish, expected) in cases {
        let reply = client.post("newOrder", &wish).await;
        assert_eq!(reply.problem(), expected, "{wish}: {reply:?}");
    }
    let both = json!({ "identifiers": [
        { "type": "dns", "value": "a_b.example.test" }, { "type": "email", "value": "a@example.test" },
    ] });
    let reply = client.post("newOrder", &both).await;
    assert_eq!(reply.problem(), "400 rejectedIdentifier");
    assert_eq!(reply.json()["subproblems"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_validity_asked_for_is_the_one_given() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    let mut wish = order_of(&["www.example.test"]);
    wish["notBefore"] = json!("2030-01-02T03:04:05Z");
    wish["notAfter"] = json!("2030-01-09T03:04:05Z");
    let (order, _) = client.issue_for(&wish, &["www.example.test"]).await;
    assert_eq!(order.json()["notBefore"], wish["notBefore"]);
    let der = leaf(&client.download(&order).await.text);
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(leaf.validity().not_before.timestamp(), 1_893_553_445);
    assert_eq!(leaf.validity().not_after.timestamp(), 1_894_158_245);
}

#[tokio::test]
async fn an_open_order_is_given_again_and_a_finished_one_is_not() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    let wish = order_of(&["b.example.test", "a.example.test"]);
    let first = client.post("newOrder", &wish).await;
    let same =
        client.post("newOrder", &order_of(&["a.example.test", "b.example.test", "A.example.test"])).await;
    assert_eq!((same.status, same.header("location")), (201, first.header("location")));
    let mut other = wish.clone();
    other["profile"] = json!("shortlived");
    assert_ne!(client.post("newOrder", &other).await.header("location"), first.header("location"));
    let (done, _) = client.issue(&["c.example.test"]).await;
    let (again, _) = client.issue(&["c.example.test"]).await;
    assert_ne!(done.header("location"), again.header("location"));
    let stranger = Client::new(&ca).await;
    assert_ne!(stranger.post("newOrder", &wish).await.header("location"), first.header("location"));
}

#[tokio::test]
async fn a_valid_authorization_serves_again_until_it_is_given_back_or_expires() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    let (first, _) = client.issue(&["www.example.test"]).await;
    let authorization = first.json()["authorizations"][0].as_str().unwrap().to_owned();
    let again = client.post("newOrder", &order_of(&["www.example.test"])).await.json();
    assert_eq!((&again["status"], &again["authorizations"][0]), (&json!("ready"), &json!(authorization)));
    assert_eq!(client.post(&authorization, &json!({ "status": "valid" })).await.problem(), "400 malformed");
    let ended = client.post(&authorization, &json!({ "status": "deactivated" })).await;
    assert_eq!(ended.json()["status"], "deactivated");
    assert_eq!(
        client.post(&authorization, &json!({ "status": "deactivated" })).await.problem(),
        "400 malformed"
    );
    let fresh = client.post("newOrder", &order_of(&["www.example.test"])).await.json();
    assert_eq!(fresh["status"], "pending");
    assert_ne!(fresh["authorizations"][0], json!(authorization));

    client.issue(&["old.example.test"]).await;
    ca.clock().advance(31 * DAY);
    let late = client.post("newOrder", &order_of(&["old.example.test"])).await.json();
    assert_eq!(late["status"], "pending", "valid for 30 days");
}

#[tokio::test]
async fn what_is_not_done_in_time_expires() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    let order = client.ready(&order_of(&["www.example.test"])).await;
    assert_eq!(client.get(order.header("location")).await.json()["status"], "ready");
    let pending = client.post("newOrder", &order_of(&["a.example.test"])).await;
    ca.clock().advance(8 * DAY);
    assert_eq!(client.get(order.header("location")).await.json()["status"], "invalid");
    let authorization = pending.json()["authorizations"][0].as_str().unwrap().to_owned();
    let authorization = client.get(&authorization).await.json();
    assert_eq!(authorization["status"], "expired");
    let challenge = authorization["challenges"][0]["url"].as_str().unwrap();
    assert_eq!(client.post(challenge, &json!({})).await.problem(), "400 malformed");
    let finalize = order.json()["finalize"].as_str().unwrap().to_owned();
    let key = rcgen::KeyPair::generate().unwrap();
    let late = client.post(&finalize, &json!({ "csr": csr(&key, &["www.example.test"]) })).await;
    assert_eq!(late.problem(), "403 orderNotReady");
}

#[tokio::test]
async fn only_a_ready_order_and_a_fitting_csr_make_a_certificate() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    let names = ["www.example.test", "example.test"];
    let key = rcgen::KeyPair::generate().unwrap();
    let pending = client.post("newOrder", &order_of(&names)).await;
    let finalize = pending.json()["finalize"].as_str().unwrap().to_owned();
    let early = client.post(&finalize, &json!({ "csr": csr(&key, &names) })).await;
    assert_eq!(early.problem(), "403 orderNotReady");

    let order = client.ready(&order_of(&names)).await;
    let mut forged = BASE64.decode(csr(&key, &names)).unwrap();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let cases: Vec<(&str, Value, &str)> = vec![
        ("none", Value::Null, "400 malformed"),
        ("no base64url", json!("*"), "400 badCSR"),
        ("no CSR", json!("AAAA"), "400 badCSR"),
        ("a name too few", json!(csr(&key, &names[..1])), "400 badCSR"),
        (
            "a name too many",
            json!(csr(&key, &["www.example.test", "example.test", "a.example.test"])),
            "400 badCSR",
        ),
        ("signed by another", json!(BASE64.encode(&forged)), "400 badCSR"),
    ];
    for (what, csr, expected) in cases {
        let reply = client.post(&finalize, &json!({ "csr": csr })).await;
        assert_eq!(reply.problem(), expected, "{what}: {reply:?}");
    }
    let url = order.header("location");
    assert_eq!(client.get(url).await.json()["status"], "ready", "a refused CSR costs no order");
    let sent = json!({ "csr": csr(&key, &names) });
    let done = client.post(&finalize, &sent).await;
    assert_eq!(done.json()["status"], "valid");
    let repeated = client.post(&finalize, &sent).await;
    assert_eq!(repeated.json()["certificate"], done.json()["certificate"], "an answer that was lost");
    assert_eq!(ca.certificates_issued(), 1);
}

#[tokio::test]
async fn the_accounts_own_key_is_not_certified() {
    let ca = credulous().await;
    let Signer::Provider(key) = Signer::ed25519() else { unreachable!() };
    let pkcs8 = key.serialize_der();
    let client = Client::registered(&ca, Signer::Provider(key)).await;
    let order = client.ready(&order_of(&["www.example.test"])).await;
    let same = rcgen::KeyPair::try_from(pkcs8).unwrap();
    let sent = json!({ "csr": csr(&same, &["www.example.test"]) });
    assert_eq!(client.post(order.json()["finalize"].as_str().unwrap(), &sent).await.problem(), "400 badCSR");
}

#[tokio::test]
async fn a_client_can_page_through_its_orders() {
    let ca = with(TestCa::builder().settings(|settings| settings.orders_per_page = 2)).await;
    let client = Client::new(&ca).await;
    let mut made = Vec::new();
    for number in 0..5 {
        let order = client.post("newOrder", &order_of(&[&format!("n{number}.example.test")])).await;
        made.push(json!(order.header("location")));
    }
    let mut url =
        client.get(&client.kid.clone().unwrap()).await.json()["orders"].as_str().unwrap().to_owned();
    let mut listed = Vec::new();
    for page in 0..3 {
        let reply = client.get(&url).await;
        listed.extend(reply.json()["orders"].as_array().unwrap().clone());
        let next = reply.headers("link").into_iter().find(|link| link.ends_with("rel=\"next\""));
        match next {
            Some(next) => url = next[1..next.find('>').unwrap()].to_owned(),
            None => assert_eq!(page, 2),
        }
    }
    assert_eq!(listed, made);
    // What has come to nothing is not listed any more.
    ca.clock().advance(8 * DAY);
    let url = client.get(&client.kid.clone().unwrap()).await.json()["orders"].as_str().unwrap().to_owned();
    assert_eq!(client.get(&url).await.json()["orders"], json!([]));
}

#[tokio::test]
async fn a_certificate_is_revoked_by_its_account_its_key_or_who_controls_its_names() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    let stranger = Client::new(&ca).await;
    let names = ["www.example.test", "example.test"];
    let (order, _) = client.issue(&names).await;
    let pem = client.download(&order).await.text;
    let payload = json!({ "certificate": BASE64.encode(leaf(&pem)), "reason": 4 });
    assert_eq!(stranger.post("revokeCert", &payload).await.problem(), "403 unauthorized");
    let strange = Client::unregistered(&ca, Signer::es256()).await;
    assert_eq!(strange.post("revokeCert", &payload).await.problem(), "403 unauthorized");
    for (reason, expected) in [
        (json!(7), "400 badRevocationReason"),
        (json!(6), "400 badRevocationReason"),
        (json!("x"), "400 badRevocationReason"),
    ] {
        let mut payload = payload.clone();
        payload["reason"] = reason;
        assert_eq!(client.post("revokeCert", &payload).await.problem(), expected);
    }
    assert_eq!(client.post("revokeCert", &json!({ "certificate": "AAAA" })).await.problem(), "400 malformed");
    assert!(!ca.is_revoked(&pem).unwrap());
    assert_eq!(client.post("revokeCert", &payload).await.status, 200);
    assert!(ca.is_revoked(&pem).unwrap());
    assert_eq!(client.post("revokeCert", &payload).await.problem(), "400 alreadyRevoked");

    // By the certificate's key, which has no account.
    let (order, key) = client.issue(&["key.example.test"]).await;
    let pem = client.download(&order).await.text;
    let secret: p256::SecretKey =
        p256::pkcs8::DecodePrivateKey::from_pkcs8_der(&key.serialize_der()).unwrap();
    let holder = Client::unregistered(&ca, Signer::P256(secret.into())).await;
    let payload = json!({ "certificate": BASE64.encode(leaf(&pem)), "reason": 1 });
    assert_eq!(holder.post("revokeCert", &payload).await.status, 200);
    assert!(ca.is_revoked(&pem).unwrap());

    // By another account that controls all its names by now.
    let (order, _) = client.issue(&["moved.example.test"]).await;
    let pem = client.download(&order).await.text;
    stranger.issue(&["moved.example.test"]).await;
    assert_eq!(
        stranger.post("revokeCert", &json!({ "certificate": BASE64.encode(leaf(&pem)) })).await.status,
        200
    );
    assert!(ca.is_revoked(&pem).unwrap());
}

/// The certificate's name in renewal information, from its octets.
fn renewal_id(der: &[u8]) -> String {
    let (_, leaf) = X509Certificate::from_der(der).unwrap();
    let oid = x509_parser::oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER;
    let extension = leaf.get_extension_unique(&oid).unwrap().unwrap();
    let x509_parser::prelude::ParsedExtension::AuthorityKeyIdentifier(key) = extension.parsed_extension()
    else {
        panic!("no key identifier")
    };
    format!("{}.{}", BASE64.encode(key.key_identifier.as_ref().unwrap().0), BASE64.encode(leaf.raw_serial()))
}

#[tokio::test]
async fn renewal_information_suggests_a_window_that_can_be_set() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    let (order, _) = client.issue(&["www.example.test"]).await;
    let pem = client.download(&order).await.text;
    let url = format!("{}/{}", client.url("renewalInfo"), renewal_id(&leaf(&pem)));
    let info = client.open(&url).await;
    assert_eq!((info.status, info.header("retry-after")), (200, "21600"));
    let time = |name: &str| -> jiff::Timestamp {
        info.json()["suggestedWindow"][name].as_str().unwrap().parse().unwrap()
    };
    assert_eq!((time("end") - time("start")).get_seconds(), 2 * 90 * 24 * 36, "2 % of the lifetime");
    let now = ca.clock().now();
    ca.set_renewal_window(
        &pem,
        RenewalInfo::new(now, now + DAY).with_explanation("https://ca.example.test/why"),
    )
    .unwrap();
    let info = client.open(&url).await.json();
    assert_eq!(info["explanationURL"], "https://ca.example.test/why");
    let payload = json!({ "certificate": BASE64.encode(leaf(&pem)) });
    assert_eq!(client.post("revokeCert", &payload).await.status, 200);
    let end = client.open(&url).await.json()["suggestedWindow"]["end"].as_str().unwrap().to_owned();
    let end: jiff::Timestamp = end.parse().unwrap();
    assert!(std::time::SystemTime::from(end) < ca.clock().now(), "a revoked one should be gone already");
    for (id, expected) in
        [("AAAA", "400 malformed"), ("AAAA.%", "400 malformed"), ("AAAA.AAAA", "404 malformed")]
    {
        let reply = client.open(&format!("{}/{id}", client.url("renewalInfo"))).await;
        assert_eq!(reply.problem(), expected, "{id}");
    }
}

#[tokio::test]
async fn a_certificate_is_replaced_once_and_by_its_owner() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    let (order, _) = client.issue(&["www.example.test"]).await;
    let id = renewal_id(&leaf(&client.download(&order).await.text));
    let replacing = |names: &[&str]| {
        let mut wish = order_of(names);
        wish["replaces"] = json!(id);
        wish
    };
    let stranger = Client::new(&ca).await;
    assert_eq!(
        stranger.post("newOrder", &replacing(&["www.example.test"])).await.problem(),
        "403 unauthorized"
    );
    assert_eq!(client.post("newOrder", &replacing(&["other.example.test"])).await.problem(), "400 malformed");
    let begun = client.post("newOrder", &replacing(&["www.example.test"])).await;
    assert_eq!((begun.status, &begun.json()["replaces"]), (201, &json!(id)));
    let twice = client.post("newOrder", &replacing(&["www.example.test", "other.example.test"])).await;
    assert_eq!(twice.problem(), "409 alreadyReplaced");
    // The replacement comes to nothing: the certificate may be replaced again.
    ca.clock().advance(8 * DAY);
    assert_eq!(client.get(begun.header("location")).await.json()["status"], "invalid");
    client.issue_for(&replacing(&["www.example.test"]), &["www.example.test"]).await;
    assert_eq!(
        client.post("newOrder", &replacing(&["www.example.test"])).await.problem(),
        "409 alreadyReplaced"
    );
}

#[tokio::test]
async fn limits_are_kept_by_the_clock_of_the_ca() {
    let mut limits = Limits::none();
    limits.orders_per_account = Some(Limit::new(2, DAY));
    let ca = with(TestCa::builder().limits(limits)).await;
    let client = Client::new(&ca).await;
    for name in ["a.example.test", "b.example.test"] {
        assert_eq!(client.post("newOrder", &order_of(&[name])).await.status, 201);
    }
    let wish = order_of(&["c.example.test"]);
    let refused = client.post("newOrder", &wish).await;
    assert_eq!(refused.problem(), "429 rateLimited");
    let pause: u64 = refused.header("retry-after").parse().unwrap();
    assert!((43_190..=43_201).contains(&pause), "{pause}");
    ca.clock().advance(Duration::from_secs(pause));
    assert_eq!(client.post("newOrder", &wish).await.status, 201);
}

#[tokio::test]
async fn requests_and_time_are_counted() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    client.issue(&["www.example.test"]).await;
    use acmekit_server::Endpoint;
    let counts = [Endpoint::NewAccount, Endpoint::NewOrder, Endpoint::Finalize, Endpoint::Orders]
        .map(|one| ca.requests(one));
    assert_eq!(counts, [1, 1, 1, 0]);
    assert!(ca.time_spent() > Duration::ZERO);
    let url = ca.directory_url();
    ca.shutdown().await;
    assert!(client.http.get(url).send().await.is_err(), "it still answers");
}
