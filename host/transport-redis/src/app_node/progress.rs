//! Progress of a partition: all events up to a number are committed, and some beyond it, because clients do not wait for each
//! other. The owner keeps it, and every commit stores it for the next owner.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use plugnode_message::Event;

/// Committed and in-flight events of a partition.
#[derive(Debug, Default)]
pub(crate) struct PartitionProgress {
    /// Number of events ever committed.
    count: u64,
    /// Their size in bytes.
    bytes: u64,
    /// All events up to this number are committed or set aside, so their log entries are not needed.
    up_to: u64,
    /// All events up to this number were read under this lease.
    read_to: u64,
    in_flight: BTreeMap<u64, InFlight>,
    /// Committed events behind `up_to`.
    beyond: BTreeSet<u64>,
    /// Uncommitted events that are set aside from the log.
    set_aside: BTreeSet<u64>,
    /// Uncommitted events that are marked as started; see `poison`.
    started: BTreeSet<u64>,
}

#[derive(Debug)]
struct InFlight {
    event: DecodedEvent,
    bytes: usize,
}

/// An uncommitted event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DecodedEvent {
    /// A handler has it or will get it.
    Event(Arc<Event>),
    /// An event of this unknown version. It stays in flight until a node that can read it gets the partition, and holds nothing
    /// else up.
    Other(u8, Bytes),
    /// Bytes that are no event, and that become a dead letter.
    Broken,
}

impl PartitionProgress {
    /// Notes an event that an earlier owner has set aside.
    pub(crate) fn note_set_aside(&mut self, number: u64) {
        self.set_aside.insert(number);
    }

    /// Adds an event of this size that was read. False if it is committed or in flight already.
    pub(crate) fn add(&mut self, number: u64, event: DecodedEvent, bytes: usize) -> bool {
        self.note_read(number);
        let is_committed = match number > self.up_to {
            true => self.beyond.contains(&number),
            false => !self.set_aside.contains(&number),
        };
        if is_committed || self.in_flight.contains_key(&number) {
            return false;
        }
        self.in_flight.insert(number, InFlight { event, bytes });
        true
    }

    /// Notes that an event is marked as started.
    pub(crate) fn note_started(&mut self, number: u64) {
        self.started.insert(number);
    }

    /// Removes the note about a committed event, and returns whether there was one.
    pub(crate) fn take_mark(&mut self, number: u64) -> bool {
        self.started.remove(&number)
    }

    /// Takes the uncommitted events that are marked as started.
    pub(crate) fn take_started(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.started).into_iter().collect()
    }

    pub(crate) fn is_in_flight(&self, number: u64) -> bool {
        self.in_flight.contains_key(&number)
    }

    /// A readable event in flight, and its size in bytes.
    pub(crate) fn event(&self, number: u64) -> Option<(Arc<Event>, usize)> {
        let InFlight { event, bytes } = self.in_flight.get(&number)?;
        match event {
            DecodedEvent::Event(event) => Some((event.clone(), *bytes)),
            DecodedEvent::Other(..) | DecodedEvent::Broken => None,
        }
    }

    /// The log is not needed up to this number.
    pub(crate) fn up_to(&self) -> u64 {
        self.up_to
    }

    /// Whether an event is committed or set aside.
    pub(crate) fn has(&self, number: u64) -> bool {
        number <= self.up_to || self.beyond.contains(&number)
    }

    /// Commits an event, and returns whether it was set aside. None if it is not in flight.
    pub(crate) fn commit(&mut self, number: u64) -> Option<bool> {
        self.bytes += self.in_flight.remove(&number)?.bytes as u64;
        self.count += 1;
        let was_set_aside = self.set_aside.remove(&number);
        if !was_set_aside {
            self.beyond.insert(number);
            self.advance();
        }
        Some(was_set_aside)
    }

    /// Notes that all events up to this number were read.
    pub(crate) fn note_read(&mut self, number: u64) {
        self.read_to = self.read_to.max(number);
    }

    /// The number that is this many events before the last one committed, if uncommitted events need log entries up to there.
    pub(crate) fn holds_log_at(&self, events: u64) -> Option<u64> {
        let number = self.beyond.last()?.saturating_sub(events);
        self.needs_log_up_to(number).then_some(number)
    }

    fn needs_log_up_to(&self, number: u64) -> bool {
        self.up_to < number && !(self.in_flight.is_empty() && self.set_aside.is_empty())
    }

    /// The next uncommitted event up to this number that still needs its log entry.
    pub(crate) fn next_to_set_aside(&mut self, up_to: u64) -> Option<(u64, DecodedEvent)> {
        self.advance();
        // Events in flight up to `self.up_to` are set aside already.
        let (number, InFlight { event, .. }) = self.in_flight.range(self.up_to + 1..).next()?;
        let is_next = *number <= up_to && *event != DecodedEvent::Broken;
        is_next.then(|| (*number, event.clone()))
    }

    /// Notes that an event in flight is set aside.
    pub(crate) fn set_aside(&mut self, number: u64) {
        if let Some(DecodedEvent::Other(_, event)) = self.in_flight.get_mut(&number).map(|one| &mut one.event) {
            // Redis keeps it, and this node cannot use it.
            event.clear();
        }
        self.set_aside.insert(number);
        self.advance();
    }

    /// Moves `up_to` forward, but not past `read_to`: an event that an earlier owner has committed says nothing about unread
    /// events before it.
    fn advance(&mut self) {
        let mut in_flight = self.in_flight.range(self.up_to + 1..).map(|(number, _)| number);
        let first = in_flight.find(|number| !self.set_aside.contains(number));
        let end = first.map_or(self.read_to, |number| self.read_to.min(number - 1));
        if end > self.up_to {
            self.up_to = end;
            self.beyond = self.beyond.split_off(&(end + 1));
        }
    }
}

