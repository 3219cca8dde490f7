//! Extra instances of a pool: made while all others wait in a host call, such as an outgoing request, and jobs wait for them. An
//! extra instance takes jobs that any instance may take, and ends when it has had none for a while.

use std::collections::HashSet;
use std::future::poll_fn;
use std::num::NonZero;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::queue::NextStep;
use super::seen_clients::ClientKey;
use super::shared::PoolShared;
use crate::instance::{Handled, Instance, YieldFlag};
use crate::job::Job;

/// An extra instance without jobs ends after this time.
const IDLE: Duration = Duration::from_secs(5);
/// Clients that an extra instance remembers having seen. Beyond it, it is introduced to all of them again.
const MAX_SEEN: usize = 10_000;

/// The starts that may run at a time. A start takes milliseconds of a thread: without this limit, hundreds of them would delay the events in
/// progress beyond their time limit.
static STARTS: LazyLock<Semaphore> = LazyLock::new(|| {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    Semaphore::new(threads)
});

/// An extra instance of a pool, from its start to its end.
pub(super) struct ExtraSlot {
    shared: Arc<PoolShared>,
    number: u32,
}

impl Drop for ExtraSlot {
    fn drop(&mut self) {
        self.shared.queue().extra_ended();
    }
}

impl ExtraSlot {
    pub(super) fn new(shared: Arc<PoolShared>, number: u32) -> Self {
        Self { shared, number }
    }

    /// Runs until there is nothing to do.
    pub(super) async fn run(self) {
        let shared = &self.shared;
        // Never closed.
        let turn = STARTS.acquire().await;
        if !shared.queue().has_unassigned() {
            return;
        }
        let started = Instance::start(&shared.component, &shared.app, self.number, &shared.limit).await;
        let mut instance = match started {
            Ok(instance) => instance,
            Err(error) => {
                tracing::debug!(app = %shared.app.settings.namespace, %error, "no extra instance");
                return;
            }
        };
        drop(turn);
        let mut seen: HashSet<ClientKey> = HashSet::new();
        loop {
            // Bound to a variable, so that the lock is not held in the body.
            let next = shared.queue().next_unassigned(|client| seen.contains(client));
            let (job, introduce) = match next {
                NextStep::Handle(job, introduce) => (job, introduce),
                NextStep::Wait => match timeout(IDLE, shared.queued.notified()).await {
                    Ok(()) => continue,
                    Err(_) => break,
                },
                NextStep::End => break,
            };
            if job.done.is_closed() {
                continue;
            }
            let began = Instant::now();
            let (result, survivor) = handle(shared, instance, &job, introduce, began).await;
            if result.is_ok()
                && let Some(client) = job.event.client.as_ref()
            {
                if seen.len() >= MAX_SEEN {
                    seen.clear();
                }
                seen.insert((job.event.namespace.clone(), client.id.clone()));
            }
            shared.finish(&job, result, began.elapsed());
            let Some(survivor) = survivor else { return };
            instance = survivor;
            tokio::task::consume_budget().await;
        }
        if let Err(reason) = instance.stop().await {
            let (app, release) = (&shared.app.settings.namespace, &*shared.app.release);
            tracing::warn!(%app, release, instance = self.number, %reason, "instance did not stop cleanly");
        }
    }
}

/// Lets an instance handle a job. While it waits in a host call, the pool may grow.
pub(super) async fn handle(
    shared: &Arc<PoolShared>,
    instance: Instance,
    job: &Job,
    introduce: bool,
    began: Instant,
) -> Handled {
    if !shared.can_grow() {
        return instance.handle(job, introduce, began).await;
    }
    let yields = instance.yield_flag();
    let handling = pin!(instance.handle(job, introduce, began));
    noting_waits(shared, yields, handling).await
}

/// Runs a call, and counts it as waiting from each time that it pends until it goes on, unless it only yields.
async fn noting_waits<T>(
    shared: &Arc<PoolShared>,
    yields: YieldFlag,
    mut call: Pin<&mut impl Future<Output = T>>,
) -> T {
    let mut waiting = Waiting {
        shared,
        is_counted: false,
    };
    poll_fn(|context| {
        waiting.set(false);
        // It may be set from a call before.
        yields.take();
        let polled = call.as_mut().poll(context);
        if polled.is_pending() && !yields.take() {
            waiting.set(true);
            shared.grow_if_all_wait();
        }
        polled
    })
    .await
}

/// Counts an instance among those that wait.
struct Waiting<'a> {
    shared: &'a PoolShared,
    is_counted: bool,
}

impl Waiting<'_> {
    fn set(&mut self, waits: bool) {
        match (self.is_counted, waits) {
            (false, true) => drop(self.shared.waiting.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.shared.waiting.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        self.is_counted = waits;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.set(false);
    }
}
