//! An app on this node: the release in use, an optional candidate on trial, and the choice between them for each event.
//!
//! An event that fails on trial is tried again in the release in use, at once and without counting as an attempt: a bad release
//! costs no event.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tracing::info;

use super::candidate::Candidate;
use super::loaded_release::LoadedRelease;
use plugnode_message::{Namespace, SessionId};
use plugnode_process::metrics;
use plugnode_release::{AppReport, Digest, NodeStage, ReleaseProgress};
use plugnode_runtime::{AppSettings, Component, Dispatch, Failure, Job, JobOutcome};

/// An app on this node.
pub(super) struct App {
    pub(super) settings: AppSettings,
    loaded: RwLock<LoadedReleases>,
    /// Number and stage of the release that this node is about to take into use.
    stage: Mutex<Option<(u64, NodeStage)>>,
    /// Notified when the candidate is proven or has failed.
    pub(super) candidate_changed: Notify,
    /// Notified when there is something new to report.
    pub(super) report_changed: Notify,
    in_flight: AtomicU64,
}

struct LoadedReleases {
    in_use: Arc<LoadedRelease>,
    candidate: Option<Arc<Candidate>>,
    /// The compiled component that was in use before, so that a rollback takes no time.
    previous: Option<Component>,
}

impl LoadedReleases {
    /// Ends the trial and returns the jobs that the candidate has not started.
    fn end_trial(&mut self) -> impl Iterator<Item = Job> + use<> {
        let jobs = self.candidate.take().map(|candidate| candidate.trial_pool.retire());
        jobs.into_iter().flatten().map(|job| Job { on_trial: None, ..job })
    }

    /// The candidate, if it has this number.
    fn candidate(&self, number: u64) -> Option<&Candidate> {
        self.candidate.as_deref().filter(|candidate| candidate.number == number)
    }

    fn is_in_use(&self, release: &str) -> bool {
        self.in_use.component.digest().short() == release
    }
}

/// Counts an event as in flight until it is dropped.
pub(super) struct InFlightGuard(Arc<App>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        metrics::EVENTS_IN_HAND.decrement();
    }
}

/// An attempt at an event by another release than the one in use. It does not count: the release in use must handle the event.
#[derive(Debug, Clone)]
pub(super) struct TrialAttempt {
    /// The candidate that handled it. None for a release that was replaced meanwhile.
    candidate: Option<u64>,
    /// Why it failed. None if it succeeded but its effects are discarded (see [`App::discards_trial_effects`]).
    failure: Option<String>,
}

impl App {
    pub(super) fn new(settings: AppSettings, in_use: LoadedRelease) -> Self {
        Self {
            settings,
            loaded: RwLock::new(LoadedReleases {
                in_use: Arc::new(in_use),
                candidate: None,
                previous: None,
            }),
            stage: Mutex::default(),
            candidate_changed: Notify::new(),
            report_changed: Notify::new(),
            in_flight: AtomicU64::new(0),
        }
    }

    /// Gives a job to the candidate if its share includes it, else to the release in use. `was_tried` jobs go to the release in
    /// use. The lock is held meanwhile, so that no job reaches a retired pool.
    pub(super) fn submit(&self, job: Job, was_tried: bool) {
        let loaded = self.loaded.read();
        let job = match &loaded.candidate {
            Some(candidate) if !was_tried => match candidate.offer(job) {
                Ok(()) => return,
                Err(job) => job,
            },
            _ => job,
        };
        loaded.in_use.pool.submit(job);
    }

    /// Counts the outcome of a job for its release. `earlier` is the event's attempt on trial before this one, if there was one.
    /// Returns a [`TrialAttempt`] if the release in use must handle the event.
    pub(super) fn record(&self, outcome: &JobOutcome, earlier: Option<TrialAttempt>) -> Option<TrialAttempt> {
        match &outcome.result {
            Ok(_) => self.record_success(outcome, earlier),
            Err(failure) => self.record_failure(outcome, failure),
        }
    }

