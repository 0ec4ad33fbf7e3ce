//! Accounts (RFC 8555 section 7.3).

#![cfg(feature = "test-ca")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use acmekit_server::TestCa;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use common::{Client, Signer, credulous, jws, order_of, with};
use serde_json::{Value, json};

#[tokio::test]
async fn a_key_has_one_account_however_often_it_asks() {
    let ca = credulous().await;
    let client = Client::unregistered(&ca, Signer::es256()).await;
    let asked = json!({ "onlyReturnExisting": true });
    assert_eq!(client.post("newAccount", &asked).await.problem(), "400 accountDoesNotExist");
    let made = client.post("newAccount", &json!({ "contact": ["mailto:ops@example.test"] })).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.json()["contact"], json!(["mailto:ops@example.test"]));
    assert_eq!(made.json()["status"], "valid");
    for payload in [asked, json!({ "contact": ["mailto:other@example.test"] }), json!({})] {
        let again = client.post("newAccount", &payload).await;
        assert_eq!(again.status, 200, "{again:?}");
        assert_eq!(again.header("location"), made.header("location"));
        assert_eq!(again.json(), made.json(), "newAccount changes no existing account");
    }
}

#[tokio::test]
async fn accounts_asked_for_at_once_with_one_key_are_one() {
    let ca = credulous().await;
    let client = Client::unregistered(&ca, Signer::es256()).await;
    let payload = json!({});
    let replies = futures_util::future::join_all((0..8).map(|_| client.post("newAccount", &payload))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 1, "{replies:?}");
    assert!(replies.iter().all(|reply| reply.header("location") == replies[0].header("location")));
}

#[tokio::test]
async fn contacts_are_mail_addresses_one_each() {
    let ca = credulous().await;
    let client = Client::unregistered(&ca, Signer::es256()).await;
    let cases = [
        (json!(["tel:+49123"]), "400 unsupportedContact"),
        (json!(["mailto:a@example.test,b@example.test"]), "400 invalidContact"),
        (json!(["mailto:a@example.test?subject=x"]), "400 invalidContact"),
        (json!(["mailto:nobody"]), "400 invalidContact"),
        (json!(["mailto:@example.test"]), "400 invalidContact"),
        (json!("mailto:a@example.test"), "400 malformed"),
        (json!([7]), "400 malformed"),
    ];
    for (contact, expected) in cases {
        let reply = client.post("newAccount", &json!({ "contact": contact })).await;
        assert_eq!(reply.problem(), expected, "{contact}: {reply:?}");
    }
}

#[tokio::test]
async fn terms_that_exist_must_be_agreed_to() {
    let terms = "https://ca.example.test/terms";
    let ca =
        with(TestCa::builder().settings(|settings| settings.terms_of_service = Some(terms.to_owned()))).await;
    let client = Client::unregistered(&ca, Signer::es256()).await;
    assert_eq!(client.directory["meta"]["termsOfService"], terms);
    for payload in
        [json!({}), json!({ "termsOfServiceAgreed": false }), json!({ "termsOfServiceAgreed": "yes" })]
    {
        let reply = client.post("newAccount", &payload).await;
        assert_eq!(reply.problem(), "403 userActionRequired", "{payload}");
        assert!(reply.headers("link").contains(&format!("<{terms}>;rel=\"terms-of-service\"").as_str()));
    }
    assert_eq!(client.post("newAccount", &json!({ "termsOfServiceAgreed": true })).await.status, 201);
}

#[tokio::test]
async fn an_account_is_updated_and_then_deactivated_for_good() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    let account = client.kid.clone().unwrap();
    let updated = client.post(&account, &json!({ "contact": ["mailto:new@example.test"] })).await;
    assert_eq!((updated.status, &updated.json()["contact"]), (200, &json!(["mailto:new@example.test"])));
    assert_eq!(client.get(&account).await.json()["contact"], json!(["mailto:new@example.test"]));
    assert_eq!(client.post(&account, &json!({ "status": "revoked" })).await.problem(), "400 malformed");
    assert_eq!(
        client.post(&account, &json!({ "contact": ["tel:1"] })).await.problem(),
        "400 unsupportedContact"
    );
    assert_eq!(
        client.post(&account, &json!({ "status": "deactivated" })).await.json()["status"],
        "deactivated"
    );
    for reply in [client.get(&account).await, client.post("newOrder", &order_of(&["a.example.test"])).await] {
        assert_eq!(reply.problem(), "401 unauthorized");
    }
    let again = Client { kid: None, ..client };
    assert_eq!(again.post("newAccount", &json!({})).await.problem(), "401 unauthorized");
}

