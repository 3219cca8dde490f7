//! How safe a change must be before it counts: known to replicas, synced to disk (`WAIT` and `WAITAOF` of Redis).
//!
//! Redis answers both for the last write of the connection that asks, and a script that finds its work done writes
//! nothing. So each question follows a write of its own, behind the script and on the same connection.

use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::sleep;
use tracing::warn;

use super::RedisSettings;
use super::keys::Shard;
use plugnode_process::jittered;

/// How long Redis waits for replicas and disks before it tells how many have the change, in milliseconds.
const ANSWER_MS: u64 = 500;
/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(50);
/// It is told that changes wait when that many questions in a row found too few.
const TELL_AT: u32 = 3;

/// What must hold of a change.
#[derive(Debug, Clone)]
pub(super) struct Durability {
    replicas: u32,
    aof: bool,
}

impl Durability {
    /// What the settings ask for; None when it is enough that a change is made.
    pub(super) fn of(settings: &RedisSettings) -> Option<Self> {
        let (replicas, aof) = (settings.wait_replicas, settings.wait_aof);
        (replicas > 0 || aof).then_some(Self { replicas, aof })
    }

    /// What to ask behind a change.
    pub(super) fn commands(&self, shard: &Shard) -> Vec<Cmd> {
        let mut write = redis::cmd("HINCRBY");
        write.arg(&shard.key("clock")[..]).arg("waits").arg(1);
        let mut wait = redis::cmd(if self.aof { "WAITAOF" } else { "WAIT" });
        if self.aof {
            wait.arg(1);
        }
        wait.arg(self.replicas).arg(ANSWER_MS);
        vec![write, wait]
    }

    /// Whether the answers say that the change is safe.
    pub(super) fn is_met(&self, answers: &[Value]) -> bool {
        let least = |value: &Value, least: u32| matches!(value, Value::Int(found) if *found >= i64::from(least));
        match answers.last() {
            Some(Value::Array(both)) => both.len() == 2 && least(&both[0], 1) && least(&both[1], self.replicas),
            Some(found) => !self.aof && least(found, self.replicas),
            None => false,
        }
    }
}

/// Somebody who waits for a change to be safe.
#[derive(Default)]
pub(super) struct Waiting {
    times: u32,
}

impl Waiting {
    /// It was told that the change is not safe yet: waits a little, and says so when it takes long.
    pub(super) async fn told(&mut self, durability: &Durability) {
        self.times += 1;
        if self.times == TELL_AT {
            warn!(
                replicas = durability.replicas,
                aof = durability.aof,
                "changes wait: too few replicas have them, or no disk; see wait-replicas and wait-aof under [transport]"
            );
        }
        sleep(jittered(PAUSE)).await;
    }
}
