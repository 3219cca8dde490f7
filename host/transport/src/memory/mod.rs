//! The transport in memory: for one process, with nothing to install.
//!
//! It keeps every promise of the seam as long as the process lives. One lock guards all state: it makes a commit atomic and gives all
//! outboxes the same order. It is held briefly and never across an await.

mod app_side;
mod buckets;
#[cfg(test)]
mod counted;
mod dead;
mod io_side;
mod nodes;
mod partition;
mod release_store;
mod releases;
mod state;
mod timers;

use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, watch};

use self::state::State;
use super::{
    DeadLetter, DeadLetters, Events, IoNode, IoSession, Leases, Result, RetryResult, Sweep, SweepCursor, Swept,
    Transport, TransportSettings,
};
use plugnode_message::{EventId, KeyValue, KeyValueError, NodeId, Text};

/// The transport in memory. Clones are the same transport.
#[derive(Clone)]
pub struct Memory {
    settings: TransportSettings,
    state: Arc<Mutex<State>>,
    /// Notified when a full outbox was emptied.
    space: Arc<Notify>,
    /// The version of the board.
    version: Arc<watch::Sender<u64>>,
    /// Wakes the task that fires timers.
    timers: Arc<timers::Wake>,
}

impl From<Memory> for Transport {
    fn from(memory: Memory) -> Self {
        Self::of(Arc::new(memory))
    }
}

impl Memory {
    /// An empty transport without members.
    pub fn new(settings: TransportSettings) -> Self {
        let state = State::new(&settings);
        Self {
            settings,
            state: Arc::new(Mutex::new(state)),
            space: Arc::default(),
            version: Arc::default(),
            timers: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

#[async_trait]
impl Events for Memory {
    async fn join_io(&self, node: IoNode) -> Result<IoSession> {
        Ok(io_side::join(self, node))
    }

    async fn join_app(&self, node: NodeId) -> Result<Box<dyn Leases>> {
        Ok(Box::new(app_side::join(self, node)))
    }

    fn outlives_process(&self) -> bool {
        false
    }
}

#[async_trait]
impl DeadLetters for Memory {
    async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter>> {
        let state = self.state();
        let older = state.dead.iter().len().saturating_sub(most);
        Ok(state.dead.iter().skip(older).cloned().collect())
    }

    async fn dead_letter(&self, id: EventId) -> Result<Option<DeadLetter>> {
        Ok(self.state().dead.iter().find(|letter| letter.id == id).cloned())
    }

    async fn retry(&self, dead: EventId) -> Result<RetryResult> {
        Ok(self.state().retry(dead))
    }

    async fn delete(&self, dead: EventId) -> Result<bool> {
        Ok(self.state().dead.remove(dead))
    }

    /// One page has all letters. The lock is taken for each letter separately.
    async fn sweep(&self, sweep: &Sweep, _: Option<SweepCursor>) -> Result<Swept> {
        let (seen, meant) = {
            let state = self.state();
            let meant = state.dead.iter().filter(|letter| sweep.filter.takes(letter));
            (
                state.dead.iter().len(),
                meant.map(|letter| letter.id).collect::<Vec<_>>(),
            )
        };
        let mut swept = Swept {
            seen,
            ..Swept::default()
        };
        for id in meant {
            if sweep.retries {
                let result = self.state().retry(id);
                swept.letters.push((id, Some(result)));
            } else if self.state().dead.remove(id) {
                swept.letters.push((id, None));
            }
        }
        Ok(swept)
    }
}

#[async_trait]
impl KeyValue for Memory {
    async fn get(
        &self,
        bucket: &str,
        keys: &[Text],
        most: usize,
    ) -> std::result::Result<Vec<Option<Bytes>>, KeyValueError> {
        self.state().buckets.get(bucket, keys, most)
    }

    async fn keys(
        &self,
        bucket: &str,
        prefix: &str,
        cursor: u64,
        most: usize,
    ) -> std::result::Result<(Vec<Text>, Option<u64>), KeyValueError> {
        self.state().buckets.keys(bucket, prefix, cursor, most)
    }

    async fn count(&self, bucket: &str) -> std::result::Result<u64, KeyValueError> {
        Ok(self.state().buckets.count(bucket))
    }

    async fn has_answered_since(&self, _: std::time::Instant) -> bool {
        true
    }
}

#[cfg(test)]
crate::conforms! {
    in_memory: super::for_conformance(),
}

#[cfg(test)]
crate::releases_conform! {
    releases_in_memory: super::for_conformance(),
}

/// A transport with the limits that the conformance tests expect.
#[cfg(test)]
async fn for_conformance() -> (Transport, ()) {
    let memory = Memory::new(TransportSettings {
        partitions: super::conformance::PARTITIONS,
        backlog: super::conformance::BUDGETS,
        dead_letters: super::conformance::DEAD_LETTERS,
        bucket_bytes: super::conformance::BUCKET_BYTES,
        timers: super::conformance::TIMERS,
        outbox: super::conformance::OUTBOX,
        max_component: super::releases::conformance::MAX_COMPONENT,
    });
    (memory.into(), ())
}
