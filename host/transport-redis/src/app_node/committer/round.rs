//! A round: commits that go together in one call, limited by count and bytes.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::app_node::committer::commit::{Commit, PreparedOutcome};
use crate::app_node::committer::part::CommitPart;
use crate::app_node::held_lease::HeldLease;
use crate::app_node::progress::DecodedEvent;
use crate::batch;
use crate::wire::encode;
use plugnode_transport::{Result, TransportError};

/// Maximum number of outcomes in one call.
const OUTCOMES: usize = 512;
/// Maximum size of a call in bytes, unless a single outcome is larger. Small enough for a quick answer even if many nodes share
/// a slow network.
const BYTES: usize = 256 << 10;

#[derive(Default)]
pub(crate) struct Round {
    pub(crate) parts: Vec<CommitPart>,
    /// Number of its outcomes and of the events that it sets aside.
    pub(crate) outcomes: usize,
    bytes: usize,
    waiters: Vec<CommitWaiter>,
}

/// Sender of a commit, which waits for its part.
struct CommitWaiter {
    part: usize,
    other_shards: BTreeSet<u16>,
    done: oneshot::Sender<Result<()>>,
}

/// Result for the sender of a commit.
pub(crate) struct CommitNotice {
    is_committed: bool,
    /// Shards that must have their writes before the notice is sent.
    pub(crate) other_shards: BTreeSet<u16>,
    done: oneshot::Sender<Result<()>>,
}

impl CommitNotice {
    pub(crate) fn send(self) {
        // Fails if the partition was given up meanwhile.
        let _ = self
            .done
            .send(self.is_committed.then_some(()).ok_or(TransportError::Fenced));
    }
}

impl Round {
    /// Adds a commit, and returns the rest that does not fit.
    pub(crate) fn add(&mut self, mut commit: Commit) -> Option<Commit> {
        if commit.held_lease.end.lost.is_cancelled() {
            let _ = commit.done.send(Err(TransportError::Fenced));
            return None;
        }
        let part = self.part_of(&commit.held_lease);
        let is_all = self.take(part, &mut commit);
        self.parts[part].close();
        if !is_all {
            return Some(commit);
        }
        let Commit { other_shards, done, .. } = commit;
        self.waiters.push(CommitWaiter {
            part,
            other_shards,
            done,
        });
        None
    }

    /// Results for all senders.
    pub(crate) fn notices(self) -> impl Iterator<Item = CommitNotice> {
        let Self { parts, waiters, .. } = self;
        waiters.into_iter().map(move |waiter| CommitNotice {
            is_committed: parts[waiter.part].is_committed(),
            other_shards: waiter.other_shards,
            done: waiter.done,
        })
    }

    fn part_of(&mut self, held_lease: &Arc<HeldLease>) -> usize {
        let part = self
            .parts
            .iter()
            .position(|part| Arc::ptr_eq(&part.held_lease, held_lease));
        part.unwrap_or_else(|| {
            self.parts.push(CommitPart::new(held_lease.clone()));
            self.parts.len() - 1
        })
    }

    /// Moves as much of a commit into its part as fits, and returns whether that was all.
    fn take(&mut self, part: usize, commit: &mut Commit) -> bool {
        while let Some(bytes) = commit.outcomes.front().map(PreparedOutcome::weight) {
            if !self.reserve(bytes) {
                return false;
            }
            let outcome = commit.outcomes.pop_front().expect("it was just looked at");
            self.parts[part].add(outcome);
        }
        while let Some(up_to) = commit.set_aside {
            let next = commit.held_lease.progress().next_to_set_aside(up_to);
            let Some((number, event)) = next else { break };
            let (version, event) = match event {
                DecodedEvent::Event(event) => (batch::VERSION, encode(&*event)),
                DecodedEvent::Other(version, event) => (version, event),
                DecodedEvent::Broken => break,
            };
            let event = batch::write_as(version, std::iter::once((commit.held_lease.partition, &event)));
            if !self.reserve(event.len()) {
                return false;
            }
            self.parts[part].set_aside(number, event);
        }
        true
    }

    /// Reserves room for one item of this size, if the limits allow it.
    fn reserve(&mut self, bytes: usize) -> bool {
        let has_room = self.outcomes < OUTCOMES && self.bytes + bytes <= BYTES;
        if !has_room && self.outcomes > 0 {
            return false;
        }
        self.outcomes += 1;
        self.bytes += bytes;
        true
    }
}
