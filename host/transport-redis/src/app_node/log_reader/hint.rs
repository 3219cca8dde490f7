//! A hint: a field of an entry in an app-node's wake-up stream, which tells that a log has grown. See `lua/shared/log.lua`.

use bytes::Bytes;

use crate::app_node::log_reader::{ReadEntry, fingerprint};
use crate::batch::{self, Batch};
use plugnode_message::Partition;

pub(crate) struct Hint {
    pub(crate) partition: Partition,
    /// Number of the last event of its batch.
    pub(crate) last: u64,
    /// The batch; empty if it is to be read from the log.
    batch: Bytes,
}

impl Hint {
    /// A hint in this field. None for anything else: what it was to tell is found by the numbers of events.
    pub(crate) fn of(name: &Bytes, value: &Bytes) -> Option<Self> {
        let (partition, last) = std::str::from_utf8(name).ok()?.split_once(':')?;
        Some(Self {
            partition: Partition(partition.parse().ok()?),
            last: last.parse().ok()?,
            batch: value.clone(),
        })
    }

    /// The events, if they are in it and follow one with this number.
    pub(crate) fn events_behind(&self, number: u64) -> Option<(Batch, ReadEntry)> {
        let batch = batch::read(&self.batch).ok()?;
        let is_own = batch.events.iter().all(|(partition, _)| *partition == self.partition);
        let before = self.last.checked_sub(batch.events.len() as u64)?;
        let read = ReadEntry {
            number: self.last,
            fingerprint: fingerprint(&self.batch),
        };
        (is_own && before <= number).then_some((batch, read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_is_read_or_ignored() {
        let events = [Bytes::from("one"), Bytes::from("two")];
        let batch = batch::write(events.iter().map(|event| (Partition(7), event)));
        let hint = |name: &str, value: &Bytes| Hint::of(&name.to_owned().into(), value);
        let good = hint("7:12", &batch).expect("it is one");
        assert_eq!((good.partition, good.last), (Partition(7), 12));
        let has_events_behind = |hint: &Hint, number| hint.events_behind(number).is_some();
        assert!(has_events_behind(&good, 10) && has_events_behind(&good, 11));
        assert!(!has_events_behind(&good, 9), "event 10 is missing");
        for (name, value) in [("7:12", Bytes::new()), ("8:12", batch.clone()), ("7:1", batch.clone())] {
            assert!(!has_events_behind(&hint(name, &value).unwrap(), 20), "{name}");
        }
        for name in ["", "w", "7", "7:", ":7", "70000:1", "7:-1"] {
            assert!(hint(name, &batch).is_none(), "{name:?}");
        }
    }
}
