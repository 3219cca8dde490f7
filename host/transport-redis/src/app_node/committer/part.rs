//! One partition's part of a commit call, under one lease.

use std::sync::Arc;

use bytes::Bytes;

use crate::app_node::committer::answer::PartVerdict;
use crate::app_node::committer::commit::PreparedOutcome;
use crate::app_node::held_lease::HeldLease;
use crate::arguments::bytes_of;

pub(crate) struct CommitPart {
    pub(crate) held_lease: Arc<HeldLease>,
    /// Progress before the call.
    pub(crate) before: Bytes,
    /// Progress with the call.
    pub(crate) after: Bytes,
    pub(crate) outcomes: Vec<PreparedOutcome>,
    /// Uncommitted events that are set aside from the log.
    pub(crate) set_aside: Vec<(u64, Bytes)>,
    /// Committed events that were set aside.
    pub(crate) no_longer_set_aside: Vec<u64>,
    /// Committed events that were marked as started.
    pub(crate) unmarked: Vec<u64>,
    pub(crate) verdict: PartVerdict,
}

impl CommitPart {
    pub(crate) fn new(held_lease: Arc<HeldLease>) -> Self {
        let before = bytes_of(&*held_lease.progress());
        Self {
            held_lease,
            after: before.clone(),
            before,
            outcomes: Vec::new(),
            set_aside: Vec::new(),
            no_longer_set_aside: Vec::new(),
            unmarked: Vec::new(),
            verdict: PartVerdict::Apply,
        }
    }

    /// Whether it belongs into the next call. The script recognizes a repeated call by the progress, so each part must
    /// change it.
    pub(crate) fn is_to_apply(&self) -> bool {
        self.verdict == PartVerdict::Apply && self.after != self.before
    }

    /// Takes the script's verdict.
    pub(crate) fn judge(&mut self, verdict: PartVerdict) {
        self.verdict = verdict;
        self.held_lease.changed.notify_waiters();
        if verdict == PartVerdict::Lost {
            // The progress in memory is ahead of Redis, so nothing else may be committed under this lease.
            self.held_lease.end.lost.cancel();
        }
    }

    /// Whether all its outcomes are committed.
    pub(crate) fn is_committed(&self) -> bool {
        match self.verdict {
            PartVerdict::Done => true,
            // It was in no call: earlier calls had committed all its outcomes.
            PartVerdict::Apply => !self.held_lease.end.lost.is_cancelled(),
            PartVerdict::Lost => false,
        }
    }

    pub(crate) fn has_dead_letters(&self) -> bool {
        self.outcomes.iter().any(|outcome| !outcome.letter.is_empty())
    }

    /// Adds an outcome, unless its event is committed already.
    pub(crate) fn add(&mut self, outcome: PreparedOutcome) {
        let mut progress = self.held_lease.progress();
        if let Some(was_set_aside) = progress.commit(outcome.number) {
            self.unmarked
                .extend(progress.take_mark(outcome.number).then_some(outcome.number));
            drop(progress);
            self.no_longer_set_aside.extend(was_set_aside.then_some(outcome.number));
            self.outcomes.push(outcome);
        }
    }

    /// Sets an uncommitted event aside from the log.
    pub(crate) fn set_aside(&mut self, number: u64, event: Bytes) {
        self.held_lease.progress().set_aside(number);
        self.set_aside.push((number, event));
    }

    /// Updates `after` to include the added outcomes.
    pub(crate) fn close(&mut self) {
        self.after = bytes_of(&*self.held_lease.progress());
    }
}
