//! Who may begin now: caps on what is done at once, lines for what is closed for a while, and fairness between groups.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

/// Something of which there is only so much.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Key {
    /// Certificates worked on, in all.
    All,
    /// … at the authority at this position.
    Authority(usize),
    /// … in this registered domain.
    Zone(Arc<str>),
    /// Questions to CAs under way.
    Asking,
    /// First certificates that the budget of the authority at this position allows.
    Budget(usize),
}

/// How much there is of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caps {
    pub(super) all: usize,
    pub(super) authority: usize,
    pub(super) zone: usize,
    pub(super) asking: usize,
}

impl Caps {
    fn of(&self, key: &Key) -> usize {
        match key {
            Key::All => self.all,
            Key::Authority(_) => self.authority,
            Key::Zone(_) => self.zone,
            Key::Asking => self.asking,
            Key::Budget(_) => usize::MAX,
        }
    }
}

/// Somebody who wants to begin.
#[derive(Debug, Clone)]
pub(super) struct Wait {
    pub(super) slot: u32,
    /// Of the slot: whoever has been changed since then does not begin.
    pub(super) generation: u32,
    pub(super) group: Arc<str>,
    /// Renewals before first certificates, and by the time that is left.
    pub(super) rank: (bool, SystemTime),
    pub(super) keys: Vec<Key>,
}

#[derive(Debug)]
struct Ranked(Wait, u64);

impl Ranked {
    fn order(&self) -> Reverse<((bool, SystemTime), u64)> {
        Reverse((self.0.rank, self.1))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}
impl Eq for Ranked {}
impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

#[derive(Debug)]
pub(super) struct Gate {
    caps: Caps,
    in_use: HashMap<Key, usize>,
    /// Those who may try, by group; the groups take turns.
    ready: BTreeMap<Arc<str>, BinaryHeap<Ranked>>,
    turns: VecDeque<Arc<str>>,
    /// Those who found something used up, in line for it.
    parked: HashMap<Key, BinaryHeap<Ranked>>,
    closed: BTreeMap<Key, SystemTime>,
    count: u64,
}

impl Gate {
    pub(super) fn new(caps: Caps) -> Self {
        Self {
            caps,
            in_use: HashMap::new(),
            ready: BTreeMap::new(),
            turns: VecDeque::new(),
            parked: HashMap::new(),
            closed: BTreeMap::new(),
            count: 0,
        }
    }

    pub(super) fn enter(&mut self, wait: Wait) {
        self.count += 1;
        self.push(Ranked(wait, self.count));
    }

    fn push(&mut self, ranked: Ranked) {
        let group = Arc::clone(&ranked.0.group);
        let line = self.ready.entry(Arc::clone(&group)).or_default();
        if line.is_empty() {
            self.turns.push_back(group);
        }
        line.push(ranked);
    }

    /// The next that can begin; what it needs is taken.
    pub(super) fn take(&mut self, now: SystemTime) -> Option<Wait> {
        loop {
            let group = self.turns.pop_front()?;
            let line = self.ready.get_mut(&group)?;
            let ranked = line.pop();
            match line.is_empty() {
                true => drop(self.ready.remove(&group)),
                false => self.turns.push_back(group),
            }
            let Some(ranked) = ranked else { continue };
            let missing = ranked.0.keys.iter().find(|key| !self.has(key, now)).cloned();
            match missing {
                None => {
                    for key in &ranked.0.keys {
                        *self.in_use.entry(key.clone()).or_default() += 1;
                    }
                    return Some(ranked.0);
                }
                Some(key) => {
                    let others: Vec<Key> =
                        ranked.0.keys.iter().filter(|other| **other != key).cloned().collect();
                    self.parked.entry(key).or_default().push(ranked);
                    // Somebody in line for what this one does not take now may have it.
                    for other in others {
                        self.unpark(&other, now);
                    }
                }
            }
        }
    }

    fn has(&self, key: &Key, now: SystemTime) -> bool {
        let open = self.closed.get(key).is_none_or(|until| *until <= now);
        open && self.in_use.get(key).copied().unwrap_or_default() < self.caps.of(key)
    }

    fn unpark(&mut self, key: &Key, now: SystemTime) {
        if !self.has(key, now) {
            return;
        }
        let Some(line) = self.parked.get_mut(key) else { return };
        let next = line.pop();
        if line.is_empty() {
            self.parked.remove(key);
        }
        if let Some(ranked) = next {
            self.push(ranked);
        }
    }

    /// Gives back what was taken.
    pub(super) fn leave(&mut self, keys: &[Key], now: SystemTime) {
        for key in keys {
            if let Some(used) = self.in_use.get_mut(key) {
                *used = used.saturating_sub(1);
                if *used == 0 {
                    self.in_use.remove(key);
                }
            }
        }
        for key in keys {
            self.unpark(key, now);
        }
    }

    /// Lets nobody have this before then.
    pub(super) fn close(&mut self, key: Key, until: SystemTime) {
        let closed = self.closed.entry(key).or_insert(until);
        *closed = (*closed).max(until);
    }

