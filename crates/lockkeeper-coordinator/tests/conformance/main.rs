//! What both stores must keep, on real servers, and what is built on them: guarded commits, sessions, elections.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helper functions"
)]

mod durable;
mod faulty;
mod fixture;
mod guarded;
mod rules;

/// Makes one test of each rule on each store.
macro_rules! on_every_store {
    ($($rule:ident),* $(,)?) => {
        on_every_store!(@store memory, fixture::memory, [$($rule),*]);
        on_every_store!(@store file, fixture::file, [$($rule),*]);
        on_every_store!(@store etcd_3_4, fixture::etcd_3_4, [$($rule),*]);
        on_every_store!(@store etcd_3_5, fixture::etcd_3_5, [$($rule),*]);
    };
    (@store $name:ident, $fixture:path, [$($rule:ident),*]) => {
        mod $name {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    rules::$rule($fixture().await).await;
                }
            )*
        }
    };
}

on_every_store!(
    a_transaction_is_applied_whole_or_not_at_all,
    a_conflict_shows_every_guarded_key,
    a_failed_guard_is_a_conflict_even_if_the_lease_is_gone,
    revisions_grow_and_tell_creation_from_change,
    a_commit_that_changes_nothing_has_no_revision,
    lists_include_own_writes_and_only_the_prefix,
    what_no_store_accepts_is_refused_before_it_is_sent,
    concurrent_commits_lose_nothing,
    a_leased_key_lives_as_long_as_granted_and_no_longer_than_a_bit_more,
    renewal_keeps_a_lease_and_its_end_is_told,
    revoking_ends_a_lease_now,
    a_key_put_again_without_the_lease_stays,
    a_lease_that_is_gone_takes_no_keys,
    a_watch_gives_every_change_in_order_from_its_revision,
    a_watch_sees_expiry_as_deletion,
    a_watch_from_a_compacted_revision_is_told_so,
    a_watch_keeps_whole_revisions_together,
    the_store_says_what_it_is,
);
