//! Counters of this process since its start: accepted, refused and dropped events, clients and requests.
//!
//! Nothing is refused silently: each place that refuses increments a counter here. All counters appear in `/metrics`, and those
//! that are not zero in the log line `counts`, under fixed names.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often counters that changed are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A number that only grows.
#[derive(Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The field of the log line: left out while the counter is zero.
    fn logged(&self) -> Option<u64> {
        Some(self.get()).filter(|value| *value > 0)
    }
}

/// Counters of one metric, with a label `reason` if there are several.
#[derive(Debug)]
pub(super) struct Family {
    /// Name of the metric, without prefix and suffix.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// Current values by reason.
    pub(super) values: Vec<(Option<&'static str>, u64)>,
}

macro_rules! counters {
    ($($family:literal, $help:literal {
        $($(#[$doc:meta])* $counter:ident as $name:ident $(($reason:literal))?,)*
    })*) => {
        $($(
            $(#[$doc])*
            pub static $counter: Counter = Counter(AtomicU64::new(0));
        )*)*

        /// Every counter by its name in the log.
        pub(super) fn all() -> Vec<(&'static str, u64)> {
            vec![$($((stringify!($name), $counter.get()),)*)*]
        }

        /// Every counter by its metric.
        pub(super) fn families() -> Vec<Family> {
            vec![$(Family {
                name: $family,
                help: $help,
                values: vec![$((None$(.or(Some($reason)))?, $counter.get()),)*],
            },)*]
        }

        /// Logs all counters that are not zero, in one line. Without any, nothing.
        pub fn log_counters() {
            if all().iter().all(|(_, count)| *count == 0) {
                return;
            }
            tracing::info!($($($name = $counter.logged(),)*)* "counts");
        }
    };
}

counters! {
    "events_accepted", "Events that the transport accepted" {
        /// Events that the transport accepted.
        EVENTS_ACCEPTED as events_accepted,
    }
    "events_put_off", "Attempts to append an event while the backlog was full; the event is retried" {
        /// Attempts to append an event that the transport refused because its backlog was full. Each event is retried; each
        /// attempt counts.
        EVENTS_PUT_OFF as events_put_off,
    }
    "events_refused", "Events that were refused" {
        /// Events that were refused after too long a wait for the transport; the acknowledgement carries the error `overloaded`.
        EVENTS_OVERLOADED as events_overloaded ("overloaded"),
    }
    "events_handled_again", "Event handlings that were repeated because of the key-value store" {
        /// Events handled again because a key that they had read was changed before their effects were committed (optimistic
        /// concurrency).
        EVENTS_HANDLED_AGAIN as events_handled_again ("store_changed"),
        /// Event handlings that were given up because the key-value store was unavailable. The event is retried.
        STORE_UNAVAILABLE as store_unavailable ("store_unavailable"),
    }
    "dead_letters", "Events that were moved to the dead letters" {
        /// Events that were moved to the dead letters.
        DEAD_LETTERS as dead_letters,
    }
    "clients_refused", "Clients whose connection to a namespace was refused" {
        /// Clients that were refused by a handler, or whose connect event was not handled.
        CLIENTS_REFUSED as clients_refused ("handler"),
        /// Clients that were refused because their token was invalid or missing.
        TOKENS_REFUSED as tokens_refused ("token"),
        /// Clients that asked for an unknown namespace, or for too many.
        NAMESPACES_REFUSED as namespaces_refused ("namespace"),
        /// Clients whose connect event the transport did not accept in time.
        CLIENTS_TURNED_AWAY as clients_turned_away ("overloaded"),
    }
    "clients_ended", "Clients and sessions that this node disconnected" {
        /// Clients that were disconnected because they did not read what was sent to them (slow readers).
        CLIENTS_SLOW as clients_slow ("slow_reader"),
        /// Sessions that were closed because one of their tokens expired.
        TOKENS_EXPIRED as tokens_expired ("token_expired"),
        /// Sessions that were closed because they sent far above their rate limit.
        SESSIONS_FLOODING as sessions_flooding ("flood"),
        /// Connections that were closed because of a malformed packet.
        PACKETS_MALFORMED as packets_malformed ("malformed"),
        /// Sessions that were closed because their incomplete messages exceeded the byte limit.
        SESSIONS_OVERLOADED as sessions_overloaded ("unfinished_bytes"),
        /// Connections that were closed because the client read no byte of a response in time.
        WRITES_TIMED_OUT as writes_timed_out ("write_timeout"),
    }
    "connections_refused", "Connections and session requests that were refused" {
        /// Connections over `max-connections`.
        CONNECTIONS_REFUSED as connections_refused ("max_connections"),
        /// Connections that did not start with a PROXY protocol header.
        PROXY_HEADERS_MALFORMED as proxy_headers_malformed ("proxy_protocol"),
        /// Requests that were refused because of their origin (CORS).
        PAGES_REFUSED as pages_refused ("origin"),
        /// Sessions that were refused because their address had too many open, or opened them too fast.
        ADDRESSES_REFUSED as addresses_refused ("address_limit"),
        /// Requests for a session that is not on this io-node: it has ended, or the load balancer is not sticky.
        SESSIONS_UNKNOWN as sessions_unknown ("session_unknown"),
        /// Sessions that were refused because this io-node had not joined the cluster.
        SESSIONS_REFUSED as sessions_refused ("not_joined"),
        /// Connections over `max-connections-per-address`.
        PEERS_REFUSED as peers_refused ("max_connections_per_address"),
        /// Requests that were refused because of their `host` header.
        HOSTS_REFUSED as hosts_refused ("host"),
        /// Sessions that were refused because memory use was at its budget.
        MEMORY_REFUSED as memory_refused ("memory"),
    }
    "commands_refused", "Commands of handlers that were refused" {
        /// Subscriptions that were refused because the client was in too many channels.
        SUBSCRIPTIONS_REFUSED as subscriptions_refused ("channel_limit"),
        /// Patches of client attributes that were refused.
        PATCHES_REFUSED as patches_refused ("attributes"),
        /// Commands of an unknown kind or for an unknown recipient.
        COMMANDS_DROPPED as commands_dropped ("unknown"),
    }
    "replies_lost", "Acknowledgements and replies that were dropped" {
        /// Acknowledgements that were dropped because their client had too many pending.
        ACKS_FORGOTTEN as acks_forgotten ("too_many_acks"),
        /// Replies of clients that have disconnected, dropped because too many waited for the transport.
        REPLIES_DROPPED as replies_dropped ("client_gone"),
    }
    "emitter_messages", "Messages of emitters that were applied to the clients of this io-node" {
        /// Messages of emitters that were applied to the clients of this io-node.
        EMITTER_MESSAGES as emitter_messages,
    }
    "emitter_messages_dropped", "Messages of emitters that were dropped" {
        /// Messages of emitters that are invalid.
        EMITTER_MESSAGES_INVALID as emitter_messages_invalid ("invalid"),
        /// Requests of emitters that plugnode does not support.
        EMITTER_REQUESTS_UNSUPPORTED as emitter_requests_unsupported ("unsupported"),
        /// Messages of emitters that arrived faster than they could be applied, or that are too large.
        EMITTER_MESSAGES_OVERFLOWED as emitter_messages_overflowed ("overflow"),
    }
    "emitter_subscriptions_lost", "Times that the subscription to emitters was lost; messages until the next one are lost" {
        /// Times that the subscription to emitters was lost.
        EMITTER_SUBSCRIPTIONS_LOST as emitter_subscriptions_lost,
    }
    "webhooks_delivered", "Deliveries to webhooks that arrived" {
        /// Deliveries to webhooks that arrived.
        WEBHOOKS_DELIVERED as webhooks_delivered,
    }
    "webhook_attempts_failed", "Attempts to deliver to a webhook that failed" {
        /// Attempts to deliver to a webhook that failed.
        WEBHOOK_ATTEMPTS_FAILED as webhook_attempts_failed,
    }
    "webhooks_dropped", "Deliveries to webhooks that were dropped" {
        /// Deliveries that were dropped after their last attempt.
        WEBHOOKS_GIVEN_UP as webhooks_given_up ("given_up"),
        /// Deliveries that were dropped because too many were pending.
        WEBHOOKS_OVERFLOWED as webhooks_overflowed ("full"),
        /// Deliveries for a webhook that this app-node does not have, or that it cannot read.
        WEBHOOKS_UNKNOWN as webhooks_unknown ("unknown"),
    }
    "api_calls", "Calls of the server API that were carried out or accepted" {
        /// Calls of the server API that were carried out or accepted.
        API_CALLS as api_calls,
    }
    "api_calls_refused", "Requests to the server API that were refused" {
        /// Requests without a valid key.
        API_KEYS_REFUSED as api_keys_refused ("key"),
        /// Requests that the key does not permit.
        API_FORBIDDEN as api_forbidden ("permission"),
        /// Requests over the rate of the key.
        API_RATE_EXCEEDED as api_rate_exceeded ("rate"),
        /// Malformed requests, and those with an idempotency key of another request.
        API_INVALID as api_invalid ("invalid"),
        /// Requests that the transport did not accept, and events whose handler failed or did not answer in time.
        API_OVERLOADED as api_overloaded ("unavailable"),
    }
    "places_lost", "Times that this process lost its lease and joined the cluster again" {
        /// Times that this process lost its lease and joined the cluster again.
        PLACES_LOST as places_lost,
    }
}

/// Logs all counters every minute in which one changed. Never completes.
pub async fn log_counter_changes() {
    let mut logged = all();
    loop {
        tokio::time::sleep(LOG_INTERVAL).await;
        let now = all();
        if now != logged {
            log_counters();
            logged = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_only_counters_above_zero() {
        static FRESH: Counter = Counter(AtomicU64::new(0));
        assert_eq!(FRESH.logged(), None);
        FRESH.increment();
        FRESH.add(2);
        assert_eq!(FRESH.logged(), Some(3));
        ACKS_FORGOTTEN.increment();
        let found = all().into_iter().find(|(name, _)| *name == "acks_forgotten");
        assert!(found.is_some_and(|(_, value)| value >= 1));
    }

    #[test]
    fn family_has_one_counter_or_distinct_reasons() {
        let families = families();
        let counters: usize = families.iter().map(|family| family.values.len()).sum();
        assert_eq!(counters, all().len());
        for Family { name, values, .. } in families {
            let reasons: std::collections::BTreeSet<_> = values.iter().filter_map(|(reason, _)| *reason).collect();
            assert!(values.len() == 1 || reasons.len() == values.len(), "{name}: {values:?}");
        }
    }
}
