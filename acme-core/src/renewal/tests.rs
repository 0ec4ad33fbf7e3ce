use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn facts(life: Duration) -> CertificateFacts {
    CertificateFacts {
        serial: String::new(),
        sha256: String::new(),
        identifiers: BTreeSet::new(),
        not_before: UNIX_EPOCH + 1000 * DAY,
        not_after: UNIX_EPOCH + 1000 * DAY + life,
        ari_id: None,
        issuer: String::new(),
        root: String::new(),
    }
}

fn start() -> SystemTime {
    UNIX_EPOCH + 1000 * DAY
}

#[test]
fn long_and_short_lives_have_their_share() {
    for (life, want) in [(90 * DAY, 60 * DAY), (45 * DAY, 30 * DAY), (160 * HOUR, 80 * HOUR)] {
        let decision = decide(&facts(life), None);
        assert_eq!(decision, Decision { at: start() + want, reason: Reason::Lifetime });
        assert_eq!(decision.at, due(&facts(life)));
    }
}

#[test]
fn a_suggestion_counts_between_too_young_and_too_late() {
    let facts = facts(90 * DAY);
    let at = |suggested| decide(&facts, Some(start() + suggested));
    assert_eq!(at(50 * DAY), Decision { at: start() + 50 * DAY, reason: Reason::Suggested });
    assert_eq!(at(Duration::ZERO), Decision { at: start() + 90 * DAY / 20, reason: Reason::TooYoung });
    assert_eq!(at(89 * DAY), Decision { at: start() + 90 * DAY * 19 / 20, reason: Reason::Emergency });
    assert_eq!(decide(&facts, Some(UNIX_EPOCH)).reason, Reason::TooYoung);
}

#[test]
fn a_life_too_short_for_both_is_renewed_before_its_end() {
    let decision = decide(&facts(Duration::from_secs(600)), None);
    assert_eq!(decision, Decision { at: start() + Duration::from_secs(570), reason: Reason::Emergency });
    assert_eq!(decide(&facts(Duration::ZERO), None).at, start());
}

#[test]
fn a_window_that_has_passed_means_now() {
    let window = Window::new(start(), start() + DAY).unwrap();
    assert_eq!(window.pick(0.7, start() + 2 * DAY), start());
    assert_eq!(Window::new(start(), start()), None);
    assert_eq!(Window::new(start() + DAY, start()), None);
}

#[test]
fn what_was_picked_stays_until_the_window_changes() {
    let now = start();
    let window = Window::new(start() + 10 * DAY, start() + 12 * DAY).unwrap();
    let mut known = Suggestion::none("id", now);
    assert!(known.is_stale(now) && known.at().is_none() && known.is_of("id") && !known.is_of("other"));
    assert!(known.told(window.clone(), None, 0.5, now));
    let picked = known.at().unwrap();
    assert!(!known.is_stale(now + 5 * HOUR) && known.is_stale(now + 6 * HOUR));
    assert!(!known.told(window.clone(), Some(Duration::ZERO), 0.9, now + 6 * HOUR));
    assert_eq!(known.at(), Some(picked));
    // Neither all the time nor once a week, whatever the CA says.
    assert!(!known.is_stale(now + 6 * HOUR) && known.is_stale(now + 6 * HOUR + Duration::from_secs(60)));
    known.told(window, Some(7 * DAY), 0.9, now);
    assert!(known.is_stale(now + 12 * HOUR));
    known.untold(None, now);
    assert_eq!((known.at(), known.is_stale(now + HOUR)), (Some(picked), true));
    // A clock that stood years ahead when the CA was asked does not keep it from being asked.
    assert!(known.is_stale(now - 900 * DAY));
    let earlier = Window::new(start() - DAY, start()).unwrap();
    assert!(known.told(earlier, None, 0.9, now + HOUR));
    assert_eq!(known.at(), Some(start() - DAY));
}

proptest! {
    #[test]
    fn what_is_picked_lies_in_the_window_and_not_on_the_hour(
        begin in 0u64..100_000_000, width in 1u64..10_000_000, share in 0.0f64..=1.0
    ) {
        let start = UNIX_EPOCH + Duration::from_secs(begin);
        let window = Window::new(start, start + Duration::from_secs(width)).unwrap();
        let at = window.pick(share, UNIX_EPOCH);
        prop_assert!(window.start <= at && at < window.end, "{at:?}");
        let past_hour = at.duration_since(UNIX_EPOCH).unwrap().as_secs() % 3600;
        prop_assert!(past_hour >= 60 || width < 8 * 61, "{past_hour}");
    }

    #[test]
    fn a_decision_is_never_outside_the_life(
        life in 0u64..200_000_000, suggested in proptest::option::of(0u64..400_000_000)
    ) {
        let facts = facts(Duration::from_secs(life));
        let suggested = suggested.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        let decision = decide(&facts, suggested);
        prop_assert!(facts.not_before <= decision.at && decision.at <= facts.not_after, "{decision:?}");
    }
}
