//! Claim of a node name that another incarnation may hold: an expired lease frees the name, and a renewed one refuses the claim.

use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use crate::error::unusable;
use crate::redis::Redis;
use plugnode_message::NodeId;
use plugnode_transport::Result;

/// Holder of a name.
pub(crate) struct NameHolder {
    pub(crate) incarnation: String,
    /// End of its lease, in the shard's time.
    pub(crate) deadline: String,
    /// Time until then.
    pub(crate) left: Duration,
}

/// Repeated attempts to claim a name in one shard.
pub(crate) struct NameClaim<'a> {
    redis: &'a Redis,
    /// `io-node` or `app-node`, which is also the config section of the name.
    role: &'static str,
    name: &'a NodeId,
    seen: Option<NameHolder>,
}

impl<'a> NameClaim<'a> {
    pub(crate) fn new(redis: &'a Redis, role: &'static str, name: &'a NodeId) -> Self {
        Self {
            redis,
            role,
            name,
            seen: None,
        }
    }

    /// Pauses after an attempt that found this holder.
    ///
    /// # Errors
    /// If the holder has renewed its lease since the attempt before, and so is alive.
    pub(crate) async fn wait_for(&mut self, holder: NameHolder) -> Result<()> {
        let (role, name) = (self.role, self.name.as_str());
        let seen = self.seen.as_ref().filter(|seen| seen.incarnation == holder.incarnation);
        if seen.is_some_and(|seen| seen.deadline != holder.deadline) {
            return Err(unusable(format!(
                "the name {name:?} is taken: another {role} of this name is in the cluster and sends heartbeats; give \
                 this one a [{role}] name of its own, or stop the other"
            )));
        }
        if self.seen.is_none() {
            let seconds = holder.left.as_secs_f32();
            warn!(
                "the name {name:?} is held by an earlier {role}: waiting until its lease has run out, for {seconds:.1} s"
            );
        }
        // Long enough for the next heartbeat of a living holder.
        let pause = holder.left.min(2 * self.redis.settings.heartbeat_interval()) + Duration::from_millis(5);
        self.seen = Some(holder);
        sleep(pause).await;
        Ok(())
    }
}
