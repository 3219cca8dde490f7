//! An app on this node: the release in use, perhaps another on trial, and which of them an event goes to.
//!
//! An event that fails on trial is tried again by the release in use, at once and without that counting as an attempt: a
//! release that is no good costs nobody an event.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::info;

use super::candidate::Candidate;
use super::tally::Tally;
use plugnode_message::{Namespace, SessionId};
use plugnode_process::metrics;
use plugnode_release::{AppReport, Digest, Progress, Stage};
use plugnode_runtime::{AppSettings, Component, Dispatch, Job, Pool};

/// An app on this node.
pub(super) struct App {
    pub(super) settings: AppSettings,
    generations: RwLock<Generations>,
    /// How far the node is with a release that is to be taken into use.
    stage: Mutex<Option<(u64, Stage)>>,
    /// Told when the candidate is proven or has failed.
    pub(super) changes: Notify,
    /// Told when there is something new to report.
    pub(super) reports: Notify,
    in_hand: AtomicU64,
}

struct Generations {
    in_use: Arc<Generation>,
    candidate: Option<Arc<Candidate>>,
    /// The component that was in use before, compiled as it is, so that going back to it takes no time.
    before: Option<Component>,
}

impl Generations {
    /// Ends the trial, and returns what the candidate has not begun.
    fn end_trial(&mut self) -> impl Iterator<Item = Job> + use<> {
        let waiting = self.candidate.take().map(|candidate| candidate.trial.retire());
        let on_trial_no_more = |job| Job { on_trial: None, ..job };
        waiting.into_iter().flatten().map(on_trial_no_more)
    }

    /// The candidate, if it is of this number.
    fn candidate(&self, number: u64) -> Option<&Candidate> {
        self.candidate.as_deref().filter(|candidate| candidate.number == number)
    }

    fn is_in_use(&self, release: &str) -> bool {
        self.in_use.component.digest().short() == release
    }
}

/// A loaded release that is, or was, in use.
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) component: Component,
    pub(super) pool: Arc<Pool>,
    pub(super) tally: Tally,
    /// Whether it has answered an event.
    has_answered: AtomicBool,
    /// Why an event failed, if that was before it had answered any.
    first_failure: OnceLock<String>,
}

impl Generation {
    pub(super) fn new(number: u64, component: Component, pool: Arc<Pool>) -> Self {
        Self {
            number,
            component,
            pool,
            tally: Tally::new(),
            has_answered: AtomicBool::new(false),
            first_failure: OnceLock::new(),
        }
    }

    /// It has answered an event, and says whether that is news.
    pub(super) fn answered(&self) -> bool {
        // Most of the time it is none, and then nothing is written.
        !self.has_answered() && !self.has_answered.swap(true, Ordering::Relaxed)
    }

    fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }
}

/// An event that was read and is not committed.
pub(super) struct InHand(Arc<App>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.in_hand.fetch_sub(1, Ordering::Relaxed);
        metrics::EVENTS_IN_HAND.decrement();
    }
}

/// What had an event, and for how long.
pub(super) struct By {
    /// The release, by its short digest.
    pub(super) release: Arc<str>,
    /// Its number, if it had the event on trial.
    pub(super) on_trial: Option<u64>,
    pub(super) took: Duration,
}

/// An event that is for the release in use, since another has had it.
#[derive(Debug, Clone)]
pub(super) struct Tried {
    /// The candidate that had it. None when that was a release on its way out.
    candidate: Option<u64>,
    /// Why that one could not handle it. None when it could, and what it did was for trial alone.
    failure: Option<String>,
}

impl App {
    pub(super) fn new(settings: AppSettings, in_use: Generation) -> Self {
        Self {
            settings,
            generations: RwLock::new(Generations {
                in_use: Arc::new(in_use),
                candidate: None,
                before: None,
            }),
            stage: Mutex::default(),
            changes: Notify::new(),
            reports: Notify::new(),
            in_hand: AtomicU64::new(0),
        }
    }

