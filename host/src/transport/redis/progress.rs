//! How far the events of a partition are committed: all up to a number, and some beyond it, as clients do not wait for each
//! other. Its owner keeps it, and every commit writes it down for the next owner.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::message::Event;

/// What is committed of a partition, and what is in hand.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// How many events were ever committed.
    count: u64,
    /// All events up to this number are committed.
    up_to: u64,
    /// All events up to this number were met under this lease.
    met: u64,
    /// The events behind `up_to` that were met, or are known to be committed.
    beyond: BTreeMap<u64, State>,
}

#[derive(Debug)]
enum State {
    Open(Option<Arc<Event>>),
    Committed,
}

impl Progress {
    /// Meets an event, and says whether it is still to be handled. None for one that cannot be read.
    pub(super) fn meet(&mut self, number: u64, event: Option<Arc<Event>>) -> bool {
        self.met = self.met.max(number);
        if number <= self.up_to || self.beyond.contains_key(&number) {
            return false;
        }
        self.beyond.insert(number, State::Open(event));
        true
    }

    /// An event in hand.
    pub(super) fn event(&self, number: u64) -> Option<Arc<Event>> {
        match self.beyond.get(&number)? {
            State::Open(event) => event.clone(),
            State::Committed => None,
        }
    }

    /// The number up to which all events are committed.
    pub(super) fn up_to(&self) -> u64 {
        self.up_to
    }

    /// How many events were ever committed.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Notes that an event is committed; false when it is none in hand.
    pub(super) fn commit(&mut self, number: u64) -> bool {
        match self.beyond.get_mut(&number) {
            Some(state @ State::Open(_)) => *state = State::Committed,
            _ => return false,
        }
        self.count += 1;
        // What an owner before has committed says nothing of what is before it and was not met yet.
        while let Some(first) = self.beyond.first_entry()
            && matches!(first.get(), State::Committed)
            && *first.key() <= self.met
        {
            self.up_to = first.remove_entry().0;
        }
        true
    }
}

/// The count, the number up to which all is committed, and how far behind each other those committed beyond it are.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.count, self.up_to)?;
        let mut last = self.up_to;
        for (number, _) in self
            .beyond
            .iter()
            .filter(|(_, state)| matches!(state, State::Committed))
        {
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
        let (count, up_to) = (next()?, next()?);
        let mut last = up_to;
        let mut beyond = BTreeMap::new();
        for step in numbers {
            last = last.checked_add(step?).ok_or("its numbers are too large")?;
            beyond.insert(last, State::Committed);
        }
        Ok(Self {
            count,
            up_to,
            met: up_to,
            beyond,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_committed_is_written_for_the_next_owner() {
        let mut progress: Progress = "0 0".parse().unwrap();
        for number in [3, 4, 9, 12] {
            assert!(progress.meet(number, None));
        }
        assert!(!progress.meet(4, None), "it is in hand");
        for (number, written) in [(9, "1 0 9"), (4, "2 0 4 5"), (3, "3 9"), (12, "4 12")] {
            assert!(progress.commit(number));
            assert!(!progress.commit(number), "once");
            assert_eq!(progress.to_string(), written);
        }
        assert!(!progress.commit(77), "it was never met");
    }

    #[test]
    fn the_next_owner_passes_over_what_is_committed_and_nothing_else() {
        let mut progress: Progress = "20 10 3 2".parse().unwrap();
        assert!(!progress.meet(10, None));
        assert!(progress.meet(11, None));
        assert!(progress.commit(11));
        // There may be an event 12, which was not met yet.
        assert_eq!(progress.to_string(), "21 11 2 2");
        assert!(progress.meet(12, None));
        assert!(!progress.meet(13, None));
        assert!(progress.meet(14, None));
        assert!(!progress.meet(15, None));
        assert!(progress.commit(14));
        assert_eq!(progress.to_string(), "22 11 2 1 1");
        assert!(progress.commit(12));
        assert_eq!(progress.to_string(), "23 15");
    }

    #[test]
    fn what_is_no_progress_is_refused() {
        for text in ["", "1", "x 1", "1 -1", "1 2 ", "1 18446744073709551615 1"] {
            assert!(text.parse::<Progress>().is_err(), "{text:?}");
        }
    }
}
