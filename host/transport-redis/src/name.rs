//! A node's name while another incarnation may have it: one whose lease has run out loses it, one that gives signs of life
//! keeps it, and who comes second is told so.

use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use super::Redis;
use plugnode_message::NodeId;
use plugnode_transport::{Result, TransportError};

/// Who has a name.
pub(super) struct Holder {
    pub(super) incarnation: String,
    /// When its lease runs out, as Redis keeps it.
    pub(super) deadline: String,
    /// How long until then.
    pub(super) left: Duration,
}

/// Waits for a name in one shard.
pub(super) struct NameWait<'a> {
    redis: &'a Redis,
    /// `io-node` or `app-node`, which is also the section of the config that gives the name.
    role: &'static str,
    name: &'a NodeId,
    seen: Option<Holder>,
}

impl<'a> NameWait<'a> {
    pub(super) fn new(redis: &'a Redis, role: &'static str, name: &'a NodeId) -> Self {
        Self {
            redis,
            role,
            name,
            seen: None,
        }
    }

    /// Waits a moment before the next attempt.
    ///
    /// # Errors
    /// When the holder has renewed its lease since the attempt before: it lives.
    pub(super) async fn held_by(&mut self, holder: Holder) -> Result<()> {
        let (role, name) = (self.role, self.name.as_str());
        let seen = self.seen.as_ref().filter(|seen| seen.incarnation == holder.incarnation);
        if seen.is_some_and(|seen| seen.deadline != holder.deadline) {
            return Err(TransportError::Unusable(format!(
                "the name {name:?} is taken: another {role} of this name is in the cluster and gives signs of life; give \
                 this one a [{role}] name of its own, or stop the other"
            )));
        }
        if self.seen.is_none() {
            let seconds = holder.left.as_secs_f32();
            warn!(
                "the name {name:?} is held by an earlier {role}: waiting until its lease has run out, for {seconds:.1} s"
            );
        }
        // Long enough for a sign of life, if there is to be one.
        let pause = holder.left.min(2 * self.redis.settings.beat()) + Duration::from_millis(5);
        self.seen = Some(holder);
        sleep(pause).await;
        Ok(())
    }
}
