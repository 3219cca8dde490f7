//! Leases of one app-node in one shard: sends heartbeats, claims the partitions that rendezvous hashing assigns to this node, and
//! gives the others back. It also keeps the logs of its partitions short.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::app_node::claim::{ClaimedPartition, claim};
use crate::app_node::commits::RedisCommits;
use crate::app_node::committer::commit::Commit;
use crate::app_node::held_lease::{HeldLease, LeaseEnd, ReturnedLease};
use crate::app_node::log::RedisLog;
use crate::app_node::log_reader::LogReader;
use crate::app_node::routes::Routes;
use crate::arguments::bytes_of;
use crate::keys::Shard;
use crate::membership::heartbeat::{Heard, Heartbeat};
use crate::membership::lost_io_nodes::disconnect_clients;
use crate::membership::member::{ClusterView, Member, Role};
use crate::redis::Redis;
use crate::scripts;
use plugnode_message::Partition;
use plugnode_transport::{Lease, Result, owner_of};

/// Number of newer events of its partition during which an event keeps its place in the log. The progress names each committed event
/// behind an open one, and every commit writes it.
const SET_ASIDE_BEHIND: usize = 256;

/// Manages the leases of one app-node in one shard.
pub(crate) struct LeaseManager {
    pub(crate) redis: Redis,
    pub(crate) member: Member,
    pub(crate) shard: Shard,
    pub(crate) reader: LogReader,
    pub(crate) commits: mpsc::Sender<Commit>,
    pub(crate) routes: Routes,
    pub(crate) grants: mpsc::UnboundedSender<Lease>,
    pub(crate) returns: mpsc::UnboundedSender<ReturnedLease>,
    /// Cancelled when the node is fenced in any shard.
    pub(crate) fenced: CancellationToken,
    pub(crate) held: HashMap<Partition, HeldPartition>,
    /// The view with which the held partitions agree; none if there may be something to do.
    pub(crate) settled: Option<Arc<ClusterView>>,
}

/// A partition that this node holds.
pub(crate) struct HeldPartition {
    lease: String,
    end: Arc<LeaseEnd>,
    held_lease: Weak<HeldLease>,
    /// Number up to which its log is trimmed.
    trimmed: u64,
}

impl LeaseManager {
    /// Runs until the node is fenced, or has left and given all partitions back. Signals its join.
    pub(crate) async fn run(
        mut self,
        joined: Option<Heartbeat>,
        entered: oneshot::Sender<()>,
        mut returned: mpsc::UnboundedReceiver<ReturnedLease>,
    ) -> Result<()> {
        let mut heartbeat = match joined {
            Some(heartbeat) => heartbeat,
            None => Heartbeat::join(&self.redis, &self.shard, &self.member).await?,
        };
        heartbeat.set_role(Role::App);
        let _ = entered.send(());
        loop {
            tokio::select! {
                biased;
                Some(lease) = returned.recv() => {
                    heartbeat.during(self.give_back(lease)).await?;
                    // After the last partition of a leaving node, other nodes wait for its departure.
                    if heartbeat.role() != Role::Leaving || !self.held.is_empty() {
                        continue;
                    }
                }
                () = self.grants.closed(), if heartbeat.role() != Role::Leaving => heartbeat.set_role(Role::Leaving),
                () = heartbeat.due() => {}
            }
            if heartbeat.role() == Role::Leaving && self.held.is_empty() && returned.is_empty() {
                self.leave().await;
                return Ok(());
            }
            let heard = heartbeat.send().await?;
            heartbeat.during(self.work(&heard)).await?;
        }
    }

    /// Does the work that follows a heartbeat.
    async fn work(&mut self, Heard { view, tail, .. }: &Heard) {
        if self.settled.as_ref().is_none_or(|settled| !Arc::ptr_eq(settled, view)) {
            self.settled = None;
            if self.reconcile(view).await {
                self.settled = Some(view.clone());
            }
        }
        self.set_aside_old_events();
        self.trim().await;
        self.reader.find_missed(*tail).await;
        disconnect_clients(&self.redis, &self.shard, &view.lost).await;
    }

