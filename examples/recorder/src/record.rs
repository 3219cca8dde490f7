//! The record of a client: shows which of its numbered messages took effect, how often and in which order, in a few hundred bytes
//! for any number of messages.
//!
//! A message updates the record in the same event that sends its commands, so a checker that sees both can detect an event that took
//! effect only in part.

use serde::{Deserialize, Serialize};

/// Limit of stored gaps. Of older gaps, only the end of the last one is kept.
const MAX_GAPS: usize = 256;
/// Limit of listed numbers per fault; further ones are only counted.
const MAX_LISTED: usize = 16;

/// The record of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The channel that its messages are broadcast to.
    pub channel: Option<String>,
    /// Number of handled connection events.
    pub connections: u32,
    /// Number of handled disconnect events.
    pub disconnects: u32,
    /// The reason of the disconnect.
    pub reason: Option<String>,
    /// Number of messages that were handled before its connection.
    pub early: u32,
    /// Number of messages that were handled after its disconnect.
    pub late: u32,
    /// Number of handled messages, including repeated ones.
    pub count: u64,
    /// The sum of their numbers, without repeated ones.
    pub sum: u64,
    /// The greatest number.
    pub last: u64,
    /// Missing numbers below the greatest: first and last number of each gap, in order.
    pub gaps: Vec<(u64, u64)>,
    /// The gaps up to this number were dropped, because there were too many.
    pub forgotten_to: u64,
    /// Numbers that were handled more than once.
    pub repeated: Numbers,
    /// Numbers that were first handled after a greater one.
    pub reordered: Numbers,
    /// The number in the client's attributes, set by the last message that requested it; 0 if none did.
    pub attribute: u64,
    /// Messages that saw another number in the client's attributes; 0 is the disconnect.
    pub stale: Numbers,
    /// The client's timers.
    pub timers: Timers,
    /// The id of the event that changed the record last.
    pub event: String,
}

/// The timers of a client. Each has the number of the message that set it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// Timers that are set and were not due yet.
    pub set: Vec<u64>,
    /// Number of timers that were due.
    pub due: u64,
    /// Timers that were due more than once, or never set.
    pub repeated: Numbers,
    /// Timers that were due after the client's disconnect.
    pub late: Numbers,
}

/// The numbers of messages with a fault.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// Number of these messages.
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
        if self.gaps.len() > MAX_GAPS {
            self.forgotten_to = self.gaps.remove(0).1;
        }
    }

    /// Compares the number in the client's attributes, as a message sees it, with the number that was set last.
    pub fn check_attribute(&mut self, message: u64, seen: u64) {
        if seen != self.attribute {
            self.stale.add(message);
        }
    }

    /// Records that a message set a timer.
    pub fn set_timer(&mut self, number: u64) {
        self.timers.set.push(number);
    }

    /// Records that the timer of a message is due.
    pub fn timer_is_due(&mut self, number: u64) {
        let timers = &mut self.timers;
        timers.due += 1;
        if self.disconnects > 0 {
            timers.late.add(number);
        }
        match timers.set.iter().position(|set| *set == number) {
            Some(index) => drop(timers.set.remove(index)),
            None => timers.repeated.add(number),
        }
    }

    /// Removes a number from its gap. Returns whether it was in one.
    fn fill(&mut self, number: u64) -> bool {
        let Some(index) = self.gaps.iter().position(|(from, to)| (*from..=*to).contains(&number)) else {
            return false;
        };
        let (from, to) = self.gaps[index];
        let left = [(from, number - 1), (number + 1, to)];
        self.gaps
            .splice(index..=index, left.into_iter().filter(|(from, to)| from <= to));
        true
    }
}

impl Numbers {
    fn add(&mut self, number: u64) {
        self.count += 1;
        if self.first.len() < MAX_LISTED {
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
    fn ordered_messages_leave_only_counts() {
        let record = record(&[1, 2, 3]);
        assert_eq!((record.count, record.sum, record.last), (3, 6, 3));
        assert_eq!(
            (record.gaps.len(), record.repeated.count, record.reordered.count),
            (0, 0, 0)
        );
    }

    #[test]
    fn records_and_fills_gaps() {
        assert_eq!(record(&[1, 5]).gaps, [(2, 4)]);
        let filled = record(&[1, 5, 3]);
        assert_eq!(filled.gaps, [(2, 2), (4, 4)]);
        assert_eq!(filled.reordered.first, [3]);
        assert_eq!(record(&[2, 1]).gaps, []);
    }

    #[test]
    fn records_repeated_and_late_timers() {
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
    fn lists_repeated_numbers() {
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
    fn lists_stale_attributes() {
        let mut record = record(&[1]);
        record.check_attribute(1, 0);
        record.attribute = 1;
        record.check_attribute(2, 1);
        assert_eq!(record.stale.count, 0);
        record.check_attribute(3, 0);
        assert_eq!(record.stale.first, [3]);
    }

    #[test]
    fn limits_stored_gaps() {
        let odd: Vec<u64> = (0..1_000).map(|n| 2 * n + 1).collect();
        let record = record(&odd);
        assert_eq!(record.gaps.len(), MAX_GAPS);
        assert_eq!(record.forgotten_to + 2, record.gaps[0].0);
    }
}
