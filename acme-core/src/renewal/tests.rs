use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn start() -> SystemTime {
    UNIX_EPOCH + 1000 * DAY
}

/// A certificate of this life; `suggested` is a window and the instant in it.
fn input(life: Duration, suggested: Option<(SystemTime, SystemTime, SystemTime)>) -> Input {
    let suggested = suggested.map(|(from, to, at)| (Window::new(from, to).unwrap(), at));
    Input { not_before: start(), not_after: start() + life, suggested, chance: 0.0 }
}

fn decide(input: &Input) -> Decision {
    RenewalPolicy::default().decide(input)
}

#[test]
fn long_and_short_lives_have_their_share() {
    for (life, want) in [(90 * DAY, 60 * DAY), (45 * DAY, 30 * DAY), (160 * HOUR, 80 * HOUR)] {
        let decision = decide(&input(life, None));
        let early = (start() + want).duration_since(decision.at).unwrap();
        assert_eq!(decision.reason, Reason::Lifetime);
        assert!(early <= Duration::from_secs(62), "not on the hour, and no earlier: {early:?}");
    }
    let policy = RenewalPolicy { at_share: 0.5, at_share_short_lived: f64::NAN, ..RenewalPolicy::default() };
    let at = |life| policy.decide(&input(life, None)).at.duration_since(start()).unwrap();
    assert!(at(90 * DAY) <= 45 * DAY && at(90 * DAY) > 44 * DAY && at(160 * HOUR) > 79 * HOUR);
}

#[test]
fn what_was_issued_together_is_not_renewed_together() {
    let at = |chance| decide(&Input { chance, ..input(90 * DAY, None) }).at;
    let spread = at(0.0).duration_since(at(1.0)).unwrap();
    assert!(spread > DAY && spread < 2 * DAY, "{spread:?}");
    let shares: Vec<f64> = (0..1000).map(|n| chance(&format!("n{n}").parse().unwrap(), start())).collect();
    let below = |limit| shares.iter().filter(|share| **share < limit).count();
    assert!((210..290).contains(&below(0.25)) && (710..790).contains(&below(0.75)) && below(0.0) == 0);
    assert_eq!(chance(&"n7".parse().unwrap(), start()), shares[7]);
}

#[test]
fn a_suggestion_counts_between_too_young_and_too_late() {
    let at = |suggested: Duration| {
        let at = start() + suggested;
        decide(&input(90 * DAY, Some((at, at + DAY, at))))
    };
    assert_eq!(at(50 * DAY), Decision { at: start() + 50 * DAY, reason: Reason::Suggested });
    assert_eq!(at(Duration::ZERO), Decision { at: start() + 90 * DAY / 20, reason: Reason::TooYoung });
    assert_eq!(at(89 * DAY), Decision { at: start() + 90 * DAY * 19 / 20, reason: Reason::Emergency });
    let deaf = RenewalPolicy { follow_suggestions: false, ..RenewalPolicy::default() };
    let suggested = input(90 * DAY, Some((start(), start() + DAY, start())));
    assert_eq!(deaf.decide(&suggested).reason, Reason::Lifetime);
}

#[test]
fn a_life_too_short_for_both_is_renewed_before_its_end() {
    let decision = decide(&input(Duration::from_secs(600), None));
    assert_eq!(decision, Decision { at: start() + Duration::from_secs(570), reason: Reason::Emergency });
    assert_eq!(decide(&input(Duration::ZERO, None)).at, start());
}

fn within(windows: &[&str]) -> RenewalPolicy {
    let maintenance_windows = windows.iter().map(|text| text.parse().unwrap()).collect();
    RenewalPolicy { maintenance_windows, ..RenewalPolicy::default() }
}

fn shown(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).unwrap().strftime("%a %H:%M").to_string()
}

