//! Clauses for [`DnsProvider`], numbered as in its documentation.
//!
//! The oracle is never the provider: [`Subject::lookup`] asks the DNS server itself.

use std::sync::Arc;
use std::time::Duration;

use acmekit_core::{DnsName, DnsProvider, RecordHandle, TxtRecord, Zone, async_trait};

/// What the suite runs on: a provider, the server behind it, and a way to ask that server.
#[async_trait]
pub trait Subject: Send + Sync {
    /// The provider. It is asked for at each call: with a clone of one, D11 has its writers in one
    /// process; with a new one each time, as if each were a process of its own. A provider that
    /// serialises its writes shows both.
    fn provider(&self) -> Arc<dyn DnsProvider>;

    /// A provider made anew from the same configuration, as after a restart.
    fn another(&self) -> Arc<dyn DnsProvider>;

    /// The apex of a zone the provider holds. Its parent should be another such zone: else D1
    /// cannot show that the longest one is found.
    fn zone(&self) -> DnsName;

    /// A name in no zone of the provider.
    fn foreign_name(&self) -> DnsName;

    /// The TXT values at a name, asked of the server and not of the provider: each copy once, in
    /// any order.
    async fn lookup(&self, name: &DnsName) -> Vec<String>;

    /// Puts a TXT value at a name, past the provider, and beside it a record of another type: an
    /// address, or CAA where the server takes no address at such a name. *Must* be repeatable.
    async fn plant(&self, name: &DnsName, value: &str);

    /// Whether the record of another type that [`plant`](Self::plant) put at the name is there,
    /// asked of the server.
    async fn has_planted_record(&self, name: &DnsName) -> bool;

    /// The credential of [`provider`](Self::provider): no error and no `Debug` output may contain it.
    fn secret(&self) -> String;

    /// The credential of [`with_wrong_credential`](Self::with_wrong_credential).
    fn wrong_secret(&self) -> String;

    /// A provider with the same configuration but a credential that the server refuses.
    fn with_wrong_credential(&self) -> Arc<dyn DnsProvider>;
}

/// How long the server may take to show a change.
const SOON: Duration = Duration::from_secs(30);
/// What somebody else has put where the provider works.
const PLANTED: &str = "somebody-elses";

pub(crate) fn name<S: Subject + ?Sized>(subject: &S, label: &str) -> DnsName {
    let made = subject.zone().child(label).and_then(|parent| parent.child("_acme-challenge"));
    made.unwrap_or_else(|e| panic!("the suite cannot make a name below the zone: {e}"))
}

pub(crate) async fn zone_of<S: Subject + ?Sized>(subject: &S, at: &DnsName) -> Zone {
    match subject.provider().zone(at).await {
        Ok(Some(zone)) => zone,
        Ok(None) => panic!("D1: zone({at}) found no zone, though {} is the provider's", subject.zone()),
        Err(e) => panic!("D1: zone({at}) failed: {}", e.report()),
    }
}

async fn add(subject: &dyn Subject, clause: &str, at: &DnsName, value: &str) -> RecordHandle {
    let zone = zone_of(subject, at).await;
    let added = subject.provider().add_txt(&zone, &TxtRecord::new(at.clone(), value)).await;
    added.unwrap_or_else(|e| panic!("{clause}: add_txt({at}, {value}) failed: {}", e.report()))
}

async fn remove(subject: &dyn Subject, clause: &str, handle: &RecordHandle) {
    let removed = subject.provider().remove_txt(handle).await;
    removed.unwrap_or_else(|e| panic!("{clause}: remove_txt failed: {}", e.report()));
}

async fn plant(subject: &dyn Subject, clause: &str, at: &DnsName) {
    subject.plant(at, PLANTED).await;
    expect(subject, clause, at, &[PLANTED]).await;
    assert!(subject.has_planted_record(at).await, "{clause}: the suite's own record is not at {at}");
}

