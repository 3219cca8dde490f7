//! What a call commits of one partition under one lease.

use std::sync::Arc;

use bytes::Bytes;

use super::{End, Settled, Verdict};
use crate::bytes_of;
use crate::lease::Hold;
use crate::routes::Target;
use plugnode_message::Write;

/// Bytes of an argument beside its value, and of the smaller ones that go with it.
const REST: usize = 48;

pub(super) struct Part {
    pub(super) hold: Arc<Hold>,
    /// What was committed of the partition before,
    pub(super) before: Bytes,
    /// and what is with this call.
    pub(super) after: Bytes,
    pub(super) outcomes: Vec<Settled>,
    /// Events that leave the log before they are committed,
    pub(super) kept: Vec<(u64, Bytes)>,
    /// and those of them that now are.
    pub(super) unkept: Vec<u64>,
    /// Those whose beginning was noted.
    pub(super) unbegun: Vec<u64>,
    /// Fields of patches that are kept no longer.
    pub(super) forgotten: Vec<Bytes>,
    pub(super) verdict: Verdict,
}

impl Part {
    pub(super) fn new(hold: Arc<Hold>) -> Self {
        let before = bytes_of(&*hold.progress());
        Self {
            hold,
            after: before.clone(),
            before,
            outcomes: Vec::new(),
            kept: Vec::new(),
            unkept: Vec::new(),
            unbegun: Vec::new(),
            forgotten: Vec::new(),
            verdict: Verdict::Apply,
        }
    }

    /// Whether it is to go into the next call. What stands for the partition says whether a call was made before, so
    /// each must change that.
    pub(super) fn is_to_apply(&self) -> bool {
        self.verdict == Verdict::Apply && self.after != self.before
    }

    /// Takes what the script says of it.
    pub(super) fn judge(&mut self, verdict: Verdict) {
        self.verdict = verdict;
        self.hold.changed.notify_waiters();
        if verdict == Verdict::Lost {
            // What was counted as committed is not, so nothing else may be committed under this lease.
            self.hold.over.lost.cancel();
        }
    }

    /// Whether all that was to be committed of it is.
    pub(super) fn is_committed(&self) -> bool {
        match self.verdict {
            Verdict::Done => true,
            // There was nothing to do that had not been done before.
            Verdict::Apply => !self.hold.over.lost.is_cancelled(),
            Verdict::Lost => false,
        }
    }

    /// Whether dead letters come of it.
    pub(super) fn puts_aside(&self) -> bool {
        self.outcomes.iter().any(|outcome| !outcome.letter.is_empty())
    }

    /// Adds an outcome, unless its event is committed already.
    pub(super) fn add(&mut self, outcome: Settled) {
        let mut progress = self.hold.progress();
        if let Some(was_kept) = progress.commit(outcome.number) {
            self.unbegun
                .extend(progress.was_begun(outcome.number).then_some(outcome.number));
            drop(progress);
            self.unkept.extend(was_kept.then_some(outcome.number));
            self.forgotten.extend(self.hold.take_forgotten());
            self.outcomes.push(outcome);
        }
    }

    /// Adds an open event that is kept aside from the log.
    pub(super) fn keep(&mut self, number: u64, event: Bytes) {
        self.hold.progress().keep(number);
        self.kept.push((number, event));
    }

    /// Notes what is committed with what was added.
    pub(super) fn close(&mut self) {
        self.after = bytes_of(&*self.hold.progress());
    }
}

impl Settled {
    /// How many bytes it adds to a call, or a few more.
    pub(super) fn weight(&self) -> usize {
        let commands = self.commands.iter().map(|(target, run)| {
            let target = match target {
                Target::All => 1,
                Target::Node(node) => node.as_str().len(),
            };
            REST + target + run.len()
        });
        // One for another shard has the name of its bucket in its value, too.
        let writes = self.writes.iter().map(|Write { bucket, key, value }| {
            REST + 2 * bucket.len() + 2 * key.len() + value.as_ref().map_or(0, Bytes::len)
        });
        let end = match self.end {
            End::None => 0,
            End::Disconnected | End::Refused => REST + self.client.len(),
        };
        let patches = self
            .patches
            .iter()
            .map(|(field, patch)| REST + field.len() + patch.len());
        let io_node = self.io_node.as_ref().map_or(0, |io_node| io_node.as_str().len());
        let settled = REST + self.client.len() + io_node;
        settled
            + end
            + self.letter.len()
            + self.app.len()
            + self.client.len()
            + commands.sum::<usize>()
            + writes.sum::<usize>()
            + patches.sum::<usize>()
    }
}