#[test]
fn renewals_wait_for_a_maintenance_window_while_there_is_time() {
    // 1972-09-27 was a Wednesday; the suggestion falls on a Tuesday.
    let suggested = start() + 48 * DAY + 7 * HOUR;
    let narrow = input(90 * DAY, Some((suggested, suggested + HOUR, suggested)));
    let decision = within(&["Sat-Sun 02:00-05:00 UTC"]).decide(&narrow);
    assert_eq!((shown(decision.at).as_str(), decision.reason), ("Sat 02:01", Reason::Maintenance));
    // Earlier, where that is still in the window the CA suggests.
    let wide = input(90 * DAY, Some((suggested - 4 * DAY, suggested + HOUR, suggested)));
    let decision = within(&["Sat-Sun 02:00-05:00 UTC"]).decide(&wide);
    assert_eq!((shown(decision.at).as_str(), decision.at < suggested), ("Sat 02:01", true));
    // Over midnight, and elsewhere on earth.
    for (window, want) in [("Tue 22:00-06:00 UTC", "Tue 22:01"), ("Wed 00:30-03:00 +02:00", "Tue 22:31")] {
        assert_eq!(shown(within(&[window]).decide(&narrow).at), want, "{window}");
    }
    let open = within(&["Sat 00:00-24:00 UTC", "daily 06:00-08:00 UTC"]).decide(&narrow);
    assert_eq!(open, Decision { at: suggested, reason: Reason::Suggested });
    // For a short life the next window is too late.
    let short = within(&["Sat 02:00-03:00 UTC"]).decide(&input(30 * HOUR, None));
    assert_eq!(short.reason, Reason::Emergency);
}

#[test]
fn maintenance_windows_are_read_and_written() {
    for (text, want) in [
        ("Sat-Sun 02:00-05:00 UTC", "Sat,Sun 02:00-05:00 UTC"),
        ("daily 22:00-04:00 +02:00", "daily 22:00-04:00 +02:00"),
        ("fri-MON 00:00-24:00 Z", "Mon,Fri,Sat,Sun 00:00-24:00 UTC"),
        ("Mon-Sun 01:30-02:15 -09:30", "daily 01:30-02:15 -09:30"),
    ] {
        let window: MaintenanceWindow = text.parse().unwrap();
        assert_eq!(window.to_string(), want);
        assert_eq!(want.parse::<MaintenanceWindow>().unwrap(), window);
    }
    for bad in [
        "",
        "Sat",
        "Sat 02:00-05:00",
        "Sab 02:00-05:00 UTC",
        "Sat 2:00-05:00 UTC",
        "Sat 02:00-25:00 UTC",
        "Sat 02:00-02:00 UTC",
        "Sat 24:00-00:00 UTC",
        "Sat 02:00-05:00 CET",
        "Sat 02:00-05:00 +15:00",
        "Sat 02:00 05:00 UTC",
        "- - -",
    ] {
        let error = bad.parse::<MaintenanceWindow>().unwrap_err();
        assert!(error.hint().unwrap().contains("Sat-Sun 02:00-05:00 UTC"), "{bad}");
    }
}

#[test]
fn a_window_that_has_passed_means_now() {
    let window = Window::new(start(), start() + DAY).unwrap();
    assert_eq!(window.pick(0.7, start() + 2 * DAY), start());
    assert_eq!(Window::new(start(), start()), None);
    let instant = Window::new(start(), start() + Duration::from_nanos(1)).unwrap();
    assert!(instant.contains(instant.pick(1.0, UNIX_EPOCH)));
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
    // A CA that is down is asked less and less often.
    known.untold(Some(Duration::from_secs(60)), now);
    assert!(!known.is_stale(now + HOUR) && known.is_stale(now + 2 * HOUR));
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
        life in 0u64..200_000_000,
        suggested in proptest::option::of((0u64..400_000_000, 1u64..10_000_000, 0.0f64..=1.0)),
        chance in 0.0f64..=1.0,
        maintenance: bool,
    ) {
        let life = Duration::from_secs(life);
        let suggested = suggested.map(|(from, width, share)| {
            let from = UNIX_EPOCH + Duration::from_secs(from);
            let window = Window::new(from, from + Duration::from_secs(width)).unwrap();
            let at = window.pick(share, start());
            (window, at)
        });
        let policy = if maintenance { within(&["Sat 23:00-01:00 +05:30"]) } else { RenewalPolicy::default() };
        let input = Input { suggested, chance, ..input(life, None) };
        let decision = policy.decide(&input);
        prop_assert!(input.not_before <= decision.at && decision.at <= input.not_after, "{decision:?}");
        prop_assert!(decision.at <= input.not_after - life / 20, "{decision:?}");
        if decision.reason != Reason::Emergency {
            prop_assert!(decision.at >= input.not_before + HOUR.max(life / 20), "{decision:?}");
            prop_assert!(maintenance::is_open(&policy.maintenance_windows, decision.at), "{decision:?}");
        }
    }

    #[test]
    fn no_text_of_a_maintenance_window_panics(text in "[MTWFSadilyoneu,: 0-9+UTC-]{0,30}") {
        if let Ok(window) = text.parse::<MaintenanceWindow>() {
            prop_assert_eq!(window.to_string().parse::<MaintenanceWindow>().unwrap(), window);
        }
    }
}
