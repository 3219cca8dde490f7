//! A batch: events of a shard's partitions as one entry of its log, as the io-node took them in.
//!
//! One byte that tells the version of the events; then for each event the number of its partition (two bytes), its length
//! (four), both with the low byte first, and the event as `wire` writes it. So whoever owns some of the partitions passes
//! over the events of others without reading them. But for the events themselves, all of this stays as it is in every
//! version: a node that cannot read an event knows which partition it is of, and that it is one.

use bytes::{BufMut, Bytes, BytesMut};

use plugnode_message::Partition;

/// The version that this node writes, and the only one of which it reads events.
pub(super) const VERSION: u8 = 2;
/// Bytes before an event.
const HEAD: usize = 6;

/// A batch as it was read.
pub(super) struct Batch {
    /// The version of its events.
    pub(super) version: u8,
    pub(super) events: Vec<(Partition, Bytes)>,
}

/// Writes a batch.
pub(super) fn write<'a>(events: impl Iterator<Item = (Partition, &'a Bytes)> + Clone) -> Bytes {
    write_as(VERSION, events)
}

/// Writes a batch of events of some version.
pub(super) fn write_as<'a>(version: u8, events: impl Iterator<Item = (Partition, &'a Bytes)> + Clone) -> Bytes {
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

/// Reads a batch, or says why it is none.
pub(super) fn read(batch: &Bytes) -> Result<Batch, &'static str> {
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
        fn what_is_written_is_read(events in batch()) {
            let read = read(&written(&events)).unwrap();
            prop_assert_eq!(read.version, VERSION);
            let read: Vec<(u16, Vec<u8>)> = read.events.into_iter().map(|(partition, event)| (partition.0, event.into())).collect();
            prop_assert_eq!(read, events);
        }

        #[test]
        fn whatever_is_in_the_log_is_read_or_refused(one in prop_oneof![
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
    fn what_cannot_be_read_is_refused_with_the_reason() {
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
