//! Names of all keys, and the shards of partitions and key-value keys. All keys of a shard share its hash tag, so that one script
//! can change them, on Redis Cluster too
//! (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>).

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::settings::RedisSettings;
use plugnode_message::{Partition, has_timers, partition_of_timer};
use plugnode_release::Digest;

/// Distribution of partitions and key-value keys over shards.
#[derive(Clone)]
pub(crate) struct Layout {
    prefix: String,
    pub(crate) partitions: u16,
    pub(crate) shards: u16,
}

/// The keys of one shard.
#[derive(Clone)]
pub(crate) struct Shard {
    pub(crate) number: u16,
    tag: String,
}

impl Layout {
    pub(crate) fn new(settings: &RedisSettings) -> Self {
        Self {
            prefix: settings.prefix.clone(),
            partitions: settings.common.partitions,
            shards: settings.shards,
        }
    }

    pub(crate) fn shard(&self, number: u16) -> Shard {
        Shard {
            number,
            tag: format!("{{{}:{number}}}", self.prefix),
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = Shard> + '_ {
        (0..self.shards).map(|number| self.shard(number))
    }

    /// The shard of a partition.
    pub(crate) fn shard_of(&self, partition: Partition) -> u16 {
        partition.0 % self.shards
    }

    /// The partitions of a shard.
    pub(crate) fn partitions_of(&self, shard: u16) -> impl Iterator<Item = Partition> + use<> {
        (shard..self.partitions)
            .step_by(usize::from(self.shards))
            .map(Partition)
    }

    /// The shard of a key of the key-value store.
    pub(crate) fn shard_of_key(&self, bucket: &str, key: &str) -> u16 {
        // A timer is in the shard of its event's partition.
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
    /// A key that exists once in the shard.
    pub(crate) fn key(&self, name: &str) -> Bytes {
        format!("{}:{name}", self.tag).into()
    }

    /// Live sessions of an io-node's incarnation, and the answer to its last ingest call.
    pub(crate) fn live(&self, member: &str) -> Bytes {
        self.key(&format!("live:{member}"))
    }

    /// Outbox of an io-node's incarnation: commands for it alone.
    pub(crate) fn outbox(&self, member: &str) -> Bytes {
        self.key(&format!("out:{member}"))
    }

    /// Number of bytes ever added to an outbox.
    pub(crate) fn outbox_in(&self, member: &str) -> Bytes {
        self.key(&format!("out-in:{member}"))
    }

    /// Number of bytes that the io-node has read from its outbox.
    pub(crate) fn outbox_read(&self, member: &str) -> Bytes {
        self.key(&format!("out-read:{member}"))
    }

    /// Commands for all io-nodes, the bytes ever written there, and for each io-node the bytes that it has read. Scripts take these
    /// keys in this order.
    pub(crate) fn broadcasts(&self) -> [Bytes; 3] {
        ["out-all", "out-all-in", "out-all-read"].map(|name| self.key(name))
    }

    /// This shard's part of a bucket.
    pub(crate) fn bucket(&self, bucket: &str) -> Bytes {
        self.key(&format!("kv:{bucket}"))
    }

    /// Log of a partition.
    pub(crate) fn log(&self, partition: Partition) -> Bytes {
        self.log_of(&partition.to_string())
    }

    /// Log of a partition, or with an empty text the prefix of all.
    pub(crate) fn log_of(&self, partition: &str) -> Bytes {
        self.key(&format!("log:{partition}"))
    }

    /// Attribute patches for the next owner of a partition.
    pub(crate) fn patches(&self, partition: Partition) -> Bytes {
        self.key(&format!("patches:{partition}"))
    }

    /// Committed writes for another shard.
    pub(crate) fn writes_to(&self, shard: u16) -> Bytes {
        self.key(&format!("to:{shard}"))
    }

    /// A component's list of parts.
    pub(crate) fn component(&self, digest: &Digest) -> Bytes {
        self.key(&format!("component:{digest}"))
    }

    /// Hints for an app-node, that its partitions have new events; for an empty member the prefix of all.
    pub(crate) fn wake(&self, member: &str) -> Bytes {
        self.key(&format!("wake:{member}"))
    }
}