    fn record_success(&self, outcome: &JobOutcome, earlier: Option<TrialAttempt>) -> Option<TrialAttempt> {
        let loaded = self.loaded.read();
        if let Some(number) = outcome.on_trial {
            let candidate = loaded.candidate(number);
            if let Some(candidate) = candidate {
                candidate.stats.record(outcome.took, true);
                if candidate.add_answered() {
                    self.candidate_changed.notify_one();
                }
            }
            // The effects of a canary count.
            let is_canary = candidate.is_some_and(|candidate| candidate.is_canary());
            let is_discarded = self.discards_trial_effects() && !is_canary;
            return is_discarded.then_some(TrialAttempt {
                candidate: Some(number),
                failure: None,
            });
        }
        if loaded.is_in_use(&outcome.release) {
            loaded.in_use.stats.record(outcome.took, true);
            if loaded.in_use.set_answered() {
                self.report_changed.notify_one();
            }
        }
        let TrialAttempt { candidate, failure } = earlier?;
        if let (Some(candidate), Some(failure)) = (loaded.candidate(candidate?), failure) {
            candidate.stats.add_failure();
            if candidate.set_failed(failure) {
                self.candidate_changed.notify_one();
            }
        }
        None
    }

    fn record_failure(&self, outcome: &JobOutcome, failure: &Failure) -> Option<TrialAttempt> {
        let loaded = self.loaded.read();
        match outcome.on_trial {
            Some(number) => {
                if let Some(candidate) = loaded.candidate(number) {
                    // Counted as handled until the release in use shows whether the candidate is at fault.
                    candidate.stats.record(outcome.took, true);
                }
            }
            None if loaded.is_in_use(&outcome.release) => {
                loaded.in_use.stats.record(outcome.took, false);
                if loaded.in_use.set_failed(failure.to_string()) {
                    self.report_changed.notify_one();
                }
                return None;
            }
            None => {}
        }
        Some(TrialAttempt {
            candidate: outcome.on_trial,
            failure: Some(failure.to_string()),
        })
    }

    /// Whether the effects of a candidate's first events are discarded and the release in use handles these events again.
    /// Otherwise instances that keep state of their clients would miss them.
    fn discards_trial_effects(&self) -> bool {
        self.settings.handler.dispatch == Dispatch::Sticky || self.settings.handler.max_instances() == 1
    }

    /// Whether its handler is native Rust, which has no releases.
    pub(super) fn is_native(&self) -> bool {
        self.loaded.read().in_use.component.is_native()
    }

    /// The release in use.
    pub(super) fn in_use(&self) -> Arc<LoadedRelease> {
        self.loaded.read().in_use.clone()
    }

    /// The release on trial.
    pub(super) fn candidate(&self) -> Option<Arc<Candidate>> {
        self.loaded.read().candidate.clone()
    }

    /// Begins the trial of a release, which gets no events yet.
    pub(super) fn begin_trial(&self, candidate: Candidate) {
        self.end_trial();
        let mut loaded = self.loaded.write();
        loaded.in_use.stats.reset();
        loaded.candidate = Some(Arc::new(candidate));
    }

    /// Ends the trial. Jobs that the candidate has not started go to the release in use.
    pub(super) fn end_trial(&self) {
        let mut loaded = self.loaded.write();
        for job in loaded.end_trial() {
            loaded.in_use.pool.submit(job);
        }
    }

    /// Replaces the release in use between events, and ends the trial if there is one. Running events finish in the old release;
    /// all others go to the new one. Returns the component that is no longer kept for a rollback.
    pub(super) fn swap(&self, new: LoadedRelease) -> Option<Component> {
        let mut loaded = self.loaded.write();
        let new = Arc::new(new);
        let old = std::mem::replace(&mut loaded.in_use, new.clone());
        let dropped = loaded.previous.replace(old.component.clone());
        let from_trial = loaded.end_trial();
        let from_old = old.pool.hand_over(&new.pool);
        for job in from_old.into_iter().chain(from_trial) {
            new.pool.submit(job);
        }
        drop(loaded);
        info!(
            app = %self.settings.namespace,
            release = new.number,
            component = new.component.release(),
            before = old.number,
            "release taken into use"
        );
        dropped
    }

