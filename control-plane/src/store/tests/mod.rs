//! What both databases must do, asked of each: the contract of [`Store`].

mod cases;
// The server of the end-to-end tests.
#[path = "../../../../tests/support/command.rs"]
mod command;
mod concurrency;
mod events;
mod joining;
mod many;
mod partitions;
mod plans;
#[path = "../../../../tests/support/postgres.rs"]
#[expect(dead_code, reason = "nothing is dumped here")]
mod postgres;
mod repeated;
pub(crate) mod rollouts;
mod rollups;
pub(crate) mod samples;
mod size;
mod sizes;
mod upgrade;

use std::sync::Arc;

use tempfile::TempDir;

use super::Store;
use postgres::Postgres;

/// Runs every case on a fresh database of each kind.
macro_rules! contract {
    ($($module:ident :: $case:ident),* $(,)?) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn sqlite_keeps_the_contract() {
            $({
                let (url, _dir) = sqlite_url();
                eprintln!("{}", stringify!($case));
                $module::$case(open(&url).await).await;
            })*
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn postgres_keeps_the_contract() {
            let server = Postgres::shared();
            $({
                eprintln!("{}", stringify!($case));
                let url = server.create_database(stringify!($case));
                $module::$case(open(&url).await).await;
            })*
        }
    };
}

contract! {
    cases::default_exists_from_the_start,
    cases::a_key_reads_back_as_it_was_written,
    cases::a_reset_of_limits_is_a_revision_of_the_key,
    cases::expectations_are_checked,
    cases::routes_that_nothing_tells_apart_collide,
    cases::one_change_may_swap_what_must_differ,
    cases::an_upstream_in_use_stays,
    cases::an_environment_in_use_stays,
    plans::a_plan_reads_back_as_it_was_written,
    plans::a_key_is_put_on_a_plan_that_is_there,
    plans::a_plan_in_use_stays,
    plans::deleting_a_plan_is_no_revision_of_keys,
    plans::a_changed_plan_is_one_entity_however_many_keys_are_on_it,
    plans::no_key_is_put_on_a_plan_that_goes,
    cases::a_failed_change_leaves_nothing,
    cases::a_trial_changes_nothing,
    cases::text_is_only_text,
    cases::pages_hold_every_key_once,
    many::many_new_keys_are_one_revision,
    many::one_key_that_is_there_keeps_all_out,
    many::one_secret_opens_one_key,
    many::the_log_is_read_in_bounded_parts,
    cases::the_last_owner_stays,
    cases::an_expired_owner_locks_nobody_out,
    events::events_are_stored_once_and_counted,
    events::what_is_only_counted_is_counted_once_and_never_listed,
    events::what_routes_ask_to_be_recorded_comes_back,
    events::a_page_is_as_large_as_clients_take,
    events::events_are_found_by_every_field,
    events::what_matches_on_a_node_is_what_is_found,
    rollups::what_is_added_up_is_what_a_recount_comes_to,
    rollups::batches_that_come_at_once_are_each_counted_once,
    rollups::many_environments_are_added_up_in_bounded_time,
    rollups::a_batch_of_gaps_alone_stands_in_no_ones_way,
    rollups::what_is_too_old_ends,
    rollouts::a_change_begins_at_the_first_ring_and_another_begins_it_anew,
    rollouts::what_leads_back_ends_a_rollout,
    rollouts::a_rollout_is_taken_back_to_what_it_began_from,
    rollouts::what_cannot_be_taken_back_stays_as_it_is,
    rollouts::of_several_that_move_a_rollout_on_one_does,
    repeated::a_repeated_call_is_answered_from_memory,
    repeated::a_repeated_call_that_creates_its_environment_is_too,
    repeated::calls_that_come_at_once_are_one,
    cases::replicas_tell_each_other_of_their_nodes,
    repeated::calls_that_come_again_take_no_revision,
    cases::what_is_not_said_again_of_a_node_is_forgotten,
    joining::the_first_ca_stays,
    joining::a_token_is_used_once_however_many_come_at_once,
    joining::who_lost_the_answer_asks_again_with_the_same_key,
    joining::a_token_is_for_its_environment_its_node_and_its_time,
    joining::who_is_revoked_renews_nothing_and_joins_anew,
    joining::a_renewal_under_way_is_revoked_too,
    joining::who_asks_again_meanwhile_is_revoked_too,
    joining::a_revocation_wakes_who_waits,
    joining::nodes_of_an_environment_go_with_it,
    concurrency::revisions_have_no_gaps_and_lead_to_the_state,
    concurrency::what_one_is_refused_for_leaves_the_others_alone,
    concurrency::updates_of_keys_stand_and_fall_one_by_one,
    concurrency::updates_that_can_be_reworked_add_up,
    concurrency::each_key_asked_for_is_the_one_that_is_told,
    concurrency::nothing_is_put_into_an_environment_that_goes,
    concurrency::a_change_wakes_who_waits,
    concurrency::an_announced_node_wakes_who_waits,
}

fn sqlite_url() -> (String, TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    (format!("sqlite:{}", dir.path().join("fastgate.db").display()), dir)
}

async fn open(url: &str) -> Arc<dyn Store> {
    super::open(&url.to_owned().into()).await.expect("a store")
}

#[tokio::test]
async fn opening_again_keeps_everything() {
    let (url, _dir) = sqlite_url();
    let first = open(&url).await.heads().await.expect("heads");
    assert_eq!(open(&url).await.heads().await.expect("heads"), first);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told_without_its_password() {
    let cases = [
        ("mysql://x", "must start with"),
        ("postgres://u:hunter2@127.0.0.1:1/db", "127.0.0.1:1/db"),
        ("postgres://u:hunter2@[::bad/db", "can't be read"),
        ("sqlite:/no/such/folder/x.db", "/no/such/folder/x.db"),
    ];
    for (url, told) in cases {
        let fault = match super::open(&url.to_owned().into()).await {
            Ok(_) => panic!("{url} opened"),
            Err(fault) => fault.to_string(),
        };
        assert!(fault.contains(told), "{fault}");
        assert!(!fault.contains("hunter2") && !fault.contains('\n'), "{fault}");
    }
}
