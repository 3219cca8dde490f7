//! The verdicts on a partition's events, in commit order, and what follows each commit.

use std::collections::{HashMap, VecDeque};

use super::in_flight::InFlightEvent;
use plugnode_process::metrics;
use plugnode_transport::{ConflictedOutcome, Outcome, Verdict};

/// Number of outcomes in one commit call.
const BATCH: usize = 256;

/// An event that was handled or given up.
pub(super) struct Completion {
    pub(super) event: InFlightEvent,
    pub(super) next: AfterCommit,
    is_dead: bool,
}

/// What follows the commit of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterCommit {
    /// Nothing: its client's next event started before the commit.
    Nothing,
    /// Its client's next event starts. It may read what this one wrote to the key-value store.
    StartNext,
    /// Its client was refused: all that is held of it is dropped.
    ForgetClient,
}

impl AfterCommit {
    fn of(verdict: &Verdict) -> Self {
        match verdict {
            _ if verdict.refuses() => Self::ForgetClient,
            Verdict::Done(effects) if effects.writes.is_empty() => Self::Nothing,
            _ => Self::StartNext,
        }
    }
}

/// The completions of a partition that are not committed, in commit order.
#[derive(Default)]
pub(super) struct Completions {
    /// Those that no call has taken.
    outcomes: VecDeque<Outcome>,
    /// All. The first `in_call` belong to the running call, which owns their outcomes.
    completions: VecDeque<Completion>,
    in_call: usize,
}

impl Completions {
    /// Adds a completion and returns what follows its commit.
    pub(super) fn push(&mut self, event: InFlightEvent, verdict: Verdict) -> AfterCommit {
        let next = AfterCommit::of(&verdict);
        let is_dead = matches!(verdict, Verdict::Dead(..));
        self.outcomes.push_back(Outcome {
            id: event.delivery.id,
            verdict,
            reserve_for: event.key_reservation(),
            forget: event.unneeded_patches.clone(),
        });
        self.completions.push_back(Completion { event, next, is_dead });
        next
    }

    pub(super) fn len(&self) -> usize {
        self.completions.len()
    }

    /// Whether there are outcomes that no call has taken.
    pub(super) fn has_outcomes(&self) -> bool {
        !self.outcomes.is_empty()
    }

    /// Takes the outcomes of the next commit call, if there are any. The call before must have ended.
    pub(super) fn next_call(&mut self) -> Option<Vec<Outcome>> {
        self.in_call = self.outcomes.len().min(BATCH);
        (self.in_call > 0).then(|| self.outcomes.drain(..self.in_call).collect())
    }

    /// Ends the running call, which committed all but the lost ones. Returns both.
    pub(super) fn call_ended(
        &mut self,
        lost: Vec<ConflictedOutcome>,
    ) -> (Vec<Completion>, Vec<(InFlightEvent, ConflictedOutcome)>) {
        let in_call = self.completions.drain(..std::mem::take(&mut self.in_call));
        let (mut committed, mut conflicting) = (Vec::with_capacity(in_call.len()), Vec::new());
        let mut lost: HashMap<u64, ConflictedOutcome> = lost.into_iter().map(|lost| (lost.id.sequence, lost)).collect();
        for completion in in_call {
            // The usual case without a hash lookup.
            let lost = match lost.is_empty() {
                true => None,
                false => lost.remove(&completion.event.sequence()),
            };
            match lost {
                Some(lost) => conflicting.push((completion.event, lost)),
                None => committed.push(completion),
            }
        }
        metrics::DEAD_LETTERS.add(committed.iter().filter(|completion| completion.is_dead).count());
        (committed, conflicting)
    }
}
