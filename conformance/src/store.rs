//! The suite for [`Store`]s: clauses T1 to T12 of its documentation, one function each.
//!
//! [`store_suite!`](crate::store_suite) expands to one test per clause. A store that cannot pass
//! one says so with a reason, and the test shows up as ignored:
//!
//! ```
//! use acmekit_conformance::store::StoreFixture;
//! use acmekit_core::stores::MemoryStore;
//! use acmekit_core::{Store, StoreKey, async_trait};
//!
//! #[derive(Default)]
//! struct InMemory(MemoryStore);
//!
//! #[async_trait]
//! impl StoreFixture for InMemory {
//!     async fn open(&self) -> Box<dyn Store> {
//!         Box::new(self.0.clone())
//!     }
//!     async fn damage(&self, _: &StoreKey) {
//!         unreachable!("skipped below")
//!     }
//! }
//!
//! acmekit_conformance::store_suite! {
//!     InMemory::default(),
//!     skip: [t08_damage_is_an_error = "memory cannot be damaged"]
//! }
//! # fn main() {}
//! ```
//!
//! The clauses panic with the number of the clause and what was expected. They use keys below
//! `conformance/` and expect none there at the start.

mod suite;

use std::time::Duration;

use acmekit_core::{
    Condition, Deadline, ErrorKind, Expected, Lease, Secret, Store, StoreKey, Version, async_trait,
};

/// What a suite needs to know of a store: how to open it again, and how to damage it.
#[async_trait]
pub trait StoreFixture: Send + Sync {
    /// An instance over the data of this fixture. Each call opens another, as another process or
    /// the same after a restart would.
    async fn open(&self) -> Box<dyn Store>;

    /// Spoils the stored value of a key behind the store's back, as a failing disk does.
    async fn damage(&self, key: &StoreKey);
}

/// Time enough that only a hanging store misses it.
const LONG: Duration = Duration::from_secs(60);

fn key(text: &str) -> StoreKey {
    match format!("conformance/{text}").parse() {
        Ok(key) => key,
        Err(error) => panic!("{error}"),
    }
}

fn value(text: impl AsRef<[u8]>) -> Secret<Vec<u8>> {
    Secret::new(text.as_ref().to_vec())
}

async fn save(store: &dyn Store, at: &str, text: impl AsRef<[u8]>) -> Version {
    match store.save(&key(at), &value(text), &Condition::ANY).await {
        Ok(version) => version,
        Err(error) => panic!("saving without a condition failed: {error}"),
    }
}

async fn load(store: &dyn Store, at: &str) -> Option<(Vec<u8>, Version)> {
    match store.load(&key(at)).await {
        Ok(entry) => entry.map(|entry| (entry.value.expose().clone(), entry.version)),
        Err(error) => panic!("loading failed: {error}"),
    }
}

async fn bytes(store: &dyn Store, at: &str) -> Option<Vec<u8>> {
    load(store, at).await.map(|(bytes, _)| bytes)
}

async fn try_lease(store: &dyn Store, name: &str, ttl: Duration) -> Option<Lease> {
    match store.lease(&key(name), ttl).await {
        Ok(lease) => lease,
        Err(error) => panic!("taking a lease failed: {error}"),
    }
}

async fn lease(store: &dyn Store, name: &str, ttl: Duration) -> Lease {
    match try_lease(store, name, ttl).await {
        Some(lease) => lease,
        None => panic!("T10: the lease `{name}` is not free"),
    }
}

/// Waits until the lease is free, as it must be some time after its end.
async fn lease_at_last(store: &dyn Store, name: &str) -> Lease {
    let deadline = Deadline::after(Duration::from_secs(10));
    while deadline.sleep(Duration::from_millis(20)).await {
        if let Some(lease) = try_lease(store, name, LONG).await {
            return lease;
        }
    }
    panic!("T10: the lease `{name}` is not free 10 s after its end")
}

