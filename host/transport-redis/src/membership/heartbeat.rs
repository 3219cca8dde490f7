//! Periodic heartbeats of one member in one shard. They continue while the member waits for other work in the shard, such as
//! replicas or another shard, so a slow member is not taken for dead.
//!
//! The answers during such work are dropped, because they may be older than its result. The member acts on the first
//! heartbeat that it sends afterwards.
//!
//! They are frequent for a lease after each change of the cluster, because more changes follow it, such as partitions that move.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use crate::data_watch::LossCounts;
use crate::keys::Shard;
use crate::membership::member::{ClusterView, HeartbeatAnswer, Member, Role};
use crate::membership::name_claim::NameClaim;
use crate::redis::Redis;
use plugnode_transport::{LeaseRenewal, Result, TransportError};

/// Heartbeats of a member in one shard.
pub(crate) struct Heartbeat {
    redis: Redis,
    shard: Shard,
    member: Member,
    role: Role,
    /// Time of the next one.
    next: Instant,
    /// Heartbeats are frequent until then.
    frequent_until: Instant,
    /// Losses of the shard at the first heartbeat.
    losses: Option<LossCounts>,
    renewal: LeaseRenewal,
    /// The cluster as of the last heartbeat.
    view: Arc<ClusterView>,
}

/// Answer to a heartbeat of a living member.
pub(crate) struct Heard {
    /// The same as before if nothing has changed.
    pub(crate) view: Arc<ClusterView>,
    /// Number of events that the shard ever accepted.
    pub(crate) tail: u64,
    /// Number of the io-node's last ingest call; 0 for an app-node.
    pub(crate) last_call: u64,
}

impl Heartbeat {
    /// Heartbeats of a member; the first is due at once.
    pub(crate) fn new(redis: &Redis, shard: &Shard, member: &Member, role: Role) -> Self {
        let now = Instant::now();
        Self {
            redis: redis.clone(),
            shard: shard.clone(),
            member: member.clone(),
            role,
            next: now,
            frequent_until: now + redis.settings.lease,
            losses: None,
            renewal: redis.lease_health.register(),
            view: Arc::default(),
        }
    }

    /// Joins an app-node by its first heartbeat.
    ///
    /// # Errors
    /// If another app-node holds its name.
    pub(crate) async fn join(redis: &Redis, shard: &Shard, member: &Member) -> Result<Self> {
        let mut heartbeat = Self::new(redis, shard, member, Role::Joining);
        heartbeat.next().await?;
        Ok(heartbeat)
    }

    /// Role of the member in this shard.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Changes the role, and makes the next heartbeat due at once.
    pub(crate) fn set_role(&mut self, role: Role) {
        self.role = role;
        self.next = Instant::now();
    }

    /// Waits until the next heartbeat is due. Cancel safe.
    pub(crate) async fn due(&mut self) {
        sleep_until(self.next).await;
    }

    /// Sends the next heartbeat when it is due.
    ///
    /// # Errors
    /// The same as for [`send`](Self::send).
    pub(crate) async fn next(&mut self) -> Result<Heard> {
        self.due().await;
        self.send().await
    }

    /// Sends a heartbeat. A joining member waits until its name is free.
    ///
    /// # Errors
    /// If the member is fenced, a living node holds its name, or the shard has lost data that its membership depends on.
    pub(crate) async fn send(&mut self) -> Result<Heard> {
        let member = self.member.clone();
        let redis = self.redis.clone();
        let mut name = NameClaim::new(&redis, "app-node", &member.name);
        loop {
            let (sent, known) = (Instant::now(), self.view.clone());
            let answer = member.heartbeat(&redis, &self.shard, self.role, &mut self.view).await;
            let losses = redis.data_watch.losses(self.shard.number);
            let before = *self.losses.get_or_insert(losses);
            // An io-node compares the number of its last call itself: later writes may be lost without its events.
            if before.emptied != losses.emptied || self.role != Role::Io && before != losses {
                return Err(TransportError::DataLost);
            }
            match answer {
                HeartbeatAnswer::Alive { tail, last_call } => {
                    self.renewal.renewed(sent);
                    let view = self.view.clone();
                    if !Arc::ptr_eq(&view, &known) || self.role == Role::Leaving {
                        self.frequent_until = sent + redis.settings.lease;
                    }
                    self.next = match sent < self.frequent_until {
                        true => sent + redis.settings.heartbeat_interval(),
                        false => sent + redis.settings.idle_heartbeat_interval(),
                    };
                    return Ok(Heard { view, tail, last_call });
                }
                HeartbeatAnswer::Fenced => return Err(TransportError::Fenced),
                HeartbeatAnswer::NameHeld(holder) => name.wait_for(holder).await?,
            }
        }
    }

    /// Does some work and sends heartbeats until it ends.
    ///
    /// # Errors
    /// If a heartbeat fails. The work is then cancelled.
    pub(crate) async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T> {
        let heartbeats = async {
            loop {
                if let Err(fenced) = self.next().await {
                    return fenced;
                }
            }
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            fenced = heartbeats => Err(fenced),
        }
    }
}
