//! A member's signs of life in one shard. They go on whatever the member does there meanwhile, so that nobody is taken for
//! dead who only waits, be it for replicas or for another shard.
//!
//! What is told while something is done is not looked at: it may be older than what was done. Whoever acts by a sign of
//! life has given it after all that.

use std::future::Future;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::Redis;
use super::data_watch::Losses;
use super::keys::Shard;
use super::membership::{Beat, Heard, Member, Role};
use super::name::NameWait;
use plugnode_transport::Renewal;
use plugnode_transport::{Result, TransportError};

/// A member's signs of life in one shard.
pub(super) struct Pulse {
    redis: Redis,
    shard: Shard,
    member: Member,
    role: Role,
    times: Interval,
    /// What the shard had lost before the first one.
    losses: Option<Losses>,
    renewal: Renewal,
}

impl Pulse {
    /// Of a member that gives the first one at once.
    pub(super) fn new(redis: &Redis, shard: &Shard, member: &Member, role: Role) -> Self {
        let mut times = interval(redis.settings.beat());
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            redis: redis.clone(),
            shard: shard.clone(),
            member: member.clone(),
            role,
            times,
            losses: None,
            renewal: redis.standing.place(),
        }
    }

    /// Of an app-node that joins by the first one.
    ///
    /// # Errors
    /// When another has its name.
    pub(super) async fn join(redis: &Redis, shard: &Shard, member: &Member) -> Result<Self> {
        let mut pulse = Self::new(redis, shard, member, Role::Joining);
        pulse.next().await?;
        Ok(pulse)
    }

    /// What the member is in this shard.
    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Tells from now on that the member is something else here, and at once.
    pub(super) fn becomes(&mut self, role: Role) {
        self.role = role;
        self.times.reset_immediately();
    }

    /// Waits until the next one is due. Cancel safe.
    pub(super) async fn due(&mut self) {
        self.times.tick().await;
    }

    /// Gives the next one when it is due.
    ///
    /// # Errors
    /// When the node was fenced, or another has its name.
    pub(super) async fn next(&mut self) -> Result<Beat> {
        self.due().await;
        self.beat().await
    }

    /// Gives one. One that is not in yet waits for its name.
    ///
    /// # Errors
    /// When the node was fenced, another has its name, or the shard has lost data on which the member's place rests.
    pub(super) async fn beat(&mut self) -> Result<Beat> {
        let member = self.member.clone();
        let redis = self.redis.clone();
        let mut name = NameWait::new(&redis, "app-node", &member.name);
        loop {
            let sent = Instant::now();
            let heard = member.beat(&redis, &self.shard, self.role).await;
            let losses = redis.data_watch.losses(self.shard.number);
            let before = *self.losses.get_or_insert(losses);
            // What an io-node has handed in may be there although later writes are gone: it looks for itself.
            if before.emptied != losses.emptied || self.role != Role::Io && before != losses {
                return Err(TransportError::DataLost);
            }
            match heard {
                Heard::Alive(beat) => {
                    self.renewal.renewed(sent);
                    return Ok(beat);
                }
                Heard::Fenced => return Err(TransportError::Fenced),
                Heard::Held(holder) => name.held_by(holder).await?,
            }
        }
    }

    /// Gives signs of life for as long as something is done.
    ///
    /// # Errors
    /// When the node was fenced; then it is not done to its end.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T> {
        let beating = async {
            loop {
                if let Err(fenced) = self.next().await {
                    return fenced;
                }
            }
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            fenced = beating => Err(fenced),
        }
    }
}
