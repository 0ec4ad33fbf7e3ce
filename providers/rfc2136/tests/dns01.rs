//! dns-01 over this provider, on real BINDs: what the solver decides, waits for and takes away.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use acmekit_core::dns::Resolver;
use acmekit_core::solvers::Dns01;
use acmekit_core::{
    Challenge, ChallengeKind, ChallengeSolver, Deadline, ErrorKind, KeyAuthorization, Presentation,
    ProviderLimits, RecordHandle, Result, TxtRecord, Zone,
};
use acmekit_core::{DnsName, DnsProvider, async_trait};
use acmekit_rfc2136::{Algorithm, Config, Key, Rfc2136};
use acmekit_testbed::{Bind, BindBuilder};

fn provider(bind: &Bind) -> Rfc2136 {
    let key = Key::new(bind.tsig_name(), Algorithm::HmacSha256, bind.tsig_secret_base64());
    Rfc2136::new(Config::new(bind.addr().to_string(), key)).unwrap()
}

fn resolver(bind: &Bind) -> Resolver {
    Resolver::new([bind.addr()]).unwrap().authoritative_port(bind.addr().port())
}

async fn serving(zone: &str, more: impl FnOnce(BindBuilder) -> BindBuilder) -> Bind {
    more(Bind::builder().zone(zone)).start().await.unwrap()
}

fn challenge(name: &str) -> Challenge {
    let proof = KeyAuthorization::new("token", "thumbprint-of-the-account");
    Challenge::new(name.try_into().unwrap(), ChallengeKind::Dns01, "token", proof)
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// As after a restart: written to the journal and read back.
fn journaled(presentation: &Presentation) -> Presentation {
    serde_json::from_str(&serde_json::to_string(presentation).unwrap()).unwrap()
}

fn value() -> String {
    challenge("example.test").key_authorization.txt_value()
}

#[tokio::test]
async fn the_four_phases_leave_nothing_and_prepare_changes_nothing() {
    let bind = serving("example.test", |bind| bind).await;
    let solver = Dns01::with_resolver(provider(&bind), resolver(&bind));
    let before = bind.transfer("example.test").await.unwrap();
    let prepared = solver.prepare(&challenge("*.example.test"), soon()).await.unwrap();
    assert_eq!(bind.transfer("example.test").await.unwrap(), before);
    // Clean-up after a crash before `present` is nothing to do.
    solver.cleanup(&journaled(&prepared), soon()).await.unwrap();

    solver.present(&prepared, soon()).await.unwrap();
    // A crash here makes acmekit present the same thing again.
    let presented = solver.present(&journaled(&prepared), soon()).await.unwrap();
    solver.ready(&presented, soon()).await.unwrap();
    let name = "_acme-challenge.example.test".to_owned();
    assert_eq!(bind.txt_records("example.test").await.unwrap(), [(name, value())]);

    let restarted = Dns01::with_resolver(provider(&bind), resolver(&bind));
    restarted.cleanup(&journaled(&presented), soon()).await.unwrap();
    restarted.cleanup(&journaled(&presented), soon()).await.unwrap();
    assert_eq!(bind.txt_records("example.test").await.unwrap(), []);
}

#[tokio::test]
async fn clean_up_removes_what_was_added_though_the_alias_has_moved() {
    let alias = "_acme-challenge.example.test";
    let bind = Bind::builder()
        .zone("example.test")
        .zone("challenges.test")
        .cname(alias, "one.challenges.test")
        .start()
        .await
        .unwrap();
    let solver = Dns01::with_resolver(provider(&bind), resolver(&bind));
    let prepared = solver.prepare(&challenge("example.test"), soon()).await.unwrap();
    let presented = solver.present(&prepared, soon()).await.unwrap();
    solver.ready(&presented, soon()).await.unwrap();
    assert_eq!(bind.txt_records("challenges.test").await.unwrap(), [("one.challenges.test".into(), value())]);

    // Somebody else has the same value where the alias leads now.
    let moved = format!("delete {alias}. CNAME\nadd {alias}. 1 CNAME two.challenges.test.");
    bind.update(bind.tsig(), "example.test", &moved).await.unwrap();
    bind.add_txt("challenges.test", "two.challenges.test", &value()).await.unwrap();
    solver.cleanup(&journaled(&presented), soon()).await.unwrap();
    assert_eq!(bind.txt_records("challenges.test").await.unwrap(), [("two.challenges.test".into(), value())]);
}

#[tokio::test]
async fn an_alias_to_a_zone_nobody_has_is_told_with_the_way_there() {
    let alias = |bind: BindBuilder| bind.cname("_acme-challenge.example.test", "a.elsewhere.test");
    let bind = serving("example.test", alias).await;
    let solver = Dns01::with_resolver(provider(&bind), resolver(&bind));
    let error = solver.prepare(&challenge("example.test"), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ZoneNotFound, "{}", error.report());
    for told in ["_acme-challenge.example.test -> a.elsewhere.test", "providers=rfc2136"] {
        assert!(error.to_string().contains(told), "`{told}` is not in: {error}");
    }
}

#[tokio::test]
async fn a_second_server_that_lags_is_waited_for() {
    let (first, second) = (serving("example.test", |b| b).await, serving("example.test", |b| b).await);
    let resolver = resolver(&first).authoritative([first.addr(), second.addr()]);
    let solver = Dns01::with_resolver(provider(&first), resolver);
    let prepared = solver.prepare(&challenge("example.test"), soon()).await.unwrap();
    let presented = solver.present(&prepared, soon()).await.unwrap();

    let short = Deadline::after(Duration::from_millis(700));
    let error = solver.ready(&presented, short).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    for told in [format!("{} has it", first.addr()), format!("{} does not know the name yet", second.addr())]
    {
        assert!(error.to_string().contains(&told), "`{told}` is not in: {error}");
    }

    let (waited, caught_up) = tokio::join!(solver.ready(&presented, soon()), async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        second.add_txt("example.test", "_acme-challenge.example.test", &value()).await
    });
    caught_up.unwrap();
    waited.unwrap();
    // From here on the second one may be down: the first one is enough.
    second.stop();
    solver.ready(&presented, soon()).await.unwrap();
}

