//! Notices that Redis has lost data: a shard that was emptied (FLUSHALL, a restart without AOF), or that is older than it was
//! (a failover to a replica that lacked the last writes).
//!
//! A shard has a data id, a random text that is set with the first heartbeat and returned by every one: another id means
//! other data. The number of its last event only grows: a smaller one means older data. Members compare [`Losses`] with what
//! they were when they joined, and join anew. A loss is told by one error of the process, whatever the number of its
//! members and shards.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::error;

use super::Redis;
use super::keys::Shard;

/// What is known of the data of all shards.
pub(super) struct DataWatch {
    inner: Mutex<Inner>,
}

struct Inner {
    shards: Vec<Known>,
    /// Losses that were noticed and are about to be told.
    untold: Option<Lost>,
    /// The loss that was told last, and when.
    told: Option<(Lost, Instant)>,
}

#[derive(Default)]
struct Known {
    data_id: Option<String>,
    tail: u64,
    /// When the last answer came that is taken into account.
    heard_at: Option<Instant>,
    losses: Losses,
}

/// What a heartbeat tells of the data of its shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DataSeen {
    pub(super) data_id: String,
    /// The number of the last event that was taken in; none where that proves nothing, since writes count later.
    pub(super) tail: Option<u64>,
}

/// How often a shard has lost data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Times that all of it was gone.
    pub(super) emptied: u64,
    /// Times that the latest writes were gone.
    pub(super) set_back: u64,
}

/// A way to lose data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// All data of the shard.
    Emptied,
    /// Its latest writes.
    SetBack,
}

/// The shards that lost data at about the same time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Lost {
    emptied: BTreeSet<u16>,
    set_back: BTreeSet<u16>,
}

impl DataWatch {
    pub(super) fn new(shards: u16) -> Self {
        Self {
            inner: Mutex::new(Inner {
                shards: (0..shards).map(|_| Known::default()).collect(),
                untold: None,
                told: None,
            }),
        }
    }

    /// How often this shard has lost data since the process started.
    pub(super) fn losses(&self, shard: u16) -> Losses {
        self.inner().shards[usize::from(shard)].losses
    }

    /// The number of the last event of a shard, as the last heartbeat told it.
    #[cfg(test)]
    pub(super) fn tail(&self, shard: u16) -> u64 {
        self.inner().shards[usize::from(shard)].tail
    }

    /// Compares what a heartbeat tells with what was known. One that was sent before the last answer came may be older than
    /// that, and says nothing.
    fn hears(&self, shard: u16, sent: Instant, seen: &DataSeen) -> Option<Loss> {
        let mut inner = self.inner();
        let known = &mut inner.shards[usize::from(shard)];
        if known.heard_at.is_some_and(|heard_at| sent < heard_at) {
            return None;
        }
        known.heard_at = Some(Instant::now());
        let before = known.data_id.replace(seen.data_id.clone());
        let tail = std::mem::replace(&mut known.tail, seen.tail.unwrap_or_default());
        let loss = match before {
            None => return None,
            Some(before) if before != seen.data_id => Loss::Emptied,
            Some(_) if seen.tail.is_some_and(|seen| seen < tail) => Loss::SetBack,
            Some(_) => return None,
        };
        match loss {
            Loss::Emptied => known.losses.emptied += 1,
            Loss::SetBack => known.losses.set_back += 1,
        }
        Some(loss)
    }

    /// Notes a loss that is to be told. True for the first of several, which tells them all.
    fn is_first_to_tell(&self, shard: u16, loss: Loss, within: Duration) -> bool {
        let mut inner = self.inner();
        let recent = inner.told.as_ref().filter(|(_, at)| at.elapsed() < within);
        if recent.is_some_and(|(told, _)| told.has(shard, loss)) {
            return false;
        }
        let is_first = inner.untold.is_none();
        inner.untold.get_or_insert_default().add(shard, loss);
        is_first
    }

    fn take_untold(&self) -> Lost {
        let mut inner = self.inner();
        let lost = inner.untold.take().unwrap_or_default();
        inner.told = Some((lost.clone(), Instant::now()));
        lost
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds this lock")
    }
}

impl Lost {
    fn add(&mut self, shard: u16, loss: Loss) {
        match loss {
            Loss::Emptied => self.emptied.insert(shard),
            Loss::SetBack => self.set_back.insert(shard),
        };
    }

    /// Whether it was told already, by this or by a loss that includes it.
    fn has(&self, shard: u16, loss: Loss) -> bool {
        self.emptied.contains(&shard) || loss == Loss::SetBack && self.set_back.contains(&shard)
    }