fn refused<T>(clause: &str, result: acmekit_core::Result<T>) {
    match result {
        Ok(_) => panic!("{clause}: was done"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{clause}: {error}"),
    }
}

fn done<T>(clause: &str, result: acmekit_core::Result<T>) -> T {
    match result {
        Ok(done) => done,
        Err(error) => panic!("{clause}: {error}"),
    }
}

/// T1: a value is read as it was written, and `None` where there is none.
pub async fn t01_a_value_is_read_as_written(store: &dyn Store) {
    assert!(load(store, "absent").await.is_none(), "T1: a value where none was written");
    let version = save(store, "a", "one").await;
    assert_eq!(load(store, "a").await, Some((b"one".to_vec(), version)), "T1: value and version");
    save(store, "b", "other").await;
    assert_eq!(bytes(store, "a").await.as_deref(), Some(&b"one"[..]), "T1: another key's save changed it");
    assert!(load(store, "a/b").await.is_none(), "T1: a value below another");
    save(store, "a/b", "below").await;
    assert_eq!(bytes(store, "a").await.as_deref(), Some(&b"one"[..]), "T1: a key and a prefix at once");
}

/// T2: a value is written whole, whatever it consists of, and never seen half.
pub async fn t02_a_value_is_written_whole(store: &dyn Store) {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    for (at, content) in [("empty", Vec::new()), ("bytes", every_byte), ("large", vec![7; 1 << 20])] {
        save(store, at, &content).await;
        assert!(bytes(store, at).await == Some(content), "T2: `{at}` came back otherwise");
    }
    save(store, "turns", vec![0; 1 << 16]).await;
    let write = async {
        for turn in 1..=20 {
            save(store, "turns", vec![turn; (1 << 16) + usize::from(turn)]).await;
        }
    };
    let read = async {
        for _ in 0..100 {
            let seen = bytes(store, "turns").await.unwrap_or_default();
            let first = seen.first().copied().unwrap_or(u8::MAX);
            let whole =
                seen.len() == (1 << 16) + usize::from(first) && seen.iter().all(|&byte| byte == first);
            assert!(whole, "T2: {} bytes seen that nobody wrote", seen.len());
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(write, read);
}

/// T3: what was saved or deleted is so for another instance, and after a restart.
pub async fn t03_a_write_survives_a_restart(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    let other = fixture.open().await;
    let version = save(&*store, "a", "one").await;
    save(&*store, "gone", "x").await;
    done("T3", store.delete(&key("gone"), &Condition::ANY).await);
    assert_eq!(
        load(&*other, "a").await,
        Some((b"one".to_vec(), version)),
        "T3: not seen by another instance"
    );
    drop((store, other));
    let store = fixture.open().await;
    assert_eq!(load(&*store, "a").await, Some((b"one".to_vec(), version)), "T3: lost by a restart");
    assert!(load(&*store, "gone").await.is_none(), "T3: deleted, and back after a restart");
}

/// T4: each save of a key answers a larger version, also after a delete.
pub async fn t04_versions_grow(store: &dyn Store) {
    let mut last = save(store, "a", "same").await;
    for round in 0..6 {
        if round % 3 == 2 {
            done("T4", store.delete(&key("a"), &Condition::ANY).await);
        }
        let version = save(store, "a", "same").await;
        assert!(version > last, "T4: {version:?} after {last:?}");
        assert_eq!(load(store, "a").await.map(|(_, version)| version), Some(version), "T4: loaded version");
        last = version;
    }
}

/// T5: a write whose condition does not hold is refused with `Conflict` and changes nothing.
pub async fn t05_a_write_whose_condition_fails_is_refused(store: &dyn Store) {
    let absent = Condition::expecting(Expected::Absent);
    let at = |version| Condition::expecting(Expected::Version(version));
    let first = done("T5: absent", store.save(&key("a"), &value("1"), &absent).await);
    refused("T5: absent, but there", store.save(&key("a"), &value("x"), &absent).await);
    let second = done("T5: version", store.save(&key("a"), &value("2"), &at(first)).await);
    refused("T5: older version", store.save(&key("a"), &value("x"), &at(first)).await);
    refused("T5: version, but absent", store.save(&key("none"), &value("x"), &at(second)).await);
    refused("T5: delete of an older version", store.delete(&key("a"), &at(first)).await);
    refused("T5: delete of what shall be absent", store.delete(&key("a"), &absent).await);
    assert_eq!(load(store, "a").await, Some((b"2".to_vec(), second)), "T5: a refused write changed it");
    assert!(load(store, "none").await.is_none(), "T5: a refused write made it");

    let (at, key_a) = (at(second), key("a"));
    let value = value("won");
    let attempt = || store.save(&key_a, &value, &at);
    let (a, b, c, d) = tokio::join!(attempt(), attempt(), attempt(), attempt());
    let won = [&a, &b, &c, &d].iter().filter(|result| result.is_ok()).count();
    assert_eq!(won, 1, "T5: of four who expected the same version, {won} won");
    for lost in [a, b, c, d].into_iter().filter(Result::is_err) {
        refused("T5: lost the race", lost);
    }
    t05_a_write_under_a_lost_lease_is_refused(store).await;
}

async fn t05_a_write_under_a_lost_lease_is_refused(store: &dyn Store) {
    save(store, "led", "1").await;
    let lost = lease(store, "led", Duration::from_millis(100)).await;
    done("T5: under a lease", store.save(&key("led"), &value("2"), &Condition::ANY.under(&lost)).await);
    let current = lease_at_last(store, "led").await;
    refused("T5: lost lease", store.save(&key("led"), &value("x"), &Condition::ANY.under(&lost)).await);
    refused("T5: lost lease, delete", store.delete(&key("led"), &Condition::ANY.under(&lost)).await);
    assert_eq!(bytes(store, "led").await.as_deref(), Some(&b"2"[..]), "T5: written under a lost lease");
    drop(lost);
    done("T5: new lease", store.save(&key("led"), &value("3"), &Condition::ANY.under(&current)).await);
}

/// T6: a deleted value is gone; deleting what is not there is `Ok`, unless a version is expected.
pub async fn t06_deleting_twice_is_ok(store: &dyn Store) {
    let version = save(store, "a", "1").await;
    save(store, "a/b", "2").await;
    let expected = Condition::expecting(Expected::Version(version));
    done("T6", store.delete(&key("a"), &expected).await);
    assert!(load(store, "a").await.is_none(), "T6: still there");
    assert!(load(store, "a/b").await.is_some(), "T6: what lies below went too");
    done("T6: twice", store.delete(&key("a"), &Condition::ANY).await);
    done("T6: never there", store.delete(&key("never"), &Condition::expecting(Expected::Absent)).await);
    refused("T6: a version expected of what is gone", store.delete(&key("a"), &expected).await);
}

/// T7: the keys below a prefix, all of them and no others, sorted; the prefix ends at a `/`.
pub async fn t07_list_ends_at_a_slash(store: &dyn Store) {
    for at in ["list/b", "list/a", "list/a/deep", "list/c.1-2_3", "list", "lists/x", "list-1/x", "list/gone"]
    {
        save(store, at, "x").await;
    }
    done("T7", store.delete(&key("list/gone"), &Condition::ANY).await);
    let found = done("T7", store.list(&key("list")).await);
    let wanted: Vec<StoreKey> = ["list/a", "list/a/deep", "list/b", "list/c.1-2_3"].map(key).into();
    assert_eq!(found, wanted, "T7");
    let all = done("T7", store.load_all(&key("list")).await);
    assert_eq!(all.iter().map(|(at, _)| at.clone()).collect::<Vec<_>>(), wanted, "T7: all at once");
    for (at, entry) in all {
        let alone = done("T7", store.load(&at).await);
        let alone = alone.as_ref().map(|alone| (alone.value.expose(), alone.version));
        assert_eq!(alone, Some((entry.value.expose(), entry.version)), "T7: all at once: {at}");
    }
    let versions = done("T7", store.versions(&key("list")).await);
    let mut alone = Vec::new();
    for at in wanted {
        let entry = done("T7", store.load(&at).await);
        alone.extend(entry.map(|entry| (at, entry.version)));
    }
    assert_eq!(versions, alone, "T7: versions");
    assert!(done("T7", store.list(&key("nothing")).await).is_empty(), "T7: nothing there");
}

/// T8: a damaged value is a `Storage` error, never `None`; others are as before, and it can be
/// written anew.
pub async fn t08_damage_is_an_error(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    save(&*store, "a", "one").await;
    save(&*store, "b", "two").await;
    fixture.damage(&key("a")).await;
    for store in [&store, &fixture.open().await] {
        match store.load(&key("a")).await {
            Ok(Some(_)) => panic!("T8: a damaged value was read"),
            Ok(None) => panic!("T8: a damaged value is said not to be there"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Storage, "T8: {error}");
                assert!(error.hint().is_some(), "T8: the person is not told what to do");
            }
        }
        assert_eq!(bytes(&**store, "b").await.as_deref(), Some(&b"two"[..]), "T8: another key suffers");
    }
    save(&*store, "a", "three").await;
    assert_eq!(bytes(&*store, "a").await.as_deref(), Some(&b"three"[..]), "T8: cannot be written anew");
}

/// T9: a future dropped midway leaves the old value or the new one, and the store usable.
pub async fn t09_a_dropped_save_leaves_old_or_new(store: &dyn Store) {
    for round in 0..40_u32 {
        save(store, "a", "old").await;
        let at = key("a");
        let new = value(vec![1; 1 << 16]);
        tokio::select! {
            biased;
            saved = store.save(&at, &new, &Condition::ANY) => { done("T9", saved); }
            () = pause(round) => {}
        }
        for _ in 0..3 {
            let seen = bytes(store, "a").await;
            let whole = seen.as_deref() == Some(b"old") || seen.as_ref() == Some(new.expose());
            assert!(whole, "T9: {:?} bytes seen that nobody wrote", seen.map(|seen| seen.len()));
        }
    }
    save(store, "a", "after").await;
    assert_eq!(bytes(store, "a").await.as_deref(), Some(&b"after"[..]), "T9: a dropped save came later");
}

/// The first ends after one poll, the others a little later each.
async fn pause(round: u32) {
    for _ in 0..round.min(8) {
        tokio::task::yield_now().await;
    }
    if round > 8 {
        tokio::time::sleep(Duration::from_micros(u64::from(round) * 100)).await;
    }
}

/// T10: one holder at a time, over all instances; free again when dropped, and when its time has passed.
pub async fn t10_a_lease_has_one_holder(fixture: &dyn StoreFixture) {
    let (here, there) = (fixture.open().await, fixture.open().await);
    let held = lease(&*here, "a", LONG).await;
    assert_eq!((held.name(), held.ttl()), (&key("a"), LONG), "T10: name and time");
    assert!(try_lease(&*here, "a", LONG).await.is_none(), "T10: taken twice");
    assert!(try_lease(&*there, "a", LONG).await.is_none(), "T10: taken twice, by another instance");
    let _other = lease(&*there, "a/b", LONG).await;
    drop(held);
    let next = lease_at_last(&*there, "a").await;
    assert!(try_lease(&*here, "a", LONG).await.is_none(), "T10: taken twice after a drop");
    drop(next);

    let short = lease(&*here, "short", Duration::from_millis(200)).await;
    let next = lease_at_last(&*there, "short").await;
    drop(short);
    assert!(try_lease(&*here, "short", LONG).await.is_none(), "T10: the old one's drop ended the new one");
    drop(next);

    let names = key("race");
    let attempt = || here.lease(&names, LONG);
    let (a, b, c) = tokio::join!(attempt(), attempt(), there.lease(&names, LONG));
    let won = [a, b, c].into_iter().filter_map(|lease| done("T10", lease)).count();
    assert_eq!(won, 1, "T10: of three at once, {won} got it");
}

/// T11: each taking of a lease has a larger token than all before, also after a restart.
pub async fn t11_tokens_grow(fixture: &dyn StoreFixture) {
    let mut last = None;
    for _ in 0..3 {
        let store = fixture.open().await;
        let first = lease_at_last(&*store, "a").await;
        assert!(Some(first.fence().token) > last, "T11: {:?} after {last:?}", first.fence());
        last = Some(first.fence().token);
        drop(first);
        let short = lease(&*store, "a", Duration::from_millis(50)).await;
        assert!(Some(short.fence().token) > last, "T11: {:?} after {last:?}", short.fence());
        let taken_over = lease_at_last(&*store, "a").await;
        assert!(taken_over.fence().token > short.fence().token, "T11: a taking-over has no larger token");
        last = Some(taken_over.fence().token);
    }
}

/// T12: renewing prolongs a lease; one that has been taken over is refused with `Conflict`.
pub async fn t12_renewing_prolongs_a_lease(store: &dyn Store) {
    let held = lease(store, "a", Duration::from_secs(3)).await;
    let token = held.fence().token;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        done("T12", store.renew(&held).await);
        assert!(try_lease(store, "a", LONG).await.is_none(), "T12: free although renewed");
    }
    assert_eq!(held.fence().token, token, "T12: the token changed");
    let save = store.save(&key("a"), &value("1"), &Condition::ANY.under(&held)).await;
    done("T12: a write under a renewed lease", save);

    let lost = lease(store, "lost", Duration::from_millis(50)).await;
    let _next = lease_at_last(store, "lost").await;
    refused("T12: taken over", store.renew(&lost).await);
}
