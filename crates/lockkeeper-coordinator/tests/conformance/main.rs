//! What both stores must keep, on real servers, and what is built on them: guarded commits, sessions, elections.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helper functions"
)]

mod cluster;
mod durable;
mod elections;
mod faulty;
mod fixture;
mod guarded;
mod presence;
mod renewals;
mod rules;

/// Makes one test of each function on each store.
macro_rules! on_every_store {
    ($suite:ident, $($rule:ident),* $(,)?) => {
        mod $suite {
            on_every_store!(@store $suite, memory, [$($rule),*]);
            on_every_store!(@store $suite, file, [$($rule),*]);
            on_every_store!(@store $suite, etcd_3_4, [$($rule),*]);
            on_every_store!(@store $suite, etcd_3_5, [$($rule),*]);
        }
    };
    (@store $suite:ident, $store:ident, [$($rule:ident),*]) => {
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    crate::$suite::$rule(crate::fixture::$store().await).await;
                }
            )*
        }
    };
}

/// The suites, each on every store.
mod on {
    on_every_store!(
        rules,
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

    on_every_store!(
        presence,
        a_session_begins_with_its_key_and_the_gates,
        a_joiner_is_in_the_closers_list_or_has_seen_the_closed_gate,
        a_session_lives_while_its_heartbeats_come_back,
        a_clean_leave_tells_and_vanishes_in_one_step,
        a_farewell_that_conflicts_is_told,
        a_crash_leaves_the_key_until_the_lease_ends,
        a_session_that_is_cut_off_ends_before_its_key_does,
        a_session_whose_lease_is_revoked_ends,
        a_session_opens_over_a_bad_network,
    );

    on_every_store!(
        elections,
        exactly_one_of_three_leads_and_the_others_know_it,
        a_killed_leader_is_succeeded_when_its_lease_has_ended,
        a_leader_that_resigns_is_succeeded_at_once,
        a_leader_whose_key_is_deleted_stops_though_its_lease_lives,
        a_raised_generation_makes_a_new_epoch,
        a_leader_without_a_key_is_never_believed,
        a_leader_that_is_cut_off_stops_before_its_successor_leads,
        a_creation_whose_answer_is_lost_is_found_again,
        decisions_of_a_superseded_leader_are_refused,
    );
}
