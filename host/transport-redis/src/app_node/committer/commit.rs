//! A request of a partition to the committer: outcomes to commit.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::app_node::held_lease::HeldLease;
use crate::app_node::routes::OutboxTarget;
use crate::wire::CommandRun;
use plugnode_message::{NodeId, Write};
use plugnode_transport::Result;

/// Estimated size of an argument beside its value, with the small ones that go with it, in bytes.
const OVERHEAD: usize = 48;

/// Outcomes of one partition to commit.
pub(crate) struct Commit {
    pub(crate) held_lease: Arc<HeldLease>,
    pub(crate) outcomes: VecDeque<PreparedOutcome>,
    /// Events in flight up to this number are set aside from the log.
    pub(crate) set_aside: Option<u64>,
    /// Other shards that outcomes write to. The writes have arrived there before `done` is answered.
    pub(crate) other_shards: BTreeSet<u16>,
    pub(crate) done: oneshot::Sender<Result<()>>,
}

/// An outcome in its encoded form.
pub(crate) struct PreparedOutcome {
    pub(crate) number: u64,
    /// Size of the event in the log, in bytes.
    pub(crate) bytes: usize,
    /// The io-node that counts the event while it is open.
    pub(crate) io_node: Option<NodeId>,
    /// For whom the event counts, open or as a dead letter: its client, or the caller of the API; empty for nobody.
    pub(crate) account: Bytes,
    pub(crate) end: ClientEnd,
    /// Dead letter; empty for none.
    pub(crate) letter: Bytes,
    /// App of the dead letter; empty for none.
    pub(crate) app: Bytes,
    pub(crate) writes: Vec<Write>,
    /// Attribute patches for the partition's next owner, by their fields.
    pub(crate) patches: Vec<(Bytes, Bytes)>,
    /// Fields of attribute patches that the partition's next owner does not need.
    pub(crate) forgotten_patches: Vec<Bytes>,
    pub(crate) commands: Vec<(OutboxTarget, CommandRun)>,
}

/// Effect of an outcome on the client's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientEnd {
    /// The session continues.
    None,
    /// This was the client's disconnect.
    Disconnected,
    /// The connection was refused, so no further event of the client is delivered.
    Refused,
}

impl PreparedOutcome {
    /// Outcome of an event without client and effects.
    pub(crate) fn nothing(number: u64) -> Self {
        Self {
            number,
            bytes: 0,
            io_node: None,
            account: Bytes::new(),
            end: ClientEnd::None,
            letter: Bytes::new(),
            app: Bytes::new(),
            writes: Vec::new(),
            patches: Vec::new(),
            forgotten_patches: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// Upper estimate of its size in a call, in bytes.
    pub(crate) fn weight(&self) -> usize {
        let commands = self.commands.iter().map(|(destination, run)| {
            let destination = match destination {
                OutboxTarget::All => 1,
                OutboxTarget::Node(node) => node.as_str().len(),
            };
            OVERHEAD + destination + run.len()
        });
        // A write for another shard repeats bucket and key in its value.
        let writes = self.writes.iter().map(|Write { bucket, key, value }| {
            OVERHEAD + 2 * bucket.len() + 2 * key.len() + value.as_ref().map_or(0, Bytes::len)
        });
        let end = match self.end {
            ClientEnd::None => 0,
            ClientEnd::Disconnected | ClientEnd::Refused => OVERHEAD + self.account.len(),
        };
        let patches = self
            .patches
            .iter()
            .map(|(field, patch)| OVERHEAD + field.len() + patch.len());
        let forgotten = self.forgotten_patches.iter().map(|field| OVERHEAD + field.len());
        let io_node = self.io_node.as_ref().map_or(0, |io_node| io_node.as_str().len());
        let settled = OVERHEAD + self.account.len() + io_node;
        settled
            + end
            + self.letter.len()
            + self.app.len()
            + self.account.len()
            + commands.sum::<usize>()
            + writes.sum::<usize>()
            + patches.sum::<usize>()
            + forgotten.sum::<usize>()
    }
}
