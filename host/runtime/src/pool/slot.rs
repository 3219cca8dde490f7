//! One slot of a pool: a task that waits for its hand-off, runs one event after the other in its instance, replaces an
//! instance that trapped, and at the end hands the instance's state over to its successor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::extra::handle;
use super::handoff::{Handoff, SlotHandoff};
use super::queue::NextStep;
use super::shared::PoolShared;
use crate::guest::Snapshot;
use crate::instance::Instance;
use plugnode_process::{Backoff, log_limiter};

/// Back-off between attempts to make an instance.
const MIN_DELAY: Duration = Duration::from_millis(10);
/// Its upper limit.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// A slot. However it ends, its successor can start.
pub(super) struct Slot {
    shared: Arc<PoolShared>,
    number: usize,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.handoff().complete(Handoff::Nothing);
    }
}

impl Slot {
    pub(super) fn new(shared: Arc<PoolShared>, number: usize) -> Self {
        Self { shared, number }
    }

    /// Runs until the pool is retired. With `start`, waits for the hand-off first.
    pub(super) async fn run(self, instance: Instance, start: Option<oneshot::Receiver<Handoff>>) {
        let started = match start {
            Some(start) => self.start(instance, start).await,
            None => Some(instance),
        };
        let Some(mut instance) = started else { return };
        let mut next = self.shared.queue().next(self.number);
        loop {
            let (job, introduce) = match next {
                NextStep::Handle(job, introduce) => (job, introduce),
                NextStep::Wait => {
                    self.shared.wake[self.number].notified().await;
                    next = self.shared.queue().next(self.number);
                    continue;
                }
                NextStep::End => return self.end(instance).await,
            };
            if job.done.is_closed() {
                drop(job);
                next = self.shared.queue().next(self.number);
                continue;
            }
            let began = Instant::now();
            let (result, survivor) = handle(&self.shared, instance, &job, introduce, began).await;
            let took = began.elapsed();
            // The queue is updated before the outcome is sent: a client's next event, submitted on that outcome, finds this
            // instance idle and the client marked as seen. And a client is never marked as seen after it was forgotten.
            match survivor {
                Some(survivor) => {
                    next = {
                        let mut queue = self.shared.queue();
                        if result.is_ok() {
                            queue.record_seen(self.number, &job.event);
                        }
                        queue.next(self.number)
                    };
                    self.shared.finish(&job, result, took);
                    instance = survivor;
                }
                None => {
                    self.shared.queue().instance_replaced(self.number);
                    self.shared.finish(&job, result, took);
                    drop(job);
                    let Some(replacement) = self.replace().await else {
                        return;
                    };
                    instance = replacement;
                    next = self.shared.queue().next(self.number);
                }
            }
            // Yields from time to time: a long queue would otherwise keep this task on its thread.
            tokio::task::consume_budget().await;
        }
    }

    /// Waits for the hand-off and takes the state over. None when the slot will never start, or the pool was retired while
    /// there was no instance.
    async fn start(&self, instance: Instance, start: oneshot::Receiver<Handoff>) -> Option<Instance> {
        let Ok(handoff) = start.await else {
            self.stop(instance).await;
            return None;
        };
        // A retired pool without a successor has no use for the state.
        let is_unneeded = self.shared.queue().is_retired() && !self.handoff().has_successor();
        let ready = match handoff {
            Handoff::State(snapshot, seen) if !is_unneeded => match instance.load(&snapshot).await {
                Ok(instance) => {
                    self.shared.start_slot(self.number, seen);
                    return Some(instance);
                }
                Err(reason) => {
                    self.shared.refuse_state(self.number, &reason);
                    None
                }
            },
            Handoff::Refused(reason) => {
                self.shared.refuse_state(self.number, &reason);
                Some(instance)
            }
            Handoff::State(..) | Handoff::Nothing => Some(instance),
        };
        let ready = match ready {
            Some(instance) => Some(instance),
            None => self.replace().await,
        };
        self.shared.start_slot(self.number, Vec::new());
        ready
    }

    /// Stops the instance, and hands its state over if there is a successor.
    async fn end(&self, instance: Instance) {
        if !self.handoff().has_successor() {
            return self.stop(instance).await;
        }
        let handoff = match stop_and_save(instance).await {
            Ok(Some(snapshot)) => Handoff::State(snapshot, self.shared.queue().seen_by(self.number)),
            Ok(None) => Handoff::Nothing,
            Err(reason) => Handoff::Refused(reason),
        };
        self.handoff().complete(handoff);
    }

    async fn stop(&self, instance: Instance) {
        if let Err(reason) = instance.stop().await {
            let app = &self.shared.app.settings.namespace;
            let release = &*self.shared.app.release;
            tracing::warn!(%app, release, instance = self.number, %reason, "instance did not stop cleanly");
        }
    }

    /// Makes an instance, with retries. None when the pool is retired meanwhile.
    async fn replace(&self) -> Option<Instance> {
        let shared = &self.shared;
        let mut backoff = Backoff::new(MIN_DELAY, MAX_DELAY);
        loop {
            let making = Instance::start(&shared.component, &shared.app, self.number as u32, &shared.limit);
            let error = tokio::select! {
                made = making => match made {
                    Ok(instance) => return Some(instance),
                    Err(error) => error,
                },
                () = self.retired() => return None,
            };
            let app = &shared.app.settings.namespace;
            if log_limiter::allows(app, "instance not replaced") {
                tracing::warn!(%app, instance = self.number, %error, "cannot replace an instance that trapped; retrying");
            }
            if tokio::time::timeout(backoff.next_delay(), self.retired()).await.is_ok() {
                return None;
            }
        }
    }

    /// Completes when the pool is retired. It consumes wake-ups, so it may only be awaited while the slot has no instance.
    async fn retired(&self) {
        while !self.shared.queue().is_retired() {
            self.shared.wake[self.number].notified().await;
        }
    }

    fn handoff(&self) -> &SlotHandoff {
        &self.shared.handoffs[self.number]
    }
}

async fn stop_and_save(instance: Instance) -> Result<Option<Snapshot>, String> {
    instance.stop().await?.save().await
}
