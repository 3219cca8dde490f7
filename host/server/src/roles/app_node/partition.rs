//! The work on one partition: reads its log, keeps each client's events in order, commits outcomes in batches.
//!
//! A client has at most one event with the pool. Its next one starts when that one was handled, and is committed with or
//! after it; what has to be there for the next one to see, such as a write to the key-value store, is committed before.
//! Clients do not wait for each other, and what one client has waiting keeps no other's events in the log: the log is always
//! read to its end. How much that can be is bounded by the transport, which accepts no more than its backlog, and of each
//! client no more than its share.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;
use std::iter;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::app::{App, By, Tried};
use super::apps::Apps;
use super::endings::{Ending, Endings, Taken, Then};
use super::last_words::last_words;
use super::patches::Patches;
use super::refused::{ClientKey, Refused};
use super::settings::Retries;
use plugnode_message::id_map::ById;
use plugnode_message::{Effects, EventId, EventKind};
use plugnode_process::Backoff;
use plugnode_process::log_limiter;
use plugnode_process::metrics;
use plugnode_runtime::{Failure, Job, JobOutcome};
use plugnode_transport::{Commits, Conflict, Death, Delivery, Lease, Log, Lost, Result, TransportError, Verdict};

/// How many events of a partition may be with the pool or wait for their commit.
const UNDER_WAY: usize = 4_096;
/// How many handled ones are looked at together.
const BATCH: usize = 256;
/// How long to wait before an event is tried again for which the host lacked something, at first
const FIRST_AWAY: Duration = Duration::from_millis(50);
/// and at most.
const LONGEST_AWAY: Duration = Duration::from_secs(1);
/// How long to wait before an event is looked at again that is not begun, since the node cannot renew its place.
const OVERDUE: Duration = Duration::from_millis(50);
/// How long an event waits at the most before it is handled again because something that it had read has changed: the second
/// time, and then twice as long each time,
const FIRST_LOST: Duration = Duration::from_millis(2);
/// up to this. The first time it does not wait.
const LONGEST_LOST: Duration = Duration::from_millis(64);
/// The same once its turn is kept.
const LONGEST_IN_TURN: Duration = Duration::from_millis(8);
/// How much longer than the time that a handler has the turn of its event is kept: for the way to the commit.
const TURN: Duration = Duration::from_secs(1);
/// How long a partition is kept that cannot be worked on, before it is given back.
const GIVEN_UP: Duration = Duration::from_secs(1);

/// Works on a partition until its lease ends or `stopping`. When it returns, no event of it is being handled here.
pub(super) async fn run(lease: Lease, apps: Arc<Apps>, retries: Retries, stopping: CancellationToken) {
    let Lease {
        partition,
        mut log,
        commits,
        patches,
    } = lease;
    debug!(%partition, "partition taken");
    let handling = TaskTracker::new();
    let work = Work::new(apps, retries, commits.clone(), Patches::new(patches), handling.clone());
    let ended = work_on(&mut *log, &*commits, work, &stopping).await;
    // What a lost partition had in hand goes on in the pool for a while, and goes nowhere. It is waited for: the next
    // lease may be this node's again, and then it begins with the same events.
    handling.close();
    handling.wait().await;
    match ended {
        Ok(()) => debug!(%partition, "partition given back"),
        Err(error) if stopping.is_cancelled() => debug!(%partition, %error, "partition lost"),
        Err(TransportError::Fenced) => warn!(%partition, "partition lost: it was given to another"),
        Err(error) => {
            warn!(%partition, %error, "partition given up");
            // Whoever has it next may be no better off.
            tokio::select! {
                () = sleep(GIVEN_UP) => {}
                () = stopping.cancelled() => {}
            }
        }
    }
}

