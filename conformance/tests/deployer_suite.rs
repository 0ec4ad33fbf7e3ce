//! The suite for deployers, tried on deployers that each do one thing wrong: a suite that lets
//! them through is worth nothing.

mod fake;

use std::panic::{AssertUnwindSafe, catch_unwind};

use acmekit_conformance::deployer::{self, run};
use fake::{FakeSubject, Fault};

mod a_right_one_passes {
    use super::{FakeSubject, Fault};
    acmekit_conformance::deployer_suite!(FakeSubject::start(Fault::Nothing));
}

mod a_skipped_clause_stays_visible {
    use super::{FakeSubject, Fault};
    acmekit_conformance::deployer_suite!(
        FakeSubject::start(Fault::KeyInDebug),
        skip { Y9: "its Debug shows the key on purpose", Y10: "so that two are skipped" }
    );
}

#[test]
fn skipped_clauses_are_listed_as_ignored() {
    let list = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--list", "--ignored", "--format", "terse"])
        .output()
        .unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let mut names: Vec<&str> = list.lines().collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "a_skipped_clause_stays_visible::y10_it_works_behind_arc_and_box: test",
            "a_skipped_clause_stays_visible::y9_no_private_key_is_ever_shown: test",
        ]
    );
}

/// The clauses this one breaks.
fn broken_by(fault: Fault) -> Vec<&'static str> {
    macro_rules! failing {
        ($($clause:literal $function:ident),* $(,)?) => {{
            let mut found = Vec::new();
            $({
                let clause = AssertUnwindSafe(|| {
                    run(FakeSubject::start(fault), async |subject| deployer::$function(subject).await);
                });
                if let Err(panic) = catch_unwind(clause) {
                    let fixed = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                    let text = panic.downcast_ref::<String>().cloned().or(fixed).unwrap_or_default();
                    assert!(text.starts_with(concat!($clause, ":")), "the message does not name its clause: {text}");
                    found.push($clause);
                }
            })*
            found
        }};
    }
    failing!(
        "Y1" y1_deploying_makes_clients_see_it,
        "Y2" y2_what_is_served_is_already_current,
        "Y3" y3_every_handshake_while_switching_shows_a_whole_chain,
        "Y4" y4_after_a_failure_the_previous_one_is_served,
        "Y5" y5_a_failure_says_what_is_served,
        "Y6" y6_verify_is_ok_for_what_is_served,
        "Y7" y7_verify_fails_for_what_is_not_served,
        "Y8" y8_remove_takes_it_away_and_absent_is_ok,
        "Y9" y9_no_private_key_is_ever_shown,
        "Y10" y10_it_works_behind_arc_and_box,
    )
}

#[test]
fn each_fault_breaks_its_clause() {
    for (fault, clause) in [
        (Fault::LiesThatItIsCurrent, "Y1"),
        (Fault::AppliesNothing, "Y1"),
        (Fault::ServesTheLeafAlone, "Y1"),
        (Fault::LeavesTheNewOne, "Y4"),
        (Fault::HidesTheFailure, "Y4"),
        (Fault::KeyInDebug, "Y9"),
    ] {
        let broken = broken_by(fault);
        assert!(broken.contains(&clause), "{fault:?} breaks {broken:?}");
    }
}

#[test]
fn a_fault_in_one_clause_breaks_no_other() {
    for (fault, clause) in [
        (Fault::NeverSaysCurrent, "Y2"),
        (Fault::TouchesWhatIsCurrent, "Y2"),
        (Fault::SwitchesKeyAfterChain, "Y3"),
        (Fault::HidesWhatIsServed, "Y5"),
        (Fault::VerifyTouches, "Y6"),
        (Fault::RemoveOfAbsentFails, "Y8"),
        (Fault::RemoveDoesNothing, "Y8"),
        (Fault::RemoveTakesOthers, "Y8"),
        (Fault::KeyInErrors, "Y9"),
        (Fault::IdDependsOnTheCall, "Y10"),
    ] {
        assert_eq!(broken_by(fault), [clause], "{fault:?}");
    }
}

#[test]
fn a_verify_that_does_not_look_is_found_out() {
    let broken = broken_by(Fault::VerifyAlwaysOk);
    assert!(broken.contains(&"Y7"), "{broken:?}");
    let broken = broken_by(Fault::VerifyAlwaysFails);
    assert!(broken.contains(&"Y6"), "{broken:?}");
}