    /// Hands an event to the candidate, if that is to have it and nobody has tried it, or to the release in use. The lock is
    /// held meanwhile, so that no event reaches a pool that retired.
    pub(super) fn submit(&self, job: Job, was_tried: bool) {
        let generations = self.generations();
        let job = match &generations.candidate {
            Some(candidate) if !was_tried => match candidate.take(job) {
                Ok(()) => return,
                Err(job) => job,
            },
            _ => job,
        };
        generations.in_use.pool.submit(job);
    }

    /// An event was handled, after `tried`. When that does not count, it is the turn of the release in use.
    pub(super) fn handled(&self, by: &By, tried: Option<Tried>) -> Option<Tried> {
        let generations = self.generations();
        if let Some(number) = by.on_trial {
            if let Some(candidate) = generations.candidate(number) {
                candidate.tally.count(by.took, true);
                if candidate.answered() {
                    self.changes.notify_one();
                }
            }
            let failure = None;
            let candidate = Some(number);
            // What a canary does counts.
            let is_canary = generations
                .candidate(number)
                .is_some_and(|candidate| candidate.is_compared());
            let is_rehearsal = self.is_rehearsed() && !is_canary;
            return is_rehearsal.then_some(Tried { candidate, failure });
        }
        if generations.is_in_use(&by.release) {
            generations.in_use.tally.count(by.took, true);
            if generations.in_use.answered() {
                self.reports.notify_one();
            }
        }
        let Tried { candidate, failure } = tried?;
        if let (Some(candidate), Some(failure)) = (generations.candidate(candidate?), failure) {
            candidate.tally.has_failed();
            if candidate.blame(failure) {
                self.changes.notify_one();
            }
        }
        None
    }

    /// An event failed. Unless that was with the release in use, it is that one's turn.
    pub(super) fn failed(&self, by: &By, reason: impl ToString) -> Option<Tried> {
        let generations = self.generations();
        match by.on_trial {
            Some(number) => {
                if let Some(candidate) = generations.candidate(number) {
                    // Whether that is its own fault is said by the release in use.
                    candidate.tally.count(by.took, true);
                }
            }
            None if generations.is_in_use(&by.release) => {
                let in_use = &generations.in_use;
                in_use.tally.count(by.took, false);
                if !in_use.has_answered() && in_use.first_failure.set(reason.to_string()).is_ok() {
                    self.reports.notify_one();
                }
                return None;
            }
            None => {}
        }
        Some(Tried {
            candidate: by.on_trial,
            failure: Some(reason.to_string()),
        })
    }

    /// Whether what a candidate does with its first events is for trial alone. Instances that keep what they know of their
    /// clients would otherwise miss these.
    fn is_rehearsed(&self) -> bool {
        self.settings.dispatch == Dispatch::Sticky || self.settings.instances == 1
    }

    /// Whether its handler is native Rust, which has no releases.
    pub(super) fn is_native(&self) -> bool {
        self.generations().in_use.component.is_native()
    }

    /// The release in use.
    pub(super) fn in_use(&self) -> Arc<Generation> {
        self.generations().in_use.clone()
    }

    /// The release on trial.
    pub(super) fn candidate(&self) -> Option<Arc<Candidate>> {
        self.generations().candidate.clone()
    }

    /// Puts a release on trial. It is given nothing yet.
    pub(super) fn try_out(&self, candidate: Candidate) {
        self.dismiss();
        let mut generations = self.generations_mut();
        generations.in_use.tally.reset();
        generations.candidate = Some(Arc::new(candidate));
    }

    /// Ends a trial: what the candidate has not begun goes to the release in use.
    pub(super) fn dismiss(&self) {
        let mut generations = self.generations_mut();
        for job in generations.end_trial() {
            generations.in_use.pool.submit(job);
        }
    }

    /// Puts another generation in the place of the one in use, between events, and ends the trial if there is one. Events
    /// being handled are finished where they are; all others go to the new generation. Returns what is not kept any more.
    pub(super) fn swap(&self, new: Generation) -> Option<Component> {
        let mut generations = self.generations_mut();
        let new = Arc::new(new);
        let old = std::mem::replace(&mut generations.in_use, new.clone());
        let forgotten = generations.before.replace(old.component.clone());
        let tried = generations.end_trial();
        let waiting = old.pool.hand_over(&new.pool);
        for job in waiting.into_iter().chain(tried) {
            new.pool.submit(job);
        }
        drop(generations);
        info!(
            app = %self.settings.namespace,
            release = new.number,
            component = new.component.release(),
            before = old.number,
            "release taken into use"
        );
        forgotten
    }

