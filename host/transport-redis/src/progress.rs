//! How far the events of a partition are committed: all up to a number, and some beyond it, as clients do not wait for each
//! other. Its owner keeps it, and every commit writes it down for the next owner.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use plugnode_message::Event;

/// What is committed of a partition, and what is in hand.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// How many events were ever committed,
    count: u64,
    /// and their bytes.
    bytes: u64,
    /// All events up to this number are committed, or kept aside.
    up_to: u64,
    /// All events up to this number were met under this lease.
    met: u64,
    /// The events in hand.
    open: BTreeMap<u64, InHand>,
    /// Those behind `up_to` that are committed.
    beyond: BTreeSet<u64>,
    /// Those that were kept aside, and are not committed.
    kept: BTreeSet<u64>,
    /// Those of which it is noted that they were begun, and which are not committed.
    begun: BTreeSet<u64>,
}

/// An event in hand, and its bytes.
#[derive(Debug)]
struct InHand {
    event: Open,
    bytes: usize,
}

/// An event in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Open {
    /// It is handled, or about to be.
    Event(Arc<Event>),
    /// It is for a node that knows this version. It stays open until one has the partition, and holds nothing else up.
    Other(u8, Bytes),
    /// It cannot be read by any, and is about to be put aside.
    Broken,
}

impl Progress {
    /// Notes an event that an owner before has kept aside.
    pub(super) fn has_kept(&mut self, number: u64) {
        self.kept.insert(number);
    }

    /// Meets an event of so many bytes, and says whether it is still open.
    pub(super) fn meet(&mut self, number: u64, event: Open, bytes: usize) -> bool {
        self.met(number);
        let is_committed = match number > self.up_to {
            true => self.beyond.contains(&number),
            false => !self.kept.contains(&number),
        };
        if is_committed || self.open.contains_key(&number) {
            return false;
        }
        self.open.insert(number, InHand { event, bytes });
        true
    }

    /// Notes that the beginning of an event is noted.
    pub(super) fn begin(&mut self, number: u64) {
        self.begun.insert(number);
    }

    /// Whether the beginning of an event that is committed now was noted.
    pub(super) fn was_begun(&mut self, number: u64) -> bool {
        self.begun.remove(&number)
    }

    /// The events in hand of which it is noted that they were begun.
    pub(super) fn take_begun(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.begun).into_iter().collect()
    }

    /// Whether an event is in hand.
    pub(super) fn is_open(&self, number: u64) -> bool {
        self.open.contains_key(&number)
    }

    /// An event in hand, and its bytes.
    pub(super) fn event(&self, number: u64) -> Option<(Arc<Event>, usize)> {
        let InHand { event, bytes } = self.open.get(&number)?;
        match event {
            Open::Event(event) => Some((event.clone(), *bytes)),
            Open::Other(..) | Open::Broken => None,
        }
    }

    /// The number up to which nothing of the log is needed.
    pub(super) fn up_to(&self) -> u64 {
        self.up_to
    }

    /// Whether an event is committed, or was kept aside.
    pub(super) fn has(&self, number: u64) -> bool {
        number <= self.up_to || self.beyond.contains(&number)
    }

    /// Notes that an event is committed, and says whether it was kept aside; None when it is none in hand.
    pub(super) fn commit(&mut self, number: u64) -> Option<bool> {
        self.bytes += self.open.remove(&number)?.bytes as u64;
        self.count += 1;
        let was_kept = self.kept.remove(&number);
        if !was_kept {
            self.beyond.insert(number);
            self.go_on();
        }
        Some(was_kept)
    }

    /// All events up to this number were met.
    pub(super) fn met(&mut self, number: u64) {
        self.met = self.met.max(number);
    }

    /// Whether the log is needed from before this number on, for open events.
    pub(super) fn holds_log(&self, number: u64) -> bool {
        self.up_to < number && !(self.open.is_empty() && self.kept.is_empty())
    }

    /// The next open event up to this number for which the log is still needed. Of what was met and is committed it is
    /// needed no more.
    pub(super) fn next_to_keep(&mut self, up_to: u64) -> Option<(u64, Open)> {
        self.go_on();
        // All that are open up to `self.up_to` are kept already.
        let (number, InHand { event, .. }) = self.open.range(self.up_to + 1..).next()?;
        let is_to_be_kept = *number <= up_to && *event != Open::Broken;
        is_to_be_kept.then(|| (*number, event.clone()))
    }

    /// Notes that an open event is kept aside, so that the log is not needed for it any more.
    pub(super) fn keep(&mut self, number: u64) {
        if let Some(Open::Other(_, event)) = self.open.get_mut(&number).map(|in_hand| &mut in_hand.event) {
            // It is in Redis, and nobody here needs it.
            event.clear();
        }
        self.kept.insert(number);
        self.go_on();
    }

    /// What an owner before has committed says nothing of what is before it and was not met yet.
    fn go_on(&mut self) {
        let mut open = self.open.range(self.up_to + 1..).map(|(number, _)| number);
        let open = open.find(|number| !self.kept.contains(number));
        let end = open.map_or(self.met, |number| self.met.min(number - 1));
        if end > self.up_to {
            self.up_to = end;
            self.beyond = self.beyond.split_off(&(end + 1));
        }
    }
}