    /// Compares the held partitions with the assigned ones: claims, revokes and releases. Returns whether nothing was to be
    /// claimed or released.
    async fn reconcile(&mut self, view: &ClusterView) -> bool {
        let own_suffix = format!(":{}", self.member.id);
        let (mut wanted, mut orphaned) = (Vec::new(), Vec::new());
        for partition in self.redis.layout.partitions_of(self.shard.number) {
            let lease = view.leases.get(&partition);
            let is_mine = !self.grants.is_closed()
                && owner_of(partition, view.apps.iter()).is_some_and(|owner| *owner == self.member.name);
            match self.held.get(&partition) {
                Some(held) if lease != Some(&held.lease) => {
                    debug!(%partition, "another node holds the partition");
                    held.end.lost.cancel();
                }
                Some(held) if !is_mine => held.end.revoked.cancel(),
                Some(_) => {}
                None if is_mine => wanted.push(partition),
                // Claimed by a late copy of an earlier call.
                None => orphaned.extend(
                    lease
                        .filter(|lease| lease.ends_with(&own_suffix))
                        .map(|lease| (partition, lease)),
                ),
            }
        }
        let is_settled = wanted.is_empty() && orphaned.is_empty();
        for (partition, lease) in orphaned {
            self.release(partition, lease).await;
        }
        if !wanted.is_empty() {
            for claimed in claim(&self.redis, &self.shard, &self.member, &wanted).await {
                self.grant(claimed);
            }
        }
        is_settled
    }

    fn grant(&mut self, claimed: ClaimedPartition) {
        let ClaimedPartition {
            partition,
            lease,
            progress,
            refused,
            set_aside,
            patches,
            suspects,
        } = claimed;
        let end = Arc::new(LeaseEnd {
            lost: self.fenced.child_token(),
            ..Default::default()
        });
        let from = progress.up_to();
        let held_lease = Arc::new(HeldLease {
            partition,
            lease: lease.clone(),
            end: end.clone(),
            progress: Mutex::new(progress),
            changed: Arc::default(),
            returns: self.returns.clone(),
        });
        let held = HeldPartition {
            lease,
            end,
            held_lease: Arc::downgrade(&held_lease),
            trimmed: 0,
        };
        self.held.insert(partition, held);
        let commits = RedisCommits {
            redis: self.redis.clone(),
            routes: self.routes.clone(),
            commits: self.commits.clone(),
            held_lease,
        };
        let log = RedisLog {
            feed: self.reader.add(partition, from),
            set_aside,
            refused,
            suspects,
            commits: commits.clone(),
        };
        let lease = Lease {
            partition,
            log: Box::new(log),
            commits: Arc::new(commits),
            patches,
        };
        // If the node is leaving, dropping the lease gives it back.
        let _ = self.grants.send(lease);
    }

    async fn give_back(&mut self, returned: ReturnedLease) {
        let ReturnedLease { partition, lease } = returned;
        if self.held.get(&partition).is_none_or(|held| held.lease != lease) {
            return;
        }
        self.reader.remove(partition);
        self.held.remove(&partition);
        self.settled = None;
        self.release(partition, &lease).await;
    }

    /// Sets events aside that have been in flight while many newer events of their partition were committed, so that they do not keep
    /// the log behind them.
    fn set_aside_old_events(&self) {
        let behind = SET_ASIDE_BEHIND.min(self.redis.settings.common.backlog.events) as u64;
        for held_lease in self.held.values().filter_map(|held| held.held_lease.upgrade()) {
            let old = held_lease.progress().holds_log_at(behind);
            if let Some(old) = old {
                let (done, _) = oneshot::channel();
                // If the queue is full, the next heartbeat tries again.
                let _ = self.commits.try_send(Commit {
                    held_lease,
                    outcomes: VecDeque::new(),
                    set_aside: Some(old),
                    other_shards: BTreeSet::new(),
                    done,
                });
            }
        }
    }

    /// Trims committed events from the logs of partitions that have committed more.
    async fn trim(&mut self) {
        let (mut keys, mut partitions) = (vec![self.shard.key("done")], Vec::new());
        for (partition, held) in &self.held {
            let up_to = held
                .held_lease
                .upgrade()
                .map(|held_lease| held_lease.progress().up_to());
            if up_to.is_some_and(|up_to| up_to != held.trimmed) {
                keys.push(self.shard.log(*partition));
                partitions.push(*partition);
            }
        }
        if partitions.is_empty() {
            return;
        }
        let arguments: Vec<Bytes> = partitions.iter().map(bytes_of).collect();
        let trimmed: Vec<u64> = self.redis.link.run(&scripts::TRIM, &keys, &arguments).await;
        for (partition, trimmed) in partitions.iter().zip(trimmed) {
            if let Some(held) = self.held.get_mut(partition) {
                held.trimmed = trimmed;
            }
        }
    }

    async fn release(&self, partition: Partition, lease: &str) {
        let keys = ["owner", "clock"].map(|name| self.shard.key(name));
        let arguments = [bytes_of(partition), bytes_of(lease)];
        self.redis
            .link
            .run::<()>(&scripts::RETURN_LEASE, &keys, &arguments)
            .await;
    }

    async fn leave(self) {
        let keys = ["app", "app:until", "clock"].map(|name| self.shard.key(name));
        let arguments = [bytes_of(&self.member.name), bytes_of(&self.member.incarnation)];
        self.redis.link.run::<()>(&scripts::LEAVE_APP, &keys, &arguments).await;
    }
}

#[cfg(test)]
mod tests;