async fn work_on(
    log: &mut dyn Log,
    commits: &dyn Commits,
    (mut work, mut handled): (Work, mpsc::Receiver<JobOutcome>),
    stopping: &CancellationToken,
) -> Result<()> {
    let mut reading = true;
    let mut batch = Vec::with_capacity(BATCH);
    // One call at a time, so that outcomes take effect in the order in which they came about.
    let mut committing: Option<BoxFuture<'_, Result<Vec<Lost>>>> = None;
    // Waited for once and not once an event: all partitions of the node share what wakes it.
    let mut stopped = pin!(stopping.cancelled());
    while reading || work.in_hand() > 0 {
        if committing.is_none() && work.endings.is_one_due() {
            if !work.running.is_empty() {
                // What is handled meanwhile goes with it.
                yield_now().await;
                work.judge(iter::from_fn(|| handled.try_recv().ok()), reading);
            }
            committing = work.endings.next_call().map(|outcomes| commits.commit(outcomes));
        }
        let retry = work.next_retry();
        tokio::select! {
            biased;
            committed = async { committing.as_mut().expect("guarded").await }, if committing.is_some() => {
                committing = None;
                work.committed(committed?, reading);
            }
            _ = handled.recv_many(&mut batch, BATCH), if !work.running.is_empty() => {
                work.judge(batch.drain(..), reading);
            }
            () = async { sleep_until(retry.expect("guarded")).await }, if retry.is_some() => work.retry_due(),
            () = &mut stopped, if reading => reading = work.stop(),
            deliveries = log.next(), if reading => match deliveries? {
                Some(deliveries) => deliveries.into_iter().for_each(|delivery| work.take(delivery)),
                None => reading = work.stop(),
            },
        }
    }
    Ok(())
}

/// The events in hand.
struct Work {
    apps: Arc<Apps>,
    retries: Retries,
    done: mpsc::Sender<JobOutcome>,
    /// With the pool, or waiting to be tried again.
    running: ById<u64, Running>,
    /// Behind a client's running event. A client with a running event has an entry.
    waiting: ById<ClientKey, VecDeque<Taken>>,
    /// How many there are in all of these queues.
    queued: usize,
    /// Clients' next events that wait until fewer are under way, in the order they came.
    ready: VecDeque<Taken>,
    /// JobOutcome, and to be committed.
    endings: Endings,
    refused: Refused,
    patches: Patches,
    commits: Arc<dyn Commits>,
    /// When to try failed ones again.
    retry_at: BTreeSet<(Instant, u64)>,
    handling: TaskTracker,
}

struct Running {
    taken: Taken,
    attempt: u32,
    /// The pause before the next attempt while the host cannot give the handler what it needs.
    away: Option<Backoff>,
    /// Whether what it read did not come in time before. Once, that may have been the store's fault.
    was_late: bool,
    /// Set once a release on trial has had it: it is for the release in use then.
    tried: Option<Tried>,
}

impl Running {
    fn new(taken: Taken) -> Self {
        Self {
            attempt: taken.attempts,
            taken,
            away: None,
            was_late: false,
            tried: None,
        }
    }

    /// Why an attempt failed, if that is no fault of the event.
    fn excuse<'f>(&mut self, failure: &'f Failure) -> Option<&'f str> {
        match failure {
            Failure::Unavailable(reason) => Some(reason),
            Failure::ReadsTooMuch(reason) if !self.was_late => {
                self.was_late = true;
                Some(reason)
            }
            _ => None,
        }
    }

    /// It counts for no attempt that another release has had it: if anything was wrong, it may well have been that one.
    fn turn_to_release_in_use(&mut self, tried: Tried) {
        self.attempt -= 1;
        self.tried = Some(tried);
    }
}

impl Work {
    /// None in hand yet; what is handled comes out of the channel.
    fn new(
        apps: Arc<Apps>,
        retries: Retries,
        commits: Arc<dyn Commits>,
        patches: Patches,
        handling: TaskTracker,
    ) -> (Self, mpsc::Receiver<JobOutcome>) {
        let (done, handled) = mpsc::channel(UNDER_WAY);
        let (running, waiting, ready, endings, refused, retry_at) = Default::default();
        let work = Self {
            apps,
            retries,
            done,
            running,
            waiting,
            queued: 0,
            ready,
            endings,
            refused,
            patches,
            commits,
            retry_at,
            handling,
        };
        (work, handled)
    }

    fn in_hand(&self) -> usize {
        self.queued + self.ready.len() + self.under_way()
    }

    fn under_way(&self) -> usize {
        self.running.len() + self.endings.count()
    }