    /// Lets what is closed be open from now on.
    pub(super) fn reopen(&mut self, now: SystemTime) {
        self.closed.values_mut().for_each(|until| *until = now.min(*until));
    }

    /// Opens what has been closed for long enough: one may try.
    pub(super) fn open(&mut self, now: SystemTime) {
        let open: Vec<Key> =
            self.closed.iter().filter(|(_, until)| **until <= now).map(|(key, _)| key.clone()).collect();
        for key in open {
            self.closed.remove(&key);
            self.unpark(&key, now);
        }
    }

    /// When something opens for which somebody waits.
    pub(super) fn next_open(&self) -> Option<SystemTime> {
        self.closed.iter().filter(|(key, _)| self.parked.contains_key(key)).map(|(_, until)| *until).min()
    }

    /// Whether nobody could begin now, whatever ends.
    pub(super) fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.parked.keys().all(|key| self.closed.contains_key(key))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const CAPS: Caps = Caps { all: 4, authority: 3, zone: 1, asking: 2 };

    fn wait(slot: u32, group: &str, keys: &[Key]) -> Wait {
        Wait { slot, generation: 0, group: group.into(), rank: (true, UNIX_EPOCH), keys: keys.to_vec() }
    }

    fn zone(name: &str) -> Key {
        Key::Zone(name.into())
    }

    fn taken(gate: &mut Gate) -> Vec<u32> {
        std::iter::from_fn(|| gate.take(UNIX_EPOCH)).map(|wait| wait.slot).collect()
    }

    #[test]
    fn caps_hold_and_what_is_given_back_is_had_by_the_next() {
        let mut gate = Gate::new(CAPS);
        let keys = |n: u32| vec![Key::All, Key::Authority(0), zone(&format!("z{n}"))];
        for slot in 0..6 {
            gate.enter(wait(slot, "", &keys(slot)));
        }
        assert_eq!(taken(&mut gate), [0, 1, 2]);
        assert!(!gate.is_idle());
        gate.leave(&keys(1), UNIX_EPOCH);
        assert_eq!(taken(&mut gate), [3]);
        gate.leave(&keys(0), UNIX_EPOCH);
        gate.leave(&keys(2), UNIX_EPOCH);
        assert_eq!(taken(&mut gate), [4, 5]);
    }

    #[test]
    fn who_waits_for_a_zone_keeps_nobody_else_waiting() {
        let mut gate = Gate::new(CAPS);
        for slot in 0..3 {
            gate.enter(wait(slot, "", &[Key::All, zone("busy")]));
        }
        gate.enter(wait(3, "", &[Key::All, zone("free")]));
        assert_eq!(taken(&mut gate), [0, 3]);
        gate.leave(&[Key::All, zone("busy")], UNIX_EPOCH);
        assert_eq!(taken(&mut gate), [1]);
    }

    #[test]
    fn groups_take_turns_and_each_has_its_urgent_ones_first() {
        let mut gate = Gate::new(Caps { all: 100, ..CAPS });
        for slot in 0..50 {
            gate.enter(wait(slot, "large", &[Key::All]));
        }
        for slot in 50..53 {
            gate.enter(Wait { rank: (slot != 52, UNIX_EPOCH), ..wait(slot, "small", &[Key::All]) });
        }
        assert_eq!(taken(&mut gate)[..7], [0, 52, 1, 50, 2, 51, 3]);
    }

    #[test]
    fn what_is_closed_opens_for_one_at_a_time() {
        let mut gate = Gate::new(CAPS);
        let later = UNIX_EPOCH + Duration::from_secs(60);
        gate.close(Key::Budget(0), later);
        for slot in 0..3 {
            gate.enter(wait(slot, "", &[Key::All, Key::Budget(0)]));
        }
        gate.enter(wait(9, "", &[Key::All]));
        assert_eq!(taken(&mut gate), [9]);
        assert!(gate.is_idle());
        assert_eq!(gate.next_open(), Some(later));
        gate.open(later);
        assert_eq!(gate.take(later).unwrap().slot, 0);
        assert!(gate.take(later).is_none(), "the others wait for how it fares");
        gate.leave(&[Key::All, Key::Budget(0)], later);
        assert_eq!(gate.take(later).unwrap().slot, 1);
    }

    #[test]
    fn nobody_is_left_in_line_for_what_is_free() {
        // 0 has zone a; 1 waits for a; once a is free 1 finds b taken: 2, in line for a, must not wait for it.
        let mut gate = Gate::new(CAPS);
        gate.enter(wait(0, "", &[zone("a")]));
        gate.enter(wait(1, "", &[zone("a"), zone("b")]));
        gate.enter(wait(2, "", &[zone("a")]));
        gate.enter(wait(3, "", &[zone("b")]));
        assert_eq!(taken(&mut gate), [0, 3]);
        gate.leave(&[zone("a")], UNIX_EPOCH);
        assert_eq!(taken(&mut gate), [2]);
        gate.leave(&[zone("b")], UNIX_EPOCH);
        assert!(taken(&mut gate).is_empty());
        gate.leave(&[zone("a")], UNIX_EPOCH);
        assert_eq!(taken(&mut gate), [1]);
    }
}
