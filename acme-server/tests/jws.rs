//! What a request must be signed like (RFC 8555 sections 6.2 to 6.5), and the error for each way it may be wrong.

#![cfg(feature = "test-ca")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use common::{Client, Signer, credulous, jws, order_of};
use serde_json::{Value, json};

#[tokio::test]
async fn every_algorithm_gets_a_certificate() {
    let ca = credulous().await;
    for signer in [Signer::es256(), Signer::es384(), Signer::ed25519(), Signer::rsa().await] {
        let algorithm = signer.algorithm();
        let client = Client::registered(&ca, signer).await;
        let (order, _) = client.issue(&[&format!("{}.example.test", algorithm.to_lowercase())]).await;
        assert!(client.download(&order).await.text.starts_with("-----BEGIN CERTIFICATE-----"), "{algorithm}");
    }
    assert_eq!(ca.certificates_issued(), 4);
}

/// A request to newOrder that is right, but for what the case changes in its header.
async fn with_header(client: &Client, change: impl FnOnce(&mut Value)) -> common::Reply {
    let mut header = client.header("newOrder").await;
    change(&mut header);
    let jws = client.jws(&header, &order_of(&["www.example.test"]));
    client.send("newOrder", &jws).await
}

#[tokio::test]
async fn a_header_that_is_wrong_gets_the_error_the_rfc_names() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    let other = Client::new(&ca).await;
    let right = with_header(&client, |_| {}).await;
    assert_eq!(right.status, 201, "{right:?}");

    type Change = Box<dyn FnOnce(&mut Value)>;
    let set = |name: &'static str, value: Value| -> Change { Box::new(move |header| header[name] = value) };
    let without = |name: &'static str| -> Change {
        Box::new(move |header| drop(header.as_object_mut().unwrap().remove(name)))
    };
    let used = client.nonce().await;
    with_header(&client, |header| header["nonce"] = json!(used)).await;
    let jwk = client.signer.jwk();
    let other_kid = other.kid.clone().unwrap();
    let strange_kid = format!("{other_kid}x");
    let cases: Vec<(&str, Change, &str)> = vec![
        ("url of another resource", set("url", json!(client.url("newAccount"))), "403 unauthorized"),
        ("url of another host", set("url", json!("https://ca.example/acme/new-order")), "403 unauthorized"),
        ("no url", without("url"), "400 malformed"),
        ("a url that is a number", set("url", json!(7)), "400 malformed"),
        ("a replayed nonce", set("nonce", json!(used)), "400 badNonce"),
        ("an invented nonce", set("nonce", json!("bm9uY2U")), "400 badNonce"),
        ("no nonce", without("nonce"), "400 malformed"),
        ("the kid of nobody", set("kid", json!(strange_kid)), "400 accountDoesNotExist"),
        ("the kid of another", set("kid", json!(other_kid)), "400 malformed"),
        ("a kid that is no account", set("kid", json!("https://ca.example/1")), "400 accountDoesNotExist"),
        ("no kid", without("kid"), "400 malformed"),
        ("kid and jwk", set("jwk", jwk.clone()), "400 malformed"),
        ("alg none", set("alg", json!("none")), "400 badSignatureAlgorithm"),
        ("alg HS256", set("alg", json!("HS256")), "400 badSignatureAlgorithm"),
        ("alg of another key", set("alg", json!("RS256")), "400 badSignatureAlgorithm"),
        ("no alg", without("alg"), "400 malformed"),
        ("crit", set("crit", json!(["exp"])), "400 malformed"),
        ("b64", set("b64", json!(false)), "400 malformed"),
        (
            "jwk where an account must sign",
            Box::new(move |header| {
                header.as_object_mut().unwrap().remove("kid");
                header["jwk"] = jwk;
            }),
            "400 malformed",
        ),
    ];
    for (what, change, expected) in cases {
        let reply = with_header(&client, change).await;
        assert_eq!(reply.problem(), expected, "{what}: {reply:?}");
        assert!(!reply.header("replay-nonce").is_empty(), "{what}: an error brings a nonce, too");
        if expected.ends_with("badSignatureAlgorithm") {
            assert_eq!(reply.json()["algorithms"], json!(["ES256", "ES384", "EdDSA", "RS256"]), "{what}");
        }
    }
    assert_eq!(ca.certificates_issued(), 0);
}

