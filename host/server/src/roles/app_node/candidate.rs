//! A release that is to take the place of the one in use, and which events it is given until then.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, RwLock};

use super::tally::Tally;
use plugnode_message::Partition;
use plugnode_release::Digest;
use plugnode_runtime::{Component, Job, Pool};

/// So many first events have to be answered.
const FIRST_EVENTS: u32 = 3;

/// A release on trial.
pub(super) struct Candidate {
    pub(super) number: u64,
    pub(super) component: Component,
    /// Handles what the candidate is given on trial. Its instances end with the trial.
    pub(super) trial: Arc<Pool>,
    /// Waits to take the place of the pool in use.
    pub(super) heir: Arc<Pool>,
    pub(super) tally: Tally,
    share: RwLock<Share>,
    answered: AtomicU32,
    /// Why it cannot be used: the first event that it failed and the release in use did not.
    failure: OnceLock<String>,
}

/// The events that a candidate is given.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Share {
    /// None.
    Nothing,
    /// One at a time.
    First,
    /// Those of some partitions.
    Partitions(BTreeSet<Partition>),
    /// All that it can take at once.
    Everything,
}

impl Candidate {
    pub(super) fn new(number: u64, component: Component, trial: Arc<Pool>, heir: Arc<Pool>) -> Self {
        Self {
            number,
            component,
            trial,
            heir,
            tally: Tally::new(),
            share: RwLock::new(Share::Nothing),
            answered: AtomicU32::new(0),
            failure: OnceLock::new(),
        }
    }

    pub(super) fn digest(&self) -> &Digest {
        self.component.digest()
    }

    /// Gives it other events from now on, and says whether that is a change.
    pub(super) fn give(&self, share: Share) -> bool {
        let mut present = self.share.write().expect("nothing panics while it holds this lock");
        let is_change = *present != share;
        *present = share;
        is_change
    }

    /// Hands it an event that it is to have, or gives that back.
    pub(super) fn take(&self, job: Job) -> Result<(), Job> {
        // One that has failed gets no more.
        if self.failure.get().is_some() {
            return Err(job);
        }
        let on_trial = |job| Job {
            on_trial: Some(self.number),
            ..job
        };
        let share = self.share.read().expect("nothing panics while it holds this lock");
        match &*share {
            Share::Nothing => Err(job),
            // As long as it is not proven, nobody waits for it.
            Share::First | Share::Everything => {
                let taken = self.trial.submit_if_idle(on_trial(job));
                taken.map_err(|job| Job { on_trial: None, ..job })
            }
            Share::Partitions(own) if !own.contains(&job.id.partition) => Err(job),
            Share::Partitions(..) => {
                self.trial.submit(on_trial(job));
                Ok(())
            }
        }
    }

    /// Whether it has all events already, and only has to prove itself.
    pub(super) fn has_everything(&self) -> bool {
        let share = self.share.read().expect("nothing panics while it holds this lock");
        *share == Share::Everything
    }

    /// Whether single failures are weighed, and not each taken for the end.
    pub(super) fn is_compared(&self) -> bool {
        let share = self.share.read().expect("nothing panics while it holds this lock");
        matches!(*share, Share::Partitions(..))
    }

    /// It has answered an event. True when it is proven by that.
    pub(super) fn answered(&self) -> bool {
        self.answered.fetch_add(1, Ordering::AcqRel) + 1 == FIRST_EVENTS
    }

    pub(super) fn is_proven(&self) -> bool {
        self.answered.load(Ordering::Acquire) >= FIRST_EVENTS
    }

    /// It has failed an event that the release in use has handled since. True when it is given up for that.
    pub(super) fn blame(&self, reason: String) -> bool {
        !self.is_compared() && self.failure.set(reason).is_ok()
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }
}
