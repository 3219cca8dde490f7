//! The keys of the API: who may do what, where, and how fast.
//!
//! Only the SHA-256 of a secret is kept. A presented secret is hashed and compared with all of them in constant time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use engine_io::Gcra;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::settings::{ApiKey, ApiSettings};
use plugnode_message::namespaces::Namespaces;

/// Bytes of a secret, at least.
const MIN_SECRET: usize = 32;
/// Bytes of calls that may wait to be accepted. Half of them are divided among the keys.
const MAX_WAITING: usize = 8 << 20;
/// The entry of `namespaces` that means all.
const ALL: &str = "*";

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// Emit events to clients.
    Publish,
    /// Subscribe clients to channels.
    Join,
    /// Unsubscribe clients from channels.
    Leave,
    /// Disconnect clients.
    Disconnect,
    /// Find clients.
    Find,
    /// Read who is in a channel.
    Presence,
    /// Give custom events to handlers.
    Event,
}

/// The keys, and the calls that they may have running.
#[derive(Debug)]
pub struct KeyRing {
    keys: Vec<Key>,
    /// Room of any key; each has room of its own besides, so that none takes all.
    shared: Room,
}

/// Room for what is going on.
#[derive(Debug)]
struct Room {
    /// Calls that may run.
    calls: Semaphore,
    /// Bytes of calls that may wait to be accepted.
    queue: Arc<Semaphore>,
}

impl Room {
    fn new(calls: usize, queue: usize) -> Self {
        Self {
            calls: Semaphore::new(calls),
            queue: Arc::new(Semaphore::new(queue)),
        }
    }
}

/// A key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    /// SHA-256 of each secret.
    digests: Vec<[u8; 32]>,
    all_namespaces: bool,
    namespaces: Namespaces<()>,
    permissions: Vec<Permission>,
    rate: Gcra,
    /// The theoretical arrival time of the next call.
    arrival: Mutex<Option<Instant>>,
    /// Room of this key alone.
    own: Room,
}

impl KeyRing {
    /// Reads the keys.
    ///
    /// # Errors
    /// If a key cannot be read or used. The error does not contain the secret.
    pub fn read(settings: &ApiSettings) -> Result<Self> {
        let count = settings.keys.len().max(1);
        let own = settings.max_calls / 2 / count;
        ensure!(
            own > 0 || settings.keys.is_empty(),
            "max-calls {} is too small for {count} [[api.key]]; use {} or more, so that each has room for a call of its own",
            settings.max_calls,
            2 * count
        );
        let own_queue = MAX_WAITING / 2 / count;
        let mut keys: Vec<Key> = Vec::new();
        for key in &settings.keys {
            let key =
                Key::read(key, Room::new(own, own_queue)).with_context(|| format!("[[api.key]] {:?}", key.name))?;
            for other in &keys {
                ensure!(
                    key.digests.iter().all(|digest| !other.digests.contains(digest)),
                    "[[api.key]] {:?} has the secret of {:?}; give each its own",
                    key.name,
                    other.name
                );
            }
            keys.push(key);
        }
        let shared = Room::new(
            settings.max_calls - own * keys.len(),
            MAX_WAITING - own_queue * keys.len(),
        );
        Ok(Self { keys, shared })
    }

    /// The key with this secret.
    pub(super) fn find(&self, secret: &[u8]) -> Option<usize> {
        let digest: [u8; 32] = Sha256::digest(secret).into();
        let mut found = None;
        // All are compared, and all bytes of each.
        for (number, key) in self.keys.iter().enumerate() {
            for known in &key.digests {
                let difference = known
                    .iter()
                    .zip(digest)
                    .fold(0, |all, (one, other)| all | (one ^ other));
                if std::hint::black_box(difference) == 0 {
                    found = Some(number);
                }
            }
        }
        found
    }

    /// Whether the keys of both have the same secrets, in the same order.
    pub(super) fn has_same_secrets(&self, other: &Self) -> bool {
        let digests = |ring: &Self| ring.keys.iter().map(|key| key.digests.clone()).collect::<Vec<_>>();
        digests(self) == digests(other)
    }

    pub(super) fn get(&self, number: usize) -> &Key {
        &self.keys[number]
    }

    /// Room for a call of this key until it is dropped. None: too many are running.
    pub(super) fn room<'a>(&'a self, key: &'a Key) -> Option<SemaphorePermit<'a>> {
        let own = key.own.calls.try_acquire();
        own.or_else(|_| self.shared.calls.try_acquire()).ok()
    }

    /// Room for a call of this size to wait until it is accepted. None: too many wait.
    pub(super) fn queue_room(&self, key: &Key, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes.min(MAX_WAITING / 2)).unwrap_or(u32::MAX);
        let own = key.own.queue.clone().try_acquire_many_owned(bytes);
        own.or_else(|_| self.shared.queue.clone().try_acquire_many_owned(bytes))
            .ok()
    }
}

impl Key {
    fn read(settings: &ApiKey, own: Room) -> Result<Self> {
        let mut digests = Vec::new();
        if let Some(secret) = &settings.key {
            digests.push(digest_of(secret.expose().as_bytes())?);
        }
        if let Some(file) = &settings.key_file {
            let read = std::fs::read(file).with_context(|| format!("cannot read key-file {}", file.display()))?;
            digests.push(digest_of(read.trim_ascii())?);
        }
        ensure!(!digests.is_empty(), "has no secret; set key or key-file");
        let mut namespaces = Namespaces::default();
        for name in settings.namespaces.iter().filter(|name| *name != ALL) {
            namespaces.insert(name, ()).map_err(anyhow::Error::msg)?;
        }
        Ok(Self {
            name: settings.name.clone(),
            digests,
            all_namespaces: settings.namespaces.iter().any(|name| name == ALL),
            namespaces,
            permissions: settings.permissions.clone(),
            rate: Gcra::new(settings.calls_per_second, settings.burst_seconds),
            arrival: Mutex::default(),
            own,
        })
    }

    pub(super) fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }

    pub(super) fn may_use(&self, namespace: &str) -> bool {
        self.all_namespaces || self.namespaces.find(namespace).is_some()
    }

    /// Counts a call. Refused, it does not count: the time to wait.
    pub(super) fn count(&self, now: Instant) -> Result<(), Duration> {
        let mut arrival = self.arrival.lock();
        let mut counted = *arrival;
        let ahead = self.rate.count(&mut counted, now);
        if let Some(wait) = self.rate.wait(ahead) {
            return Err(wait);
        }
        *arrival = counted;
        Ok(())
    }
}

/// The SHA-256 of a secret.
fn digest_of(secret: &[u8]) -> Result<[u8; 32]> {
    ensure!(
        secret.len() >= MIN_SECRET,
        "the secret must have {MIN_SECRET} bytes or more; make one by `openssl rand -base64 32`"
    );
    ensure!(
        secret.iter().all(u8::is_ascii_graphic),
        "the secret must consist of letters, digits and signs, because it is part of a header; make one by `openssl rand -base64 32`"
    );
    Ok(Sha256::digest(secret).into())
}
