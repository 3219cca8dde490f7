//! The app-node's membership in the cluster: works on each partition that it leases, and joins again if the cluster declared it
//! dead.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::apps::Apps;
use super::partition;
use super::settings::Retries;
use super::webhooks::Webhooks;
use plugnode_message::{NodeId, Partition};
use plugnode_process::Backoff;
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::{Lease, Leases, Result, Transport};

/// First delay before joining again.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest delay before joining again.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// How often a process that ends checks whether all events are handled.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// A membership that lasted this long resets the delay.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// An app-node that has joined the cluster.
pub(super) struct LeaseHolder {
    pub(super) name: NodeId,
    pub(super) transport: Transport,
    pub(super) apps: Arc<Apps>,
    pub(super) retries: Retries,
    pub(super) webhooks: Arc<RwLock<Webhooks>>,
    pub(super) shutdown: Shutdown,
}

impl LeaseHolder {
    /// Works on leased partitions until the process ends, then ends the instances.
    pub(super) async fn run(self, mut leases: Box<dyn Leases>) {
        let mut backoff = Backoff::new(FIRST_DELAY, MAX_DELAY);
        loop {
            let began = Instant::now();
            let Err(error) = self.hold(leases).await else { break };
            warn!(app_node = %self.name, %error, "app-node lost its place in the cluster; joining again");
            metrics::PLACES_LOST.increment();
            if began.elapsed() >= STABLE_AFTER {
                backoff.reset();
            }
            let Some(joined) = self.join_again(&mut backoff).await else {
                break;
            };
            info!(app_node = %self.name, "app-node joined again");
            leases = joined;
        }
        self.apps.retire();
    }

    /// Waits until this app-node must stop: the process ends and its io-nodes have stopped. If the events would end with the
    /// process, they are handled first, until shortly before the deadline.
    async fn must_stop(&self) {
        self.shutdown.begun().await;
        tokio::select! {
            () = self.events_handled() => {}
            () = self.shutdown.near_deadline() => {
                if !self.transport.events.outlives_process() {
                    let events = self.transport.nodes.backlog().await.unwrap_or_default();
                    warn!(events, "events are lost: they were not handled by the deadline; raise [shutdown] deadline-ms");
                }
            }
        }
    }

    async fn events_handled(&self) {
        self.shutdown.intake_ended().await;
        // Without an io-node in this process, or with a transport that outlives it, the events are left to other app-nodes.
        if self.shutdown.has_intake() && !self.transport.events.outlives_process() {
            while self.transport.nodes.backlog().await.is_ok_and(|events| events > 0) {
                sleep(POLL_INTERVAL).await;
            }
        }
    }

    /// Works on each leased partition in a task of its own. Returns Ok when the process ends, or an error when this app-node lost
    /// its place. All tasks have ended then.
    async fn hold(&self, mut leases: Box<dyn Leases>) -> Result<()> {
        let tasks = TaskTracker::new();
        let stopping = CancellationToken::new();
        let mut latest: HashMap<Partition, JoinHandle<()>> = HashMap::new();
        let mut must_stop = pin!(self.must_stop());
        let ended = loop {
            let lease = tokio::select! {
                () = &mut must_stop => break Ok(()),
                lease = leases.next() => lease,
            };
            let lease = match lease {
                Ok(lease) => lease,
                Err(error) => break Err(error),
            };
            let partition = lease.partition;
            let work = self.work(lease, latest.remove(&partition), stopping.clone());
            latest.insert(partition, tasks.spawn(work));
        };
        // Leave first, so that others get each partition as soon as it is finished, and not when all are.
        drop(leases);
        stopping.cancel();
        tasks.close();
        tasks.wait().await;
        ended
    }

    /// Works on a partition. While an earlier lease of it is still being finished here, the new one waits: a client has one event
    /// at a time.
    fn work(
        &self,
        lease: Lease,
        earlier: Option<JoinHandle<()>>,
        stopping: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (apps, retries, webhooks) = (self.apps.clone(), self.retries, self.webhooks.clone());
        async move {
            if let Some(earlier) = earlier {
                // An error means that it panicked, and then none of its events is running.
                let _ = earlier.await;
            }
            partition::run(lease, apps, webhooks, retries, stopping).await;
        }
    }

    /// Joins, with unlimited retries. None when the process ends.
    async fn join_again(&self, backoff: &mut Backoff) -> Option<Box<dyn Leases>> {
        loop {
            let joining = async {
                sleep(backoff.next_delay()).await;
                self.transport.events.join_app(self.name.clone()).await
            };
            let joined = tokio::select! {
                () = self.shutdown.begun() => return None,
                joined = joining => joined,
            };
            match joined {
                Ok(leases) => return Some(leases),
                Err(error) => warn!(app_node = %self.name, %error, "cannot join the cluster; trying again"),
            }
        }
    }
}
