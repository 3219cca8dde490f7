//! The events in flight of one partition: keeps each client's events in order, retries failed ones, and decides what to commit.
//!
//! At most one event of a client is in the pool. Its next event starts as soon as that one was handled, and is committed together
//! with it or later. If the event wrote to the key-value store, the next one starts after the commit, so that it can read the
//! write. Clients do not wait for each other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::app::TrialAttempt;
use super::apps::Apps;
use super::calls;
use super::completions::{AfterCommit, Completion, Completions};
use super::failure_notice::failure_notice;
use super::in_flight::{ClientKey, InFlightEvent};
use super::lookup::{Found, Lookup, Wanted};
use super::patches::Patches;
use super::presence;
use super::refused_clients::RefusedClients;
use super::retry_schedule::{RetrySchedule, conflict_delay};
use super::settings::Retries;
use super::webhooks::Webhooks;
use plugnode_message::id_map::ById;
use plugnode_message::{Call, CallOutcome, Command, Effects, Event, EventId, EventKind, Text, WebhookDelivery};
use plugnode_process::log_limiter;
use plugnode_process::metrics;
use plugnode_runtime::{Failure, Job, JobOutcome};
use plugnode_transport::{Conflict, ConflictedOutcome, DeadLetterCause, Delivery, Outcome, Verdict};

/// Number of events of a partition that are in the pool or wait for their commit.
const MAX_STARTED: usize = 4_096;
/// Delay before an event is looked at again that was not started because the node's lease renewal is overdue.
const OVERDUE_DELAY: Duration = Duration::from_millis(50);

/// The events of a partition from delivery to commit.
pub(super) struct Scheduler {
    apps: Arc<Apps>,
    webhooks: Arc<RwLock<Webhooks>>,
    /// Cancelled when deliveries to webhooks are left to the next owner.
    stopping: CancellationToken,
    retries: Retries,
    /// Where the pool sends the outcomes of jobs.
    done: mpsc::Sender<JobOutcome>,
    /// Where the idempotency keys of calls come back from the store.
    looked_up: mpsc::Sender<Lookup>,
    /// Events in the pool or in `retry_schedule`, by sequence number.
    running: ById<u64, InFlightEvent>,
    /// The events behind a client's running one. A client with a running event has an entry.
    waiting: ById<ClientKey, VecDeque<InFlightEvent>>,
    /// Number of events in all of these queues.
    waiting_count: usize,
    /// Events whose turn it is, beyond `MAX_STARTED`, in order of arrival.
    ready: VecDeque<InFlightEvent>,
    /// Events to be committed.
    completions: Completions,
    refused: RefusedClients,
    patches: Patches,
    retry_schedule: RetrySchedule,
    /// Tracks the jobs in the pool.
    jobs: TaskTracker,
}

impl Scheduler {
    /// A scheduler without events; the receiver of its jobs' outcomes, for `process_outcomes`, and that of lookups, for
    /// `process_lookup`.
    pub(super) fn new(
        apps: Arc<Apps>,
        webhooks: Arc<RwLock<Webhooks>>,
        retries: Retries,
        patches: Patches,
        jobs: TaskTracker,
    ) -> (Self, mpsc::Receiver<JobOutcome>, mpsc::Receiver<Lookup>) {
        let (done, outcomes) = mpsc::channel(MAX_STARTED);
        let (looked_up, lookups) = mpsc::channel(MAX_STARTED);
        let scheduler = Self {
            apps,
            webhooks,
            stopping: CancellationToken::new(),
            retries,
            done,
            looked_up,
            running: ById::default(),
            waiting: ById::default(),
            waiting_count: 0,
            ready: VecDeque::new(),
            completions: Completions::default(),
            refused: RefusedClients::default(),
            patches,
            retry_schedule: RetrySchedule::default(),
            jobs,
        };
        (scheduler, outcomes, lookups)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting_count == 0 && self.ready.is_empty() && self.started_count() == 0
    }

    /// Whether events are in the pool or wait for a retry.
    pub(super) fn has_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether there are outcomes to commit that no call has taken.
    pub(super) fn has_outcomes(&self) -> bool {
        self.completions.has_outcomes()
    }

