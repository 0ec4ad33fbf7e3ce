//! Keys and tokens are in no log line, error or `Debug` output, however much is logged and whatever AWS says.

mod fake;

use acmekit_conformance::api::Fault;
use acmekit_conformance::log::{Log, assert_shows_none_of};
use acmekit_core::{DnsProvider, TxtRecord, Zone};
use acmekit_route53::{Role, Route53};

use self::fake::{Fake, ROLE_SECRET, ROLE_TOKEN, SECRET, ZONE, error};

const WRONG: &str = "another/secret-that-is-n0ne";

#[tokio::test]
async fn keys_and_tokens_are_shown_nowhere_even_at_trace() {
    let fake = Fake::start().await;
    let log = Log::start();
    let zone = Zone::new("deep.example.test".parse().unwrap()).with_id(ZONE);
    let record = TxtRecord::new("_acme-challenge.deep.example.test".parse().unwrap(), "value");
    let mut shown = String::new();
    let role = Role::new("arn:aws:iam::123456789012:role/acme").with_session_name("renewals");
    for (secret, external_id) in
        [(WRONG, None), (SECRET, None), (SECRET, Some("the-id")), (SECRET, Some("wrong"))]
    {
        let mut config = fake.config_with(secret);
        config.sts_endpoint = Some(fake.api.url());
        config.role = external_id.map(|id| role.clone().with_external_id(id));
        shown.push_str(&format!("{config:?}"));
        let provider = Route53::new(config).unwrap();
        match provider.add_txt(&zone, &record).await {
            Ok(handle) => provider.remove_txt(&handle).await.unwrap(),
            Err(error) => shown.push_str(&format!("{} {error:?}", error.report())),
        }
        shown.push_str(&format!("{provider:?}"));
    }
    // All that was signed, as AWS repeats it; and the key, as nobody should.
    let said = format!(
        "The request signature we calculated does not match {SECRET}.\n\nThe Canonical String for this request should \
         have been\n'GET\n/\nx-amz-security-token:{ROLE_TOKEN}\n'"
    );
    fake.api.fail("GET", Fault::Instead(error(403, "SignatureDoesNotMatch", &said)));
    let error = fake.provider().add_txt(&zone, &record).await.unwrap_err();
    shown.push_str(&format!("{} {error:?}", error.report()));
    assert!(shown.contains("does not match …"), "{shown}");

    let logged = log.text();
    assert!(logged.contains("Route 53 has answered"), "our own words are not logged");
    assert!(logged.contains("request=\"ChangeResourceRecordSets\""), "{logged}");
    shown.push_str(&logged);
    assert_shows_none_of(&shown, &[SECRET, WRONG, ROLE_SECRET, ROLE_TOKEN]);
}