#[tokio::test]
async fn of_two_servers_of_one_kind_the_one_with_the_zone_is_used_to_the_end() {
    let (one, two) = (serving("one.test", |b| b).await, serving("two.test", |b| b).await);
    let both =
        |resolvers: &Bind| Dns01::with_resolver(provider(&one), resolver(resolvers)).or(provider(&two));
    let solver = both(&two);
    let prepared = solver.prepare(&challenge("www.two.test"), soon()).await.unwrap();
    let presented = solver.present(&prepared, soon()).await.unwrap();
    assert_eq!(two.txt_records("two.test").await.unwrap().len(), 1);
    // The other one being down does not stand in the way.
    one.stop();
    both(&two).cleanup(&journaled(&presented), soon()).await.unwrap();
    assert_eq!(two.txt_records("two.test").await.unwrap(), []);
    // Without the one that has it, its record is not given up.
    let alone = Dns01::with_resolver(provider(&one), resolver(&two));
    assert!(alone.cleanup(&journaled(&presented), soon()).await.is_err());
}

#[tokio::test]
async fn where_the_servers_cannot_be_asked_a_pause_does() {
    let bind = serving("example.test", |bind| bind).await;
    let pause = Duration::from_millis(50);
    let solver = Dns01::with_resolver(provider(&bind), resolver(&bind)).wait_instead_of_asking(pause);
    let prepared = solver.prepare(&challenge("example.test"), soon()).await.unwrap();
    bind.freeze().unwrap();
    solver.ready(&prepared, soon()).await.unwrap();
    let error = solver.ready(&prepared, Deadline::after(Duration::from_millis(10))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

/// A provider whose calls never end.
#[derive(Debug)]
struct Stuck;

#[async_trait]
impl DnsProvider for Stuck {
    fn id(&self) -> &str {
        "stuck"
    }

    fn limits(&self) -> ProviderLimits {
        let mut limits = ProviderLimits::default();
        limits.call_timeout = Duration::from_millis(50);
        limits
    }

    async fn zone(&self, _: &DnsName) -> Result<Option<Zone>> {
        std::future::pending().await
    }

    async fn add_txt(&self, _: &Zone, _: &TxtRecord) -> Result<RecordHandle> {
        std::future::pending().await
    }

    async fn remove_txt(&self, _: &RecordHandle) -> Result<()> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_provider_that_never_answers_costs_its_limit_and_names_the_phase() {
    let bind = serving("example.test", |bind| bind).await;
    let solver = Dns01::with_resolver(Stuck, resolver(&bind));
    let error = solver.prepare(&challenge("example.test"), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("looking for the zone: no end within 50ms"), "{error}");

    let zone = Zone::new("example.test".parse().unwrap());
    let record = TxtRecord::new("_acme-challenge.example.test".parse().unwrap(), value());
    let planned = Presentation::new(challenge("example.test"))
        .note("record", &RecordHandle::intent("stuck", zone, record))
        .unwrap();
    for (error, phase) in [
        (solver.present(&planned, soon()).await.unwrap_err(), "adding the TXT record"),
        (solver.cleanup(&planned, soon()).await.unwrap_err(), "removing the TXT record"),
    ] {
        assert!(error.to_string().contains(phase), "{error}");
    }
}
