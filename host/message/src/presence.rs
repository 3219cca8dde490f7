//! Presence: which clients are in which channels, kept in the key-value store.
//!
//! An io-node makes an event of each change of a client's channels ([`ChannelChange`]). Its commit writes a record for each channel into
//! the channel's bucket, and the client's channels into an index, by which the commit of the client's disconnect deletes its records. So
//! presence is as exact as the events of clients are, also when an io-node dies.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Change, Channel, KeyChange, KeyValue, KeyValueError, Namespace, Partition, Read, Seen, SessionId, Text, Timer,
    now_ms,
};

/// Prefix of the buckets of presence.
const BUCKETS: &str = "plugnode:presence:";
/// Bucket of the channels of each client.
const INDEX: &str = "plugnode:presence-of:";
/// Largest size of the attributes in a record, in bytes. Larger ones are left out.
const MAX_RECORDED_ATTRIBUTES: usize = 4 << 10;
/// Most bytes of the session ids of one page: some seven hundred of them,
const PAGE_IDS: usize = 16 << 10;
/// and of their records, whose attributes have at most 4 KB each.
const PAGE_RECORDS: usize = 4 << 20;
/// Kind of the custom event that tells the app of a change.
pub const PRESENCE: &str = "plugnode.presence/1";

/// Channels with presence that a client joined and left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelChange {
    /// The channels that it joined.
    pub joined: Vec<Channel>,
    /// The channels that it left.
    pub left: Vec<Channel>,
}

impl ChannelChange {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.left.is_empty()
    }

    /// Size in bytes, as limits count it.
    pub fn size(&self) -> usize {
        self.joined
            .iter()
            .chain(&self.left)
            .map(|channel| channel.as_str().len())
            .sum()
    }

    /// The content of the custom event for the app: `{"client":ID,"joined":[…],"left":[…]}`.
    pub fn content(&self, client: &SessionId) -> Bytes {
        let names = |channels: &[Channel]| -> Vec<String> { channels.iter().map(ToString::to_string).collect() };
        let content = serde_json::json!({
            "client": client.as_str(),
            "joined": names(&self.joined),
            "left": names(&self.left),
        });
        content.to_string().into()
    }
}

/// A client in a channel, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceRecord {
    /// When it joined, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Its attributes at that time, a JSON object. None if they were too large.
    pub attributes: Option<Text>,
}

impl PresenceRecord {
    /// The record of a client that joins now.
    pub fn new(attributes: &Text) -> Self {
        Self {
            since_ms: now_ms(),
            attributes: Some(attributes.clone()).filter(|text| text.len() <= MAX_RECORDED_ATTRIBUTES),
        }
    }

    /// Reads a stored record.
    pub fn read(record: &[u8]) -> Option<Self> {
        postcard::from_bytes(record).ok()
    }

    fn encode(&self) -> Bytes {
        postcard::to_stdvec(self)
            .expect("memory takes what is written to it")
            .into()
    }
}

/// The channels with presence that a client is in, as they were read.
#[derive(Debug, Clone)]
pub struct PresentIn {
    namespace: Namespace,
    client: SessionId,
    /// The stored index entry.
    stored: Option<Bytes>,
    channels: Vec<Channel>,
}

impl PresentIn {
    /// Reads the index entry of a client; `stored` is its value at [`index_bucket`].
    pub fn read(namespace: Namespace, client: SessionId, stored: Option<Bytes>) -> Self {
        let channels = stored.as_ref().and_then(|stored| postcard::from_bytes(stored).ok());
        Self {
            namespace,
            client,
            stored,
            channels: channels.unwrap_or_default(),
        }
    }

    /// The part of a change that is one: channels that the client is not in yet, and those that it is in.
    pub fn change(&self, change: &ChannelChange) -> ChannelChange {
        let mut joined: Vec<Channel> = Vec::new();
        for channel in &change.joined {
            if !self.channels.contains(channel) && !joined.contains(channel) {
                joined.push(channel.clone());
            }
        }
        let left = change.left.iter().filter(|channel| self.channels.contains(channel));
        ChannelChange {
            left: left.cloned().collect(),
            joined,
        }
    }

    /// The change of a client that disconnects.
    pub fn departure(&self) -> ChannelChange {
        ChannelChange {
            joined: Vec::new(),
            left: self.channels.clone(),
        }
    }