/// The inner JWS of a key change.
fn rollover(client: &Client, new: &Signer, change: impl FnOnce(&mut Value, &mut Value)) -> Value {
    let url = client.url("keyChange");
    let mut header = json!({ "alg": new.algorithm(), "jwk": new.jwk(), "url": url });
    let mut payload = json!({ "account": client.kid, "oldKey": client.signer.jwk() });
    change(&mut header, &mut payload);
    jws(new, &header, &payload)
}

#[tokio::test]
async fn a_key_is_changed_when_both_keys_agree() {
    let ca = credulous().await;
    let mut client = Client::new(&ca).await;
    let new = Signer::es384();
    type Change = fn(&mut Value, &mut Value);
    let cases: Vec<(&str, Change)> = vec![
        ("a nonce inside", |header, _| header["nonce"] = json!("AAAA")),
        ("another url inside", |header, _| header["url"] = json!("https://ca.example.test/")),
        ("another account", |_, payload| {
            payload["account"] = json!("https://ca.example.test/acme/account/1")
        }),
        ("another old key", |_, payload| payload["oldKey"] = Signer::es256().jwk()),
        ("no old key", |_, payload| payload["oldKey"] = Value::Null),
    ];
    for (what, change) in cases {
        let reply = client.post("keyChange", &rollover(&client, &new, change)).await;
        assert_eq!(reply.problem(), "400 malformed", "{what}");
    }
    // The new key's agreement is signed by somebody else.
    let mut forged = rollover(&client, &new, |_, _| {});
    forged["signature"] = rollover(&client, &Signer::es384(), |_, _| {})["signature"].clone();
    assert_eq!(client.post("keyChange", &forged).await.problem(), "400 malformed");
    // The new key has an account already.
    let other = Client::new(&ca).await;
    let taken = client.post("keyChange", &rollover(&client, &other.signer, |_, _| {})).await;
    assert_eq!(taken.problem(), "409 malformed");
    assert_eq!(taken.header("location"), other.kid.as_deref().unwrap());

    assert_eq!(client.post("keyChange", &rollover(&client, &new, |_, _| {})).await.status, 200);
    let account = client.kid.clone().unwrap();
    assert_eq!(client.get(&account).await.problem(), "400 badSignatureAlgorithm", "the old key is of no use");
    client.signer = new;
    assert_eq!(client.get(&account).await.status, 200);
}

const MAC: &[u8] = b"a key both sides know, of 32 octets";

/// An external account binding, right but for the changes.
fn binding(client: &Client, change: impl FnOnce(&mut Value, &mut Value)) -> Value {
    use hmac::Mac;
    let mut header = json!({ "alg": "HS256", "kid": "kid-1", "url": client.url("newAccount") });
    let mut payload = client.signer.jwk();
    change(&mut header, &mut payload);
    let input = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(payload.to_string()));
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(MAC).unwrap();
    mac.update(input.as_bytes());
    let (protected, payload) = input.split_once('.').unwrap();
    let signature = BASE64.encode(mac.finalize().into_bytes());
    json!({ "protected": protected, "payload": payload, "signature": signature })
}

#[tokio::test]
async fn an_account_is_bound_to_an_external_one_where_the_ca_wants_that() {
    let ca = with(TestCa::builder().external_account("kid-1", &BASE64.encode(MAC)).unwrap()).await;
    let client = Client::unregistered(&ca, Signer::es256()).await;
    assert_eq!(client.directory["meta"]["externalAccountRequired"], true);
    let register =
        async |binding: Value| client.post("newAccount", &json!({ "externalAccountBinding": binding })).await;
    assert_eq!(register(Value::Null).await.problem(), "403 externalAccountRequired");
    type Change = fn(&mut Value, &mut Value);
    let cases: Vec<(&str, Change, &str)> = vec![
        ("another kid", |header, _| header["kid"] = json!("kid-2"), "403 unauthorized"),
        ("another url", |header, _| header["url"] = json!("https://ca.example.test/"), "400 malformed"),
        ("a nonce", |header, _| header["nonce"] = json!("AAAA"), "400 malformed"),
        ("no MAC", |header, _| header["alg"] = json!("ES256"), "400 badSignatureAlgorithm"),
        ("another key", |_, payload| *payload = Signer::es256().jwk(), "400 malformed"),
    ];
    for (what, change, expected) in cases {
        assert_eq!(register(binding(&client, change)).await.problem(), expected, "{what}");
    }
    let mut wrong = binding(&client, |_, _| {});
    wrong["signature"] = json!(BASE64.encode([0; 32]));
    assert_eq!(register(wrong).await.problem(), "403 unauthorized");
    let bound = binding(&client, |_, _| {});
    let made = register(bound.clone()).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.json()["externalAccountBinding"], bound);
}
