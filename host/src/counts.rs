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

macro_rules! counts {
    ($($(#[$doc:meta])* $count:ident as $name:ident,)*) => {
        $(
            $(#[$doc])*
            pub static $count: Count = Count(AtomicU64::new(0));
        )*

        /// Every count by its name.
        pub fn all() -> Vec<(&'static str, u64)> {
            vec![$((stringify!($name), $count.get())),*]
        }

        /// Writes a line with every count that is not zero.
        pub fn log() {
            tracing::info!($($name = $count.shown(),)* "counts");
        }
    };
}

counts! {
    /// Events that the transport accepted.
    EVENTS_ACCEPTED as events_accepted,
    /// Events that the transport refused because of a full backlog; each is offered again, and counted each time.
    EVENTS_PUT_OFF as events_put_off,
    /// Events that were refused to their client, whose acknowledgement was answered with the error `overloaded`.
    EVENTS_OVERLOADED as events_overloaded,
    /// Clients that were turned away because their connection could not be accepted in time.
    CLIENTS_TURNED_AWAY as clients_turned_away,
    /// Clients that were refused by a handler, or for want of its verdict.
    CLIENTS_REFUSED as clients_refused,
    /// Subscriptions that were refused because a client had too many.
    SUBSCRIPTIONS_REFUSED as subscriptions_refused,
    /// Clients that were disconnected because they did not read what was sent to them.
    CLIENTS_SLOW as clients_slow,
    /// Sessions that were closed because they sent far more than was accepted.
    SESSIONS_FLOODING as sessions_flooding,
    /// Connections that were closed because of a malformed packet.
    PACKETS_MALFORMED as packets_malformed,
    /// Acknowledgements that were given up because their client waited for too many.
    ACKS_FORGOTTEN as acks_forgotten,
    /// Changes of attributes that were refused.
    PATCHES_REFUSED as patches_refused,
    /// Commands that this version does not know or has no taker for.
    COMMANDS_DROPPED as commands_dropped,
    /// Replies to clients that are gone, dropped because too much waited to be accepted.
    REPLIES_DROPPED as replies_dropped,
    /// Connections over `max-connections`.
    CONNECTIONS_REFUSED as connections_refused,
    /// Requests that were refused because they came from pages of other sites.
    PAGES_REFUSED as pages_refused,
    /// Sessions that were refused because their address had or opened too many.
    ADDRESSES_REFUSED as addresses_refused,
    /// Clients that were refused because of their token, or for want of one.
    TOKENS_REFUSED as tokens_refused,
    /// Sessions that were refused while this io-node had not joined the cluster.
    SESSIONS_REFUSED as sessions_refused,
    /// Times that this process lost its place in the cluster and joined anew.
    PLACES_LOST as places_lost,
    /// Attempts at events that came to nothing because the key-value store was away.
    STORE_UNAVAILABLE as store_unavailable,
    /// Times that an event was handled again because something that it had read of the key-value store had changed before
    /// its effects were committed.
    EVENTS_HANDLED_AGAIN as events_handled_again,
    /// Events that were put aside.
    DEAD_LETTERS as dead_letters,
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
}
