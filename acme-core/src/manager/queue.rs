//! What is due next, of very many: a heap, and no scans.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Slots, each with the time at which it is due, or none. 24 octets an entry, a little more while many are rescheduled.
#[derive(Debug, Default)]
pub struct DueQueue {
    /// Time in milliseconds, slot, and the generation in which it was scheduled: an entry of an older generation is void.
    heap: BinaryHeap<Reverse<(u64, u32, u32)>>,
    generations: Vec<u32>,
    void: usize,
    scheduled: Vec<bool>,
}

impl DueQueue {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Schedules a slot, or schedules it anew.
    pub fn schedule(&mut self, slot: u32, at: SystemTime) {
        self.cancel(slot);
        let place = place(slot);
        if self.generations.len() <= place {
            self.generations.resize(place + 1, 0);
            self.scheduled.resize(place + 1, false);
        }
        let generation = self.generations.get(place).copied().unwrap_or_default();
        if let Some(scheduled) = self.scheduled.get_mut(place) {
            *scheduled = true;
        }
        self.heap.push(Reverse((milliseconds(at), slot, generation)));
    }

    /// Takes a slot out.
    pub fn cancel(&mut self, slot: u32) {
        let place = place(slot);
        let Some(scheduled) = self.scheduled.get_mut(place).filter(|scheduled| **scheduled) else { return };
        *scheduled = false;
        if let Some(generation) = self.generations.get_mut(place) {
            *generation = generation.wrapping_add(1);
        }
        self.void += 1;
        if self.void > self.heap.len() / 2 && self.void > 64 {
            let generations = &self.generations;
            self.heap.retain(|Reverse((_, slot, generation))| {
                generations.get(usize::try_from(*slot).unwrap_or(usize::MAX)) == Some(generation)
            });
            self.void = 0;
        }
    }

    /// Takes out a slot that is due.
    pub fn pop_due(&mut self, now: SystemTime) -> Option<u32> {
        if self.next_at()? > now {
            return None;
        }
        let Reverse((_, slot, _)) = self.heap.pop()?;
        if let Some(scheduled) = self.scheduled.get_mut(place(slot)) {
            *scheduled = false;
        }
        if let Some(generation) = self.generations.get_mut(place(slot)) {
            *generation = generation.wrapping_add(1);
        }
        Some(slot)
    }

    /// When the next one is due.
    pub fn next_at(&mut self) -> Option<SystemTime> {
        loop {
            let Reverse((at, slot, generation)) = self.heap.peek()?;
            if self.generations.get(place(*slot)) == Some(generation) {
                return UNIX_EPOCH.checked_add(Duration::from_millis(*at));
            }
            self.heap.pop();
            self.void = self.void.saturating_sub(1);
        }
    }

    /// How many are scheduled.
    pub fn len(&self) -> usize {
        self.heap.len() - self.void
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn place(slot: u32) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX - 1)
}

/// Rounded up: nothing comes before its time.
fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX / 2).min(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_due_comes_in_order_and_only_once() {
        let mut queue = DueQueue::new();
        for (slot, seconds) in [(3, 30), (1, 10), (2, 20), (1, 40)] {
            queue.schedule(slot, at(seconds));
        }
        queue.cancel(7);
        assert_eq!((queue.len(), queue.next_at()), (3, Some(at(20))));
        assert_eq!(queue.pop_due(at(19)), None);
        assert_eq!(queue.pop_due(at(35)), Some(2));
        assert_eq!(queue.pop_due(at(35)), Some(3));
        assert_eq!(queue.pop_due(at(35)), None);
        queue.cancel(1);
        assert!(queue.is_empty() && queue.next_at().is_none());
    }

    #[test]
    fn rescheduling_for_ever_does_not_grow_it() {
        let mut queue = DueQueue::new();
        for round in 0..100_000u64 {
            queue.schedule(u32::try_from(round % 10).unwrap(), at(round));
        }
        assert_eq!(queue.len(), 10);
        assert!(queue.heap.len() < 200, "{}", queue.heap.len());
    }

    proptest! {
        #[test]
        fn it_does_what_a_map_does(steps in prop::collection::vec((0u32..20, 0u64..1000, 0u8..4), 1..400)) {
            let (mut queue, mut map) = (DueQueue::new(), BTreeMap::<u32, u64>::new());
            for (slot, time, what) in steps {
                match what {
                    0 | 1 => {
                        queue.schedule(slot, at(time));
                        map.insert(slot, time);
                    }
                    2 => {
                        queue.cancel(slot);
                        map.remove(&slot);
                    }
                    _ => {
                        let earliest = map.values().min().copied().filter(|first| *first <= time);
                        let popped = queue.pop_due(at(time));
                        prop_assert_eq!(popped.and_then(|slot| map.remove(&slot)), earliest);
                    }
                }
                prop_assert_eq!(queue.len(), map.len());
                prop_assert_eq!(queue.next_at(), map.values().min().map(|time| at(*time)));
            }
        }
    }
}
