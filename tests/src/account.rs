//! The account of numbered messages: what was sent against what came, so that nobody is fast by losing something.

use std::collections::BTreeSet;
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::text::FIRST;

/// What one client has to hear of one sender.
pub(crate) struct Account {
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
pub(crate) struct Tally {
    /// What should have come,
    pub(crate) expected: u64,
    /// did not come,
    pub(crate) lost: u64,
    /// came again,
    pub(crate) doubled: u64,
    /// came after a later one,
    pub(crate) out_of_order: u64,
    /// or was nothing that anybody sent.
    pub(crate) strange: u64,
    /// Connections that ended by themselves.
    pub(crate) broken: u64,
}

impl Account {
    pub(crate) fn new(sent: Arc<AtomicU64>) -> Self {
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
    pub(crate) fn settle(&mut self, number: Option<u64>) -> bool {
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

    pub(crate) fn tally(&self) -> Tally {
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
    pub(crate) fn is_clean(&self, in_order: bool) -> bool {
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
