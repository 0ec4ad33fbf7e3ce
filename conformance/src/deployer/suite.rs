//! The macro that turns the clauses into tests.

use std::future::Future;
use std::time::Duration;

use super::DeployerSubject;

const PATIENCE: Duration = Duration::from_secs(120);

/// Expands to one test for each clause of the [suite for deployers](crate::deployer).
#[macro_export]
macro_rules! deployer_suite {
    ($start:expr $(,)?) => {
        $crate::deployer_suite!($start, skip {});
    };
    ($start:expr, skip { $($clause:ident : $why:literal),* $(,)? } $(,)?) => {
        $($crate::__deployer_clause!(known $clause);)*
        $crate::__deployer_clause!(Y1 y1_deploying_makes_clients_see_it ($start) [$($clause $why)*]);
        $crate::__deployer_clause!(Y2 y2_what_is_served_is_already_current ($start) [$($clause $why)*]);
        $crate::__deployer_clause!(Y3 y3_every_handshake_while_switching_shows_a_whole_chain ($start) [$($clause $why)*]);
        $crate::__deployer_clause!(Y4 y4_after_a_failure_the_previous_one_is_served ($start) [$($clause $why)*]);
        $crate::__deployer_clause!(Y5 y5_a_failure_says_what_is_served ($start) [$($clause $why)*]);
        $crate::__deployer_clause!(Y6 y6_verify_is_ok_for_what_is_served ($start) [$($clause $why)*]);
        $crate::__deployer_clause!(Y7 y7_verify_fails_for_what_is_not_served ($start) [$($clause $why)*]);
        $crate::__deployer_clause!(Y8 y8_remove_takes_it_away_and_absent_is_ok ($start) [$($clause $why)*]);
        $crate::__deployer_clause!(Y9 y9_no_private_key_is_ever_shown ($start) [$($clause $why)*]);
        $crate::__deployer_clause!(Y10 y10_it_works_behind_arc_and_box ($start) [$($clause $why)*]);
    };
}

/// One clause as a test; ignored if it is the first of the skipped ones, else asks the next.
#[doc(hidden)]
#[macro_export]
macro_rules! __deployer_clause {
    (known Y1) => {};
    (known Y2) => {};
    (known Y3) => {};
    (known Y4) => {};
    (known Y5) => {};
    (known Y6) => {};
    (known Y7) => {};
    (known Y8) => {};
    (known Y9) => {};
    (known Y10) => {};
    (known $other:ident) => {
        compile_error!(concat!("there is no clause ", stringify!($other), " in the suite for deployers"));
    };
    (Y1 $test:ident ($start:expr) [Y1 $why:literal $($rest:tt)*]) => { $crate::__deployer_clause!(ignored $test ($start) $why); };
    (Y2 $test:ident ($start:expr) [Y2 $why:literal $($rest:tt)*]) => { $crate::__deployer_clause!(ignored $test ($start) $why); };
    (Y3 $test:ident ($start:expr) [Y3 $why:literal $($rest:tt)*]) => { $crate::__deployer_clause!(ignored $test ($start) $why); };
    (Y4 $test:ident ($start:expr) [Y4 $why:literal $($rest:tt)*]) => { $crate::__deployer_clause!(ignored $test ($start) $why); };
    (Y5 $test:ident ($start:expr) [Y5 $why:literal $($rest:tt)*]) => { $crate::__deployer_clause!(ignored $test ($start) $why); };
    (Y6 $test:ident ($start:expr) [Y6 $why:literal $($rest:tt)*]) => { $crate::__deployer_clause!(ignored $test ($start) $why); };
    (Y7 $test:ident ($start:expr) [Y7 $why:literal $($rest:tt)*]) => { $crate::__deployer_clause!(ignored $test ($start) $why); };
    (Y8 $test:ident ($start:expr) [Y8 $why:literal $($rest:tt)*]) => { $crate::__deployer_clause!(ignored $test ($start) $why); };
    (Y9 $test:ident ($start:expr) [Y9 $why:literal $($rest:tt)*]) => { $crate::__deployer_clause!(ignored $test ($start) $why); };
    (Y10 $test:ident ($start:expr) [Y10 $why:literal $($rest:tt)*]) => { $crate::__deployer_clause!(ignored $test ($start) $why); };
    (ignored $test:ident ($start:expr) $why:literal) => {
        #[test]
        #[ignore = $why]
        fn $test() {
            $crate::deployer::run($start, async |subject| $crate::deployer::$test(subject).await);
        }
    };
    ($clause:ident $test:ident ($start:expr) [$other:ident $why:literal $($rest:tt)*]) => {
        $crate::__deployer_clause!($clause $test ($start) [$($rest)*]);
    };
    ($clause:ident $test:ident ($start:expr) []) => {
        #[test]
        fn $test() {
            $crate::deployer::run($start, async |subject| $crate::deployer::$test(subject).await);
        }
    };
}

/// Runs one clause on a subject of its own, in a runtime of its own.
#[doc(hidden)]
#[expect(clippy::expect_used, reason = "test code")]
pub fn run<S: DeployerSubject>(
    start: impl Future<Output = S>,
    clause: impl AsyncFnOnce(&mut dyn DeployerSubject),
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a tokio runtime");
    runtime.block_on(async {
        let mut subject = start.await;
        // A deployer that hangs must fail its clause, not the whole run.
        tokio::time::timeout(PATIENCE, clause(&mut subject))
            .await
            .expect("the clause comes to an end within two minutes");
    });
}