    /// Gives the component in use another release number.
    pub(super) fn renumber(&self, number: u64) {
        let mut loaded = self.loaded.write();
        loaded.in_use = Arc::new(loaded.in_use.renumbered(number));
    }

    /// Sets the reported stage: how far this node is with a release.
    pub(super) fn set_stage(&self, stage: Option<(u64, NodeStage)>) {
        let mut present = self.stage.lock();
        if *present != stage {
            *present = stage;
            self.report_changed.notify_one();
        }
    }

    /// This node's report on the app.
    pub(super) fn report(&self) -> AppReport {
        let (in_use, candidate) = {
            let loaded = self.loaded.read();
            (loaded.in_use.clone(), loaded.candidate.clone())
        };
        let stage = self.stage.lock().clone();
        let progress = stage.map(|(release, stage)| {
            let candidate = candidate.as_ref().filter(|candidate| candidate.number == release);
            let counts = candidate.map(|candidate| candidate.stats.counts(candidate.is_canary()));
            ReleaseProgress {
                release,
                stage,
                counts: counts.unwrap_or_default(),
            }
        });
        let is_canary = candidate.as_ref().is_some_and(|candidate| candidate.is_canary());
        // A candidate that gets all events is reported as the release that runs here.
        let with_all_events = candidate.as_ref().filter(|candidate| candidate.has_all_events());
        let (release, component, pool) = match with_all_events {
            Some(candidate) => (candidate.number, &candidate.component, None),
            None => (in_use.number, &in_use.component, Some(&in_use.pool)),
        };
        AppReport {
            release,
            digest: component.digest().clone(),
            instances: self.settings.handler.instances,
            in_hand: self.in_flight.load(Ordering::Relaxed),
            counts: in_use.stats.counts(is_canary),
            progress,
            has_answered: with_all_events.is_none() && in_use.has_answered(),
            first_failure: in_use.first_failure().filter(|_| with_all_events.is_none()).cloned(),
            have_begun: pool.is_none_or(|pool| pool.is_started()),
            states_refused: pool.map(|pool| pool.states_refused()).unwrap_or_default(),
        }
    }

    /// Ends all instances.
    pub(super) fn retire(&self) {
        let loaded = self.loaded.read();
        drop(loaded.in_use.pool.retire());
        if let Some(candidate) = &loaded.candidate {
            drop(candidate.trial_pool.retire());
        }
    }

    /// Drops what the instances hold of a client whose disconnect is committed.
    pub(super) fn forget(&self, namespace: &Namespace, client: &SessionId) {
        let loaded = self.loaded.read();
        loaded.in_use.pool.forget(namespace, client);
        if let Some(candidate) = &loaded.candidate {
            candidate.trial_pool.forget(namespace, client);
        }
    }

    /// Counts an event as in flight until the guard is dropped.
    pub(super) fn count_in_flight(self: &Arc<Self>) -> InFlightGuard {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        metrics::EVENTS_IN_HAND.increment();
        InFlightGuard(self.clone())
    }

    /// The component of this digest, if it is loaded.
    pub(super) fn loaded_component(&self, digest: &Digest) -> Option<Component> {
        let loaded = self.loaded.read();
        let candidate = loaded.candidate.as_ref().map(|candidate| &candidate.component);
        let components = [Some(&loaded.in_use.component), loaded.previous.as_ref(), candidate];
        let mut components = components.into_iter().flatten();
        components.find(|component| component.digest() == digest).cloned()
    }
}
