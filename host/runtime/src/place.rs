//! The life of one place in a pool: it waits until it may begin, has its instance handle event after event, puts another
//! in the place of one that broke, and in the end leaves what the instance had in memory to the place after it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::instance::Instance;
use super::legacy::{Estate, Legacy, Snapshot};
use super::pool::Shared;
use super::queue::Next;
use plugnode_process::log_limiter;

/// How long to wait before the second attempt at making an instance; each wait after it is twice as long,
const FIRST_WAIT: Duration = Duration::from_millis(10);
/// up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// One place of a pool. However it ends, the place after it can begin.
pub(super) struct Place {
    shared: Arc<Shared>,
    number: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.estate().leave(Legacy::Nothing);
    }
}

impl Place {
    pub(super) fn new(shared: Arc<Shared>, number: usize) -> Self {
        Self { shared, number }
    }

    /// From its first instance, which is made, to the pool's retirement. With `begins` it waits for that first.
    pub(super) async fn live(self, instance: Instance, begins: Option<oneshot::Receiver<Legacy>>) {
        let begun = match begins {
            Some(begins) => self.begin(instance, begins).await,
            None => Some(instance),
        };
        let Some(mut instance) = begun else { return };
        let mut next = self.shared.queue().next(self.number);
        loop {
            let (job, introduce) = match next {
                Next::Handle(job, introduce) => (job, introduce),
                Next::Wait => {
                    self.shared.wake[self.number].notified().await;
                    next = self.shared.queue().next(self.number);
                    continue;
                }
                Next::End => return self.end(instance).await,
            };
            if job.done.is_closed() {
                drop(job);
                next = self.shared.queue().next(self.number);
                continue;
            }
            let begun = Instant::now();
            let (result, kept) = instance.handle(&job, introduce, begun).await;
            let took = begun.elapsed();
            // What becomes of this instance is settled before the outcome is known: whoever sends again on hearing it
            // finds the instance idle and the client remembered, and a client is never forgotten first and remembered
            // then.
            match kept {
                Some(kept) => {
                    next = {
                        let mut queue = self.shared.queue();
                        if result.is_ok() {
                            queue.saw(self.number, &job.event);
                        }
                        queue.next(self.number)
                    };
                    self.shared.finish(&job, result, took);
                    instance = kept;
                }
                None => {
                    self.shared.queue().replaced(self.number);
                    self.shared.finish(&job, result, took);
                    drop(job);
                    let Some(fresh) = self.replace().await else { return };
                    instance = fresh;
                    next = self.shared.queue().next(self.number);
                }
            }
            // Events that come one after the other would otherwise keep this task on its thread for ever.
            tokio::task::consume_budget().await;
        }
    }

    /// Waits for what the place before this one leaves, and takes it on. None when this place will never begin, or when
    /// the pool was retired before there was an instance again.
    async fn begin(&self, instance: Instance, begins: oneshot::Receiver<Legacy>) -> Option<Instance> {
        let Ok(legacy) = begins.await else {
            self.stop(instance).await;
            return None;
        };
        // Nobody will ask this pool for anything any more, nor what it has in memory.
        let is_in_vain = self.shared.queue().is_retired() && !self.estate().has_heir();
        let kept = match legacy {
            Legacy::State(snapshot, seen) if !is_in_vain => match instance.load(&snapshot).await {
                Ok(instance) => {
                    self.shared.begin(self.number, seen);
                    return Some(instance);
                }
                Err(reason) => {
                    self.shared.refuse(self.number, &reason);
                    None
                }
            },
            Legacy::Refused(reason) => {
                self.shared.refuse(self.number, &reason);
                Some(instance)
            }
            Legacy::State(..) | Legacy::Nothing => Some(instance),
        };
        let kept = match kept {
            Some(instance) => Some(instance),
            None => self.replace().await,
        };
        self.shared.begin(self.number, Vec::new());
        kept
    }

    /// Its last calls: whoever waits for what it had in memory gets that, or why not.
    async fn end(&self, instance: Instance) {
        if !self.estate().has_heir() {
            return self.stop(instance).await;
        }
        let legacy = match saved(instance).await {
            Ok(Some(snapshot)) => Legacy::State(snapshot, self.shared.queue().seen_by(self.number)),
            Ok(None) => Legacy::Nothing,
            Err(reason) => Legacy::Refused(reason),
        };
        self.estate().leave(legacy);
    }

    async fn stop(&self, instance: Instance) {
        if let Err(reason) = instance.stop().await {
            let app = &self.shared.app.settings.namespace;
            tracing::warn!(%app, release = &*self.shared.app.release, instance = self.number, "{reason}");
        }
    }

    /// Makes an instance, however often it takes. None when the pool was retired meanwhile.
    async fn replace(&self) -> Option<Instance> {
        let shared = &self.shared;
        let mut wait = FIRST_WAIT;
        loop {
            let making = Instance::start(&shared.component, &shared.app, self.number as u32, &shared.room);
            let error = tokio::select! {
                made = making => match made {
                    Ok(instance) => return Some(instance),
                    Err(error) => error,
                },
                () = self.retired() => return None,
            };
            let app = &shared.app.settings.namespace;
            if log_limiter::allows(app, "no fresh instance") {
                tracing::warn!(%app, instance = self.number, %error, "cannot make a fresh instance");
            }
            if tokio::time::timeout(wait, self.retired()).await.is_ok() {
                return None;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Completes when the pool is retired. To be waited for while there is no instance that could be woken instead.
    async fn retired(&self) {
        while !self.shared.queue().is_retired() {
            self.shared.wake[self.number].notified().await;
        }
    }

    fn estate(&self) -> &Estate {
        &self.shared.estates[self.number]
    }
}

async fn saved(instance: Instance) -> Result<Option<Snapshot>, String> {
    instance.stop().await?.save().await
}