    /// Takes the outcomes of the next commit call. The call before must have ended.
    pub(super) fn next_call(&mut self) -> Option<Vec<Outcome>> {
        self.completions.next_call()
    }

    fn started_count(&self) -> usize {
        self.running.len() + self.completions.len()
    }

    /// Starts an event, or queues it behind its client's running one.
    pub(super) fn accept(&mut self, delivery: Delivery) {
        let app = self.apps.get(&delivery.event.namespace);
        let event = InFlightEvent::new(delivery, app);
        if let Some(client) = event.client_key() {
            if self.refused.is_disconnect_of_one(&client, &event.delivery.event) {
                return self.skip(event);
            }
            if let Some(queue) = self.waiting.get_mut(&client) {
                queue.push_back(event);
                self.waiting_count += 1;
                return;
            }
            self.waiting.insert(client, VecDeque::new());
        }
        self.start(event);
    }

    fn start(&mut self, event: InFlightEvent) {
        self.ready.push_back(event);
        self.start_ready();
    }

    fn start_ready(&mut self) {
        while self.started_count() < MAX_STARTED
            && let Some(event) = self.ready.pop_front()
        {
            let sequence = event.sequence();
            let is_crashing = self.is_crashing(&event);
            let delivered = is_crashing.then(|| event.delivery.event.clone());
            self.running.insert(sequence, event);
            match delivered.map(|event| self.wanted(&event)) {
                None => self.attempt(sequence),
                // Its dead letter is committed with the records of presence, which have to be read.
                Some(Some(wanted @ Wanted::Presence(..))) => self.look_up(sequence, wanted),
                Some(_) => self.give_up_crashing(sequence),
            }
        }
    }

    /// Whether every process that began an event has died. Sending a delivery kills no process.
    fn is_crashing(&self, event: &InFlightEvent) -> bool {
        event.delivery.attempts >= self.retries.attempts && !WebhookDelivery::is(&event.delivery.event.kind)
    }

    /// Makes an event a dead letter because every process that began it has died.
    fn give_up_crashing(&mut self, sequence: u64) {
        let Some(InFlightEvent { delivery, attempts, .. }) = self.running.get(&sequence) else {
            return;
        };
        let Delivery { id, event, .. } = delivery;
        if log_limiter::allows(&event.namespace, "process died") {
            warn!(messaging.message.id = %id, attempts, "event becomes a dead letter: each process that began it has died");
        }
        let app = self.apps.get(&event.namespace);
        let commands = failure_notice(app.map(|app| &app.settings), *id, event);
        let cause = DeadLetterCause {
            reason: "each process that began it has died before its end".into(),
            attempts: *attempts,
            release: None,
            app: app.map(|app| app.settings.namespace.clone()),
        };
        self.complete(sequence, Verdict::Dead(cause, only(commands)));
    }

    /// Begins an attempt at an event.
    fn attempt(&mut self, sequence: u64) {
        if self.apps.lease_health.is_overdue() {
            // Another app-node may be about to get the partition.
            self.retry_schedule.insert(OVERDUE_DELAY, sequence);
            return;
        }
        let Some(running) = self.running.get_mut(&sequence) else {
            return;
        };
        running.attempts += 1;
        let Delivery { id, mut event, .. } = running.delivery.clone();
        if !self.patches.is_empty()
            && let Some(client) = running.client_key()
        {
            let (patched, unneeded) = self.patches.apply(&client, id.sequence, &event);
            event = patched.unwrap_or(event);
            running.unneeded_patches.extend(unneeded);
        }
        debug!(messaging.message.id = %id, kind = event.kind.word(), attempt = running.attempts, "handling event");
        match self.wanted(&event) {
            Some(wanted) => self.look_up(id.sequence, wanted),
            None => self.carry_out(id, event, true),
        }
    }

    /// What has to be read before an event is handled.
    fn wanted(&self, event: &Event) -> Option<Wanted> {
        if let EventKind::Call(call) = &event.kind {
            return call.key.clone().map(Wanted::Call);
        }
        let client = presence::subject(event)?;
        let app = self.apps.get(&event.namespace)?;
        let is_kept = !app.settings.handler.presence.channels.is_empty();
        is_kept.then(|| Wanted::Presence(event.namespace.clone(), client.clone()))
    }