    /// Takes an event in: starts it, or queues it behind its client's running one.
    fn take(&mut self, delivery: Delivery) {
        let app = self.apps.get(&delivery.event.namespace);
        let taken = Taken {
            turn: app.map_or(TURN, |app| app.settings.limits.time + TURN),
            _in_hand: app.map(App::take_in_hand),
            attempts: delivery.attempts,
            delivery,
            release: None,
            losses: 0,
        };
        if let Some(key) = key(&taken.delivery) {
            if self.refused.has_end(&key, &taken.delivery.event) {
                return self.pass_over(taken);
            }
            if let Some(queue) = self.waiting.get_mut(&key) {
                queue.push_back(taken);
                self.queued += 1;
                return;
            }
            self.waiting.insert(key, VecDeque::new());
        }
        self.start(taken);
    }

    /// Starts an event, in its turn.
    fn start(&mut self, taken: Taken) {
        self.ready.push_back(taken);
        self.start_ready();
    }

    fn start_ready(&mut self) {
        while self.under_way() < UNDER_WAY
            && let Some(taken) = self.ready.pop_front()
        {
            self.run(taken);
        }
    }

    fn run(&mut self, taken: Taken) {
        let sequence = taken.delivery.id.sequence;
        let running = Running::new(taken);
        let attempts = running.attempt;
        self.running.insert(sequence, running);
        match attempts >= self.retries.attempts {
            true => self.bury(sequence, attempts),
            false => self.attempt(sequence),
        }
    }

    /// Puts an event aside that ended every process that began it.
    fn bury(&mut self, sequence: u64, attempts: u32) {
        let Some(running) = self.running.get(&sequence) else {
            return;
        };
        let Delivery { id, event, .. } = &running.taken.delivery;
        if log_limiter::allows(&event.namespace, "process died") {
            warn!(messaging.message.id = %id, attempts, "event put aside: each process that began it has died");
        }
        let app = self.apps.get(&event.namespace);
        let commands = last_words(app.map(|app| &app.settings), *id, event);
        let death = Death {
            reason: "each process that began it has died before its end".into(),
            attempts,
            release: None,
            app: app.map(|app| app.settings.namespace.clone()),
        };
        self.end(sequence, Verdict::Dead(death, commands));
    }

    /// Hands an event to its app, unless there is none: then that is what becomes of it.
    fn attempt(&mut self, sequence: u64) {
        if self.apps.standing.is_overdue() {
            // Others may be about to have the partition.
            self.retry_at.insert((Instant::now() + OVERDUE, sequence));
            return;
        }
        let Some(running) = self.running.get_mut(&sequence) else {
            return;
        };
        running.attempt += 1;
        let Delivery { id, mut event, .. } = running.taken.delivery.clone();
        if !self.patches.is_empty()
            && let Some(key) = key(&running.taken.delivery)
        {
            let (laid_over, applied) = self.patches.lay_over(&key, id.sequence, &event);
            event = laid_over.unwrap_or(event);
            if !applied.is_empty() {
                self.commits.forget_patches(applied);
            }
        }
        debug!(messaging.message.id = %id, kind = event.kind.word(), attempt = running.attempt, "handling");
        let job = Job {
            id,
            attempt: running.attempt,
            event,
            on_trial: None,
            done: self.done.clone(),
            token: self.handling.token(),
        };
        if let Some(app) = self.apps.get(&job.event.namespace) {
            return app.submit(job, running.tried.is_some());
        }
        let death = Death {
            reason: format!("no app is bound to namespace {:?}", job.event.namespace),
            attempts: 0,
            release: None,
            app: None,
        };
        let commands = last_words(None, id, &job.event);
        self.end(sequence, Verdict::Dead(death, commands));
    }

