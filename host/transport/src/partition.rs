//! Which partition a client is in, and which member owns a partition.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use plugnode_message::{NodeId, Partition, SessionId};

/// The partition of a client, of `count` partitions.
pub fn partition_of(client: &SessionId, count: u16) -> Partition {
    Partition((xxh3_64(client.as_str().as_bytes()) % u64::from(count)) as u16)
}

/// The member that owns a partition, by rendezvous hashing: a member that joins or leaves moves only its share. None without members.
pub fn owner_of<'a>(partition: Partition, members: impl Iterator<Item = &'a NodeId>) -> Option<&'a NodeId> {
    let weight = |member: &NodeId| xxh3_64_with_seed(member.as_str().as_bytes(), u64::from(partition.0));
    members.max_by_key(|member| (weight(member), member.as_str()))
}
