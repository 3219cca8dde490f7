//! The app-node's place in the cluster: takes each partition that it is leased, and joins anew when it was taken for
//! dead.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::apps::Apps;
use super::partition;
use super::settings::Retries;
use plugnode_message::{NodeId, Partition};
use plugnode_process::Backoff;
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::{Lease, Leases, Result, Transport};

/// How long to wait before joining again, at first
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// and at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often to look, at the end, whether all events are handled.
const LOOK: Duration = Duration::from_millis(5);
/// Who stayed for so long is not in a hurry to be fenced again.
const SETTLED: Duration = Duration::from_secs(30);

/// An app-node that has joined once.
pub(super) struct Ownership {
    pub(super) name: NodeId,
    pub(super) transport: Transport,
    pub(super) apps: Arc<Apps>,
    pub(super) retries: Retries,
    pub(super) shutdown: Shutdown,
}

impl Ownership {
    /// Works on what it is leased until the process ends, and then lets the instances go.
    pub(super) async fn run(self, mut leases: Box<dyn Leases>) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let began = Instant::now();
            let Err(error) = self.own(leases).await else { break };
            warn!(app_node = %self.name, %error, "this app-node lost its place in the cluster; joining anew");
            metrics::PLACES_LOST.increment();
            if began.elapsed() >= SETTLED {
                backoff.reset();
            }
            let Some(joined) = self.join_again(&mut backoff).await else {
                break;
            };
            info!(app_node = %self.name, "app-node joined anew");
            leases = joined;
        }
        self.apps.retire();
    }

    /// Completes when this app-node is to end: when the io-nodes of its process have, and what they took in is handled if
    /// nobody else can do that.
    async fn ending(&self) {
        self.shutdown.begun().await;
        tokio::select! {
            () = self.finished() => {}
            () = self.shutdown.near_deadline() => {
                if !self.transport.events.outlives_process() {
                    let events = self.transport.nodes.backlog().await.unwrap_or_default();
                    warn!(events, "events are lost: they were not handled by the deadline; see [shutdown] deadline-ms");
                }
            }
        }
    }

    async fn finished(&self) {
        self.shutdown.intake_ended().await;
        // An app-node that ends alone leaves what is there to others.
        if self.shutdown.has_intake() && !self.transport.events.outlives_process() {
            while self.transport.nodes.backlog().await.is_ok_and(|events| events > 0) {
                sleep(LOOK).await;
            }
        }
    }

    /// Works on each partition in a task of its own. Ok when the process ends; all tasks have ended then, and also when
    /// this app-node has lost its place.
    async fn own(&self, mut leases: Box<dyn Leases>) -> Result<()> {
        let tasks = TaskTracker::new();
        let stopping = CancellationToken::new();
        let mut latest: HashMap<Partition, JoinHandle<()>> = HashMap::new();
        let mut ending = pin!(self.ending());
        let ended = loop {
            let lease = tokio::select! {
                () = &mut ending => break Ok(()),
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
        // Others may have what is finished here at once, and not only when all of it is.
        drop(leases);
        stopping.cancel();
        tasks.close();
        tasks.wait().await;
        ended
    }

    /// Works on a partition. One that comes back while an earlier lease of it is being finished here waits for that: a
    /// client has one event at a time.
    fn work(
        &self,
        lease: Lease,
        earlier: Option<JoinHandle<()>>,
        stopping: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (apps, retries) = (self.apps.clone(), self.retries);
        async move {
            if let Some(earlier) = earlier {
                // It has panicked otherwise, and then nothing runs of it either.
                let _ = earlier.await;
            }
            partition::run(lease, apps, retries, stopping).await;
        }
    }

    /// Joins, however often it takes. None when the process is to end.
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