    /// Another number for the component in use.
    pub(super) fn renumber(&self, number: u64) {
        let mut generations = self.generations_mut();
        let before = &generations.in_use;
        let renumbered = Generation::new(number, before.component.clone(), before.pool.clone());
        renumbered.has_answered.store(before.has_answered(), Ordering::Relaxed);
        generations.in_use = Arc::new(renumbered);
    }

    /// Says how far this node is with a release.
    pub(super) fn set_stage(&self, stage: Option<(u64, Stage)>) {
        let mut present = self.stage.lock().expect("nothing panics while it holds this lock");
        if *present != stage {
            *present = stage;
            self.reports.notify_one();
        }
    }

    /// What this node tells of the app.
    pub(super) fn report(&self) -> AppReport {
        let (in_use, candidate) = {
            let generations = self.generations();
            (generations.in_use.clone(), generations.candidate.clone())
        };
        let stage = self
            .stage
            .lock()
            .expect("nothing panics while it holds this lock")
            .clone();
        let progress = stage.map(|(release, stage)| {
            let candidate = candidate.as_ref().filter(|candidate| candidate.number == release);
            let counts = candidate.map(|candidate| candidate.tally.counts(candidate.is_compared()));
            Progress {
                release,
                stage,
                counts: counts.unwrap_or_default(),
            }
        });
        let is_compared = candidate.as_ref().is_some_and(|candidate| candidate.is_compared());
        let has_everything = candidate.as_ref().filter(|candidate| candidate.has_everything());
        let (release, component, pool) = match has_everything {
            Some(candidate) => (candidate.number, &candidate.component, None),
            None => (in_use.number, &in_use.component, Some(&in_use.pool)),
        };
        AppReport {
            release,
            digest: component.digest().clone(),
            instances: self.settings.instances,
            in_hand: self.in_hand.load(Ordering::Relaxed),
            counts: in_use.tally.counts(is_compared),
            progress,
            has_answered: has_everything.is_none() && in_use.has_answered(),
            first_failure: match has_everything.is_none() && !in_use.has_answered() {
                true => in_use.first_failure.get().cloned(),
                false => None,
            },
            have_begun: pool.is_none_or(|pool| pool.is_started()),
            states_refused: pool.map(|pool| pool.states_refused()).unwrap_or_default(),
        }
    }

    /// Lets all instances go.
    pub(super) fn retire(&self) {
        let generations = self.generations();
        drop(generations.in_use.pool.retire());
        if let Some(candidate) = &generations.candidate {
            drop(candidate.trial.retire());
        }
    }

    /// Forgets a client, whose disconnect has been committed.
    pub(super) fn forget(&self, namespace: &Namespace, client: &SessionId) {
        let generations = self.generations();
        generations.in_use.pool.forget(namespace, client);
        if let Some(candidate) = &generations.candidate {
            candidate.trial.forget(namespace, client);
        }
    }

    /// Counts an event as in hand until what is returned is dropped.
    pub(super) fn take_in_hand(self: &Arc<Self>) -> InHand {
        self.in_hand.fetch_add(1, Ordering::Relaxed);
        metrics::EVENTS_IN_HAND.increment();
        InHand(self.clone())
    }

    /// The component of this digest, if it is loaded.
    pub(super) fn loaded(&self, digest: &Digest) -> Option<Component> {
        let generations = self.generations();
        let candidate = generations.candidate.as_ref().map(|candidate| &candidate.component);
        let loaded = [
            Some(&generations.in_use.component),
            generations.before.as_ref(),
            candidate,
        ];
        let mut loaded = loaded.into_iter().flatten();
        loaded.find(|component| component.digest() == digest).cloned()
    }

    fn generations(&self) -> RwLockReadGuard<'_, Generations> {
        self.generations
            .read()
            .expect("nothing panics while it holds this lock")
    }

    fn generations_mut(&self) -> RwLockWriteGuard<'_, Generations> {
        self.generations
            .write()
            .expect("nothing panics while it holds this lock")
    }
}
