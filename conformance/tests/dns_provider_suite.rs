//! The suite itself: a right provider passes every clause, and each kind of wrong one fails the
//! clause that is about it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use acmekit_conformance::dns_provider::{self as clauses, Subject};
use acmekit_core::{
    DnsName, DnsProvider, Error, ErrorKind, RecordHandle, Result, TxtRecord, Zone, async_trait,
};

const SECRET: &str = "open-sesame";
const WRONG_SECRET: &str = "open-barley";

/// What is wrong with a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    FindsTheParentZone,
    ClaimsEveryName,
    AddsNothing,
    SetsTheWholeSet,
    SetsItsOwnValues,
    AddsASecondCopy,
    AddsASecondCopyAndRemovesBoth,
    FailsWhenAbsent,
    RemovesTheWholeSet,
    RemovesTheWholeName,
    WritesWhenAskedForAZone,
    RemembersInMemory,
    NeedsARecordId,
    ShowsItsSecret,
    ShowsItsSecretInErrors,
    TakesAnyCredential,
    LosesConcurrentWrites,
    FoldsTheCaseOfValues,
    PutsAllNamesAtTheApex,
    ComparesTheEndsOfNames,
    StaysBusyWhenDropped,
}

/// TXT values, and the names that have a record of another type.
#[derive(Default)]
struct Records {
    values: BTreeMap<DnsName, Vec<String>>,
    others: BTreeSet<DnsName>,
}

type Server = Arc<Mutex<Records>>;

#[derive(Clone)]
struct Provider {
    flaw: Flaw,
    server: Server,
    credential: String,
    /// What this instance has added, for the flaw of keeping it in memory alone.
    mine: Arc<Mutex<BTreeSet<String>>>,
    /// Whether a call is under way, for the flaw of never noticing that it was dropped.
    busy: Arc<AtomicBool>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.flaw {
            Flaw::ShowsItsSecret => write!(f, "Provider({})", self.credential),
            _ => f.write_str("Provider(…)"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Provider {
    fn check(&self) -> Result<()> {
        if self.credential == SECRET || self.flaw == Flaw::TakesAnyCredential {
            return Ok(());
        }
        let error = Error::new(ErrorKind::Auth, "test", "refused").with_hint("use the right one");
        Err(match self.flaw {
            Flaw::ShowsItsSecretInErrors => error.with("token", &self.credential),
            _ => error,
        })
    }
}

#[async_trait]
impl DnsProvider for Provider {
    fn id(&self) -> &str {
        "test"
    }

    async fn zone(&self, name: &DnsName) -> Result<Option<Zone>> {
        let zone: DnsName = match self.flaw {
            Flaw::FindsTheParentZone => "test".parse()?,
            _ => "zone.test".parse()?,
        };
        if self.flaw == Flaw::WritesWhenAskedForAZone {
            lock(&self.server).values.entry(name.clone()).or_default().push("probe".to_owned());
        }
        let is_in = match self.flaw {
            Flaw::ClaimsEveryName => true,
            Flaw::ComparesTheEndsOfNames => name.as_str().ends_with(zone.as_str()),
            _ => name.is_within(&zone),
        };
        Ok(is_in.then(|| Zone::new(zone)))
    }

    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        self.check()?;
        if self.flaw == Flaw::StaysBusyWhenDropped {
            if self.busy.swap(true, Ordering::SeqCst) {
                return Err(Error::new(ErrorKind::Unavailable, "test", "busy"));
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            self.busy.store(false, Ordering::SeqCst);
        }
        let before = lock(&self.server).values.get(&record.name).cloned().unwrap_or_default();
        if self.flaw == Flaw::LosesConcurrentWrites {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let mut values = before;
            values.push(record.value.clone());
            lock(&self.server).values.insert(record.name.clone(), values);
        } else {
            let mut server = lock(&self.server);
            let at = match self.flaw {
                Flaw::PutsAllNamesAtTheApex => zone.name.child("_acme-challenge")?,
                _ => record.name.clone(),
            };
            let values = server.values.entry(at).or_default();
            match self.flaw {
                Flaw::FoldsTheCaseOfValues => values.push(record.value.to_lowercase()),
                Flaw::AddsNothing => {}
                Flaw::SetsTheWholeSet => *values = vec![record.value.clone()],
                Flaw::SetsItsOwnValues => {
                    let mut mine = lock(&self.mine).clone();
                    mine.insert(record.value.clone());
                    *values = mine.into_iter().collect();
                }
                Flaw::AddsASecondCopy | Flaw::AddsASecondCopyAndRemovesBoth => {
                    values.push(record.value.clone())
                }
                _ if values.contains(&record.value) => {}
                _ => values.push(record.value.clone()),
            }
        }
        lock(&self.mine).insert(record.value.clone());
        Ok(RecordHandle::intent("test", zone.clone(), record.clone()).with_id("7"))
    }

    async fn remove_txt(&self, handle: &RecordHandle) -> Result<()> {
        self.check()?;
        let record = &handle.record;
        if self.busy.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "test", "busy"));
        }
        if self.flaw == Flaw::RemembersInMemory && !lock(&self.mine).contains(&record.value)
            || self.flaw == Flaw::NeedsARecordId && handle.id.is_none()
        {
            return Ok(());
        }
        let mut server = lock(&self.server);
        let values = server.values.entry(record.name.clone()).or_default();
        match values.iter().position(|value| *value == record.value) {
            None if self.flaw == Flaw::FailsWhenAbsent => {
                return Err(Error::new(ErrorKind::NotFound, "test", "absent"));
            }
            None => {}
            Some(_) if self.flaw == Flaw::RemovesTheWholeSet => values.clear(),
            Some(_) if self.flaw == Flaw::AddsASecondCopyAndRemovesBoth => {
                values.retain(|value| *value != record.value);
            }
            Some(position) => {
                values.remove(position);
                if self.flaw == Flaw::RemovesTheWholeName {
                    server.others.remove(&record.name);
                }
            }
        }
        Ok(())
    }
}