async fn expect(subject: &dyn Subject, clause: &str, at: &DnsName, values: &[&str]) {
    let mut want = values.to_vec();
    want.sort_unstable();
    let mut seen = Vec::new();
    let look = async {
        loop {
            seen = subject.lookup(at).await;
            seen.sort_unstable();
            if seen == want {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if tokio::time::timeout(SOON, look).await.is_err() {
        panic!("{clause}: at {at} the server has {seen:?}, not {want:?}");
    }
}

/// D1: the zone found is the longest one that holds the name.
pub async fn d01_the_zone_of_a_name_is_found(subject: &dyn Subject) {
    for label in ["www", "a.b.c"] {
        let found = zone_of(subject, &name(subject, label)).await;
        assert_eq!(found.name, subject.zone(), "D1: another zone was found");
    }
    assert_eq!(
        zone_of(subject, &subject.zone()).await.name,
        subject.zone(),
        "D1: the apex is in its own zone"
    );
}

/// D2: a name in no zone is `None` and not an error; and looking changes nothing.
pub async fn d02_a_foreign_name_has_no_zone(subject: &dyn Subject) {
    let found = subject.provider().zone(&subject.foreign_name()).await;
    assert_eq!(found.unwrap_or_else(|e| panic!("D2: failed: {}", e.report())), None, "D2: a zone was found");
    let at = name(subject, "d2");
    zone_of(subject, &at).await;
    expect(subject, "D2", &at, &[]).await;
}

/// D3: a value that was added can be seen.
pub async fn d03_an_added_value_can_be_seen(subject: &dyn Subject) {
    let at = name(subject, "d3");
    let handle = add(subject, "D3", &at, "value-of-d3").await;
    expect(subject, "D3", &at, &["value-of-d3"]).await;
    remove(subject, "D3", &handle).await;
}

/// D4: two values stand side by side, as apex and wildcard need, and beside what others have there.
pub async fn d04_two_values_stand_side_by_side(subject: &dyn Subject) {
    let at = name(subject, "d4");
    plant(subject, "D4", &at).await;
    let one = add(subject, "D4", &at, "one").await;
    let two = add(subject, "D4", &at, "two").await;
    expect(subject, "D4", &at, &["one", "two", PLANTED]).await;
    assert!(subject.has_planted_record(&at).await, "D4: adding removed a record of another type");
    remove(subject, "D4", &one).await;
    remove(subject, "D4", &two).await;
    expect(subject, "D4", &at, &[PLANTED]).await;
}

/// D5: adding what is there is `Ok` and makes no second copy.
pub async fn d05_adding_twice_is_ok(subject: &dyn Subject) {
    let at = name(subject, "d5");
    add(subject, "D5", &at, "same").await;
    let handle = add(subject, "D5", &at, "same").await;
    expect(subject, "D5", &at, &["same"]).await;
    remove(subject, "D5", &handle).await;
    expect(subject, "D5", &at, &[]).await;
}

/// D6: removing what is not there is `Ok`.
pub async fn d06_removing_twice_is_ok(subject: &dyn Subject) {
    let at = name(subject, "d6");
    let handle = add(subject, "D6", &at, "value").await;
    remove(subject, "D6", &handle).await;
    remove(subject, "D6", &handle).await;
    expect(subject, "D6", &at, &[]).await;
}

/// D7: removing takes exactly the one value away, whoever has put the others there.
pub async fn d07_removing_one_leaves_the_others(subject: &dyn Subject) {
    let at = name(subject, "d7");
    plant(subject, "D7", &at).await;
    let mine = add(subject, "D7", &at, "mine").await;
    let other = add(subject, "D7", &at, "of-another-order").await;
    remove(subject, "D7", &mine).await;
    expect(subject, "D7", &at, &["of-another-order", PLANTED]).await;
    remove(subject, "D7", &other).await;
    expect(subject, "D7", &at, &[PLANTED]).await;
    assert!(subject.has_planted_record(&at).await, "D7: removing took a record of another type along");
}

/// D8: a handle works after a restart, read back from a file.
pub async fn d08_a_handle_works_in_another_process(subject: &dyn Subject) {
    let at = name(subject, "d8");
    let handle = add(subject, "D8", &at, "value").await;
    let text =
        serde_json::to_string(&handle).unwrap_or_else(|e| panic!("D8: the handle cannot be written: {e}"));
    let read: RecordHandle =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("D8: it cannot be read: {e}"));
    assert_eq!(read, handle, "D8: the handle changes when written and read");
    let removed = subject.another().remove_txt(&read).await;
    removed.unwrap_or_else(|e| panic!("D8: remove_txt failed: {}", e.report()));
    expect(subject, "D8", &at, &[]).await;
}

/// D9: the intent that was journaled before the call is enough to remove the value.
pub async fn d09_an_intent_is_enough_to_remove(subject: &dyn Subject) {
    let at = name(subject, "d9");
    let zone = zone_of(subject, &at).await;
    let record = TxtRecord::new(at.clone(), "value");
    let intent = RecordHandle::intent(subject.provider().id(), zone, record);
    // The call never happened …
    remove(subject, "D9", &intent).await;
    // … or it did, and its answer was lost.
    add(subject, "D9", &at, "value").await;
    remove(subject, "D9", &intent).await;
    expect(subject, "D9", &at, &[]).await;
}

/// D10: neither errors nor `Debug` show the credential; and a refused one is an `Auth` error.
pub async fn d10_a_refused_credential_says_so_and_stays_secret(subject: &dyn Subject) {
    let (provider, wrong) = (subject.provider(), subject.with_wrong_credential());
    let mut shown = vec![format!("{provider:?}"), format!("{wrong:?}")];
    let at = name(subject, "d10");
    let zone = zone_of(subject, &at).await;
    let record = TxtRecord::new(at.clone(), "value");
    let Err(added) = wrong.add_txt(&zone, &record).await else { panic!("D10: a wrong credential was taken") };
    // There the right one put it, so that there is something to refuse.
    let handle = add(subject, "D10", &at, "value").await;
    let Err(removed) = wrong.remove_txt(&handle).await else { panic!("D10: a wrong credential was taken") };
    for error in [&added, &removed] {
        assert_eq!(error.kind(), acmekit_core::ErrorKind::Auth, "D10: {}", error.report());
        assert!(error.hint().is_some(), "D10: the error says not what to do: {error}");
        shown.extend([error.report(), format!("{error:?}")]);
    }
    for secret in [subject.secret(), subject.wrong_secret()] {
        assert!(!secret.is_empty(), "D10: the subject names no secret to look for");
        assert!(shown.iter().all(|text| !text.contains(&secret)), "D10: the credential is shown");
    }
    expect(subject, "D10", &at, &["value"]).await;
    remove(subject, "D10", &handle).await;
}

/// D11: values added at the same time all survive.
pub async fn d11_values_added_at_once_all_survive(subject: &dyn Subject) {
    let at = name(subject, "d11");
    let zone = zone_of(subject, &at).await;
    let values: Vec<String> = (0..8).map(|number| format!("value-{number}")).collect();
    let mut adding = tokio::task::JoinSet::new();
    for value in &values {
        let (provider, zone, record) = (subject.provider(), zone.clone(), TxtRecord::new(at.clone(), value));
        adding.spawn(async move { provider.add_txt(&zone, &record).await });
    }
    let mut handles = Vec::new();
    while let Some(added) = adding.join_next().await {
        let added = added.unwrap_or_else(|e| panic!("D11: add_txt panicked: {e}"));
        handles.push(added.unwrap_or_else(|e| panic!("D11: add_txt failed: {}", e.report())));
    }
    let want: Vec<&str> = values.iter().map(String::as_str).collect();
    expect(subject, "D11", &at, &want).await;
    for handle in &handles {
        remove(subject, "D11", handle).await;
    }
    expect(subject, "D11", &at, &[]).await;
}

/// D12: it works behind `Arc` and `Box` alike.
pub async fn d12_it_works_behind_pointers(subject: &dyn Subject) {
    let at = name(subject, "d12");
    let boxed: Box<dyn DnsProvider> = Box::new(subject.provider());
    assert_eq!(boxed.id(), subject.provider().id());
    assert_eq!(boxed.limits(), subject.provider().limits());
    let zone = zone_of(subject, &at).await;
    let handle = boxed.add_txt(&zone, &TxtRecord::new(at.clone(), "value")).await;
    let handle = handle.unwrap_or_else(|e| panic!("D12: add_txt failed: {}", e.report()));
    expect(subject, "D12", &at, &["value"]).await;
    boxed.remove_txt(&handle).await.unwrap_or_else(|e| panic!("D12: remove_txt failed: {}", e.report()));
    expect(subject, "D12", &at, &[]).await;
}

/// D13: a value is kept to the octet, also one that looks like an option of a program, and two that differ in case alone.
pub async fn d13_values_are_kept_to_the_octet(subject: &dyn Subject) {
    let at = name(subject, "d13");
    let values = [
        "-Fo0bar_AbCdEfGhIjKlMnOpQrStUvWxYz-12345678",
        "-fO0BAR_aBcDeFgHiJkLmNoPqRsTuVwXyZ-12345678",
        "_--LooksOdd_AbCdEfGhIjKlMnOpQrStUvWxYz-1234",
    ];
    let mut handles = Vec::new();
    for value in values {
        handles.push(add(subject, "D13", &at, value).await);
    }
    expect(subject, "D13", &at, &values).await;
    let [first, others @ ..] = &handles[..] else { return };
    remove(subject, "D13", first).await;
    expect(subject, "D13", &at, &values[1..]).await;
    for handle in others {
        remove(subject, "D13", handle).await;
    }
    expect(subject, "D13", &at, &[]).await;
}

/// D14: every name in the zone will do: right below the apex, deep, of A-labels, and however a person writes it.
pub async fn d14_every_name_in_the_zone_will_do(subject: &dyn Subject) {
    let zone = subject.zone();
    for written in [
        zone.to_string(),
        format!("a.b.c.d.e.{zone}"),
        format!("xn--bcher-kva.{zone}"),
        format!("Shop.B\u{fc}cher.{}.", zone.as_str().to_uppercase()),
    ] {
        let at = written.parse::<DnsName>().and_then(|domain| domain.child("_acme-challenge"));
        let at = at.unwrap_or_else(|e| panic!("D14: {written} is no name: {e}"));
        let handle = add(subject, "D14", &at, "value-of-d14").await;
        assert_eq!(handle.record.name, at, "D14: the handle names another record");
        expect(subject, "D14", &at, &["value-of-d14"]).await;
        remove(subject, "D14", &handle).await;
        expect(subject, "D14", &at, &[]).await;
    }
}

/// D15: a name that only looks like one in the zone is not in it.
pub async fn d15_a_lookalike_is_not_in_the_zone(subject: &dyn Subject) {
    let zone = subject.zone();
    for lookalike in [format!("www.not{zone}"), format!("{zone}.{}", subject.foreign_name())] {
        let at: DnsName = lookalike.parse().unwrap_or_else(|e| panic!("D15: {lookalike} is no name: {e}"));
        let found = subject.provider().zone(&at).await;
        let found = found.unwrap_or_else(|e| panic!("D15: zone({at}) failed: {}", e.report()));
        assert_ne!(found.map(|found| found.name), Some(zone.clone()), "D15: {at} is not in {zone}");
    }
}

/// D16: whenever a call is dropped, the intent is enough to take away what may have come of it.
pub async fn d16_a_dropped_call_leaves_nothing_that_cannot_be_removed(subject: &dyn Subject) {
    let at = name(subject, "d16");
    let zone = zone_of(subject, &at).await;
    let provider = subject.provider();
    let mut intents = Vec::new();
    for (number, millis) in [0, 1, 2, 4, 8, 16, 32, 64, 128, 256].into_iter().enumerate() {
        let record = TxtRecord::new(at.clone(), format!("dropped-{number}"));
        let intent = RecordHandle::intent(provider.id(), zone.clone(), record.clone());
        // Whether it comes to its end in this time does not matter.
        let call = provider.add_txt(&zone, &record);
        drop(tokio::time::timeout(Duration::from_millis(millis), call).await);
        remove(subject, "D16", &intent).await;
        intents.push(intent);
    }
    // What was still on its way when it was removed is there now, and goes as well.
    for intent in &intents {
        remove(subject, "D16", intent).await;
    }
    expect(subject, "D16", &at, &[]).await;
}

/// Expands every clause into a test. None can be left out; `skip` shows one as ignored, with the
/// reason.
///
/// ```
/// # mod vendor {
/// # pub(super) async fn start() -> impl acmekit_conformance::dns_provider::Subject { Nothing }
/// # struct Nothing;
/// # use {acmekit_core::*, std::sync::Arc};
/// # #[async_trait] impl acmekit_conformance::dns_provider::Subject for Nothing {
/// # fn provider(&self) -> Arc<dyn DnsProvider> { unreachable!() }
/// # fn another(&self) -> Arc<dyn DnsProvider> { unreachable!() }
/// # fn zone(&self) -> DnsName { unreachable!() }
/// # fn foreign_name(&self) -> DnsName { unreachable!() }
/// # async fn lookup(&self, _: &DnsName) -> Vec<String> { Vec::new() }
/// # async fn plant(&self, _: &DnsName, _: &str) {}
/// # async fn has_planted_record(&self, _: &DnsName) -> bool { false }
/// # fn secret(&self) -> String { String::new() }
/// # fn wrong_secret(&self) -> String { String::new() }
/// # fn with_wrong_credential(&self) -> Arc<dyn DnsProvider> { unreachable!() } } }
/// acmekit_conformance::dns_provider_suite!(vendor::start().await, skip {
///     d11_values_added_at_once_all_survive: "the vendor's API takes one change at a time",
/// });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! dns_provider_suite {
    ($subject:expr $(, skip { $($clause:ident : $why:literal),* $(,)? })? $(,)?) => {
        $crate::__clauses! { @all ($) dns_provider ($subject) [$($($clause $why)*)?]
            d01_the_zone_of_a_name_is_found
            d02_a_foreign_name_has_no_zone
            d03_an_added_value_can_be_seen
            d04_two_values_stand_side_by_side
            d05_adding_twice_is_ok
            d06_removing_twice_is_ok
            d07_removing_one_leaves_the_others
            d08_a_handle_works_in_another_process
            d09_an_intent_is_enough_to_remove
            d10_a_refused_credential_says_so_and_stays_secret
            d11_values_added_at_once_all_survive
            d12_it_works_behind_pointers
            d13_values_are_kept_to_the_octet
            d14_every_name_in_the_zone_will_do
            d15_a_lookalike_is_not_in_the_zone
            d16_a_dropped_call_leaves_nothing_that_cannot_be_removed
        }
    };
}

/// One test a clause; a skipped one is ignored, with its reason. A `skip` that is no clause of the
/// suite does not compile.
#[doc(hidden)]
#[macro_export]
macro_rules! __clauses {
    (@all $d:tt $suite:ident $subject:tt $skip:tt $($clause:ident)*) => {
        $($crate::__clauses! { @one $d $suite $subject $skip $clause })*
        $crate::__clauses! { @known $suite $skip }
    };
    (@known $suite:ident [$($skip:ident $why:literal)*]) => {
        $(const _: () = { #[allow(unused_imports, reason = "it is looked up")] use $crate::$suite::$skip; };)*
    };
    (@one ($d:tt) $suite:ident ($subject:expr) [$($skip:tt)*] $clause:ident) => {
        macro_rules! __clause {
            ([$clause $d why:literal $d($d rest:tt)*]) => {
                #[tokio::test]
                #[ignore = $d why]
                async fn $clause() {
                    $crate::$suite::$clause(&$subject).await;
                }
            };
            ([$d other:ident $d why:literal $d($d rest:tt)*]) => {
                __clause! { [$d($d rest)*] }
            };
            ([]) => {
                #[tokio::test]
                async fn $clause() {
                    $crate::$suite::$clause(&$subject).await;
                }
            };
        }
        __clause! { [$($skip)*] }
    };
}