    /// Reads what an event needs; `process_lookup` gets it.
    fn look_up(&self, sequence: u64, wanted: Wanted) {
        let (store, looked_up, token) = (self.apps.key_value.clone(), self.looked_up.clone(), self.jobs.token());
        tokio::spawn(async move {
            let lookup = Lookup::of(sequence, wanted, store).await;
            // It has room for as many lookups as events run. When it is closed, nobody waits.
            let _ = looked_up.try_send(lookup);
            drop(token);
        });
    }

    /// Completes an event that no handler gets, or gives it to its handler. Without `goes_on`, the latter is left to the next owner.
    fn carry_out(&mut self, id: EventId, event: Arc<Event>, goes_on: bool) {
        let effects = match &event.kind {
            EventKind::Call(call) => calls::effects(call, id),
            EventKind::Channels(change) => {
                let app = self.apps.get(&event.namespace);
                if let Some(app) = &app {
                    presence::warn_of_other_channels(change, &app.settings);
                }
                let is_for_handler = app.is_some_and(|app| app.settings.handler.presence.events);
                (!is_for_handler).then(Effects::default)
            }
            _ => None,
        };
        match effects {
            Some(effects) => self.complete(id.sequence, Verdict::Done(effects)),
            None if goes_on => self.submit(id, event),
            None => drop(self.running.remove(&id.sequence)),
        }
    }

    /// Goes on with an event for which something was looked up. Without `goes_on`, no handler is called any more.
    pub(super) fn process_lookup(&mut self, lookup: Lookup, goes_on: bool) {
        let Lookup { sequence, found } = lookup;
        let Some(running) = self.running.get_mut(&sequence) else {
            return;
        };
        let (id, event) = (running.delivery.id, running.delivery.event.clone());
        if found.is_ok() && running.unavailable.is_some() {
            self.apps.store_is_back();
        }
        match found {
            Err(reason) => self.wait_for_store(sequence, &reason),
            Ok(Found::Call(Some(record))) => {
                let EventKind::Call(call) = &event.kind else { return };
                let outcome = call
                    .key
                    .as_ref()
                    .map_or(CallOutcome::KeyReused, |key| key.repeated(&record));
                self.complete(sequence, Verdict::Done(calls::only_answer(call, outcome)));
            }
            Ok(Found::Presence(present)) => {
                running.present_in = Some(present);
                let is_crashing = self.running.get(&sequence).is_some_and(|event| self.is_crashing(event));
                match is_crashing {
                    true => self.give_up_crashing(sequence),
                    false => self.carry_out(id, event, goes_on),
                }
            }
            Ok(Found::Call(None)) => self.carry_out(id, event, goes_on),
        }
        if !goes_on {
            self.stop();
        }
    }

    /// Tries an event again after a pause, because the key-value store cannot be read. The attempt does not count.
    fn wait_for_store(&mut self, sequence: u64, reason: &str) {
        let Some(running) = self.running.get_mut(&sequence) else {
            return;
        };
        metrics::STORE_UNAVAILABLE.increment();
        debug!(messaging.message.id = %running.delivery.id, error = %reason, "event waits for the key-value store");
        self.apps.store_is_away(reason);
        let delay = running.unavailable_delay();
        running.attempts -= 1;
        self.retry_schedule.insert(delay, sequence);
    }

    /// Gives an event to its app. Without an app it becomes a dead letter.
    fn submit(&mut self, id: EventId, event: Arc<Event>) {
        let Some(running) = self.running.get(&id.sequence) else {
            return;
        };
        let job = Job {
            id,
            attempt: running.attempts,
            event,
            on_trial: None,
            done: self.done.clone(),
            token: self.jobs.token(),
        };
        if WebhookDelivery::is(&job.event.kind) {
            return self.webhooks.read().deliver(job, &self.stopping);
        }
        if let Some(app) = self.apps.get(&job.event.namespace) {
            return app.submit(job, running.trial.is_some());
        }
        let cause = DeadLetterCause {
            reason: format!("no app is bound to namespace {:?}", job.event.namespace),
            attempts: 0,
            release: None,
            app: None,
        };
        let commands = failure_notice(None, id, &job.event);
        self.complete(id.sequence, Verdict::Dead(cause, only(commands)));
    }

