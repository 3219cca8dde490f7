//! The names of all keys. Every key of a shard has the shard's tag, so that one script may change any of them, on Redis
//! Cluster too (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>).

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::RedisSettings;
use plugnode_message::{Partition, has_timers, partition_of_timer};
use plugnode_release::Digest;

/// Where partitions and key-value keys are, and what their keys are called.
#[derive(Clone)]
pub(super) struct Layout {
    prefix: String,
    pub(super) partitions: u16,
    pub(super) shards: u16,
}

/// The keys of one shard.
#[derive(Clone)]
pub(super) struct Shard {
    pub(super) number: u16,
    tag: String,
}

impl Layout {
    pub(super) fn new(settings: &RedisSettings) -> Self {
        Self {
            prefix: settings.prefix.clone(),
            partitions: settings.partitions,
            shards: settings.shards,
        }
    }

    pub(super) fn shard(&self, number: u16) -> Shard {
        Shard {
            number,
            tag: format!("{{{}:{number}}}", self.prefix),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Shard> + '_ {
        (0..self.shards).map(|number| self.shard(number))
    }

    /// The shard of a partition.
    pub(super) fn shard_of(&self, partition: Partition) -> u16 {
        partition.0 % self.shards
    }

    /// The partitions of a shard.
    pub(super) fn partitions_of(&self, shard: u16) -> impl Iterator<Item = Partition> + use<> {
        (shard..self.partitions)
            .step_by(usize::from(self.shards))
            .map(Partition)
    }

    /// The shard of a key of the key-value store.
    pub(super) fn shard_of_key(&self, bucket: &str, key: &str) -> u16 {
        // A timer is where its event will be.
        if has_timers(bucket)
            && let Some(partition) = partition_of_timer(key)
        {
            return self.shard_of(partition);
        }
        let seed = xxh3_64_with_seed(bucket.as_bytes(), 0);
        (xxh3_64_with_seed(key.as_bytes(), seed) % u64::from(self.shards)) as u16
    }
}

impl Shard {
    /// A key that is there once in the shard.
    pub(super) fn key(&self, name: &str) -> Bytes {
        format!("{}:{name}", self.tag).into()
    }

    /// The sessions of an io-node's incarnation, and what was answered to its last call.
    pub(super) fn live(&self, member: &str) -> Bytes {
        self.key(&format!("live:{member}"))
    }

    /// The outbox of an io-node's incarnation.
    pub(super) fn outbox(&self, member: &str) -> Bytes {
        self.key(&format!("out:{member}"))
    }

    /// How many bytes were ever put into an outbox.
    pub(super) fn outbox_in(&self, member: &str) -> Bytes {
        self.key(&format!("out-in:{member}"))
    }

    /// How many bytes of an outbox its io-node has read.
    pub(super) fn outbox_read(&self, member: &str) -> Bytes {
        self.key(&format!("out-read:{member}"))
    }

    /// A bucket's part in this shard.
    pub(super) fn bucket(&self, bucket: &str) -> Bytes {
        self.key(&format!("kv:{bucket}"))
    }

    /// Patches of attributes that the next owner of a partition has to know of.
    pub(super) fn patches(&self, partition: Partition) -> Bytes {
        self.key(&format!("patches:{partition}"))
    }

    /// Writes that belong to another shard.
    pub(super) fn writes_to(&self, shard: u16) -> Bytes {
        self.key(&format!("to:{shard}"))
    }

    /// A component.
    pub(super) fn component(&self, digest: &Digest) -> Bytes {
        self.key(&format!("component:{digest}"))
    }

    /// What wakes an app-node's reader.
    pub(super) fn wake(&self, member: &str) -> Bytes {
        self.key(&format!("wake:{member}"))
    }
}