    /// What the commit of a change checks and writes.
    pub fn commit(&self, change: &ChannelChange, record: &PresenceRecord) -> (Read, Vec<KeyChange>) {
        let read = Read {
            bucket: index_bucket(&self.namespace),
            key: self.client.as_str().into(),
            seen: Seen::of(self.stored.as_ref()),
        };
        let write = |channel: &Channel, write: Change| KeyChange {
            bucket: presence_bucket(&self.namespace, channel.as_str()),
            key: self.client.as_str().into(),
            change: write,
        };
        let encoded = record.encode();
        let joins = change
            .joined
            .iter()
            .map(|channel| write(channel, Change::set(encoded.clone())));
        let leaves = change.left.iter().map(|channel| write(channel, Change::Delete));
        let mut writes: Vec<KeyChange> = joins.chain(leaves).collect();
        let stays = self.channels.iter().filter(|channel| !change.left.contains(channel));
        let channels: Vec<&Channel> = stays.chain(&change.joined).collect();
        writes.push(KeyChange {
            bucket: read.bucket.clone(),
            key: read.key.clone(),
            change: match channels.is_empty() {
                true => Change::Delete,
                false => Change::set(postcard::to_stdvec(&channels).expect("memory takes what is written to it")),
            },
        });
        (read, writes)
    }

    /// The timer, due at once, that tells the app of the channels which a disconnected client was in. Such timers have a bucket of their own,
    /// so that they leave the app's budget of timers alone.
    pub fn notice(&self, app: &Namespace, partition: Partition) -> KeyChange {
        let timer = Timer {
            namespace: self.namespace.clone(),
            client: None,
            key: format!("{PRESENCE} {}", self.client).into(),
            kind: Text::from_static(PRESENCE),
            data: self.departure().content(&self.client),
            period_ms: None,
        };
        timer.set(&format!("presence:{app}").into(), partition, now_ms())
    }
}

/// A page of the clients in a channel, each with its record, and the cursor of the next page; the first cursor is 0.
///
/// # Errors
/// If the store does not answer.
pub async fn presence_page(
    store: &dyn KeyValue,
    bucket: &str,
    cursor: u64,
) -> Result<(Vec<(Text, PresenceRecord)>, Option<u64>), KeyValueError> {
    let (clients, next) = store.keys(bucket, "", cursor, PAGE_IDS).await?;
    let records = store.get(bucket, &clients, PAGE_RECORDS).await?;
    let members = clients.into_iter().zip(records);
    let members = members.filter_map(|(client, record)| Some((client, PresenceRecord::read(&record?)?)));
    Ok((members.collect(), next))
}

/// The bucket of the clients in a channel.
pub fn presence_bucket(namespace: &Namespace, channel: &str) -> Text {
    format!("{BUCKETS}{namespace}\0{channel}").into()
}

/// The bucket of the index: the channels of each client, by session id.
pub fn index_bucket(namespace: &Namespace) -> Text {
    format!("{INDEX}{namespace}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_name_only_what_changes() {
        let channels: Vec<Channel> = vec!["a".into(), "b".into()];
        let stored = postcard::to_stdvec(&channels).unwrap().into();
        let before = PresentIn::read("/".into(), "ada".into(), Some(stored));
        let change = before.change(&ChannelChange {
            joined: vec!["b".into(), "c".into(), "c".into()],
            left: vec!["a".into(), "d".into()],
        });
        assert_eq!(change.joined, ["c".into()]);
        assert_eq!(change.left, ["a".into()]);
        let (_, writes) = before.commit(&change, &PresenceRecord::new(&Text::from_static("{}")));
        let Change::Set { value, .. } = &writes.last().unwrap().change else {
            panic!("{writes:?}")
        };
        let after = PresentIn::read("/".into(), "ada".into(), Some(value.clone()));
        assert_eq!(after.departure().left, ["b".into(), "c".into()]);
        let (_, writes) = after.commit(&after.departure(), &PresenceRecord::new(&Text::from_static("{}")));
        assert!(writes.iter().all(|write| write.change == Change::Delete), "{writes:?}");
    }

    #[test]
    fn large_attributes_are_left_out() {
        let large = Text::from("x".repeat(MAX_RECORDED_ATTRIBUTES + 1));
        let record = PresenceRecord::new(&large);
        assert_eq!(record.attributes, None);
        assert_eq!(PresenceRecord::read(&record.encode()), Some(record));
    }
}