    /// Takes the outcomes of jobs: completes each event or schedules its next attempt. Without `goes_on` there are no further
    /// attempts.
    pub(super) fn process_outcomes(&mut self, outcomes: impl Iterator<Item = JobOutcome>, goes_on: bool) {
        for outcome in outcomes {
            self.process_outcome(outcome);
        }
        if !goes_on {
            self.stop();
        }
    }

    fn process_outcome(&mut self, outcome: JobOutcome) {
        let id = outcome.id;
        let Some(running) = self.running.get_mut(&id.sequence) else {
            return;
        };
        if WebhookDelivery::is(&running.delivery.event.kind) {
            return self.complete(id.sequence, Verdict::Done(outcome.result.unwrap_or_default()));
        }
        metrics::HANDLING_TIME.observe(outcome.took);
        // It had an app at the first attempt, and apps are not removed.
        let Some(app) = self.apps.get(&running.delivery.event.namespace) else {
            return;
        };
        match &outcome.result {
            Ok(_) if running.unavailable.is_some() => self.apps.store_is_back(),
            Ok(_) => {}
            Err(failure) => {
                if let Some(reason) = running.host_fault(failure) {
                    return self.wait_for_store(id.sequence, reason);
                }
            }
        }
        if let Some(trial) = app.record(&outcome, running.trial.take()) {
            if let Err(failure) = &outcome.result
                && log_limiter::allows(&app.settings.namespace, "failed on trial")
            {
                let error = failure.for_log();
                warn!(messaging.message.id = %id, %error, "event failed on trial; the release in use handles it next");
            }
            return self.retry_in_release_in_use(id.sequence, trial);
        }
        running.release = Some(outcome.release);
        match outcome.result {
            Ok(mut effects) => {
                if let EventKind::Call(call) = &running.delivery.event.kind {
                    calls::complete(call, id, &mut effects);
                }
                self.complete(id.sequence, Verdict::Done(effects));
            }
            Err(failure) => self.attempt_failed(id.sequence, &failure),
        }
    }

    /// Tries an event again at once, in the release in use. The attempt before does not count: the other release may be at fault.
    fn retry_in_release_in_use(&mut self, sequence: u64, trial: TrialAttempt) {
        if let Some(running) = self.running.get_mut(&sequence) {
            running.attempts -= 1;
            running.trial = Some(trial);
            self.retry_schedule.insert(Duration::ZERO, sequence);
        }
    }

    /// Schedules the next attempt at a failed event, or makes it a dead letter.
    fn attempt_failed(&mut self, sequence: u64, failure: &Failure) {
        let Some(running) = self.running.get_mut(&sequence) else {
            return;
        };
        let (id, attempts) = (running.delivery.id, running.attempts);
        let is_last = matches!(failure, Failure::Reject(_)) || attempts >= self.retries.attempts;
        let app = self.apps.get(&running.delivery.event.namespace);
        if app.is_none_or(|app| log_limiter::allows(&app.settings.namespace, failure.kind())) {
            let error = failure.for_log();
            let kind = &running.delivery.event.kind;
            let event = match kind {
                EventKind::Message { event, .. } => event,
                other => other.word(),
            };
            let app = app.map(|app| app.settings.namespace.as_str());
            warn!(messaging.message.id = %id, app, event, attempt = attempts, dead = is_last, %error, "event failed");
        }
        if is_last {
            let commands = failure_notice(app.map(|app| &app.settings), id, &running.delivery.event);
            return self.make_dead_letter(sequence, failure.for_dead_letter(), commands);
        }
        let delay = self.retries.delay.saturating_mul(1 << (attempts - 1).min(16));
        self.retry_schedule.insert(delay, sequence);
    }