struct Case {
    provider: Provider,
}

impl Case {
    fn new(flaw: Flaw) -> Self {
        let credential = SECRET.to_owned();
        let (server, mine, busy) = (Arc::default(), Arc::default(), Arc::default());
        Self { provider: Provider { flaw, server, credential, mine, busy } }
    }
}

#[async_trait]
impl Subject for Case {
    fn provider(&self) -> Arc<dyn DnsProvider> {
        Arc::new(self.provider.clone())
    }

    fn another(&self) -> Arc<dyn DnsProvider> {
        Arc::new(Provider { mine: Arc::default(), ..self.provider.clone() })
    }

    fn zone(&self) -> DnsName {
        "zone.test".parse().unwrap()
    }

    fn foreign_name(&self) -> DnsName {
        "www.elsewhere.example".parse().unwrap()
    }

    async fn lookup(&self, name: &DnsName) -> Vec<String> {
        lock(&self.provider.server).values.get(name).cloned().unwrap_or_default()
    }

    async fn plant(&self, name: &DnsName, value: &str) {
        let mut server = lock(&self.provider.server);
        server.values.entry(name.clone()).or_default().push(value.to_owned());
        server.others.insert(name.clone());
    }

    async fn has_planted_record(&self, name: &DnsName) -> bool {
        lock(&self.provider.server).others.contains(name)
    }

    fn secret(&self) -> String {
        SECRET.to_owned()
    }

    fn wrong_secret(&self) -> String {
        WRONG_SECRET.to_owned()
    }

    fn with_wrong_credential(&self) -> Arc<dyn DnsProvider> {
        Arc::new(Provider { credential: WRONG_SECRET.to_owned(), ..self.provider.clone() })
    }
}

mod a_right_provider_passes {
    use super::{Case, Flaw};
    acmekit_conformance::dns_provider_suite!(Case::new(Flaw::None));
}

mod a_skipped_clause_is_shown_as_ignored {
    use super::{Case, Flaw};
    acmekit_conformance::dns_provider_suite!(
        Case::new(Flaw::ClaimsEveryName),
        skip {
            d02_a_foreign_name_has_no_zone: "this provider is known to claim every name",
            d15_a_lookalike_is_not_in_the_zone: "this provider is known to claim every name",
        }
    );
}