/// `count up_to bytes`, then the distances between the committed events beyond `up_to`.
impl fmt::Display for PartitionProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.count, self.up_to, self.bytes)?;
        let mut last = self.up_to;
        for number in &self.beyond {
            write!(f, " {}", number - last)?;
            last = *number;
        }
        Ok(())
    }
}

impl FromStr for PartitionProgress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split(' ').map(|number| {
            number
                .parse::<u64>()
                .map_err(|error| format!("{number:?} is not a number: {error}"))
        });
        let mut next = || numbers.next().ok_or("it is too short")?;
        let (count, up_to, bytes) = (next()?, next()?, next()?);
        let mut last = up_to;
        let mut beyond = BTreeSet::new();
        for step in numbers {
            last = last.checked_add(step?).ok_or("its numbers are too large")?;
            beyond.insert(last);
        }
        Ok(Self {
            count,
            bytes,
            up_to,
            read_to: up_to,
            beyond,
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugnode_message::{DisconnectReason, EventKind};

    #[test]
    fn progress_is_written_for_the_next_owner() {
        let mut progress: PartitionProgress = "0 0 0".parse().unwrap();
        for number in [3, 4, 9, 12] {
            assert!(progress.add(number, DecodedEvent::Broken, 10));
        }
        assert!(!progress.add(4, DecodedEvent::Broken, 10), "it is in flight");
        for (number, written) in [(9, "1 2 10 7"), (4, "2 2 20 2 5"), (3, "3 11 30"), (12, "4 12 40")] {
            assert_eq!(progress.commit(number), Some(false));
            assert_eq!(progress.commit(number), None, "once");
            assert_eq!(progress.to_string(), written);
        }
        assert_eq!(progress.commit(77), None, "it was never read");
    }

    #[test]
    fn next_owner_skips_committed_events_only() {
        let mut progress: PartitionProgress = "20 10 200 3 2".parse().unwrap();
        assert!(!progress.add(10, DecodedEvent::Broken, 10));
        assert!(progress.add(11, DecodedEvent::Broken, 10));
        assert_eq!(progress.commit(11), Some(false));
        // Event 12 may exist and was not read yet.
        assert_eq!(progress.to_string(), "21 11 210 2 2");
        assert!(progress.add(12, DecodedEvent::Broken, 10));
        assert!(!progress.add(13, DecodedEvent::Broken, 10));
        assert!(progress.add(14, DecodedEvent::Broken, 10));
        assert!(!progress.add(15, DecodedEvent::Broken, 10));
        assert_eq!(progress.commit(14), Some(false));
        assert_eq!(progress.to_string(), "22 11 220 2 1 1");
        assert_eq!(progress.commit(12), Some(false));
        assert_eq!(progress.to_string(), "23 15 230");
    }

    #[test]
    fn event_set_aside_does_not_hold_the_log() {
        let mut progress: PartitionProgress = "0 0 0".parse().unwrap();
        for number in [2, 5, 6, 9] {
            assert!(progress.add(number, event(), 10));
        }
        assert_eq!(progress.commit(5), Some(false));
        assert_eq!(progress.commit(9), Some(false));
        assert!(progress.needs_log_up_to(2) && !progress.needs_log_up_to(1));
        assert_eq!(progress.next_to_set_aside(5), Some((2, event())));
        progress.set_aside(2);
        assert_eq!(progress.to_string(), "2 5 20 4");
        assert!(!progress.needs_log_up_to(5) && progress.needs_log_up_to(6));
        assert_eq!(progress.next_to_set_aside(5), None);

        let mut next: PartitionProgress = progress.to_string().parse().unwrap();
        next.note_set_aside(2);
        assert!(next.add(2, event(), 10));
        assert!(!next.add(2, DecodedEvent::Broken, 10), "it is in flight");
        assert!(
            !next.add(5, DecodedEvent::Broken, 10)
                && next.add(6, DecodedEvent::Broken, 10)
                && !next.add(9, DecodedEvent::Broken, 10)
        );
        assert_eq!(next.commit(2), Some(true));
        assert_eq!(next.commit(2), None);
        assert!(!next.add(2, DecodedEvent::Broken, 10), "it is committed");
        assert_eq!(next.commit(6), Some(false));
        assert_eq!(next.to_string(), "4 9 40");
        assert!(!next.needs_log_up_to(100), "nothing is in flight");
    }

    fn event() -> DecodedEvent {
        let event = Event {
            namespace: "/".into(),
            client: None,
            received_at_ms: 0,
            kind: EventKind::Disconnect(DisconnectReason::Client.into()),
        };
        DecodedEvent::Event(Arc::new(event))
    }

    #[test]
    fn unknown_version_stays_in_flight_and_is_set_aside() {
        let mut progress: PartitionProgress = "0 0 0".parse().unwrap();
        assert!(progress.add(1, DecodedEvent::Other(9, "x".into()), 10) && progress.add(2, event(), 10));
        assert_eq!((progress.event(1), progress.commit(2)), (None, Some(false)));
        assert_eq!(
            progress.next_to_set_aside(2),
            Some((1, DecodedEvent::Other(9, "x".into())))
        );
        progress.set_aside(1);
        assert_eq!(
            (progress.to_string(), progress.next_to_set_aside(2)),
            ("1 2 10".into(), None)
        );
    }

    #[test]
    fn refuses_malformed_progress() {
        for text in [
            "",
            "1",
            "1 2",
            "x 1 1",
            "1 -1 1",
            "1 2 3 ",
            "1 18446744073709551615 1 1",
        ] {
            assert!(text.parse::<PartitionProgress>().is_err(), "{text:?}");
        }
    }
}
