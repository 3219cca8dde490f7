//! Checks a sequence of numbered messages: compares those sent with those received.
//!
//! The benchmark keeps a check for each client and fails when messages are lost or doubled. It is in this crate so that its unit tests
//! run with the others.

use std::collections::BTreeSet;
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The first number. All numbers have the same number of digits.
pub const FIRST: u64 = 1_000_000_000;

/// The messages that one client should receive of one sender.
pub struct SequenceCheck {
    /// Number of messages that the sender has sent so far.
    sent: Arc<AtomicU64>,
    came: u64,
    /// The number expected next.
    next: u64,
    /// Numbers below `next` that have not come yet.
    skipped: BTreeSet<u64>,
    doubled: u64,
    out_of_order: u64,
    strange: u64,
}

/// Outcome of all messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SequenceCounts {
    /// Messages sent.
    pub expected: u64,
    /// Messages that did not arrive.
    pub lost: u64,
    /// Messages that arrived again.
    pub doubled: u64,
    /// Messages that arrived after a later one.
    pub out_of_order: u64,
    /// Messages that nobody sent.
    pub strange: u64,
    /// Connections that ended unexpectedly.
    pub broken: u64,
}

impl SequenceCheck {
    /// An empty check; the sender counts its messages in `sent`.
    pub fn new(sent: Arc<AtomicU64>) -> Self {
        Self {
            sent,
            came: 0,
            next: FIRST,
            skipped: BTreeSet::new(),
            doubled: 0,
            out_of_order: 0,
            strange: 0,
        }
    }

    /// Records a received number, or `None` for a message without one. Returns whether it was expected and new.
    pub fn record(&mut self, number: Option<u64>) -> bool {
        let Some(number) = number.filter(|number| (FIRST..FIRST + self.sent()).contains(number)) else {
            self.strange += 1;
            return false;
        };
        if number < self.next && !self.skipped.remove(&number) {
            self.doubled += 1;
            return false;
        }
        if number < self.next {
            self.out_of_order += 1;
        }
        // Empty when it is the expected one.
        self.skipped.extend(self.next..number);
        self.next = self.next.max(number + 1);
        self.came += 1;
        true
    }

    /// Outcome of all messages sent so far.
    pub fn counts(&self) -> SequenceCounts {
        SequenceCounts {
            expected: self.sent(),
            lost: self.sent() - self.came,
            doubled: self.doubled,
            out_of_order: self.out_of_order,
            strange: self.strange,
            broken: 0,
        }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }
}

impl SequenceCounts {
    /// Whether every message arrived once and, if `in_order`, in order.
    pub fn is_clean(&self, in_order: bool) -> bool {
        let Self {
            lost,
            doubled,
            out_of_order,
            strange,
            broken,
            ..
        } = *self;
        lost + doubled + strange + broken == 0 && (!in_order || out_of_order == 0)
    }
}

impl AddAssign for SequenceCounts {
    fn add_assign(&mut self, other: Self) {
        self.expected += other.expected;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
        self.strange += other.strange;
        self.broken += other.broken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts for `sent` messages of which these arrived, numbered from 0.
    fn counts(sent: u64, came: &[u64]) -> SequenceCounts {
        let mut check = SequenceCheck::new(Arc::new(sent.into()));
        for number in came {
            check.record(Some(FIRST + number));
        }
        check.counts()
    }

    fn of(expected: u64) -> SequenceCounts {
        SequenceCounts {
            expected,
            ..SequenceCounts::default()
        }
    }

    fn is_clean(counts: SequenceCounts) -> bool {
        counts.is_clean(true)
    }

    #[test]
    fn complete_ordered_sequence_is_clean() {
        assert_eq!(counts(3, &[0, 1, 2]), of(3));
        assert!(is_clean(of(3)));
    }

    #[test]
    fn missing_number_is_lost() {
        for came in [&[0, 1], &[0, 2], &[1, 2]] {
            assert_eq!(counts(3, came), SequenceCounts { lost: 1, ..of(3) });
        }
        assert!(!is_clean(SequenceCounts { lost: 1, ..of(3) }));
    }

    #[test]
    fn repeated_number_is_doubled() {
        for came in [&[0, 0, 1, 2], &[0, 1, 2, 0], &[0, 1, 2, 2]] {
            assert_eq!(counts(3, came), SequenceCounts { doubled: 1, ..of(3) });
        }
        assert!(!is_clean(SequenceCounts { doubled: 1, ..of(3) }));
    }

    #[test]
    fn late_number_is_out_of_order_and_not_lost() {
        let overtaken = SequenceCounts {
            out_of_order: 1,
            ..of(3)
        };
        for came in [&[1, 0, 2], &[0, 2, 1]] {
            assert_eq!(counts(3, came), overtaken);
        }
        assert!(!overtaken.is_clean(true) && overtaken.is_clean(false));
    }

    #[test]
    fn number_never_sent_is_strange() {
        let strange = SequenceCounts { strange: 1, ..of(2) };
        assert_eq!(counts(2, &[0, 1, 2]), strange);
        let mut check = SequenceCheck::new(Arc::new(0.into()));
        assert!(!check.record(None));
        assert_eq!(check.counts(), SequenceCounts { strange: 1, ..of(0) });
        assert!(!is_clean(strange));
    }

    #[test]
    fn sum_is_clean_when_its_parts_are() {
        let mut sum = of(3);
        sum += of(2);
        assert!(is_clean(sum) && sum == of(5));
        sum += SequenceCounts { broken: 1, ..of(1) };
        assert!(!is_clean(sum));
    }
}
