//! A release on trial: its pools, and the share of events that it gets.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

use super::release_stats::ReleaseStats;
use plugnode_message::Partition;
use plugnode_release::Digest;
use plugnode_runtime::{Component, Job, Pool};

/// Number of events that a candidate must handle successfully.
const FIRST_EVENTS: u32 = 3;

/// A release on trial. It may replace the one in use.
pub(super) struct Candidate {
    pub(super) number: u64,
    pub(super) component: Component,
    /// Handles the candidate's share of events. Its instances end with the trial.
    pub(super) trial_pool: Arc<Pool>,
    /// The pool that will replace the one in use.
    pub(super) successor: Arc<Pool>,
    pub(super) stats: ReleaseStats,
    share: RwLock<Share>,
    answered: AtomicU32,
    /// Why it cannot be used: its failure of the first event that the release in use then handled.
    failure: OnceLock<String>,
}

/// The events that a candidate gets.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Share {
    /// None.
    None,
    /// First events, while instances of the trial pool are idle.
    FirstEvents,
    /// All events of some partitions.
    Partitions(BTreeSet<Partition>),
    /// As with `FirstEvents`. It is current in the cluster already, and only has to prove itself here.
    All,
}

impl Candidate {
    pub(super) fn new(number: u64, component: Component, trial_pool: Arc<Pool>, successor: Arc<Pool>) -> Self {
        Self {
            number,
            component,
            trial_pool,
            successor,
            stats: ReleaseStats::new(),
            share: RwLock::new(Share::None),
            answered: AtomicU32::new(0),
            failure: OnceLock::new(),
        }
    }

    pub(super) fn digest(&self) -> &Digest {
        self.component.digest()
    }

    /// Sets the share of further events. True if it changed.
    pub(super) fn set_share(&self, share: Share) -> bool {
        let mut present = self.share.write();
        let is_change = *present != share;
        *present = share;
        is_change
    }

    /// Submits a job if it is in the candidate's share, else returns it.
    pub(super) fn offer(&self, job: Job) -> Result<(), Job> {
        // A failed candidate gets no more events.
        if self.failure.get().is_some() {
            return Err(job);
        }
        let on_trial = |job| Job {
            on_trial: Some(self.number),
            ..job
        };
        match &*self.share.read() {
            Share::None => Err(job),
            // No event waits for a candidate that is not proven.
            Share::FirstEvents | Share::All => {
                let submitted = self.trial_pool.submit_if_idle(on_trial(job));
                submitted.map_err(|job| Job { on_trial: None, ..job })
            }
            Share::Partitions(partitions) if !partitions.contains(&job.id.partition) => Err(job),
            Share::Partitions(..) => {
                self.trial_pool.submit(on_trial(job));
                Ok(())
            }
        }
    }

    /// Whether it is current in the cluster, and only has to prove itself here.
    pub(super) fn has_all_events(&self) -> bool {
        *self.share.read() == Share::All
    }

    /// Whether it is compared with the release in use by failure rate and latency. Single failures do not end a canary.
    pub(super) fn is_canary(&self) -> bool {
        matches!(*self.share.read(), Share::Partitions(..))
    }

    /// Notes that it has handled an event. True if that proves it.
    pub(super) fn add_answered(&self) -> bool {
        self.answered.fetch_add(1, Ordering::AcqRel) + 1 == FIRST_EVENTS
    }

    pub(super) fn is_proven(&self) -> bool {
        self.answered.load(Ordering::Acquire) >= FIRST_EVENTS
    }

    /// Notes that it failed an event that the release in use then handled. True if the candidate is given up for that.
    pub(super) fn set_failed(&self, reason: String) -> bool {
        !self.is_canary() && self.failure.set(reason).is_ok()
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }
}
