//! Forwards key-value writes that were committed in one shard to the shard of their key. They are applied there in order, each
//! once.
//!
//! A shard that does not answer delays only its own reads and writes. A new owner of a partition does not wait for the forwards
//! of earlier owners; reads of the target shards do.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::timeout;
use tracing::warn;

use crate::arguments::{bytes_of, key_index};
use crate::key_value::forward_queues::PendingForward;
use crate::keys::Shard;
use crate::redis::Redis;
use crate::stream::{EntryId, Page};
use crate::wire::DecodeError;
use crate::{scripts, wire};
use plugnode_message::{KeyValueError, Write};
use plugnode_process::metrics;

/// Maximum number of writes in one call.
const WRITES: usize = 500;
/// Size of a call in bytes at which no further write is added.
const BYTES: usize = 256 << 10;
/// Deadline of a read that waits for forwards.
const READ_DEADLINE: Duration = Duration::from_secs(3);

impl Redis {
    /// Applies the writes that were committed in a shard for these other shards.
    pub(crate) async fn forward(&self, from: &Shard, to: impl IntoIterator<Item = u16>) {
        let targets = to.into_iter().map(|to| async move {
            let target = PendingForward::on(self.forwards.to(to));
            let _turn = target.0.turn.lock().await;
            self.forward_to(from, to).await;
        });
        join_all(targets).await;
    }

    /// Forwards the writes in the background. Reads wait for the end.
    pub(crate) fn forward_soon(&self, from: &Shard, to: impl IntoIterator<Item = u16>) {
        for to in to {
            let pending = PendingForward::on(self.forwards.to(to));
            let (redis, from) = (self.clone(), from.clone());
            self.shutdown.spawn(async move {
                let _turn = pending.0.turn.lock().await;
                redis.forward_to(&from, to).await;
            });
        }
    }

    /// Waits until no forward of this process to a shard is pending.
    ///
    /// # Errors
    /// If that takes longer than three seconds.
    pub(crate) async fn wait_until_forwarded(&self, to: u16) -> Result<(), KeyValueError> {
        // With one shard there are no forwards.
        if self.layout.shards == 1 {
            return Ok(());
        }
        let queue = self.forwards.to(to);
        timeout(READ_DEADLINE, queue.wait_until_idle())
            .await
            .map_err(|_| KeyValueError::Unavailable(format!("shard {to} of Redis does not accept earlier writes")))
    }

    async fn forward_to(&self, from: &Shard, to: u16) {
        let (target, key) = (self.layout.shard(to), from.writes_to(to));
        let page = Page {
            from: EntryId::default(),
            entries: WRITES,
            bytes: BYTES,
        };
        loop {
            let found = page.read(&self.link, &key).await;
            // Stops at the first write of an unknown version, to keep the order.
            let (mut last, mut is_all) = (None, !found.is_empty());
            let mut keys = vec![target.key("from"), target.key("sizes")];
            let mut arguments = vec![bytes_of(from.number)];
            for entry in &found {
                let write = entry.get("w").ok_or("it has no field `w`".into());
                let write = match write.and_then(|write| wire::decode::<Write>(write)) {
                    Ok(write) => write,
                    Err(DecodeError::Version(version)) => {
                        self.unknown_versions
                            .warn_once("key-value writes", from.number, version);
                        is_all = false;
                        break;
                    }
                    Err(DecodeError::Broken(reason)) => {
                        metrics::COMMANDS_DROPPED.increment();
                        warn!(entry = %entry.id, %reason, "a key-value write for another shard is dropped");
                        last = Some(entry.id);
                        continue;
                    }
                };
                last = Some(entry.id);
                let index = key_index(&mut keys, target.bucket(&write.bucket));
                let how: &[u8] = if write.value.is_some() { b"s" } else { b"d" };
                arguments.extend([
                    bytes_of(entry.id.major),
                    bytes_of(entry.id.minor),
                    bytes_of(index),
                    Bytes::from_static(how),
                    write.key.into_bytes(),
                    write.value.unwrap_or_default(),
                ]);
            }
            let Some(last) = last else { return };
            self.change::<()>(&target, &scripts::APPLY_FORWARDED, &keys, &arguments)
                .await;
            let mut trim = redis::cmd("XTRIM");
            trim.arg(&key[..]).arg("MINID").arg(last.next().to_string());
            self.link.ask::<()>(&trim).await;
            if !is_all {
                return;
            }
        }
    }
}