    fn words(&self, server: &str) -> String {
        if self.emptied.is_empty() {
            return format!(
                "Redis at {server} has lost writes that it had acknowledged, in shards {:?}, as after a failover to a replica \
                 that lacked them: events of the last moments are lost or handled again; this node goes on with what is \
                 there, and clients whose events were lost are disconnected so that they reconnect; to lose nothing, set \
                 [transport] wait-replicas",
                self.set_back
            );
        }
        format!(
            "Redis at {server} has lost its data, in shards {:?}, as after FLUSHALL or a restart without appendonly: \
             accepted events that were not handled, key-value data and dead letters are gone; this node joins anew and goes \
             on with new work, clients are disconnected so that they reconnect, and releases in use are posted again; \
             restore key-value data from a backup if you need them, and set appendonly yes",
            self.emptied
        )
    }
}

/// An id unlike any other, ever.
pub(super) fn random_id() -> String {
    // Each hasher is seeded by the operating system's randomness.
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

impl Redis {
    /// Takes note of what a heartbeat, sent at this time, tells of the data of its shard.
    pub(super) fn hears_of_data(&self, shard: &Shard, sent: Instant, seen: &DataSeen) {
        if let Some(loss) = self.data_watch.hears(shard.number, sent, seen) {
            self.has_lost(shard, loss);
        }
    }

    /// Takes note of writes that a reader of the shard misses.
    pub(super) fn misses_writes(&self, shard: &Shard) {
        self.data_watch.inner().shards[usize::from(shard.number)]
            .losses
            .set_back += 1;
        self.has_lost(shard, Loss::SetBack);
    }

    fn has_lost(&self, shard: &Shard, loss: Loss) {
        let lease = self.settings.lease;
        if self.data_watch.is_first_to_tell(shard.number, loss, lease) {
            let redis = self.clone();
            self.shutdown.spawn(async move {
                // What other shards have lost by the same cause belongs to the same error.
                sleep(lease / 3).await;
                let lost = redis.data_watch.take_untold();
                error!("{}", lost.words(&redis.server.to_string()));
            });
        }
        if loss == Loss::Emptied && shard.number == 0 {
            let redis = self.clone();
            self.shutdown.spawn(async move {
                if let Err(disagreement) = redis.agree().await {
                    error!("after the loss of its data, {disagreement}");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(data_id: &str, tail: u64) -> DataSeen {
        DataSeen {
            data_id: data_id.into(),
            tail: Some(tail),
        }
    }

    #[test]
    fn other_data_or_older_data_is_a_loss() {
        let watch = DataWatch::new(2);
        let hear = |shard, seen: DataSeen| watch.hears(shard, Instant::now(), &seen);
        assert_eq!(hear(0, seen("a", 7)), None, "nothing was known");
        assert_eq!(hear(0, seen("a", 7)), None);
        assert_eq!(hear(0, seen("a", 9)), None);
        assert_eq!(hear(0, seen("a", 8)), Some(Loss::SetBack));
        assert_eq!(hear(0, seen("a", 8)), None, "once");
        assert_eq!(hear(0, seen("b", 100)), Some(Loss::Emptied));
        let unproven = DataSeen {
            tail: None,
            ..seen("b", 0)
        };
        assert_eq!(hear(0, unproven), None);
        assert_eq!(hear(1, seen("c", 0)), None, "shards have ids of their own");
        let losses = Losses {
            emptied: 1,
            set_back: 1,
        };
        assert_eq!(watch.losses(0), losses);
        assert_eq!(watch.losses(1), Losses::default());
    }

    #[test]
    fn late_answer_is_no_loss() {
        let watch = DataWatch::new(1);
        let later = Instant::now() + Duration::from_secs(60);
        let early = Instant::now();
        while Instant::now() == early {}
        assert_eq!(watch.hears(0, Instant::now(), &seen("a", 7)), None);
        assert_eq!(watch.hears(0, later, &seen("b", 1)), Some(Loss::Emptied));
        assert_eq!(watch.hears(0, early, &seen("a", 7)), None);
        assert_eq!(watch.hears(0, later, &seen("b", 2)), None);
    }

    #[test]
    fn losses_of_one_time_are_told_together_and_once() {
        let watch = DataWatch::new(3);
        let lease = Duration::from_secs(60);
        assert!(watch.is_first_to_tell(1, Loss::SetBack, lease));
        assert!(!watch.is_first_to_tell(1, Loss::Emptied, lease));
        assert!(!watch.is_first_to_tell(2, Loss::Emptied, lease));
        let words = watch.take_untold().words("redis://example");
        assert!(words.contains("lost its data, in shards {1, 2}"), "{words}");
        assert!(!watch.is_first_to_tell(2, Loss::SetBack, lease), "it is part of that");
        assert!(watch.is_first_to_tell(0, Loss::SetBack, lease));
        let words = watch.take_untold().words("redis://example");
        assert!(words.contains("lost writes") && words.contains("{0}"), "{words}");
        assert!(!watch.is_first_to_tell(0, Loss::SetBack, lease));
        assert!(
            watch.is_first_to_tell(0, Loss::SetBack, Duration::ZERO),
            "a lease later it is another"
        );
    }
}
