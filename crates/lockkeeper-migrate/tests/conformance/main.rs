//! What every implementation of the database port keeps, on real servers.
//!
//! Each rule is one function over a [`Fixture`](fixture::Fixture), in a file per topic. `rules!` makes a test of
//! each rule on one dialect; what one dialect alone promises stands in a list of its own.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helper functions"
)]

mod backups;
mod barrier;
mod claims;
mod doctor;
mod failed_restores;
mod fixture;
mod journal;
mod ledgers;
mod mariadb;
mod migrations;
mod opening;
mod postgres;
mod postgres_barrier;
mod postgres_checks;
mod postgres_doctor;
mod postgres_ledgers;
mod postgres_pooler;
mod postgres_rehearsal;
mod postgres_scripts;
mod real_sqlx;
mod refusals;
mod rehearsal;
mod schema;
mod sqlite;
mod standalone;
mod support;

/// Makes one test of each rule, on a fresh database of one dialect.
macro_rules! rules {
    ($fixture:path, { $($topic:ident: [$($rule:ident),* $(,)?]),* $(,)? }) => {
        $(
            mod $topic {
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $rule() {
                        let fixture = <$fixture as crate::fixture::Fixture>::start().await;
                        crate::$topic::$rule(&fixture).await;
                    }
                )*
            }
        )*
    };
}

/// The rules that every dialect keeps.
macro_rules! common_rules {
    ($fixture:path) => {
        rules!($fixture, {
            claims: [
                a_fresh_target_gets_its_tables,
                inspecting_makes_nothing,
                another_migrators_history_is_seen_and_not_run_over,
                a_larger_epoch_takes_over,
                an_equal_epoch_of_the_same_leader_continues,
                an_equal_epoch_of_another_leader_is_refused,
                a_smaller_epoch_is_refused,
                a_superseded_hand_can_do_nothing,
                an_ended_executor_is_gone,
                a_released_target_has_no_executor,
            ],
            barrier: [
                other_writers_are_refused_and_the_hand_passes,
                closing_is_idempotent_and_never_goes_back,
            ],
            opening: [
                writers_pass_at_once_after_the_opening,
                opening_is_idempotent_and_keeps_to_its_epoch,
                nothing_is_left_after_cleaning_up,
            ],
            migrations: [
                a_migration_is_recorded_and_runs_once,
                a_reverted_migration_leaves_the_ledger,
                the_third_of_five_fails,
                scalar_answers_text,
                verification_says_what_is_wrong,
            ],
            standalone: [
                ten_runners_at_once_apply_each_migration_once,
                a_closed_gate_refuses_a_standalone_runner,
                a_dead_runner_is_replaced,
                a_leader_ends_a_standalone_runner,
            ],
            schema: [
                every_object_and_property_is_told,
                the_order_of_making_does_not_matter,
                lockkeepers_own_objects_are_no_part_of_it,
                going_down_gives_the_old_fingerprint,
            ],
            ledgers: [
                pops_table_is_kept,
                golang_migrates_table_is_kept,
                gooses_table_is_kept,
                dbmates_table_is_kept,
                sqlx_table_is_kept,
                refinerys_table_is_kept,
                flyways_table_is_kept,
                diesels_table_is_kept,
                old_rows_of_pop_get_rows_of_their_own,
                a_dirty_version_is_refused,
                a_tools_table_of_another_shape_is_refused,
                tables_of_a_newer_release_are_refused,
                tables_of_an_older_release_are_brought_up_to_date,
                our_ledger_of_another_shape_is_refused,
                an_accepted_edit_is_recorded,
                an_empty_history_leaves_nothing,
            ],
            backups: [
                a_backup_comes_back_whole,
                no_epoch_and_no_executor_comes_back,
                a_closed_gate_is_not_restored_over,
                what_a_fence_left_in_a_dump_stays_away,
                a_damaged_backup_touches_nothing,
                a_command_gets_the_whole_backup_or_no_end,
                a_failed_backup_leaves_no_file,
                only_a_fresh_backup_of_this_version_counts,
                a_verified_backup_was_restored_elsewhere,
            ],
            doctor: [
                a_healthy_database_has_no_errors,
                nothing_at_the_place_is_told_without_secrets,
                a_refused_login_is_told_without_secrets,
                a_migrator_at_work_is_named,
                another_tools_dirty_state_is_told,
                what_an_opened_fence_left_is_dropped_when_told,
                a_copys_gate_row_is_adopted_when_told,
            ],
            rehearsal: [
                a_rehearsal_tells_what_the_target_will_be,
                a_down_that_does_not_restore_is_told,
                a_migration_that_fails_is_told,
                a_stopped_rehearsal_leaves_no_clone,
                what_a_killed_rehearsal_left_is_dropped,
                rows_are_cloned_and_counted_when_asked_for,
                locks_and_rewrites_are_told,
                what_reaches_beyond_the_clone_is_refused,
            ],
            refusals: [
                an_unreachable_server_is_named_without_secrets,
                a_wrong_login_is_named_without_secrets,
            ],
        });
    };
}

