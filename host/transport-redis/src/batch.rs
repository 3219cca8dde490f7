//! A batch: events of one call as one entry of a partition's log.
//!
//! Format: one byte for the version of the events; then for each event its partition (two bytes) and length (four bytes), both
//! little-endian, and the event as `wire` encodes it.
//! This frame is the same in all versions: a node that cannot decode an event still knows its partition and number.

use bytes::{BufMut, Bytes, BytesMut};

use plugnode_message::Partition;

/// Version of the events that this node writes, and the only one that it reads.
pub(crate) const VERSION: u8 = 2;
/// Bytes of partition and length before an event.
const HEAD: usize = 6;

/// A decoded frame.
pub(crate) struct Batch {
    /// Version of its events.
    pub(crate) version: u8,
    pub(crate) events: Vec<(Partition, Bytes)>,
}

/// Encodes a batch in this node's version.
pub(crate) fn write<'a>(events: impl Iterator<Item = (Partition, &'a Bytes)> + Clone) -> Bytes {
    write_as(VERSION, events)
}

/// Encodes a batch of events in some version.
pub(crate) fn write_as<'a>(version: u8, events: impl Iterator<Item = (Partition, &'a Bytes)> + Clone) -> Bytes {
    let size: usize = events.clone().map(|(_, event)| HEAD + event.len()).sum();
    let mut batch = BytesMut::with_capacity(1 + size);
    batch.put_u8(version);
    for (partition, event) in events {
        let length = u32::try_from(event.len()).expect("events are limited to far less");
        batch.put_u16_le(partition.0);
        batch.put_u32_le(length);
        batch.put_slice(event);
    }
    batch.freeze()
}

/// Decodes a batch, or says why it is malformed.
pub(crate) fn read(batch: &Bytes) -> Result<Batch, &'static str> {
    let version = *batch.first().ok_or("it is empty")?;
    let mut events = Vec::new();
    let mut at = 1;
    while at < batch.len() {
        let head: &[u8; HEAD] = batch[at..].first_chunk().ok_or("it ends within an event's head")?;
        let [p0, p1, length @ ..] = *head;
        at += HEAD;
        let end = at.saturating_add(u32::from_le_bytes(length) as usize);
        if end > batch.len() {
            return Err("it ends within an event");
        }
        events.push((Partition(u16::from_le_bytes([p0, p1])), batch.slice(at..end)));
        at = end;
    }
    match events.is_empty() {
        true => Err("it has no event"),
        false => Ok(Batch { version, events }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use plugnode_testing::arbitrary::{bytes, nearly, peak};

    fn batch() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
        vec((any::<u16>(), bytes(20)), 1..5)
    }

    fn written(events: &[(u16, Vec<u8>)]) -> Bytes {
        let events: Vec<(Partition, Bytes)> = events
            .iter()
            .map(|(partition, event)| (Partition(*partition), event.clone().into()))
            .collect();
        write(events.iter().map(|(partition, event)| (*partition, event)))
    }

    proptest! {
        #[test]
        fn written_batch_is_read_back(events in batch()) {
            let read = read(&written(&events)).unwrap();
            prop_assert_eq!(read.version, VERSION);
            let read: Vec<(u16, Vec<u8>)> = read.events.into_iter().map(|(partition, event)| (partition.0, event.into())).collect();
            prop_assert_eq!(read, events);
        }

        #[test]
        fn any_bytes_are_read_or_refused(one in prop_oneof![
            nearly(batch().prop_map(|events| written(&events).into())),
            bytes(40),
        ]) {
            let one = Bytes::from(one);
            let (batch, peak) = peak(|| read(&one));
            prop_assert!(peak <= 64 * one.len() as u64 + 4_096, "{peak} bytes for {}", one.len());
            if let Ok(Batch { version, events }) = batch {
                let again = write_as(version, events.iter().map(|(partition, event)| (*partition, event)));
                prop_assert_eq!(again, one);
            }
        }
    }

    #[test]
    fn refuses_malformed_batch_with_a_reason() {
        let good = written(&[(7, vec![1, 2, 3])]);
        for (bytes, reason) in [
            (Vec::new(), "it is empty"),
            (vec![VERSION], "it has no event"),
            (good[..5].to_vec(), "it ends within an event's head"),
            (good[..8].to_vec(), "it ends within an event"),
        ] {
            assert_eq!(read(&bytes.into()).err(), Some(reason));
        }
    }
}
