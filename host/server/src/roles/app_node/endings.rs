//! What became of events, in the order in which it is to be committed, and what follows once it is.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::app::InHand;
use plugnode_process::metrics;
use plugnode_transport::{Delivery, Lost, Outcome, Verdict};

/// How many outcomes are committed at once.
const BATCH: usize = 256;

/// After so many commits that were lost, an event's turn is kept with the next one that is.
const LOSSES: u32 = 2;

/// An event in hand.
pub(super) struct Taken {
    pub(super) delivery: Delivery,
    pub(super) _in_hand: Option<InHand>,
    /// How often it was tried.
    pub(super) attempts: u32,
    /// The release that had it last.
    pub(super) release: Option<Arc<str>>,
    /// How often its outcome could not be committed, because what it had read had changed.
    pub(super) losses: u32,
    /// How long its turn is to be kept after too many of these.
    pub(super) turn: Duration,
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
        let keep_turn = (taken.losses >= LOSSES).then_some(taken.turn);
        self.endings.push_back(Ending {
            is_dead: matches!(verdict, Verdict::Dead(..)),
            then,
            taken,
        });
        self.outcomes.push_back(Outcome { id, verdict, keep_turn });
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

    /// The call has succeeded, but for what is lost: returns what is committed, and the latter.
    pub(super) fn committed(&mut self, lost: Vec<Lost>) -> (Vec<Ending>, Vec<(Taken, Lost)>) {
        let with_call = self.endings.drain(..std::mem::take(&mut self.with_call));
        let (mut committed, mut again) = (Vec::with_capacity(with_call.len()), Vec::new());
        let mut lost: HashMap<u64, Lost> = lost.into_iter().map(|lost| (lost.id.sequence, lost)).collect();
        for ending in with_call {
            // Most often there are none.
            let lost = match lost.is_empty() {
                true => None,
                false => lost.remove(&ending.taken.delivery.id.sequence),
            };
            match lost {
                Some(lost) => again.push((ending.taken, lost)),
                None => committed.push(ending),
            }
        }
        metrics::DEAD_LETTERS.add(committed.iter().filter(|ending| ending.is_dead).count());
        (committed, again)
    }
}
