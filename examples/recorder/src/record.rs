//! What is kept of one client: enough to say afterwards which of its numbered messages took effect, how often and in
//! which order, in a few hundred bytes however many there were.
//!
//! A message adds its number to the record in the same event that sends its commands, so that whoever heard the
//! commands and reads the record knows whether an event was done by half.

use serde::{Deserialize, Serialize};

/// At most so many gaps are kept; of the oldest only their end is remembered beyond that.
const GAPS: usize = 256;
/// At most so many numbers are named where something went wrong; more are only counted.
const NAMED: usize = 16;

/// What is kept of one client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The channel that its messages are broadcast to.
    pub channel: Option<String>,
    /// How often its connection was handled.
    pub connections: u32,
    /// How often its disconnect was handled,
    pub disconnects: u32,
    /// and why it went.
    pub reason: Option<String>,
    /// Messages that were handled before its connection.
    pub early: u32,
    /// Messages that were handled after its disconnect.
    pub late: u32,
    /// Messages that were handled, repeated ones included.
    pub count: u64,
    /// The sum of their numbers, repeated ones left out.
    pub sum: u64,
    /// The greatest number.
    pub last: u64,
    /// Numbers below the greatest that were not handled: first and last of each gap, in order.
    pub gaps: Vec<(u64, u64)>,
    /// Of numbers up to this, the gaps are forgotten, because there were too many.
    pub forgotten_to: u64,
    /// Numbers that came again.
    pub repeated: Numbers,
    /// Numbers that came after a greater one, for the first time.
    pub reordered: Numbers,
    /// The number in the client's attributes, as the last message that set it left it; 0 when none did.
    pub attribute: u64,
    /// Messages that did not see that number in the client's attributes; 0 stands for the disconnect.
    pub stale: Numbers,
    /// The client's timers.
    pub timers: Timers,
    /// The event that changed this last.
    pub event: String,
}

/// The timers of a client, each of which is named by the message that set it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// Those that are set, and were not due yet.
    pub set: Vec<u64>,
    /// How many were due.
    pub due: u64,
    /// Those that were due again, or never set.
    pub repeated: Numbers,
    /// Those that were due after the client's disconnect.
    pub late: Numbers,
}

/// Numbers that something went wrong with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// How many.
    pub count: u32,
    /// The first of them.
    pub first: Vec<u64>,
}

impl Record {
    /// Adds a message.
    pub fn add(&mut self, number: u64) {
        self.early += u32::from(self.connections == 0);
        self.late += u32::from(self.disconnects > 0);
        self.count += 1;
        if number > self.last {
            if number > self.last + 1 {
                self.gaps.push((self.last + 1, number - 1));
            }
            self.last = number;
        } else if self.fill(number) {
            self.reordered.add(number);
        } else {
            self.repeated.add(number);
            return;
        }
        self.sum += number;
        if self.gaps.len() > GAPS {
            self.forgotten_to = self.gaps.remove(0).1;
        }
    }

    /// Compares the number in the client's attributes, as a message sees it, with the number that was set last.
    pub fn check_attribute(&mut self, message: u64, seen: u64) {
        if seen != self.attribute {
            self.stale.add(message);
        }
    }

    /// A message has set a timer.
    pub fn set_timer(&mut self, number: u64) {
        self.timers.set.push(number);
    }

    /// The timer of a message is due.
    pub fn timer_is_due(&mut self, number: u64) {
        let timers = &mut self.timers;
        timers.due += 1;
        if self.disconnects > 0 {
            timers.late.add(number);
        }
        match timers.set.iter().position(|set| *set == number) {
            Some(place) => drop(timers.set.remove(place)),
            None => timers.repeated.add(number),
        }
    }

    /// Takes a number out of the gap that it is in, if it is in one.
    fn fill(&mut self, number: u64) -> bool {
        let Some(place) = self.gaps.iter().position(|(from, to)| (*from..=*to).contains(&number)) else {
            return false;
        };
        let (from, to) = self.gaps[place];
        let left = [(from, number - 1), (number + 1, to)];
        self.gaps
            .splice(place..=place, left.into_iter().filter(|(from, to)| from <= to));
        true
    }
}

impl Numbers {
    fn add(&mut self, number: u64) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(numbers: &[u64]) -> Record {
        let mut record = Record {
            connections: 1,
            ..Default::default()
        };
        numbers.iter().for_each(|number| record.add(*number));
        record
    }

    #[test]
    fn what_comes_in_order_leaves_no_trace_but_its_count() {
        let record = record(&[1, 2, 3]);
        assert_eq!((record.count, record.sum, record.last), (3, 6, 3));
        assert_eq!(
            (record.gaps.len(), record.repeated.count, record.reordered.count),
            (0, 0, 0)
        );
    }

    #[test]
    fn gaps_are_kept_and_filled() {
        assert_eq!(record(&[1, 5]).gaps, [(2, 4)]);
        let filled = record(&[1, 5, 3]);
        assert_eq!(filled.gaps, [(2, 2), (4, 4)]);
        assert_eq!(filled.reordered.first, [3]);
        assert_eq!(record(&[2, 1]).gaps, []);
    }

    #[test]
    fn timer_is_due_once_and_before_the_disconnect() {
        let mut record = record(&[1, 2]);
        record.set_timer(1);
        record.set_timer(2);
        record.timer_is_due(2);
        record.timer_is_due(2);
        assert_eq!(
            (&record.timers.set[..], &record.timers.repeated.first[..]),
            (&[1][..], &[2][..])
        );
        record.disconnects = 1;
        record.timer_is_due(1);
        assert_eq!((record.timers.due, &record.timers.late.first[..]), (3, &[1][..]));
    }

    #[test]
    fn what_comes_again_is_named() {
        let record = record(&[1, 2, 2, 1]);
        assert_eq!((record.count, record.sum), (4, 3));
        assert_eq!(
            record.repeated,
            Numbers {
                count: 2,
                first: vec![2, 1]
            }
        );
    }

    #[test]
    fn stale_attributes_are_named() {
        let mut record = record(&[1]);
        record.check_attribute(1, 0);
        record.attribute = 1;
        record.check_attribute(2, 1);
        assert_eq!(record.stale.count, 0);
        record.check_attribute(3, 0);
        assert_eq!(record.stale.first, [3]);
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let odd: Vec<u64> = (0..1_000).map(|n| 2 * n + 1).collect();
        let record = record(&odd);
        assert_eq!(record.gaps.len(), GAPS);
        assert_eq!(record.forgotten_to + 2, record.gaps[0].0);
    }
}
