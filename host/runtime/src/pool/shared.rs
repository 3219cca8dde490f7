//! The state that a pool and its slots share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::extra::ExtraSlot;
use super::handoff::SlotHandoff;
use super::queue::JobQueue;
use super::seen_clients::ClientKey;
use crate::app::App;
use crate::component::Component;
use crate::failure::Failure;
use crate::instance_limit::InstanceLimit;
use crate::job::{Job, JobOutcome};
use plugnode_message::Effects;
use plugnode_process::shutdown::Shutdown;

pub(super) struct PoolShared {
    pub(super) app: Arc<App>,
    pub(super) component: Component,
    pub(super) limit: InstanceLimit,
    queue: Mutex<JobQueue>,
    /// Wakes one slot each.
    pub(super) wake: Vec<Notify>,
    /// Wakes an extra instance that has no job.
    pub(super) queued: Notify,
    /// Number of instances whose handlers wait in a host call.
    pub(super) waiting: AtomicUsize,
    /// Whether there can be extra instances.
    can_grow: bool,
    shutdown: Shutdown,
    /// The hand-off of each slot.
    pub(super) handoffs: Vec<SlotHandoff>,
    /// Cancelled when every slot has started.
    started: CancellationToken,
    /// Why slots started without the state of their predecessor.
    states_refused: Mutex<Vec<String>>,
}

impl PoolShared {
    /// One slot for each hand-off.
    pub(super) fn new(
        app: Arc<App>,
        component: Component,
        limit: InstanceLimit,
        queue: JobQueue,
        handoffs: Vec<SlotHandoff>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            can_grow: queue.can_grow(),
            queued: Notify::new(),
            waiting: AtomicUsize::new(0),
            shutdown,
            app,
            component,
            limit,
            queue: Mutex::new(queue),
            wake: handoffs.iter().map(|_| Notify::new()).collect(),
            handoffs,
            started: CancellationToken::new(),
            states_refused: Mutex::default(),
        }
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, JobQueue> {
        self.queue.lock()
    }

    pub(super) fn can_grow(&self) -> bool {
        self.can_grow
    }

    /// A job waits for an instance.
    pub(super) fn job_queued(self: &Arc<Self>) {
        if self.can_grow {
            self.queued.notify_one();
            self.grow_if_all_wait();
        }
    }

    /// Starts extra instances if jobs wait for one and all instances wait in host calls: as many as there are, so that the pool doubles.
    pub(super) fn grow_if_all_wait(self: &Arc<Self>) {
        let numbers = self.queue().add_extras(self.waiting.load(Ordering::Relaxed));
        for number in numbers {
            self.shutdown.spawn(ExtraSlot::new(self.clone(), number).run());
        }
    }

    pub(super) fn set_started(&self) {
        self.started.cancel();
    }

    pub(super) fn is_started(&self) -> bool {
        self.started.is_cancelled()
    }

    pub(super) async fn started(&self) {
        self.started.cancelled().await;
    }

    /// A slot starts, with the clients that its predecessor had seen.
    pub(super) fn start_slot(&self, number: usize, seen: Vec<ClientKey>) {
        if self.queue().start(number, seen) {
            self.set_started();
        }
    }

    /// A slot starts without the state of its predecessor, for this reason.
    pub(super) fn refuse_state(&self, number: usize, reason: &str) {
        let app = &self.app.settings.namespace;
        tracing::warn!(%app, release = &*self.app.release, instance = number, %reason, "state was not handed over");
        self.states_refused.lock().push(format!("instance {number}: {reason}"));
    }

    pub(super) fn states_refused(&self) -> Vec<String> {
        self.states_refused.lock().clone()
    }

    /// Sends the outcome of a job. A receiver that was closed meanwhile does not need it.
    pub(super) fn finish(&self, job: &Job, result: Result<Effects, Failure>, took: Duration) {
        let _ = job.done.try_send(JobOutcome {
            id: job.id,
            result,
            release: self.app.release.clone(),
            on_trial: job.on_trial,
            took,
        });
    }
}
