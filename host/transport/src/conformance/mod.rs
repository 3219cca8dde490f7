//! Tests of the promises that every transport makes.
//!
//! An implementation runs them by `conforms!`. Its argument is an expression that makes a transport with the settings of `fixture`, and a
//! guard that keeps the transport alive, such as its server.

pub mod dead_letters;
pub mod events;
mod fixture;
pub mod key_value;
pub mod outbox;
pub mod timers;

pub use self::fixture::{BACKLOG, BUCKET_BYTES, BUDGETS, CLIENT_BACKLOG, DEAD_LETTERS, OUTBOX, PARTITIONS, TIMERS};

#[macro_export]
macro_rules! conforms {
    ($($transport:ident: $make:expr),* $(,)?) => {$(
        mod $transport {
            $crate::conforms!(@tests $make;
                events::event_is_delivered_in_order_and_committed_once,
                events::uncommitted_events_go_to_next_owner,
                events::full_backlog_refuses_and_keeps_order,
                events::one_client_cannot_fill_a_partition,
                events::one_caller_has_one_share_in_all_partitions,
                events::greedy_clients_leave_room_for_newcomer,
                events::open_events_are_bounded_in_bytes,
                events::lost_io_node_leaves_one_disconnect_per_client,
                events::refused_client_is_removed,
                events::late_reply_follows_last_event_of_its_client,
                events::patches_are_kept_for_next_owner,
                events::newer_session_fences_older,
                events::partitions_are_assigned_and_move,
                outbox::all_outboxes_have_the_same_order,
                outbox::outbox_is_bounded_in_bytes,
                outbox::command_for_one_client_reaches_only_its_io_node,
                outbox::command_reaches_client_that_is_not_accepted_yet,
                outbox::broadcasts_keep_their_place_among_direct_commands,
                outbox::command_between_io_nodes_reaches_only_its_target,
                outbox::query_of_lost_client_is_collected_elsewhere,
                timers::timer_fires_once_at_its_owner,
                timers::timer_is_replaced_cancelled_and_dropped_with_its_client,
                timers::periodic_timer_fires_until_cancelled,
                timers::timers_are_bounded_per_app_and_client,
                timers::timer_without_room_delays_no_other,
                key_value::writes_are_visible_after_commit_never_from_dead_letters,
                key_value::write_conflicts_when_its_reads_changed,
                key_value::conflicts_are_detected_event_by_event,
                key_value::additions_need_no_reads,
                key_value::bucket_is_bounded_in_bytes,
                key_value::bucket_filled_concurrently_keeps_its_bound,
                key_value::reserved_keys_exclude_younger_events,
                key_value::key_expires_after_its_time_to_live,
                key_value::reads_are_bounded_in_bytes,
                key_value::keys_are_listed_by_prefix,
                key_value::counters_of_many_clients_add_up,
                key_value::cost_of_keys_is_reported,
                dead_letters::dead_letter_is_kept_until_retried_or_deleted,
                dead_letters::dead_letters_are_bounded_per_app_and_client,
                dead_letters::dead_letters_of_one_caller_leave_those_of_others,
            );
        }
    )*};
    (@tests $make:expr; $($part:ident::$test:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $test() {
            let (transport, _server) = $make.await;
            let limit = std::time::Duration::from_secs(20);
            tokio::time::timeout(limit, $crate::conformance::$part::$test(transport)).await.expect("the test must not hang");
        }
    )*};
}
