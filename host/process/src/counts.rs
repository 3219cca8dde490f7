//! What this process took in and what it refused, counted from its start.
//!
//! Nothing is refused in silence: each place that refuses counts it here, and the sums are in the log. Names are fixed,
//! so that a log can be searched and added up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often changed counts are logged.
const PAUSE: Duration = Duration::from_secs(60);

/// A number that only grows.
#[derive(Debug)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts one.
    pub fn one(&self) {
        self.add(1);
    }

    /// Counts so many.
    pub fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// What the log shows: nothing for what never happened.
    fn shown(&self) -> Option<u64> {
        Some(self.get()).filter(|sum| *sum > 0)
    }
}

/// Counts of one kind, as a metric: told apart by the reason where there are several.
#[derive(Debug)]
pub struct Family {
    /// The name of the metric, without prefix and suffix.
    pub name: &'static str,
    /// What is counted.
    pub help: &'static str,
    /// The sums so far, by reason.
    pub sums: Vec<(Option<&'static str>, u64)>,
}

macro_rules! counts {
    ($($family:literal, $help:literal {
        $($(#[$doc:meta])* $count:ident as $name:ident $(($reason:literal))?,)*
    })*) => {
        $($(
            $(#[$doc])*
            pub static $count: Count = Count(AtomicU64::new(0));
        )*)*

        /// Every count by its name.
        pub fn all() -> Vec<(&'static str, u64)> {
            vec![$($((stringify!($name), $count.get()),)*)*]
        }

        /// Every count by its family.
        pub fn families() -> Vec<Family> {
            vec![$(Family {
                name: $family,
                help: $help,
                sums: vec![$((None$(.or(Some($reason)))?, $count.get()),)*],
            },)*]
        }

        /// Writes a line with every count that is not zero.
        pub fn log() {
            tracing::info!($($($name = $count.shown(),)*)* "counts");
        }
    };
}

counts! {
    "events_accepted", "Events that the transport accepted" {
        /// Events that the transport accepted.
        EVENTS_ACCEPTED as events_accepted,
    }
    "events_put_off", "Offers of events that met a full backlog; each event is offered again" {
        /// Events that the transport refused because of a full backlog; each is offered again, and counted each time.
        EVENTS_PUT_OFF as events_put_off,
    }
    "events_refused", "Events that were refused to their client" {
        /// Events that were refused to their client, whose acknowledgement was answered with the error `overloaded`.
        EVENTS_OVERLOADED as events_overloaded ("overloaded"),
    }
    "events_handled_again", "Attempts at events that were repeated or came to nothing because of the key-value store" {
        /// Times that an event was handled again because something that it had read of the key-value store had changed before
        /// its effects were committed.
        EVENTS_HANDLED_AGAIN as events_handled_again ("store_changed"),
        /// Attempts at events that came to nothing because the key-value store was away.
        STORE_UNAVAILABLE as store_unavailable ("store_unavailable"),
    }
    "dead_letters", "Events that were put aside" {
        /// Events that were put aside.
        DEAD_LETTERS as dead_letters,
    }
    "clients_refused", "Clients that were not let in" {
        /// Clients that were refused by a handler, or for want of its verdict.
        CLIENTS_REFUSED as clients_refused ("handler"),
        /// Clients that were refused because of their token, or for want of one.
        TOKENS_REFUSED as tokens_refused ("token"),
        /// Clients that were refused a namespace: there is none of that name, or they are in too many.
        NAMESPACES_REFUSED as namespaces_refused ("namespace"),
        /// Clients that were turned away because their connection could not be accepted in time.
        CLIENTS_TURNED_AWAY as clients_turned_away ("overloaded"),
    }
    "clients_ended", "Clients and sessions that this node ended" {
        /// Clients that were disconnected because they did not read what was sent to them.
        CLIENTS_SLOW as clients_slow ("slow_reader"),
        /// Sessions that were ended because a token of theirs had run out.
        TOKENS_EXPIRED as tokens_expired ("token_expired"),
        /// Sessions that were closed because they sent far more than was accepted.
        SESSIONS_FLOODING as sessions_flooding ("flood"),
        /// Connections that were closed because of a malformed packet.
        PACKETS_MALFORMED as packets_malformed ("malformed"),
        /// Sessions that were closed because their unfinished messages were too large together.
        SESSIONS_OVERLOADED as sessions_overloaded ("unfinished_bytes"),
        /// Connections that were closed because their client took no byte of an answer in time.
        WRITES_TIMED_OUT as writes_timed_out ("write_timeout"),
    }
    "connections_refused", "Connections and requests for sessions that were refused" {
        /// Connections over `max-connections`.
        CONNECTIONS_REFUSED as connections_refused ("max_connections"),
        /// Connections that did not begin with a header of the PROXY protocol.
        PROXY_HEADERS_MALFORMED as proxy_headers_malformed ("proxy_protocol"),
        /// Requests that were refused because they came from pages of other sites.
        PAGES_REFUSED as pages_refused ("origin"),
        /// Sessions that were refused because their address had or opened too many.
        ADDRESSES_REFUSED as addresses_refused ("address_limit"),
        /// Requests for a session that is not here: it was ended, or it is at another io-node, and the load balancer does not send
        /// its clients there.
        SESSIONS_UNKNOWN as sessions_unknown ("session_unknown"),
        /// Sessions that were refused while this io-node had not joined the cluster.
        SESSIONS_REFUSED as sessions_refused ("not_joined"),
        /// Connections over `max-connections-per-address`.
        PEERS_REFUSED as peers_refused ("max_connections_per_address"),
        /// Requests that were refused because they were for a host that is not served.
        HOSTS_REFUSED as hosts_refused ("host"),
        /// Newcomers that were refused because memory was at its budget.
        MEMORY_REFUSED as memory_refused ("memory"),
    }
    "commands_refused", "What handlers asked for and did not get" {
        /// Subscriptions that were refused because a client had too many.
        SUBSCRIPTIONS_REFUSED as subscriptions_refused ("channel_limit"),
        /// Changes of attributes that were refused.
        PATCHES_REFUSED as patches_refused ("attributes"),
        /// Commands that this version does not know or has no taker for.
        COMMANDS_DROPPED as commands_dropped ("unknown"),
    }
    "replies_lost", "Acknowledgements and replies that were given up" {
        /// Acknowledgements that were given up because their client waited for too many.
        ACKS_FORGOTTEN as acks_forgotten ("too_many_acks"),
        /// Replies to clients that are gone, dropped because too much waited to be accepted.
        REPLIES_DROPPED as replies_dropped ("client_gone"),
    }
    "places_lost", "Times that this process lost its place in the cluster and joined anew" {
        /// Times that this process lost its place in the cluster and joined anew.
        PLACES_LOST as places_lost,
    }
}

/// Logs the counts every minute in which they changed. Never completes.
pub async fn keep_log() {
    let mut logged = all();
    loop {
        tokio::time::sleep(PAUSE).await;
        let now = all();
        if now != logged {
            log();
            logged = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_found_by_its_name_and_shown_once_it_is_not_zero() {
        static FRESH: Count = Count(AtomicU64::new(0));
        assert_eq!(FRESH.shown(), None);
        FRESH.one();
        FRESH.add(2);
        assert_eq!(FRESH.shown(), Some(3));
        ACKS_FORGOTTEN.one();
        let found = all().into_iter().find(|(name, _)| *name == "acks_forgotten");
        assert!(found.is_some_and(|(_, sum)| sum >= 1));
    }

    #[test]
    fn family_has_one_count_or_a_reason_for_each() {
        let families = families();
        let sums: usize = families.iter().map(|family| family.sums.len()).sum();
        assert_eq!(sums, all().len());
        for Family { name, sums, .. } in families {
            let reasons: std::collections::BTreeSet<_> = sums.iter().filter_map(|(reason, _)| *reason).collect();
            assert!(sums.len() == 1 || reasons.len() == sums.len(), "{name}: {sums:?}");
        }
    }
}
