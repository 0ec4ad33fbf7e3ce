//! The credential that the AWS SDK finds by itself: in variables, in a file, from a program, from the container's agent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "files for a test")]

mod fake;

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use acmekit_conformance::api::{Answer, Api};
use acmekit_core::{DnsProvider, TxtRecord, Zone};
use acmekit_route53::{Config, Credential, Route53};
use tokio::process::Command;

use self::fake::{Fake, KEY_ID, SECRET, ZONE};

const NAME: &str = "_acme-challenge.deep.example.test";

/// What the others run as a program of its own, since the environment of this one is everybody's.
#[tokio::test]
#[ignore = "the other tests run it, each with another environment"]
async fn child_adds_a_value() {
    let endpoint = std::env::var("ACMEKIT_TEST_ENDPOINT").unwrap();
    let provider = Route53::new(Config::new(Credential::found()).with_endpoint(endpoint)).unwrap();
    let zone = Zone::new("deep.example.test".parse().unwrap()).with_id(ZONE);
    let added = provider.add_txt(&zone, &TxtRecord::new(NAME.parse().unwrap(), "value")).await;
    added.unwrap_or_else(|error| panic!("{}", error.report()));
}

async fn child(fake: &Fake, home: &Path, variables: &[(&str, &str)]) -> Output {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child_adds_a_value", "--ignored", "--nocapture"]).env_clear();
    child.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
    child.env("ACMEKIT_TEST_ENDPOINT", fake.api.url()).env("AWS_EC2_METADATA_DISABLED", "true");
    child.envs(variables.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    tokio::time::timeout(Duration::from_secs(60), child.output()).await.unwrap().unwrap()
}

/// Who asked was known by the right key.
async fn is_found(home: &Path, variables: &[(&str, &str)]) {
    let fake = Fake::start().await;
    let output = child(&fake, home, variables).await;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains(SECRET), "{said}");
    assert_eq!(fake.values(NAME), ["\"value\""]);
}

#[tokio::test]
async fn in_variables() {
    let home = tempfile::tempdir().unwrap();
    is_found(home.path(), &[("AWS_ACCESS_KEY_ID", KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET)]).await;
}

#[tokio::test]
async fn in_the_file_of_a_profile() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let text = format!("[acme]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n");
    std::fs::write(home.path().join(".aws/credentials"), text).unwrap();
    is_found(home.path(), &[("AWS_PROFILE", "acme")]).await;
}

#[tokio::test]
async fn from_a_program() {
    let home = tempfile::tempdir().unwrap();
    let said = format!(r#"{{"Version": 1, "AccessKeyId": "{KEY_ID}", "SecretAccessKey": "{SECRET}"}}"#);
    std::fs::write(home.path().join("said"), said).unwrap();
    let config = format!("[default]\ncredential_process = cat {}/said\n", home.path().display());
    std::fs::write(home.path().join("config"), config).unwrap();
    let file = home.path().join("config").display().to_string();
    is_found(home.path(), &[("AWS_CONFIG_FILE", &file)]).await;
}

/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>
#[tokio::test]
async fn from_the_agent_of_a_container() {
    let home = tempfile::tempdir().unwrap();
    let agent = Api::start(|asked| async move {
        match asked.header("authorization") {
            Some("of-this-container") => Answer::json(
                200,
                format!(
                    r#"{{"AccessKeyId": "{KEY_ID}", "SecretAccessKey": "{SECRET}", "Token": "t0ken", "Expiration": "2099-01-01T00:00:00Z"}}"#
                ),
            ),
            _ => Answer::new(401, ""),
        }
    })
    .await;
    let url = format!("{}/credentials", agent.url());
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of-this-container"),
    ];
    is_found(home.path(), &variables).await;
    assert_eq!(agent.count("GET /credentials"), 1);
}

#[tokio::test]
async fn nowhere_and_that_is_told() {
    let (home, fake) = (tempfile::tempdir().unwrap(), Fake::start().await);
    let output = child(&fake, home.path(), &[]).await;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("no credential for AWS was found"), "{said}");
    assert_eq!(fake.api.count(""), 0);
}
