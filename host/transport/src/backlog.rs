//! Admission to a partition: its backlog budget, and each client's share of it.
//!
//! An event is open from its acceptance to its commit. A partition has a budget of open events and of their bytes, and each client a share
//! of it. Up to half of the budget, the share is the configured one. Above that it shrinks for all clients, and the last eighth of the
//! budget is reserved for clients without open events: a new client is accepted under any load.

use plugnode_settings::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Part of the budget above which shares shrink.
const HALF_FULL: f64 = 0.5;
/// Part of the budget above which only clients without open events are accepted.
const NEARLY_FULL: f64 = 0.875;

/// Budgets of open events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Backlog {
    /// Events of one partition that are accepted but not yet committed. Beyond it, reading from clients is slowed.
    #[serde(rename = "backlog")]
    pub events: usize,
    /// Bytes of the events in `backlog`. A larger event is accepted when its partition holds nothing else.
    #[serde(rename = "backlog-bytes", with = "Bytes")]
    pub bytes: usize,
    /// Events of one client within `backlog`; also those of one key of the server API, in all partitions together, at each API node. The
    /// share shrinks for all while the partition is more than half full, and the last eighth is kept for clients with no event in it, so a
    /// busy client cannot shut others out.
    #[serde(rename = "client-backlog")]
    pub client_events: usize,
    /// Bytes of one client's events within `backlog-bytes`.
    #[serde(rename = "client-backlog-bytes", with = "Bytes")]
    pub client_bytes: usize,
}

/// Open events in count and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Number of events.
    pub events: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            events: 10_000,
            bytes: 64_000_000,
            client_events: 256,
            client_bytes: 4_000_000,
        }
    }
}

impl Backlog {
    /// Whether the partition has room for an event of `bytes`.
    pub fn has_room(&self, partition: Load, bytes: usize) -> bool {
        partition.events < self.events && partition.fits(bytes, self.bytes)
    }

    /// Whether the event is within its client's share.
    pub fn is_in_share(&self, partition: Load, client: Load, bytes: usize) -> bool {
        let share = self.share(partition);
        client.events < share.events && client.fits(bytes, share.bytes)
    }

    /// The share of each client while the partition has this load.
    fn share(&self, partition: Load) -> Load {
        let used = |open: usize, most: usize| open as f64 / most as f64;
        let used = used(partition.events, self.events).max(used(partition.bytes, self.bytes));
        let part = ((NEARLY_FULL - used) / (NEARLY_FULL - HALF_FULL)).clamp(0.0, 1.0);
        Load {
            events: ((self.client_events as f64 * part) as usize).max(1),
            bytes: (self.client_bytes as f64 * part) as usize,
        }
    }
}

impl Load {
    /// Adds an event of `bytes` bytes.
    pub fn add(&mut self, bytes: usize) {
        self.events += 1;
        self.bytes += bytes;
    }

    /// Takes off committed events.
    pub fn take_off(&mut self, events: usize, bytes: usize) {
        self.events = self.events.saturating_sub(events);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether `bytes` more fit into `most`, or nothing else is open.
    fn fits(&self, bytes: usize, most: usize) -> bool {
        self.events == 0 || self.bytes.saturating_add(bytes) <= most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKLOG: Backlog = Backlog {
        events: 800,
        bytes: 80_000,
        client_events: 64,
        client_bytes: 6_400,
    };

    fn load(events: usize, bytes: usize) -> Load {
        Load { events, bytes }
    }

    #[test]
    fn shares_shrink_once_a_partition_is_half_full() {
        for (events, bytes, share) in [
            (0, 0, load(64, 6_400)),
            (400, 40_000, load(64, 6_400)),
            (550, 0, load(32, 3_200)),
            (0, 55_000, load(32, 3_200)),
            (700, 0, load(1, 0)),
            (800, 90_000, load(1, 0)),
        ] {
            assert_eq!(
                BACKLOG.share(load(events, bytes)),
                share,
                "{events} events, {bytes} bytes"
            );
        }
    }

    #[test]
    fn event_over_budget_is_accepted_alone() {
        assert!(BACKLOG.has_room(load(0, 0), 1_000_000));
        assert!(!BACKLOG.has_room(load(1, 1), 80_000));
        assert!(BACKLOG.is_in_share(load(700, 0), load(0, 0), 10_000));
        assert!(!BACKLOG.is_in_share(load(1, 10), load(1, 10), 6_391));
        assert!(BACKLOG.is_in_share(load(1, 10), load(1, 10), 6_390));
    }

    #[test]
    fn newcomer_is_accepted_under_any_load() {
        let mut partition = load(0, 0);
        // Each client takes all that it gets and never commits.
        for _ in 0..100 {
            let mut client = load(0, 0);
            while BACKLOG.has_room(partition, 10) && BACKLOG.is_in_share(partition, client, 10) {
                client.add(10);
                partition.add(10);
            }
        }
        assert!(BACKLOG.has_room(partition, 10), "{partition:?}");
    }
}
