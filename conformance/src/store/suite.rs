//! [`store_suite!`](crate::store_suite): the clauses as tests.

/// One test per clause of the [`Store`](acmekit_core::Store) contract, over a fixture made anew for each.
///
/// `store_suite!(fixture)`, or `store_suite!(fixture, skip: [clause = "reason", …])`. The crate
/// that uses it needs `tokio` with `macros` and `rt`. See the [module](crate::store).
#[macro_export]
macro_rules! store_suite {
    ($fixture:expr $(, skip: [$($skip:ident = $reason:literal),* $(,)?])? $(,)?) => {
        $crate::store_suite! { @all ($fixture) [$($($skip $reason)*)?]
            store t01_a_value_is_read_as_written
            store t02_a_value_is_written_whole
            fixture t03_a_write_survives_a_restart
            store t04_versions_grow
            store t05_a_write_whose_condition_fails_is_refused
            store t06_deleting_twice_is_ok
            store t07_list_ends_at_a_slash
            fixture t08_damage_is_an_error
            store t09_a_dropped_save_leaves_old_or_new
            fixture t10_a_lease_has_one_holder
            fixture t11_tokens_grow
            store t12_renewing_prolongs_a_lease
        }
        // A name that is none of the clauses does not compile.
        $($(const _: () = { #[allow(unused_imports, reason = "it is looked up")] use $crate::store::$skip; };)*)?
    };
    (@all $fixture:tt $skip:tt $($needs:ident $clause:ident)*) => {
        $($crate::store_suite! { @find $clause $needs $fixture $skip })*
    };
    // The head of the list is compared with the clause by name; then the rest.
    (@find t01_a_value_is_read_as_written $n:ident $f:tt [t01_a_value_is_read_as_written $why:literal $($r:tt)*]) => { $crate::store_suite! { @skip t01_a_value_is_read_as_written $n $f $why } };
    (@find t02_a_value_is_written_whole $n:ident $f:tt [t02_a_value_is_written_whole $why:literal $($r:tt)*]) => { $crate::store_suite! { @skip t02_a_value_is_written_whole $n $f $why } };
    (@find t03_a_write_survives_a_restart $n:ident $f:tt [t03_a_write_survives_a_restart $why:literal $($r:tt)*]) => { $crate::store_suite! { @skip t03_a_write_survives_a_restart $n $f $why } };
    (@find t04_versions_grow $n:ident $f:tt [t04_versions_grow $why:literal $($r:tt)*]) => { $crate::store_suite! { @skip t04_versions_grow $n $f $why } };
    (@find t05_a_write_whose_condition_fails_is_refused $n:ident $f:tt [t05_a_write_whose_condition_fails_is_refused $why:literal $($r:tt)*]) => { $crate::store_suite! { @skip t05_a_write_whose_condition_fails_is_refused $n $f $why } };
    (@find t06_deleting_twice_is_ok $n:ident $f:tt [t06_deleting_twice_is_ok $why:literal $($r:tt)*]) => { $crate::store_suite! { @skip t06_deleting_twice_is_ok $n $f $why } };
    (@find t07_list_ends_at_a_slash $n:ident $f:tt [t07_list_ends_at_a_slash $why:literal $($r:tt)*]) => { $crate::store_suite! { @skip t07_list_ends_at_a_slash $n $f $why } };
    (@find t08_damage_is_an_error $n:ident $f:tt [t08_damage_is_an_error $why:literal $($r:tt)*]) => { $crate::store_suite! { @skip t08_damage_is_an_error $n $f $why } };
    (@find t09_a_dropped_save_leaves_old_or_new $n:ident $f:tt [t09_a_dropped_save_leaves_old_or_new $why:literal $($r:tt)*]) => { $crate::store_suite! { @skip t09_a_dropped_save_leaves_old_or_new $n $f $why } };
    (@find t10_a_lease_has_one_holder $n:ident $f:tt [t10_a_lease_has_one_holder $why:literal $($r:tt)*]) => { $crate::store_suite! { @skip t10_a_lease_has_one_holder $n $f $why } };
    (@find t11_tokens_grow $n:ident $f:tt [t11_tokens_grow $why:literal $($r:tt)*]) => { $crate::store_suite! { @skip t11_tokens_grow $n $f $why } };
    (@find t12_renewing_prolongs_a_lease $n:ident $f:tt [t12_renewing_prolongs_a_lease $why:literal $($r:tt)*]) => { $crate::store_suite! { @skip t12_renewing_prolongs_a_lease $n $f $why } };
    (@find $clause:ident $needs:ident $fixture:tt [$other:ident $why:literal $($rest:tt)*]) => {
        $crate::store_suite! { @find $clause $needs $fixture [$($rest)*] }
    };
    (@find $clause:ident $needs:ident $fixture:tt []) => {
        #[tokio::test]
        async fn $clause() {
            $crate::store_suite! { @run $clause $needs $fixture }
        }
    };
    (@skip $clause:ident $needs:ident $fixture:tt $why:literal) => {
        #[tokio::test]
        #[ignore = $why]
        async fn $clause() {
            $crate::store_suite! { @run $clause $needs $fixture }
        }
    };
    (@run $clause:ident store ($fixture:expr)) => {
        let fixture = $fixture;
        let store = $crate::store::StoreFixture::open(&fixture).await;
        $crate::store::$clause(&*store).await;
    };
    (@run $clause:ident fixture ($fixture:expr)) => {
        let fixture = $fixture;
        $crate::store::$clause(&fixture).await;
    };
}
