//! The built-in stores against the suite, and the suite against stores that are broken on purpose.
#![allow(clippy::unwrap_used, reason = "a test fails loudly, also in its fixtures")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use acmekit_conformance::store::{self as clauses, StoreFixture};
use acmekit_core::stores::{FileStore, MemoryStore};
use acmekit_core::{
    Condition, Entry, Error, ErrorKind, Lease, Result, Secret, Store, StoreKey, Version, async_trait,
};
use futures_util::FutureExt;

mod memory {
    use super::*;

    #[derive(Default)]
    struct Fixture(MemoryStore);

    #[async_trait]
    impl StoreFixture for Fixture {
        async fn open(&self) -> Box<dyn Store> {
            Box::new(self.0.clone())
        }
        async fn damage(&self, _: &StoreKey) {
            unreachable!("skipped")
        }
    }

    acmekit_conformance::store_suite! {
        Fixture::default(),
        skip: [t08_damage_is_an_error = "a value in memory cannot be damaged"]
    }
}

mod file {
    use super::*;

    struct Fixture(tempfile::TempDir);

    impl Fixture {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }
    }

    #[async_trait]
    impl StoreFixture for Fixture {
        async fn open(&self) -> Box<dyn Store> {
            Box::new(FileStore::open(self.0.path()).await.unwrap())
        }

        async fn damage(&self, key: &StoreKey) {
            let folder = self.0.path().join("entries").join(key.as_str().replace('/', "+"));
            for item in std::fs::read_dir(folder).unwrap() {
                let path = item.unwrap().path();
                let length = std::fs::metadata(&path).unwrap().len();
                let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.set_len(length - 1).unwrap();
            }
        }
    }

    acmekit_conformance::store_suite!(Fixture::new());
}

/// What a broken store does wrong: one mistake for each clause.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    ForgetsValues,
    CutsValues,
    ForgetsAtRestart,
    RepeatsVersions,
    IgnoresConditions,
    IgnoresFences,
    MindsDeletingTwice,
    ListsNeighbours,
    HidesDamage,
    WritesInSteps,
    LeasesToEverybody,
    RepeatsTokens,
    NeverProlongs,
}

#[derive(Debug)]
struct Broken {
    inner: MemoryStore,
    flaw: Flaw,
    leases: AtomicU64,
}

#[async_trait]
impl Store for Broken {
    async fn load(&self, key: &StoreKey) -> Result<Option<Entry>> {
        if self.flaw == Flaw::ForgetsValues { Ok(None) } else { self.inner.load(key).await }
    }

    async fn save(&self, key: &StoreKey, value: &Secret<Vec<u8>>, condition: &Condition) -> Result<Version> {
        let half = || Secret::new(value.expose()[..value.expose().len() / 2].to_vec());
        let mut condition = *condition;
        match self.flaw {
            Flaw::CutsValues => return self.inner.save(key, &half(), &condition).await,
            Flaw::WritesInSteps => {
                self.inner.save(key, &half(), &condition).await?;
                tokio::task::yield_now().await;
            }
            Flaw::IgnoresConditions => condition.expected = acmekit_core::Expected::Any,
            Flaw::IgnoresFences => condition.fence = None,
            _ => {}
        }
        let version = self.inner.save(key, value, &condition).await?;
        Ok(if self.flaw == Flaw::RepeatsVersions { Version::new(1) } else { version })
    }

    async fn delete(&self, key: &StoreKey, condition: &Condition) -> Result<()> {
        if self.flaw == Flaw::MindsDeletingTwice && self.inner.load(key).await?.is_none() {
            return Err(Error::new(ErrorKind::NotFound, "broken.delete", "no such entry"));
        }
        self.inner.delete(key, condition).await
    }

    async fn list(&self, prefix: &StoreKey) -> Result<Vec<StoreKey>> {
        let mut keys = self.inner.list(prefix).await?;
        if self.flaw == Flaw::ListsNeighbours {
            keys.extend(self.inner.list(&format!("{prefix}s").parse()?).await?);
        }
        Ok(keys)
    }

    async fn lease(&self, name: &StoreKey, ttl: Duration) -> Result<Option<Lease>> {
        match self.flaw {
            Flaw::LeasesToEverybody => {
                let token = self.leases.fetch_add(1, Ordering::Relaxed);
                Ok(Some(Lease::new(name.clone(), token, ttl, None)))
            }
            Flaw::RepeatsTokens => Ok(Some(Lease::new(name.clone(), 1, ttl, None))),
            _ => self.inner.lease(name, ttl).await,
        }
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        if self.flaw == Flaw::NeverProlongs { Ok(()) } else { self.inner.renew(lease).await }
    }
}

struct BrokenFixture {
    inner: MemoryStore,
    flaw: Flaw,
}

#[async_trait]
impl StoreFixture for BrokenFixture {
    async fn open(&self) -> Box<dyn Store> {
        let fresh = self.flaw == Flaw::ForgetsAtRestart;
        let inner = if fresh { MemoryStore::new() } else { self.inner.clone() };
        Box::new(Broken { inner, flaw: self.flaw, leases: AtomicU64::new(1) })
    }

    async fn damage(&self, key: &StoreKey) {
        assert_eq!(self.flaw, Flaw::HidesDamage);
        self.inner.delete(key, &Condition::ANY).await.unwrap();
    }
}

/// Each mistake is found by the clause that is about it.
macro_rules! finds {
    ($($test:ident: $flaw:ident by $needs:ident $clause:ident;)*) => {$(
        #[tokio::test]
        async fn $test() {
            let fixture = BrokenFixture { inner: MemoryStore::new(), flaw: Flaw::$flaw };
            let run = finds!(@ $needs fixture $clause);
            let found = std::panic::AssertUnwindSafe(run).catch_unwind().await;
            assert!(found.is_err(), "{} lets {:?} pass", stringify!($clause), Flaw::$flaw);
        }
    )*};
    (@ store $fixture:ident $clause:ident) => {
        async { clauses::$clause(&*$fixture.open().await).await }
    };
    (@ fixture $fixture:ident $clause:ident) => {
        clauses::$clause(&$fixture)
    };
}

finds! {
    finds_a_store_that_forgets: ForgetsValues by store t01_a_value_is_read_as_written;
    finds_a_store_that_cuts: CutsValues by store t02_a_value_is_written_whole;
    finds_a_store_that_shows_half: WritesInSteps by store t02_a_value_is_written_whole;
    finds_a_store_that_forgets_at_restart: ForgetsAtRestart by fixture t03_a_write_survives_a_restart;
    finds_a_store_that_repeats_versions: RepeatsVersions by store t04_versions_grow;
    finds_a_store_that_ignores_conditions: IgnoresConditions by store t05_a_write_whose_condition_fails_is_refused;
    finds_a_store_that_ignores_fences: IgnoresFences by store t05_a_write_whose_condition_fails_is_refused;
    finds_a_store_that_minds_deleting_twice: MindsDeletingTwice by store t06_deleting_twice_is_ok;
    finds_a_store_that_lists_neighbours: ListsNeighbours by store t07_list_ends_at_a_slash;
    finds_a_store_that_hides_damage: HidesDamage by fixture t08_damage_is_an_error;
    finds_a_store_that_writes_in_steps: WritesInSteps by store t09_a_dropped_save_leaves_old_or_new;
    finds_a_store_that_leases_to_everybody: LeasesToEverybody by fixture t10_a_lease_has_one_holder;
    finds_a_store_that_repeats_tokens: RepeatsTokens by fixture t11_tokens_grow;
    finds_a_store_that_never_prolongs: NeverProlongs by store t12_renewing_prolongs_a_lease;
}