    /// Handles an event again whose outcome was not committed. If another event has changed what it read, the attempt does not
    /// count.
    fn commit_conflicted(&mut self, mut event: InFlightEvent, lost: ConflictedOutcome) {
        let ConflictedOutcome {
            id,
            conflict,
            has_reservation,
        } = lost;
        if let Conflict::Full { bucket, reason } = &conflict {
            if WebhookDelivery::is(&event.delivery.event.kind) {
                self.log_dropped_records(id, &event, bucket, reason);
                return self.skip(event);
            }
            // Without the records that do not fit, all else takes effect.
            if event.record_buckets.contains(bucket) && event.omitted_buckets.insert(bucket.clone()) {
                self.log_dropped_records(id, &event, bucket, reason);
                return self.repeat_without_records(event);
            }
        }
        if self.is_crashing(&event) {
            // Only the deliveries to webhooks of its dead letter can conflict.
            self.running.insert(id.sequence, event);
            return self.give_up_crashing(id.sequence);
        }
        event.reset_after_conflict();
        let delay = conflict_delay(event.conflicts, has_reservation);
        if conflict == Conflict::Changed {
            event.attempts -= 1;
        }
        let delivered = event.delivery.event.clone();
        self.running.insert(id.sequence, event);
        match conflict {
            Conflict::Changed => {
                metrics::EVENTS_HANDLED_AGAIN.increment();
                debug!(messaging.message.id = %id, has_reservation, "handling event again: keys that it read have changed");
                match delay.is_zero() {
                    true => self.attempt(id.sequence),
                    false => self.retry_schedule.insert(delay, id.sequence),
                }
            }
            Conflict::Full { bucket, reason } => match &delivered.kind {
                EventKind::Call(call) if calls::is_recorded_in(call, &bucket) => self.refuse_call(id.sequence, call),
                _ => self.attempt_failed(id.sequence, &Failure::Uncommittable(reason)),
            },
            Conflict::Impossible(reason) => self.attempt_failed(id.sequence, &Failure::Uncommittable(reason)),
        }
    }

    /// Refuses a call whose idempotency key cannot be recorded. It becomes a dead letter, because its caller may have been answered
    /// already: repeated or retried, it takes effect once.
    fn refuse_call(&mut self, sequence: u64, call: &Call) {
        let answer = call.answer(CallOutcome::Refused(calls::KEYS_FULL.into()));
        self.make_dead_letter(sequence, calls::KEYS_FULL.into(), vec![answer]);
    }

    /// Makes a dead letter of an event after its last attempt.
    fn make_dead_letter(&mut self, sequence: u64, reason: String, commands: Vec<Command>) {
        let Some(running) = self.running.get(&sequence) else {
            return;
        };
        let app = self.apps.get(&running.delivery.event.namespace);
        let cause = DeadLetterCause {
            reason,
            attempts: running.attempts,
            release: running.release.as_ref().map(ToString::to_string),
            app: app.map(|app| app.settings.namespace.clone()),
        };
        self.complete(sequence, Verdict::Dead(cause, only(commands)));
    }

    fn repeat_without_records(&mut self, mut event: InFlightEvent) {
        let sequence = event.sequence();
        event.reset_after_conflict();
        let is_crashing = self.is_crashing(&event);
        event.attempts -= u32::from(!is_crashing);
        self.running.insert(sequence, event);
        match is_crashing {
            true => self.give_up_crashing(sequence),
            false => self.attempt(sequence),
        }
    }

    fn log_dropped_records(&self, id: EventId, event: &InFlightEvent, bucket: &Text, reason: &str) {
        if WebhookDelivery::is_stored_in(bucket) {
            metrics::WEBHOOKS_OVERFLOWED.increment();
        }
        if log_limiter::allows(&event.delivery.event.namespace, "records dropped") {
            warn!(
                messaging.message.id = %id, %bucket, %reason,
                "a delivery to a webhook, or a record of presence, dropped: its bucket is full"
            );
        }
    }