    /// What becomes of handled events. Those to be tried again are put by for that, if this goes on.
    fn judge(&mut self, handled: impl Iterator<Item = JobOutcome>, goes_on: bool) {
        for handled in handled {
            let JobOutcome {
                id,
                result,
                release,
                on_trial,
                took,
            } = handled;
            metrics::HANDLING_TIME.observe(took);
            let by = By {
                release,
                on_trial,
                took,
            };
            let Some(running) = self.running.get_mut(&id.sequence) else {
                continue;
            };
            // Its app was there at the first attempt, and apps do not go.
            let Some(app) = self.apps.get(&running.taken.delivery.event.namespace) else {
                continue;
            };
            let failure = match result {
                Ok(effects) => {
                    if running.away.is_some() {
                        self.apps.store_is_back();
                    }
                    if let Some(tried) = app.handled(&by, running.tried.take()) {
                        running.turn_to_release_in_use(tried);
                        self.retry_at.insert((Instant::now(), id.sequence));
                        continue;
                    }
                    running.taken.release = Some(by.release);
                    self.end(id.sequence, Verdict::Done(effects));
                    continue;
                }
                Err(failure) => failure,
            };
            if let Some(reason) = running.excuse(&failure) {
                // It counts for no attempt.
                running.attempt -= 1;
                let away = running
                    .away
                    .get_or_insert_with(|| Backoff::new(FIRST_AWAY, LONGEST_AWAY));
                self.retry_at.insert((Instant::now() + away.next_delay(), id.sequence));
                metrics::STORE_UNAVAILABLE.increment();
                debug!(messaging.message.id = %id, "event waits: {reason}");
                self.apps.store_is_away(reason);
                continue;
            }
            if let Some(tried) = app.failed(&by, &failure) {
                running.turn_to_release_in_use(tried);
                self.retry_at.insert((Instant::now(), id.sequence));
                if log_limiter::allows(&app.settings.namespace, "failed on trial") {
                    let failure = failure.for_log();
                    warn!(messaging.message.id = %id, "event failed, and the release in use tries it next: {failure}");
                }
                continue;
            }
            // The release in use has failed it as well, so it is the event that is wrong.
            running.tried = None;
            self.failed(id, &failure, Some(&by.release));
        }
        if !goes_on {
            self.stop();
        }
    }

    /// An attempt at an event has failed: there is another later, or it is put aside.
    fn failed(&mut self, id: EventId, failure: &Failure, release: Option<&Arc<str>>) {
        let Some(running) = self.running.get_mut(&id.sequence) else {
            return;
        };
        let last = matches!(failure, Failure::Reject(_)) || running.attempt >= self.retries.attempts;
        let app = self.apps.get(&running.taken.delivery.event.namespace);
        if app.is_none_or(|app| log_limiter::allows(&app.settings.namespace, failure.kind())) {
            let failure = failure.for_log();
            warn!(messaging.message.id = %id, attempt = running.attempt, dead = last, "event failed: {failure}");
        }
        if last {
            let death = Death {
                reason: failure.for_dead_letter(),
                attempts: running.attempt,
                release: release.map(ToString::to_string),
                app: app.map(|app| app.settings.namespace.clone()),
            };
            let commands = last_words(app.map(|app| &app.settings), id, &running.taken.delivery.event);
            self.end(id.sequence, Verdict::Dead(death, commands));
            return;
        }
        let delay = self.retries.delay.saturating_mul(1 << (running.attempt - 1).min(16));
        self.retry_at.insert((Instant::now() + delay, id.sequence));
    }

    /// The outcome of an event could not be committed. That is no fault of the event when others were faster: then it is
    /// handled again, and that counts for no attempt.
    fn lost(&mut self, mut taken: Taken, lost: Lost) {
        let Lost { id, conflict, has_turn } = lost;
        let release = taken.release.clone();
        taken.losses += 1;
        let pause = pause_after(taken.losses, has_turn);
        self.running.insert(id.sequence, Running::new(taken));
        match conflict {
            Conflict::Changed => {
                metrics::EVENTS_HANDLED_AGAIN.increment();
                debug!(messaging.message.id = %id, has_turn, "handling again: what it had read has changed");
                if let Some(running) = self.running.get_mut(&id.sequence) {
                    running.attempt -= 1;
                }
                match pause.is_zero() {
                    true => self.attempt(id.sequence),
                    false => drop(self.retry_at.insert((Instant::now() + pause, id.sequence))),
                }
            }
            Conflict::Impossible(reason) => self.failed(id, &Failure::Uncommittable(reason), release.as_ref()),
        }
    }

    fn next_retry(&self) -> Option<Instant> {
        self.retry_at.first().map(|(at, _)| *at)
    }

