//! Claims free partitions for an app-node, and reads what their previous owners have left.

use std::collections::HashSet;

use bytes::Bytes;
use tracing::error;

use crate::app_node::log_event::LogEvent;
use crate::app_node::poison::PoisonSuspects;
use crate::app_node::progress::PartitionProgress;
use crate::arguments::bytes_of;
use crate::keys::Shard;
use crate::membership::member::Member;
use crate::redis::Redis;
use crate::scripts;
use crate::unknown_versions::UnknownVersions;
use crate::wire::{DecodeError, decode};
use plugnode_message::{AttributePatch, Partition};
use plugnode_transport::partition_of;

/// Maximum number of set-aside events in one read.
const EVENTS: usize = 256;
/// Maximum size of one such read in bytes, unless a single event is larger.
const BYTES: usize = 4 << 20;

/// A claimed partition, as its previous owners have left it.
pub(crate) struct ClaimedPartition {
    pub(crate) partition: Partition,
    /// `epoch:incarnation@name`
    pub(crate) lease: String,
    pub(crate) progress: PartitionProgress,
    /// Refused clients, whose disconnects are skipped.
    pub(crate) refused: HashSet<Bytes>,
    /// Uncommitted events that an owner moved out of the log, so that the log can be trimmed past them.
    pub(crate) set_aside: Vec<LogEvent>,
    /// Attribute patches that io-nodes may not have applied yet.
    pub(crate) patches: Vec<AttributePatch>,
    /// Events that may have been in flight when an owner died.
    pub(crate) suspects: PoisonSuspects,
}

/// Claims those of the wanted partitions that are free.
pub(crate) async fn claim(
    redis: &Redis,
    shard: &Shard,
    member: &Member,
    wanted: &[Partition],
) -> Vec<ClaimedPartition> {
    let mut keys = ["app", "owner", "done", "over", "kept", "begun", "in", "clock"]
        .map(|name| shard.key(name))
        .to_vec();
    keys.extend(
        wanted
            .iter()
            .flat_map(|partition| [shard.log(*partition), shard.patches(*partition)]),
    );
    let mut arguments = vec![bytes_of(&member.name), bytes_of(&member.incarnation)];
    arguments.extend(wanted.iter().map(bytes_of));
    type Pairs<T> = Vec<(T, String)>;
    type Answer = (
        Vec<(u16, String, String)>,
        Pairs<Bytes>,
        Vec<String>,
        Pairs<String>,
        Vec<Bytes>,
    );
    let (claimed, refused, set_aside, marks, patches): Answer =
        redis.change(shard, &scripts::CLAIM, &keys, &arguments).await;
    if claimed.is_empty() {
        return Vec::new();
    }
    let mut set_aside = read_set_aside(redis, shard, set_aside).await;
    // Writes that the previous owners have committed for other shards must arrive before they are read there.
    let others = (0..redis.layout.shards).filter(|other| *other != shard.number);
    redis.forward_soon(shard, others);
    let mut patches = decode_patches(&redis.unknown_versions, shard.number, &patches);
    patches.sort_unstable_by_key(|patch| patch.number);
    let partitions = redis.layout.partitions;
    let mut found = Vec::new();
    for (partition, lease, done) in claimed {
        let mut progress = match done.parse::<PartitionProgress>() {
            Ok(progress) => progress,
            Err(reason) => {
                error!(
                    partition,
                    "the progress of a partition cannot be read, so its events wait: {reason}"
                );
                continue;
            }
        };
        let refused = refused.iter().filter(|(_, of)| *of == partition.to_string());
        let refused = refused.map(|(client, _)| client.clone()).collect();
        let own = set_aside.extract_if(.., |(field, _)| field.split(':').next() == Some(&partition.to_string()));
        let mut events: Vec<LogEvent> = own
            .filter_map(|(field, event)| LogEvent::set_aside(&field, &event))
            .collect();
        events.sort_unstable_by_key(|event| event.number);
        events.iter().for_each(|event| progress.note_set_aside(event.number));
        let prefix = format!("{partition}:");
        let marks = marks
            .iter()
            .filter_map(|(field, value)| Some((field.strip_prefix(&prefix)?, value.as_str())));
        let suspects = PoisonSuspects::from_marks(marks);
        let partition = Partition(partition);
        let own = patches.extract_if(.., |patch| partition_of(&patch.client, partitions) == partition);
        found.push(ClaimedPartition {
            patches: own.collect(),
            suspects,
            partition,
            lease,
            progress,
            refused,
            set_aside: events,
        });
    }
    found
}

/// Decodes patches. Those that cannot be decoded are left out and logged.
fn decode_patches(unknown: &UnknownVersions, shard: u16, encoded: &[Bytes]) -> Vec<AttributePatch> {
    let mut patches = Vec::with_capacity(encoded.len());
    let mut broken = Vec::new();
    for patch in encoded {
        match decode(patch) {
            Ok(patch) => patches.push(patch),
            Err(DecodeError::Version(version)) => unknown.warn_once("attribute patches", shard, version),
            Err(DecodeError::Broken(reason)) => broken.push(reason),
        }
    }
    if let Some(reason) = broken.first() {
        error!(
            shard,
            patches = broken.len(),
            reason,
            "attribute patches cannot be read, so handlers may see old attributes of their clients"
        );
    }
    patches
}

/// Reads these fields of the hash `kept`. Only the owner of their partition changes them.
async fn read_set_aside(redis: &Redis, shard: &Shard, mut fields: Vec<String>) -> Vec<(String, Bytes)> {
    let key = [shard.key("kept")];
    let mut events = Vec::with_capacity(fields.len());
    while !fields.is_empty() {
        let page = fields.iter().take(EVENTS).map(bytes_of);
        let arguments: Vec<Bytes> = [bytes_of(BYTES)].into_iter().chain(page).collect();
        let values: Vec<Option<Bytes>> = redis.link.run(&scripts::READ_FIELDS, &key, &arguments).await;
        let read = fields.drain(..values.len().clamp(1, fields.len()));
        events.extend(read.zip(values).filter_map(|(field, event)| Some((field, event?))));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::Lines;
    use crate::wire::encode;
    use plugnode_message::Text;

    #[test]
    fn logs_patches_that_cannot_be_read() {
        let (lines, _guard) = Lines::heard();
        let patch = AttributePatch {
            namespace: "/".into(),
            client: "alice".into(),
            number: 7,
            patch: Text::from_static("{}"),
        };
        let good = encode(&patch);
        let broken = good.slice(..good.len() - 1);
        let newer = Bytes::from_static(&[9, 1, 2]);
        let encoded = [broken.clone(), good, newer.clone(), broken, newer];
        let read = decode_patches(&UnknownVersions::default(), 0, &encoded);
        assert_eq!(read.iter().map(|patch| patch.number).collect::<Vec<_>>(), [7]);
        assert_eq!(lines.with("ERROR", "attribute patches cannot be read"), 1);
        assert_eq!(lines.with("ERROR", "patches=2"), 1);
        assert_eq!(
            lines.with("WARN", "attribute patches of a version that this node does not know"),
            1
        );
    }
}