/// The count, the number up to which nothing is needed, the bytes, and how far behind each other those committed beyond it are.
impl fmt::Display for Progress {
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

impl FromStr for Progress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split(' ').map(|number| {
            number
                .parse::<u64>()
                .map_err(|error| format!("{number:?} is no number: {error}"))
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
            met: up_to,
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
    fn what_is_committed_is_written_for_the_next_owner() {
        let mut progress: Progress = "0 0 0".parse().unwrap();
        for number in [3, 4, 9, 12] {
            assert!(progress.meet(number, Open::Broken, 10));
        }
        assert!(!progress.meet(4, Open::Broken, 10), "it is in hand");
        for (number, written) in [(9, "1 2 10 7"), (4, "2 2 20 2 5"), (3, "3 11 30"), (12, "4 12 40")] {
            assert_eq!(progress.commit(number), Some(false));
            assert_eq!(progress.commit(number), None, "once");
            assert_eq!(progress.to_string(), written);
        }
        assert_eq!(progress.commit(77), None, "it was never met");
    }

    #[test]
    fn the_next_owner_passes_over_what_is_committed_and_nothing_else() {
        let mut progress: Progress = "20 10 200 3 2".parse().unwrap();
        assert!(!progress.meet(10, Open::Broken, 10));
        assert!(progress.meet(11, Open::Broken, 10));
        assert_eq!(progress.commit(11), Some(false));
        // There may be an event 12, which was not met yet.
        assert_eq!(progress.to_string(), "21 11 210 2 2");
        assert!(progress.meet(12, Open::Broken, 10));
        assert!(!progress.meet(13, Open::Broken, 10));
        assert!(progress.meet(14, Open::Broken, 10));
        assert!(!progress.meet(15, Open::Broken, 10));
        assert_eq!(progress.commit(14), Some(false));
        assert_eq!(progress.to_string(), "22 11 220 2 1 1");
        assert_eq!(progress.commit(12), Some(false));
        assert_eq!(progress.to_string(), "23 15 230");
    }

    #[test]
    fn what_is_kept_aside_holds_nothing_up() {
        let mut progress: Progress = "0 0 0".parse().unwrap();
        for number in [2, 5, 6, 9] {
            assert!(progress.meet(number, event(), 10));
        }
        assert_eq!(progress.commit(5), Some(false));
        assert_eq!(progress.commit(9), Some(false));
        assert!(progress.holds_log(2) && !progress.holds_log(1));
        assert_eq!(progress.next_to_keep(5), Some((2, event())));
        progress.keep(2);
        assert_eq!(progress.to_string(), "2 5 20 4");
        assert!(!progress.holds_log(5) && progress.holds_log(6));
        assert_eq!(progress.next_to_keep(5), None);

        let mut next: Progress = progress.to_string().parse().unwrap();
        next.has_kept(2);
        assert!(next.meet(2, event(), 10));
        assert!(!next.meet(2, Open::Broken, 10), "it is in hand");
        assert!(!next.meet(5, Open::Broken, 10) && next.meet(6, Open::Broken, 10) && !next.meet(9, Open::Broken, 10));
        assert_eq!(next.commit(2), Some(true));
        assert_eq!(next.commit(2), None);
        assert!(!next.meet(2, Open::Broken, 10), "it is committed");
        assert_eq!(next.commit(6), Some(false));
        assert_eq!(next.to_string(), "4 9 40");
        assert!(!next.holds_log(100), "nothing is open");
    }

    fn event() -> Open {
        let event = Event {
            namespace: "/".into(),
            client: None,
            received_at_ms: 0,
            kind: EventKind::Disconnect(DisconnectReason::Client.into()),
        };
        Open::Event(Arc::new(event))
    }

    #[test]
    fn event_of_another_version_stays_open_and_is_kept() {
        let mut progress: Progress = "0 0 0".parse().unwrap();
        assert!(progress.meet(1, Open::Other(9, "x".into()), 10) && progress.meet(2, event(), 10));
        assert_eq!((progress.event(1), progress.commit(2)), (None, Some(false)));
        assert_eq!(progress.next_to_keep(2), Some((1, Open::Other(9, "x".into()))));
        progress.keep(1);
        assert_eq!(
            (progress.to_string(), progress.next_to_keep(2)),
            ("1 2 10".into(), None)
        );
    }

    #[test]
    fn what_is_no_progress_is_refused() {
        for text in [
            "",
            "1",
            "1 2",
            "x 1 1",
            "1 -1 1",
            "1 2 3 ",
            "1 18446744073709551615 1 1",
        ] {
            assert!(text.parse::<Progress>().is_err(), "{text:?}");
        }
    }
}