    fn retry_due(&mut self) {
        let now = Instant::now();
        while let Some((at, sequence)) = self.retry_at.first().copied()
            && at <= now
        {
            self.retry_at.pop_first();
            // Its app was there at the first attempt, and apps do not go.
            self.attempt(sequence);
        }
    }

    /// An event has come to its end.
    fn end(&mut self, sequence: u64, verdict: Verdict) {
        let Some(Running { mut taken, attempt, .. }) = self.running.remove(&sequence) else {
            return;
        };
        taken.attempts = attempt;
        let key = key(&taken.delivery);
        if let Verdict::Done(effects) = &verdict {
            self.patches.note(taken.delivery.id, effects);
        }
        if let (EventKind::Disconnect(_), Some(key)) = (&taken.delivery.event.kind, &key) {
            let left = self.patches.of(key);
            if !left.is_empty() {
                self.commits.forget_patches(left);
            }
        }
        if self.endings.add(taken, verdict) == Then::Nothing {
            self.next_of(key);
        }
    }

    /// Nobody is to hear of an event.
    fn pass_over(&mut self, taken: Taken) {
        self.endings.add(taken, Verdict::Done(Effects::default()));
    }

    /// What was with the call is committed, but for what is lost. That is handled again, if this goes on.
    fn committed(&mut self, lost: Vec<Lost>, goes_on: bool) {
        let (committed, lost) = self.endings.committed(lost);
        for Ending { taken, then, .. } in committed {
            let key = key(&taken.delivery);
            if let (EventKind::Disconnect(_), Some(key)) = (&taken.delivery.event.kind, &key) {
                self.apps.forget(&key.0, &key.1);
                self.patches.forget(key);
            }
            match then {
                Then::Nothing => {}
                Then::Next => self.next_of(key),
                Then::Refused => self.refuse(key),
            }
        }
        if goes_on {
            lost.into_iter().for_each(|(taken, lost)| self.lost(taken, lost));
        }
        self.start_ready();
    }

    /// Starts a client's next event.
    fn next_of(&mut self, client: Option<ClientKey>) {
        let Some(client) = client else {
            return;
        };
        match self.waiting.get_mut(&client).and_then(VecDeque::pop_front) {
            Some(next) => {
                self.queued -= 1;
                self.start(next);
            }
            None => drop(self.waiting.remove(&client)),
        }
    }

    /// Ends the connection of a client that was refused: no instance is to hear of it again. What came of it meanwhile, which
    /// can be its disconnect alone, comes to nothing.
    fn refuse(&mut self, client: Option<ClientKey>) {
        let Some(client) = client else {
            return;
        };
        self.apps.forget(&client.0, &client.1);
        let waiting = self.waiting.remove(&client).unwrap_or_default();
        self.queued -= waiting.len();
        self.refused.remember(client);
        waiting.into_iter().for_each(|taken| self.pass_over(taken));
    }

    /// Drops what was not begun or waits to be tried again: it is not committed, and so the next owner gets it.
    fn stop(&mut self) -> bool {
        for (_, sequence) in std::mem::take(&mut self.retry_at) {
            self.running.remove(&sequence);
        }
        self.waiting.clear();
        self.queued = 0;
        self.ready.clear();
        false
    }
}

/// How long an event waits that has lost so often: by chance, so that those that met do not meet again.
/// One that has its turn waits for those alone that are being committed.
fn pause_after(losses: u32, has_turn: bool) -> Duration {
    let longest = if has_turn { LONGEST_IN_TURN } else { LONGEST_LOST };
    let Some(doubled) = losses.checked_sub(2) else {
        return Duration::ZERO;
    };
    let most = FIRST_LOST.saturating_mul(1 << doubled.min(16)).min(longest);
    most.mul_f64(chance())
}

/// A number from 0 to 1, as good as any other for spreading things out.
fn chance() -> f64 {
    RandomState::new().hash_one(()) as f64 / u64::MAX as f64
}

fn key(delivery: &Delivery) -> Option<ClientKey> {
    let client = delivery.event.in_order_with()?;
    Some((delivery.event.namespace.clone(), client.clone()))
}
