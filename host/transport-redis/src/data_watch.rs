//! Detects that Redis has lost data: a shard that was emptied (FLUSHALL, a restart without AOF) or set back (a failover to a
//! replica that lacked the last writes).
//!
//! Each shard has a random data id, set by the first heartbeat and returned by all: a different id means emptied. The number of
//! its last event only grows: a smaller one means set back. Members compare [`LossCounts`] with those at their join, and
//! join anew after a change.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// Last known state of the data of all shards.
pub(crate) struct DataWatch {
    inner: Mutex<State>,
}

struct State {
    shards: Vec<ShardState>,
    /// Detected losses that the next error will report.
    unreported: Option<LostShards>,
    /// Losses of the last error, and its time.
    reported: Option<(LostShards, Instant)>,
}

#[derive(Default)]
struct ShardState {
    data_id: Option<String>,
    tail: u64,
    /// Arrival time of the last answer that was taken into account.
    observed_at: Option<Instant>,
    losses: LossCounts,
}

/// State of a shard's data in the answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DataState {
    pub(crate) data_id: String,
    /// Number of the last event in the log; none with a configured durability, because unconfirmed events may be dropped.
    pub(crate) tail: Option<u64>,
}

/// Number of data losses of a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LossCounts {
    /// Times that all data were lost.
    pub(crate) emptied: u64,
    /// Times that the latest writes were lost.
    pub(crate) set_back: u64,
}

/// Kind of a data loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataLoss {
    /// All data of the shard.
    Emptied,
    /// Its latest writes.
    SetBack,
}

/// Shards that lost data at about the same time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LostShards {
    emptied: BTreeSet<u16>,
    set_back: BTreeSet<u16>,
}

impl DataWatch {
    pub(crate) fn new(shards: u16) -> Self {
        Self {
            inner: Mutex::new(State {
                shards: (0..shards).map(|_| ShardState::default()).collect(),
                unreported: None,
                reported: None,
            }),
        }
    }

    /// Data losses of a shard since the process started.
    pub(crate) fn losses(&self, shard: u16) -> LossCounts {
        self.inner().shards[usize::from(shard)].losses
    }

    /// Number of the last event of a shard in the last heartbeat.
    #[cfg(test)]
    pub(crate) fn tail(&self, shard: u16) -> u64 {
        self.inner().shards[usize::from(shard)].tail
    }

    /// Counts one loss of the latest writes.
    pub(crate) fn count_missing_writes(&self, shard: u16) {
        self.inner().shards[usize::from(shard)].losses.set_back += 1;
    }

    /// Compares the state in an answer with the last known one. An answer is ignored if its heartbeat was sent before the last
    /// answer arrived, because it may be older than that.
    pub(crate) fn observe(&self, shard: u16, sent: Instant, seen: &DataState) -> Option<DataLoss> {
        let mut inner = self.inner();
        let known = &mut inner.shards[usize::from(shard)];
        if known.observed_at.is_some_and(|observed_at| sent < observed_at) {
            return None;
        }
        known.observed_at = Some(Instant::now());
        let before = known.data_id.replace(seen.data_id.clone());
        let tail = std::mem::replace(&mut known.tail, seen.tail.unwrap_or_default());
        let loss = match before {
            None => return None,
            Some(before) if before != seen.data_id => DataLoss::Emptied,
            Some(_) if seen.tail.is_some_and(|seen| seen < tail) => DataLoss::SetBack,
            Some(_) => return None,
        };
        match loss {
            DataLoss::Emptied => known.losses.emptied += 1,
            DataLoss::SetBack => known.losses.set_back += 1,
        }
        Some(loss)
    }

    /// Adds a loss to the next error. True for the first one, whose caller reports them all; false also if the last error,
    /// within this time, has reported it.
    pub(crate) fn is_first_to_report(&self, shard: u16, loss: DataLoss, within: Duration) -> bool {
        let mut inner = self.inner();
        let recent = inner.reported.as_ref().filter(|(_, at)| at.elapsed() < within);
        if recent.is_some_and(|(reported, _)| reported.has(shard, loss)) {
            return false;
        }
        let is_first = inner.unreported.is_none();
        inner.unreported.get_or_insert_default().add(shard, loss);
        is_first
    }

