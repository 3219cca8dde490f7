//! The app-node's side: its leases, with their logs and commits.

use std::sync::{Arc, MutexGuard};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::state::State;
use super::{Memory, timers};
use crate::{Commits, ConflictedOutcome, Delivery, Lease, Leases, Log, Outcome, Result, TransportError};
use plugnode_message::{AttributePatch, NodeId, Partition};

/// Joins as an app-node.
pub(super) fn join(memory: &Memory, node: NodeId) -> MemoryLeases {
    let news = Arc::<Notify>::default();
    let incarnation = memory.state().join_app(node.clone(), news.clone());
    MemoryLeases {
        memory: memory.clone(),
        node,
        incarnation,
        news,
    }
}

pub(super) struct MemoryLeases {
    memory: Memory,
    node: NodeId,
    incarnation: u64,
    news: Arc<Notify>,
}

#[async_trait]
impl Leases for MemoryLeases {
    async fn next(&mut self) -> Result<Lease> {
        loop {
            if let Some(lease) = self.granted()? {
                return Ok(lease);
            }
            self.news.notified().await;
        }
    }
}

impl MemoryLeases {
    fn granted(&self) -> Result<Option<Lease>> {
        let mut state = self.memory.state();
        let Some(app) = state
            .app_nodes
            .get_mut(&self.node)
            .filter(|app| app.incarnation == self.incarnation)
        else {
            return Err(TransportError::Fenced);
        };
        let Some(partition) = app.granted.pop_front() else {
            return Ok(None);
        };
        let granted = &state.partitions[usize::from(partition.0)];
        let patches = granted
            .patches
            .iter()
            .map(|((namespace, client, number), patch)| AttributePatch {
                namespace: namespace.clone(),
                client: client.clone(),
                number: *number,
                patch: patch.clone(),
            });
        let patches = patches.collect();
        let hold = Arc::new(Hold {
            memory: self.memory.clone(),
            partition,
            epoch: granted.epoch,
        });
        let log = MemoryLog {
            hold: hold.clone(),
            next: granted.first,
            news: granted.news.clone(),
        };
        Ok(Some(Lease {
            partition,
            log: Box::new(log),
            commits: Arc::new(MemoryCommits { hold }),
            patches,
        }))
    }
}

impl Drop for MemoryLeases {
    fn drop(&mut self) {
        self.memory.state().leave_app(&self.node, self.incarnation);
    }
}

/// A lease that is held. Dropping it returns the partition.
struct Hold {
    memory: Memory,
    partition: Partition,
    epoch: u64,
}

impl Hold {
    /// The state, unless another app-node has the lease.
    fn state(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.memory.state();
        if state.partitions[usize::from(self.partition.0)].epoch != self.epoch {
            return Err(TransportError::Fenced);
        }
        Ok(state)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state() {
            state.partitions[usize::from(self.partition.0)].owner = None;
            state.rebalance();
        }
    }
}

struct MemoryLog {
    hold: Arc<Hold>,
    next: u64,
    news: Arc<Notify>,
}

#[async_trait]
impl Log for MemoryLog {
    async fn next(&mut self) -> Result<Option<Vec<Delivery>>> {
        loop {
            {
                let state = self.hold.state()?;
                let partition = &state.partitions[usize::from(self.hold.partition.0)];
                if partition.revoked {
                    return Ok(None);
                }
                let (deliveries, next) = partition.read(self.hold.partition, self.next);
                self.next = next;
                if !deliveries.is_empty() {
                    return Ok(Some(deliveries));
                }
            }
            self.news.notified().await;
        }
    }
}

struct MemoryCommits {
    hold: Arc<Hold>,
}

#[async_trait]
impl Commits for MemoryCommits {
    async fn commit(&self, outcomes: Vec<Outcome>) -> Result<Vec<ConflictedOutcome>> {
        let memory = &self.hold.memory;
        loop {
            // Registered before the check, so that no notification between check and wait is missed.
            let space = memory.space.notified();
            {
                let mut state = self.hold.state()?;
                if state.io_nodes.values().all(|io| io.has_room(memory.settings.outbox)) {
                    let lost = outcomes
                        .into_iter()
                        .filter_map(|outcome| state.commit(outcome))
                        .collect();
                    if state.buckets.take_timers_set() {
                        timers::wake(memory);
                    }
                    return Ok(lost);
                }
            }
            space.await;
        }
    }
}