#[tokio::test]
async fn a_body_that_is_wrong_gets_the_error_the_rfc_names() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    let payload = order_of(&["www.example.test"]);
    let sound = client.jws(&client.header("newOrder").await, &payload);
    let with = |name: &str, value: Value| {
        let mut jws = sound.clone();
        jws[name] = value;
        jws.to_string()
    };
    let signature = sound["signature"].as_str().unwrap();
    let mut flipped = BASE64.decode(signature).unwrap();
    flipped[10] ^= 1;
    let jose = "application/jose+json";
    let cases: Vec<(&str, &str, String, &str)> = vec![
        ("another signature", jose, with("signature", json!(BASE64.encode(&flipped))), "400 malformed"),
        ("a short signature", jose, with("signature", json!("AAAA")), "400 malformed"),
        ("no signature", jose, with("signature", Value::Null), "400 malformed"),
        ("another payload", jose, with("payload", json!(BASE64.encode("{}"))), "400 malformed"),
        ("padding", jose, with("signature", json!(format!("{signature}=="))), "400 malformed"),
        ("an unprotected header", jose, with("header", json!({})), "400 malformed"),
        ("several signatures", jose, with("signatures", json!([])), "400 malformed"),
        ("a header of nothing", jose, with("protected", json!("")), "400 malformed"),
        ("a header of no object", jose, with("protected", json!(BASE64.encode("[]"))), "400 malformed"),
        ("no JSON", jose, "{".to_owned(), "400 malformed"),
        ("nothing", jose, String::new(), "400 malformed"),
        ("too much", jose, with("padding", json!("x".repeat(200_000))), "413 malformed"),
        ("plain JSON", "application/json", sound.to_string(), "415 malformed"),
        ("JSON with a charset", "application/jose+json; charset=utf-8", sound.to_string(), "415 malformed"),
        ("no content type", "", sound.to_string(), "415 malformed"),
    ];
    for (what, media, body, expected) in cases {
        let reply = client.raw("newOrder", media, body.into_bytes()).await;
        assert_eq!(reply.problem(), expected, "{what}: {reply:?}");
    }
    // None of them spent the nonce of the sound one.
    let reply = client.send("newOrder", &sound).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(client.send("newOrder", &sound).await.problem(), "400 badNonce");
}

#[tokio::test]
async fn keys_that_are_weak_or_broken_are_refused() {
    let ca = credulous().await;
    let client = Client::unregistered(&ca, Signer::es256()).await;
    let right = client.signer.jwk();
    let with = |name: &str, value: Value| {
        let mut jwk = right.clone();
        jwk[name] = value;
        jwk
    };
    let cases = vec![
        ("a coordinate cut short", with("x", json!("AAAA")), "400 badPublicKey"),
        ("a curve nobody takes", with("crv", json!("secp256k1")), "400 badPublicKey"),
        ("a private key", with("d", json!("AAAA")), "400 badPublicKey"),
        ("a type nobody takes", json!({ "kty": "oct", "k": "AAAA" }), "400 badPublicKey"),
        (
            "RSA of 1024 bits",
            json!({ "kty": "RSA", "n": BASE64.encode([255; 128]), "e": "AQAB" }),
            "400 badPublicKey",
        ),
        ("no object", json!("key"), "400 badPublicKey"),
        ("a point off the curve", with("x", right["y"].clone()), "400 malformed"),
    ];
    for (what, jwk, expected) in cases {
        let mut header = client.header("newAccount").await;
        header["jwk"] = jwk;
        let reply = client.send("newAccount", &client.jws(&header, &json!({}))).await;
        assert_eq!(reply.problem(), expected, "{what}: {reply:?}");
        assert!(!reply.text.contains("AAAA"), "{what}: no part of a key is repeated");
    }
}

#[tokio::test]
async fn an_account_signs_only_with_its_own_key() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    let header = client.header("newOrder").await;
    let reply =
        client.send("newOrder", &jws(&Signer::es256(), &header, &order_of(&["a.example.test"]))).await;
    assert_eq!(reply.problem(), "400 malformed");
}

#[tokio::test]
async fn what_is_read_is_read_by_an_empty_payload_and_by_its_owner() {
    let ca = credulous().await;
    let (client, other) = (Client::new(&ca).await, Client::new(&ca).await);
    let (order, _) = client.issue(&["www.example.test"]).await;
    let url = order.header("location");
    assert_eq!(client.post(url, &json!({})).await.problem(), "400 malformed");
    let authorization = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    let certificate = order.json()["certificate"].as_str().unwrap().to_owned();
    let account = client.kid.clone().unwrap();
    for url in [url, &authorization, &certificate, &account, &format!("{account}/orders")] {
        assert_eq!(client.get(url).await.status, 200, "{url}");
        assert_eq!(other.get(url).await.problem(), "403 unauthorized", "{url}");
        assert_eq!(client.open(url).await.problem(), "405 malformed", "{url}");
    }
    assert_eq!(client.get(&format!("{url}x")).await.problem(), "404 malformed");
    assert_eq!(client.open("newOrder").await.problem(), "405 malformed");
    let nowhere = ca.directory_url().replace("directory", "nowhere");
    assert_eq!(client.open(&nowhere).await.problem(), "404 malformed");
}

#[tokio::test]
async fn every_answer_names_the_directory_and_brings_a_fresh_nonce() {
    let ca = credulous().await;
    let client = Client::new(&ca).await;
    let mut nonces = std::collections::HashSet::new();
    for reply in [client.open("newNonce").await, client.get(&client.kid.clone().unwrap()).await] {
        assert!(reply.headers("link").contains(&format!("<{}>;rel=\"index\"", ca.directory_url()).as_str()));
        assert!(nonces.insert(reply.header("replay-nonce").to_owned()));
        assert!(BASE64.decode(reply.header("replay-nonce")).is_ok());
    }
    // Directory and newNonce are also read by POST-as-GET (section 6.3).
    assert_eq!(client.get(&ca.directory_url()).await.json(), client.directory);
    let nonce = client.get("newNonce").await;
    assert_eq!(nonce.status, 204);
    assert!(nonces.insert(nonce.header("replay-nonce").to_owned()));
    assert_eq!(client.post("newNonce", &json!({})).await.problem(), "400 malformed");
    assert_eq!(client.open("newNonce").await.status, 204);
    assert_eq!(client.open("newNonce").await.header("cache-control"), "no-store");
}
