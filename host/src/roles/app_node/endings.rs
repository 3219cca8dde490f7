//! What became of events, in the order in which it is to be committed, and what follows once it is.

use std::collections::VecDeque;

use super::app::InHand;
use crate::counts;
use crate::transport::{Delivery, Outcome, Verdict};

/// How many outcomes are committed at once.
const BATCH: usize = 256;

/// An event in hand.
pub(super) struct Taken {
    pub(super) delivery: Delivery,
    pub(super) _in_hand: Option<InHand>,
}

/// An event that has come to its end.
pub(super) struct Ending {
    pub(super) taken: Taken,
    pub(super) then: Then,
    is_dead: bool,
}

/// What follows the commit of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing: its client's next event does not wait for it.
    Nothing,
    /// Its client's next event starts.
    Next,
    /// Its client is forgotten, for it was refused.
    Refused,
}

impl Then {
    /// What a client's next event reads of the key-value store is to be there before it starts.
    fn of(verdict: &Verdict) -> Self {
        match verdict {
            _ if verdict.refuses() => Self::Refused,
            Verdict::Done(effects) if effects.writes.is_empty() => Self::Nothing,
            _ => Self::Next,
        }
    }
}

/// The ends of a partition's events that are not committed.
#[derive(Default)]
pub(super) struct Endings {
    outcomes: VecDeque<Outcome>,
    /// Those that are with a call come first; it has their outcomes.
    endings: VecDeque<Ending>,
    with_call: usize,
}

impl Endings {
    /// Adds one, and says what follows its commit.
    pub(super) fn add(&mut self, taken: Taken, verdict: Verdict) -> Then {
        let id = taken.delivery.id;
        let then = Then::of(&verdict);
        self.endings.push_back(Ending {
            is_dead: matches!(verdict, Verdict::Dead(..)),
            then,
            taken,
        });
        self.outcomes.push_back(Outcome { id, verdict });
        then
    }

    /// How many events there are.
    pub(super) fn count(&self) -> usize {
        self.endings.len()
    }

    /// Whether there are outcomes that are not with a call.
    pub(super) fn is_one_due(&self) -> bool {
        !self.outcomes.is_empty()
    }

    /// The outcomes that go with the next call, if there are any. The one before it has to be over.
    pub(super) fn next_call(&mut self) -> Option<Vec<Outcome>> {
        self.with_call = self.outcomes.len().min(BATCH);
        (self.with_call > 0).then(|| self.outcomes.drain(..self.with_call).collect())
    }

    /// The call has succeeded.
    pub(super) fn committed(&mut self) -> Vec<Ending> {
        let committed: Vec<_> = self.endings.drain(..std::mem::take(&mut self.with_call)).collect();
        counts::DEAD_LETTERS.add(committed.iter().filter(|ending| ending.is_dead).count());
        committed
    }
}
