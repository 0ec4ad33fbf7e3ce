//! The program as a timer runs it: certificates into the folder, events to the webhook, and nothing to do the second time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use acmekit_server::TestCa;
use acmekit_testbed::{free_port, run_program, verify_chain};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use tokio::task::JoinSet;

fn write(path: &str, text: &str) {
    let attributes = acmekit::atomic::FileAttributes::mode(0o600);
    acmekit::atomic::write_file(Path::new(path), text.as_bytes(), attributes).unwrap();
}

#[tokio::test]
async fn certificates_come_into_the_folder_and_events_to_the_webhook() {
    let (port, folder) = (free_port().unwrap(), tempfile::tempdir().unwrap());
    let ca = TestCa::builder().http_port(port.number()).start().await.unwrap();
    let of = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (root, wanted, out, store) = (of("root.pem"), of("wanted.json"), of("out"), of("store"));
    write(&root, ca.root_pem());
    write(
        &wanted,
        r#"{ "certificates": [
            { "names": ["www.example.test", "example.test"], "owner": "web" },
            { "names": ["shop.example.test"], "owner": "sales" }
        ] }"#,
    );
    let heard: Arc<Mutex<Vec<Value>>> = Arc::default();
    let noting = Arc::clone(&heard);
    let hook = post(async move |Json(event): Json<Value>| noting.lock().unwrap().push(event));
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let webhook = format!("http://{}/acme", tcp.local_addr().unwrap());
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(tcp, Router::new().route("/acme", hook)).await });

    let (http, directory) = (port.addr().to_string(), ca.directory_url());
    let arguments = [
        &wanted,
        "--out",
        &out,
        "--store",
        &store,
        "--http",
        &http,
        "--webhook",
        &webhook,
        "--directory",
        &directory,
        "--root",
        &root,
        "--agree-to-terms",
    ];
    for round in ["the first", "the second"] {
        let done = run_program(env!("CARGO_BIN_EXE_custom-pipeline"), "", &arguments).await.unwrap();
        assert!(done.success, "{round}: {}{}", done.stdout, done.stderr);
        assert_eq!(done.stdout.matches("deployed").count(), 2, "{round}: {}", done.stdout);
        assert_eq!(ca.certificates_issued(), 2, "{round}");
    }
    let mut names = vec![&["shop.example.test"][..], &["example.test", "www.example.test"]];
    for item in std::fs::read_dir(&out).unwrap() {
        let text = std::fs::read_to_string(item.unwrap().path().join("combined.pem")).unwrap();
        assert!(text.contains("PRIVATE KEY"));
        let chain = text.split("-----BEGIN PRIVATE KEY").next().unwrap();
        names.retain(|names| verify_chain(chain, ca.issuing_roots_pem(), names).is_err());
    }
    assert!(names.is_empty(), "missing: {names:?}");
    let heard = heard.lock().unwrap();
    let issued = heard.iter().filter(|event| event["what"]["event"] == "certificate-issued").count();
    assert_eq!(issued, 2, "{heard:?}");
}