mod on_postgres {
    common_rules!(crate::postgres::PostgresFixture);

    rules!(crate::postgres::PostgresFixture, {
        postgres_barrier: [
            a_refused_writer_gets_lk001_and_a_hint,
            an_earlier_open_writer_is_waited_for,
            an_earlier_writer_that_does_not_finish_is_ended_and_named,
            a_prepared_transaction_is_named_and_stops_the_fence,
            a_reader_stops_neither_fence_nor_opening,
            a_stale_snapshot_is_refused,
            an_old_transaction_that_made_a_table_is_waited_out,
            truncate_copy_and_replica_role_are_refused,
            a_second_raise_continues,
            a_refused_writer_does_not_delay_the_opening,
            temporary_tables_stay_writable,
            overlapping_writers_do_not_starve_the_barrier,
            an_executor_with_an_old_snapshot_errs_instead_of_passing,
            a_batch_lets_go_before_it_deadlocks_with_a_writer,
        ],
        postgres_pooler: [
            a_leader_behind_a_pooler_is_refused_before_its_first_statement,
            writers_through_a_pooler_are_fenced_like_all_others,
            a_transaction_left_open_behind_a_pooler_is_ended,
        ],
        postgres_scripts: [
            a_table_made_by_a_migration_is_barred_before_it_commits,
            a_swapped_table_is_barred_before_it_commits,
            a_weakened_trigger_is_put_up_again,
            deferred_constraints_do_not_stop_the_barrier,
            a_failing_migration_rolls_back_and_names_its_line,
            a_migration_that_waits_for_a_lock_is_tried_again,
            a_takeover_ends_a_hand_in_the_middle_of_a_migration,
            a_takeover_ends_a_statement_that_holds_no_lock,
            a_script_leaves_no_trace_in_the_session,
            notices_are_heard,
        ],
        postgres_checks: [
            a_table_of_another_role_is_named_with_its_remedy,
            preflight_names_what_stops_a_fence,
            a_role_without_create_gets_the_grant,
            a_foreign_table_of_our_name_is_not_touched,
            a_database_made_from_a_closed_one_is_told,
            ten_processes_make_the_tables_at_once,
            a_pooler_in_between_is_refused,
        ],
        postgres_ledgers: [
            a_trigger_on_the_table_sees_what_the_tool_writes,
            an_altered_table_is_kept,
            deleted_rows_are_pending_again,
            a_dropped_table_fails_unless_it_is_made_again,
        ],
        real_sqlx: [
            sqlx_carries_on_on_postgres,
        ],
        failed_restores: [on_postgres_everything_is_rolled_back],
        postgres_doctor: [
            a_real_pooler_in_between_is_told,
            locks_and_transactions_that_nobody_ends_are_named,
            a_superuser_application_is_told,
            a_barrier_without_its_gate_is_an_error,
        ],
        postgres_rehearsal: [
            a_role_that_may_not_make_databases_gets_the_statement,
            an_index_built_concurrently_is_measured,
        ],
        journal: [
            an_index_is_built_concurrently,
            an_invalid_index_is_dropped_and_built_again,
            a_journalled_migration_resumes_where_it_stopped,
            an_edited_file_is_in_doubt,
            a_statement_that_cannot_be_classified_is_in_doubt,
        ],
    });
}

mod on_mariadb {
    common_rules!(crate::mariadb::MariaDbFixture);

    rules!(crate::mariadb::MariaDbFixture, {
        real_sqlx: [
            sqlx_carries_on_on_mariadb,
        ],
        failed_restores: [on_mariadb_the_gate_stays_closed_until_it_is_repeated],
    });
}

mod on_sqlite {
    common_rules!(crate::sqlite::SqliteFixture);

    rules!(crate::sqlite::SqliteFixture, {
        real_sqlx: [
            sqlx_carries_on_on_sqlite,
        ],
    });
}