/// Runs one clause, with the time that its waiting takes skipped, and says whether it holds.
macro_rules! fails {
    ($test:ident: $flaw:ident fails $clause:ident) => {
        #[tokio::test(start_paused = true)]
        async fn $test() {
            let mut run = tokio::task::JoinSet::new();
            run.spawn(async { clauses::$clause(&Case::new(Flaw::$flaw)).await });
            match run.join_next().await.unwrap() {
                Ok(()) => panic!("{:?} passes {}", Flaw::$flaw, stringify!($clause)),
                Err(failed) => {
                    // For its own reason: each clause begins what it says with its number.
                    let said = failed.into_panic();
                    let said = match said.downcast_ref::<&str>() {
                        Some(said) => (*said).to_owned(),
                        None => said.downcast_ref::<String>().unwrap().clone(),
                    };
                    let number: u32 = stringify!($clause)[1..3].parse().unwrap();
                    assert!(said.contains(&format!("D{number}: ")), "{said}");
                }
            }
        }
    };
}

fails!(finds_a_zone_that_is_too_short: FindsTheParentZone fails d01_the_zone_of_a_name_is_found);
fails!(finds_a_claim_on_foreign_names: ClaimsEveryName fails d02_a_foreign_name_has_no_zone);
fails!(finds_a_value_that_never_comes: AddsNothing fails d03_an_added_value_can_be_seen);
fails!(finds_a_set_that_is_replaced: SetsTheWholeSet fails d04_two_values_stand_side_by_side);
fails!(finds_a_set_of_its_own_values_alone: SetsItsOwnValues fails d04_two_values_stand_side_by_side);
fails!(finds_a_write_where_only_a_look_was_asked: WritesWhenAskedForAZone fails d02_a_foreign_name_has_no_zone);
fails!(finds_a_second_copy_though_both_go: AddsASecondCopyAndRemovesBoth fails d05_adding_twice_is_ok);
fails!(finds_a_name_that_is_wiped: RemovesTheWholeName fails d07_removing_one_leaves_the_others);
fails!(finds_a_secret_in_errors: ShowsItsSecretInErrors fails d10_a_refused_credential_says_so_and_stays_secret);
fails!(finds_a_second_copy: AddsASecondCopy fails d05_adding_twice_is_ok);
fails!(finds_an_error_about_what_is_absent: FailsWhenAbsent fails d06_removing_twice_is_ok);
fails!(finds_a_set_that_is_wiped: RemovesTheWholeSet fails d07_removing_one_leaves_the_others);
fails!(finds_what_is_only_in_memory: RemembersInMemory fails d08_a_handle_works_in_another_process);
fails!(finds_a_need_for_the_record_id: NeedsARecordId fails d09_an_intent_is_enough_to_remove);
fails!(finds_a_secret_in_debug: ShowsItsSecret fails d10_a_refused_credential_says_so_and_stays_secret);
fails!(finds_a_credential_that_is_not_checked: TakesAnyCredential fails d10_a_refused_credential_says_so_and_stays_secret);
fails!(finds_lost_concurrent_writes: LosesConcurrentWrites fails d11_values_added_at_once_all_survive);
fails!(finds_a_value_that_never_comes_behind_pointers: AddsNothing fails d12_it_works_behind_pointers);
fails!(finds_values_whose_case_is_lost: FoldsTheCaseOfValues fails d13_values_are_kept_to_the_octet);
fails!(finds_names_that_are_taken_for_the_apex: PutsAllNamesAtTheApex fails d14_every_name_in_the_zone_will_do);
fails!(finds_names_that_only_end_alike: ComparesTheEndsOfNames fails d15_a_lookalike_is_not_in_the_zone);
fails!(finds_a_call_that_does_not_bear_to_be_dropped: StaysBusyWhenDropped fails d16_a_dropped_call_leaves_nothing_that_cannot_be_removed);