    /// When the next retry is due.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.retry_schedule.next_due()
    }

    pub(super) fn retry_due(&mut self) {
        let now = Instant::now();
        while let Some(sequence) = self.retry_schedule.pop_due(now) {
            self.attempt(sequence);
        }
    }

    /// Moves an event to the completions, and starts its client's next one if that need not wait for the commit.
    fn complete(&mut self, sequence: u64, mut verdict: Verdict) {
        let Some(mut event) = self.running.remove(&sequence) else {
            return;
        };
        let Delivery { id, event: of, .. } = &event.delivery;
        let app = self.apps.get(&of.namespace).map(|app| &app.settings);
        let namespace = app.map(|app| &app.namespace);
        let mut records = self.webhooks.read().deliveries(*id, of, namespace, &verdict);
        records.retain(|delivery| !event.omitted_buckets.contains(&delivery.bucket));
        if let (Some(present), Some(app)) = (&event.present_in, app) {
            let (read, writes) = presence::records(present, *id, of, app, &event.omitted_buckets);
            verdict.effects_mut().reads.extend(read);
            records.extend(writes);
        }
        event.record_buckets = records.iter().map(|record| record.bucket.clone()).collect();
        verdict.effects_mut().writes.extend(records);
        let client = event.client_key();
        if let Verdict::Done(effects) = &verdict {
            self.patches.add_effects(event.delivery.id, effects);
        }
        if let (EventKind::Disconnect(_), Some(client)) = (&event.delivery.event.kind, &client) {
            event.unneeded_patches.extend(self.patches.of(client));
        }
        for merged in std::mem::take(&mut event.merged) {
            self.skip(merged);
        }
        if self.completions.push(event, verdict) == AfterCommit::Nothing {
            self.start_next_of(client);
        }
    }

    /// Completes an event that no handler gets.
    fn skip(&mut self, event: InFlightEvent) {
        self.completions.push(event, Verdict::Done(Effects::default()));
    }

    /// Ends the commit call, which committed all but the lost outcomes. With `goes_on`, the events of these are handled again.
    pub(super) fn call_ended(&mut self, lost: Vec<ConflictedOutcome>, goes_on: bool) {
        let (committed, conflicting) = self.completions.call_ended(lost);
        for Completion { event, next, .. } in committed {
            let client = event.client_key();
            if let (EventKind::Disconnect(_), Some(client)) = (&event.delivery.event.kind, &client) {
                self.apps.forget(&client.0, &client.1);
                self.patches.forget(client);
            }
            match next {
                AfterCommit::Nothing => {}
                AfterCommit::StartNext => self.start_next_of(client),
                AfterCommit::ForgetClient => self.forget_refused(client),
            }
        }
        if goes_on {
            for (event, lost) in conflicting {
                self.commit_conflicted(event, lost);
            }
        }
        self.start_ready();
    }

    fn start_next_of(&mut self, client: Option<ClientKey>) {
        let Some(client) = client else {
            return;
        };
        let Some(queue) = self.waiting.get_mut(&client) else {
            return;
        };
        let Some(mut next) = queue.pop_front() else {
            return drop(self.waiting.remove(&client));
        };
        let before = queue.len() + 1;
        if next.is_of_periodic_timer() {
            *queue = queue.drain(..).filter_map(|later| next.merge(later)).collect();
        }
        self.waiting_count -= before - queue.len();
        self.start(next);
    }

    /// Drops what is held of a refused client. No handler gets its waiting events; there can be only a disconnect.
    fn forget_refused(&mut self, client: Option<ClientKey>) {
        let Some(client) = client else {
            return;
        };
        self.apps.forget(&client.0, &client.1);
        let waiting = self.waiting.remove(&client).unwrap_or_default();
        self.waiting_count -= waiting.len();
        self.refused.insert(client);
        waiting.into_iter().for_each(|event| self.skip(event));
    }

    /// Drops the events that have not started or wait for a retry. They are not committed, so the next owner gets them.
    pub(super) fn stop(&mut self) {
        self.stopping.cancel();
        for sequence in self.retry_schedule.drain() {
            self.running.remove(&sequence);
        }
        self.waiting.clear();
        self.waiting_count = 0;
        self.ready.clear();
    }
}

fn only(commands: Vec<Command>) -> Effects {
    Effects {
        commands,
        ..Effects::default()
    }
}