    /// Takes the losses of the next error.
    pub(crate) fn take_unreported(&self) -> LostShards {
        let mut inner = self.inner();
        let lost = inner.unreported.take().unwrap_or_default();
        inner.reported = Some((lost.clone(), Instant::now()));
        lost
    }

    fn inner(&self) -> MutexGuard<'_, State> {
        self.inner.lock().expect("nothing panics while it holds this lock")
    }
}

impl LostShards {
    fn add(&mut self, shard: u16, loss: DataLoss) {
        match loss {
            DataLoss::Emptied => self.emptied.insert(shard),
            DataLoss::SetBack => self.set_back.insert(shard),
        };
    }

    /// Whether it includes this loss: an emptied shard has lost its latest writes, too.
    fn has(&self, shard: u16, loss: DataLoss) -> bool {
        self.emptied.contains(&shard) || loss == DataLoss::SetBack && self.set_back.contains(&shard)
    }

    pub(crate) fn describe(&self, server: &str) -> String {
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
            "Redis at {server} has lost its data of shards {:?}, as after FLUSHALL or a restart without appendonly: \
             unhandled events, key-value data and dead letters are gone; this node joins the cluster again, disconnects its \
             clients so that they reconnect, and posts the releases in use again; restore key-value data from a backup if you \
             need it, and set appendonly yes in Redis",
            self.emptied
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(data_id: &str, tail: u64) -> DataState {
        DataState {
            data_id: data_id.into(),
            tail: Some(tail),
        }
    }

    #[test]
    fn other_data_id_or_smaller_tail_is_a_loss() {
        let watch = DataWatch::new(2);
        let hear = |shard, seen: DataState| watch.observe(shard, Instant::now(), &seen);
        assert_eq!(hear(0, seen("a", 7)), None, "nothing was known");
        assert_eq!(hear(0, seen("a", 7)), None);
        assert_eq!(hear(0, seen("a", 9)), None);
        assert_eq!(hear(0, seen("a", 8)), Some(DataLoss::SetBack));
        assert_eq!(hear(0, seen("a", 8)), None, "once");
        assert_eq!(hear(0, seen("b", 100)), Some(DataLoss::Emptied));
        let unproven = DataState {
            tail: None,
            ..seen("b", 0)
        };
        assert_eq!(hear(0, unproven), None);
        assert_eq!(hear(1, seen("c", 0)), None, "shards have ids of their own");
        let losses = LossCounts {
            emptied: 1,
            set_back: 1,
        };
        assert_eq!(watch.losses(0), losses);
        assert_eq!(watch.losses(1), LossCounts::default());
    }

    #[test]
    fn ignores_answer_older_than_the_last() {
        let watch = DataWatch::new(1);
        let later = Instant::now() + Duration::from_secs(60);
        let early = Instant::now();
        while Instant::now() == early {}
        assert_eq!(watch.observe(0, Instant::now(), &seen("a", 7)), None);
        assert_eq!(watch.observe(0, later, &seen("b", 1)), Some(DataLoss::Emptied));
        assert_eq!(watch.observe(0, early, &seen("a", 7)), None);
        assert_eq!(watch.observe(0, later, &seen("b", 2)), None);
    }

    #[test]
    fn reports_losses_of_one_time_together_and_once() {
        let watch = DataWatch::new(3);
        let lease = Duration::from_secs(60);
        assert!(watch.is_first_to_report(1, DataLoss::SetBack, lease));
        assert!(!watch.is_first_to_report(1, DataLoss::Emptied, lease));
        assert!(!watch.is_first_to_report(2, DataLoss::Emptied, lease));
        let words = watch.take_unreported().describe("redis://example");
        assert!(words.contains("lost its data of shards {1, 2}"), "{words}");
        assert!(
            !watch.is_first_to_report(2, DataLoss::SetBack, lease),
            "it is part of that"
        );
        assert!(watch.is_first_to_report(0, DataLoss::SetBack, lease));
        let words = watch.take_unreported().describe("redis://example");
        assert!(words.contains("lost writes") && words.contains("{0}"), "{words}");
        assert!(!watch.is_first_to_report(0, DataLoss::SetBack, lease));
        assert!(
            watch.is_first_to_report(0, DataLoss::SetBack, Duration::ZERO),
            "a lease later it is another"
        );
    }
}
