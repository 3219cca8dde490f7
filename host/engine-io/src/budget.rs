//! Memory that all sessions share: bytes of messages that have not come to their end.
//!
//! An address may hold as much as it leaves to all others: one alone has half of the budget, two a third each. So whoever
//! fills it closes their own connections, and a newcomer from elsewhere finds room.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::opening::network;

/// Small messages are not counted: a session always holds some.
const FREE: usize = 16 * 1024;

/// So many bytes, for all sessions together.
#[derive(Debug)]
pub(crate) struct Budget {
    most: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    all: usize,
    /// Of addresses that hold something. Those that are not known count as one.
    by_address: HashMap<Option<IpAddr>, usize>,
}

/// What one message has of a budget, until this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    address: Option<IpAddr>,
    bytes: usize,
}

/// There is no room for this message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many bytes of unfinished messages are held, of this address or of all together: see unfinished-bytes")]
pub(crate) struct Exhausted;

impl Budget {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            used: Mutex::default(),
        })
    }

    /// A share of nothing, for somebody at this address.
    pub(crate) fn share(self: &Arc<Self>, address: Option<IpAddr>) -> Share {
        Share {
            budget: self.clone(),
            address: address.map(network),
            bytes: 0,
        }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    /// Whether an address may have more.
    fn allows(&self, address: Option<IpAddr>, more: usize, most: usize) -> bool {
        let own = self.by_address.get(&address).copied().unwrap_or_default();
        let (own, all) = (own.saturating_add(more), self.all.saturating_add(more));
        most.checked_sub(all).is_some_and(|left| own <= left)
    }

    fn take(&mut self, address: Option<IpAddr>, more: usize) {
        self.all += more;
        *self.by_address.entry(address).or_default() += more;
    }

    fn give_back(&mut self, address: Option<IpAddr>, bytes: usize) {
        self.all -= bytes;
        if let Entry::Occupied(mut own) = self.by_address.entry(address) {
            *own.get_mut() -= bytes;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

impl Share {
    /// The message has so many bytes by now.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let bytes = bytes.saturating_sub(FREE);
        if bytes == self.bytes {
            return Ok(());
        }
        let mut used = self.budget.used();
        match bytes.checked_sub(self.bytes) {
            Some(more) if !used.allows(self.address, more, self.budget.most) => return Err(Exhausted),
            Some(more) => used.take(self.address, more),
            None => used.give_back(self.address, self.bytes - bytes),
        }
        drop(used);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.used().give_back(self.address, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> Option<IpAddr> {
        Some([10, 0, 0, last].into())
    }

    #[test]
    fn shares_are_bounded_together_and_returned() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (budget.share(None), budget.share(None));
        assert_eq!(one.hold(FREE), Ok(()));
        assert_eq!(one.hold(FREE + 30), Ok(()));
        assert_eq!(other.hold(FREE + 21), Err(Exhausted));
        assert_eq!(other.hold(FREE + 20), Ok(()));
        assert_eq!(one.hold(0), Ok(()));
        assert_eq!(other.hold(FREE + 50), Ok(()));
        assert_eq!(other.hold(usize::MAX), Err(Exhausted));
        drop(other);
        assert_eq!(budget.used().all, 0);
        assert!(budget.used().by_address.is_empty());
    }

    #[test]
    fn address_that_holds_much_leaves_room_for_others() {
        let budget = Budget::new(1_000);
        let mut greedy: Vec<_> = (0..300).map(|_| budget.share(ip(1))).collect();
        let taken = greedy.iter_mut().filter_map(|share| share.hold(FREE + 10).ok()).count();
        assert_eq!(taken, 50);
        // The greedy one gets no more, and one from elsewhere does.
        let mut innocent = budget.share(ip(2));
        assert_eq!(innocent.hold(FREE + 200), Ok(()));
        assert_eq!(budget.share(ip(1)).hold(FREE + 1), Err(Exhausted));
        // Many together still leave some.
        for last in 3..100 {
            let mut shares: Vec<_> = (0..300).map(|_| budget.share(ip(last))).collect();
            while shares
                .iter_mut()
                .any(|share| share.hold(FREE + share.bytes + 1).is_ok())
            {}
            greedy.append(&mut shares);
        }
        assert!(budget.used().all < 1_000);
    }

    #[test]
    fn addresses_of_one_network_share() {
        let budget = Budget::new(100);
        let address = |text: &str| Some(text.parse().unwrap());
        let mut one = budget.share(address("2001:db8::1"));
        assert_eq!(one.hold(FREE + 50), Ok(()));
        assert_eq!(budget.share(address("2001:db8::2")).hold(FREE + 1), Err(Exhausted));
        assert_eq!(budget.share(address("2001:db8:1::2")).hold(FREE + 20), Ok(()));
    }
}
