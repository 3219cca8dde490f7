//! Works on one leased partition: reads its log, gives the events to a [`Scheduler`], and commits the outcomes in batches.
//!
//! The log is always read to its end. The number of events in flight is limited by the transport: it accepts no more than its
//! backlog, and of each client no more than its share.

use std::iter;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::apps::Apps;
use super::lookup::Lookup;
use super::patches::Patches;
use super::scheduler::Scheduler;
use super::settings::Retries;
use super::webhooks::Webhooks;
use plugnode_runtime::JobOutcome;
use plugnode_transport::{Commits, ConflictedOutcome, Lease, Log, Result, TransportError};

/// Number of job outcomes that are processed together.
const BATCH: usize = 256;
/// How long a partition is kept after an error before the lease is returned. The next owner may get the same error.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// Works on a partition until its lease ends or `stopping` is cancelled. When it returns, none of its events is being handled.
pub(super) async fn run(
    lease: Lease,
    apps: Arc<Apps>,
    webhooks: Arc<RwLock<Webhooks>>,
    retries: Retries,
    stopping: CancellationToken,
) {
    let Lease {
        partition,
        mut log,
        commits,
        patches,
    } = lease;
    debug!(%partition, "partition leased");
    let jobs = TaskTracker::new();
    let (scheduler, outcomes, lookups) = Scheduler::new(apps, webhooks, retries, Patches::new(patches), jobs.clone());
    let ended = work_on(&mut *log, &*commits, scheduler, outcomes, lookups, &stopping).await;
    // Jobs of a lost partition run on in the pool, and their outcomes are dropped. They are awaited, because the next lease may be
    // this node's again and begins with the same events.
    jobs.close();
    jobs.wait().await;
    match ended {
        Ok(()) => debug!(%partition, "partition returned"),
        Err(error) if stopping.is_cancelled() => debug!(%partition, %error, "partition lost"),
        // The transport reports lost data once for the node, and later: until then it looks as if another node had the partition.
        Err(TransportError::Fenced) => {
            warn!(%partition, "partition lost: another app-node has the lease, or the transport lost data");
        }
        Err(error) => {
            warn!(%partition, %error, "cannot work on the partition; returning its lease");
            tokio::select! {
                () = sleep(PAUSE_AFTER_ERROR) => {}
                () = stopping.cancelled() => {}
            }
        }
    }
}

async fn work_on(
    log: &mut dyn Log,
    commits: &dyn Commits,
    mut scheduler: Scheduler,
    mut outcomes: mpsc::Receiver<JobOutcome>,
    mut lookups: mpsc::Receiver<Lookup>,
    stopping: &CancellationToken,
) -> Result<()> {
    let mut reading = true;
    let mut batch = Vec::with_capacity(BATCH);
    // One call at a time, so that outcomes take effect in the order of the completions.
    let mut committing: Option<BoxFuture<'_, Result<Vec<ConflictedOutcome>>>> = None;
    // Pinned once and not polled anew for each event: all partitions of the node share its waker list.
    let mut stopped = pin!(stopping.cancelled());
    while reading || !scheduler.is_empty() {
        if committing.is_none() && scheduler.has_outcomes() {
            if scheduler.has_running() {
                // Outcomes that arrive meanwhile go into the same call.
                yield_now().await;
                scheduler.process_outcomes(iter::from_fn(|| outcomes.try_recv().ok()), reading);
            }
            committing = scheduler.next_call().map(|outcomes| commits.commit(outcomes));
        }
        let retry = scheduler.next_retry();
        tokio::select! {
            biased;
            committed = async { committing.as_mut().expect("guarded").await }, if committing.is_some() => {
                committing = None;
                scheduler.call_ended(committed?, reading);
            }
            _ = outcomes.recv_many(&mut batch, BATCH), if scheduler.has_running() => {
                scheduler.process_outcomes(batch.drain(..), reading);
            }
            Some(lookup) = lookups.recv(), if scheduler.has_running() => scheduler.process_lookup(lookup, reading),
            () = async { sleep_until(retry.expect("guarded")).await }, if retry.is_some() => scheduler.retry_due(),
            () = &mut stopped, if reading => {
                scheduler.stop();
                reading = false;
            }
            deliveries = log.next(), if reading => match deliveries? {
                Some(deliveries) => deliveries.into_iter().for_each(|delivery| scheduler.accept(delivery)),
                None => {
                    scheduler.stop();
                    reading = false;
                }
            },
        }
    }
    Ok(())
}
