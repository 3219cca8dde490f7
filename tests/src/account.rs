//! The account of numbered messages: what was sent against what came, so that nobody is fast by losing something.
//!
//! The benchmark keeps one for each client, and fails when one is not clean. It is here to be among the units that are tested.

use std::collections::BTreeSet;
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The first number; all have as many digits as this.
pub const FIRST: u64 = 1_000_000_000;

/// What one client has to hear of one sender.
pub struct Account {
    /// How many the sender has sent so far.
    sent: Arc<AtomicU64>,
    came: u64,
    /// The number that must come next.
    next: u64,
    /// Numbers that were overtaken by later ones and have not come yet.
    overtaken: BTreeSet<u64>,
    doubled: u64,
    out_of_order: u64,
    strange: u64,
}

/// What became of all messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// What should have come,
    pub expected: u64,
    /// did not come,
    pub lost: u64,
    /// came again,
    pub doubled: u64,
    /// came after a later one,
    pub out_of_order: u64,
    /// or was nothing that anybody sent.
    pub strange: u64,
    /// Connections that ended by themselves.
    pub broken: u64,
}

impl Account {
    /// An empty one, of a sender who counts here what it sends.
    pub fn new(sent: Arc<AtomicU64>) -> Self {
        Self {
            sent,
            came: 0,
            next: FIRST,
            overtaken: BTreeSet::new(),
            doubled: 0,
            out_of_order: 0,
            strange: 0,
        }
    }

    /// Books the number that came, if it was one, and says whether it was still missing.
    pub fn settle(&mut self, number: Option<u64>) -> bool {
        let Some(number) = number.filter(|number| (FIRST..FIRST + self.sent()).contains(number)) else {
            self.strange += 1;
            return false;
        };
        if number < self.next && !self.overtaken.remove(&number) {
            self.doubled += 1;
            return false;
        }
        if number < self.next {
            self.out_of_order += 1;
        }
        // Nothing when it is the expected one.
        self.overtaken.extend(self.next..number);
        self.next = self.next.max(number + 1);
        self.came += 1;
        true
    }

    /// What became of all that was sent so far.
    pub fn tally(&self) -> Tally {
        Tally {
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

impl Tally {
    /// Whether everything came, once, and in order where that is meant.
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

impl AddAssign for Tally {
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

    /// What becomes of so many messages of which these came, counted from 0.
    fn tally(sent: u64, came: &[u64]) -> Tally {
        let mut account = Account::new(Arc::new(sent.into()));
        for number in came {
            account.settle(Some(FIRST + number));
        }
        account.tally()
    }

    fn of(expected: u64) -> Tally {
        Tally {
            expected,
            ..Tally::default()
        }
    }

    fn is_clean(tally: Tally) -> bool {
        tally.is_clean(true)
    }

    #[test]
    fn all_once_and_in_order_is_clean() {
        assert_eq!(tally(3, &[0, 1, 2]), of(3));
        assert!(is_clean(of(3)));
    }

    #[test]
    fn one_that_did_not_come_is_lost() {
        for came in [&[0, 1], &[0, 2], &[1, 2]] {
            assert_eq!(tally(3, came), Tally { lost: 1, ..of(3) });
        }
        assert!(!is_clean(Tally { lost: 1, ..of(3) }));
    }

    #[test]
    fn one_that_came_again_is_doubled_at_once_or_later() {
        for came in [&[0, 0, 1, 2], &[0, 1, 2, 0], &[0, 1, 2, 2]] {
            assert_eq!(tally(3, came), Tally { doubled: 1, ..of(3) });
        }
        assert!(!is_clean(Tally { doubled: 1, ..of(3) }));
    }

    #[test]
    fn one_that_was_overtaken_is_out_of_order_and_not_lost() {
        let overtaken = Tally {
            out_of_order: 1,
            ..of(3)
        };
        for came in [&[1, 0, 2], &[0, 2, 1]] {
            assert_eq!(tally(3, came), overtaken);
        }
        assert!(!overtaken.is_clean(true) && overtaken.is_clean(false));
    }

    #[test]
    fn what_nobody_sent_is_strange() {
        let strange = Tally { strange: 1, ..of(2) };
        assert_eq!(tally(2, &[0, 1, 2]), strange);
        let mut account = Account::new(Arc::new(0.into()));
        assert!(!account.settle(None));
        assert_eq!(account.tally(), Tally { strange: 1, ..of(0) });
        assert!(!is_clean(strange));
    }

    #[test]
    fn a_sum_is_as_clean_as_its_parts() {
        let mut sum = of(3);
        sum += of(2);
        assert!(is_clean(sum) && sum == of(5));
        sum += Tally { broken: 1, ..of(1) };
        assert!(!is_clean(sum));
    }
}
