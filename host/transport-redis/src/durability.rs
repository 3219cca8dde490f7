//! Durability of a change before it counts: acknowledged by replicas (`WAIT`) and synced to disk (`WAITAOF`).
//!
//! Redis answers both commands for the last write of the same connection, and a repeated script may write nothing. So a small
//! write goes between the script and the command.

use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::sleep;
use tracing::warn;

use crate::keys::Shard;
use crate::settings::RedisSettings;
use plugnode_process::jittered;

/// Timeout of `WAIT` and `WAITAOF`, in milliseconds.
const ANSWER_MS: u64 = 500;
/// Backoff before the next attempt.
const PAUSE: Duration = Duration::from_millis(50);
/// Number of failed attempts in a row after which a warning is logged.
const WARN_AT: u32 = 3;

/// Required durability of a change.
#[derive(Debug, Clone)]
pub(crate) struct Durability {
    replicas: u32,
    aof: bool,
}

impl Durability {
    /// The configured durability; none if execution is enough.
    pub(crate) fn of(settings: &RedisSettings) -> Option<Self> {
        let (replicas, aof) = (settings.wait_replicas, settings.wait_aof);
        (replicas > 0 || aof).then_some(Self { replicas, aof })
    }

    /// Commands to send behind a change.
    pub(crate) fn commands(&self, shard: &Shard) -> Vec<Cmd> {
        let mut write = redis::cmd("HINCRBY");
        write.arg(&shard.key("clock")[..]).arg("waits").arg(1);
        let mut wait = redis::cmd(if self.aof { "WAITAOF" } else { "WAIT" });
        if self.aof {
            wait.arg(1);
        }
        wait.arg(self.replicas).arg(ANSWER_MS);
        vec![write, wait]
    }

    /// Whether the answers to these commands confirm the change.
    pub(crate) fn is_met(&self, answers: &[Value]) -> bool {
        let least = |value: &Value, least: u32| matches!(value, Value::Int(found) if *found >= i64::from(least));
        match answers.last() {
            Some(Value::Array(both)) => both.len() == 2 && least(&both[0], 1) && least(&both[1], self.replicas),
            Some(found) => !self.aof && least(found, self.replicas),
            None => false,
        }
    }
}

/// Attempts of one change to reach the required durability.
#[derive(Default)]
pub(crate) struct DurabilityWait {
    attempts: u32,
}

impl DurabilityWait {
    /// Pauses after a failed attempt, and warns after several.
    pub(crate) async fn pause(&mut self, durability: &Durability) {
        self.attempts += 1;
        if self.attempts == WARN_AT {
            warn!(
                replicas = durability.replicas,
                aof = durability.aof,
                "changes wait: too few replicas have them, or they are not on disk; see wait-replicas and wait-aof under \
                 [transport]"
            );
        }
        sleep(jittered(PAUSE)).await;
    }
}
