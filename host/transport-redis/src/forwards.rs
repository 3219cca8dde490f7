//! Key-value writes that were committed in one shard and belong to another: they are applied there in their order, each once.
//!
//! A shard that does not answer holds up only what is written to it or read of it. Whoever takes over a partition goes on
//! without waiting for what its owners before have written elsewhere, and reads of those shards wait instead.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use super::keys::Shard;
use super::stream::{EntryId, Page};
use super::wire::Unread;
use super::{Redis, bytes_of, place_among, scripts, wire};
use plugnode_message::{KeyValueError, Write};
use plugnode_process::metrics;

/// How many writes are applied at once,
const WRITES: usize = 500;
/// and how many bytes, unless one alone has more.
const BYTES: usize = 256 << 10;
/// How long somebody waits who wants to read what is on its way.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is on its way, as this process knows it. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Forwards(Arc<Mutex<HashMap<u16, Arc<Target>>>>);

/// A shard that writes are on their way to.
struct Target {
    /// How many wait until it has them.
    pending: watch::Sender<usize>,
    /// One at a time: whoever comes later finds that it was done.
    turn: tokio::sync::Mutex<()>,
}

impl Default for Target {
    fn default() -> Self {
        Self {
            pending: watch::Sender::new(0),
            turn: tokio::sync::Mutex::default(),
        }
    }
}

/// Somebody who waits until a shard has what was written to it.
struct Pending(Arc<Target>);

impl Pending {
    fn on(target: Arc<Target>) -> Self {
        target.pending.send_modify(|pending| *pending += 1);
        Self(target)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.send_modify(|pending| *pending -= 1);
    }
}

impl Forwards {
    fn to(&self, shard: u16) -> Arc<Target> {
        let mut targets = self.0.lock().expect("nothing panics while it holds this lock");
        targets.entry(shard).or_default().clone()
    }
}

impl Redis {
    /// Applies what was committed in a shard and belongs to these others.
    pub(super) async fn forward(&self, from: &Shard, to: impl IntoIterator<Item = u16>) {
        let targets = to.into_iter().map(|to| async move {
            let target = Pending::on(self.forwards.to(to));
            let _turn = target.0.turn.lock().await;
            self.forward_to(from, to).await;
        });
        join_all(targets).await;
    }

    /// The same, without waiting for it: reads do.
    pub(super) fn forward_soon(&self, from: &Shard, to: impl IntoIterator<Item = u16>) {
        for to in to {
            let pending = Pending::on(self.forwards.to(to));
            let (redis, from) = (self.clone(), from.clone());
            self.shutdown.spawn(async move {
                let _turn = pending.0.turn.lock().await;
                redis.forward_to(&from, to).await;
            });
        }
    }

    /// Waits until a shard has what is on its way to it.
    pub(super) async fn is_forwarded(&self, to: u16) -> Result<(), KeyValueError> {
        // Writes of a single shard are never on their way.
        if self.layout.shards == 1 {
            return Ok(());
        }
        let mut pending = self.forwards.to(to).pending.subscribe();
        let arrived = timeout(PATIENCE, pending.wait_for(|pending| *pending == 0)).await;
        match arrived {
            Ok(_) => Ok(()),
            Err(_) => Err(KeyValueError::Unavailable(format!(
                "shard {to} of Redis does not take what was written to it before"
            ))),
        }
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
            // Up to the first that is for a node of another version: their order is kept.
            let (mut last, mut is_all) = (None, !found.is_empty());
            let mut keys = vec![target.key("from"), target.key("sizes")];
            let mut arguments = vec![bytes_of(from.number)];
            for entry in &found {
                let write = entry.get("w").ok_or("it has no field `w`".into());
                let write = match write.and_then(|write| wire::decode::<Write>(write)) {
                    Ok(write) => write,
                    Err(Unread::Version(version)) => {
                        self.strangers.tell("key-value writes", from.number, version);
                        is_all = false;
                        break;
                    }
                    Err(Unread::Broken(reason)) => {
                        metrics::COMMANDS_DROPPED.increment();
                        warn!(entry = %entry.id, "a write for another shard was left out: {reason}");
                        last = Some(entry.id);
                        continue;
                    }
                };
                last = Some(entry.id);
                let place = place_among(&mut keys, target.bucket(&write.bucket));
                let how: &[u8] = if write.value.is_some() { b"s" } else { b"d" };
                arguments.extend([
                    bytes_of(entry.id.major),
                    bytes_of(entry.id.minor),
                    bytes_of(place),
                    Bytes::from_static(how),
                    write.key.into_bytes(),
                    write.value.unwrap_or_default(),
                ]);
            }
            let Some(last) = last else { return };
            self.change::<()>(&target, &scripts::APPLY, &keys, &arguments).await;
            let mut trim = ::redis::cmd("XTRIM");
            trim.arg(&key[..]).arg("MINID").arg(last.next().to_string());
            self.link.ask::<()>(&trim).await;
            if !is_all {
                return;
            }
        }
    }
}
