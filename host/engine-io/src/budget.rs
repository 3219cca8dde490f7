//! The memory budget of unfinished messages, which all sessions share.
//!
//! The sessions of one network may hold as many bytes as they leave free for all others: one network alone gets half of the
//! budget, two get a third each. So an attacker that fills the budget only closes its own connections, and a client from
//! elsewhere finds room.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::peer::network;

/// Bytes of each message that are not counted, because a session always holds some.
const UNCOUNTED: usize = 16 * 1024;

/// A budget in bytes for all sessions together.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: Mutex<UsedBytes>,
}

#[derive(Debug, Default)]
struct UsedBytes {
    total: usize,
    /// By network. All unknown addresses count as one network.
    by_network: HashMap<Option<IpAddr>, usize>,
}

/// The share of one message in a budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    network: Option<IpAddr>,
    bytes: usize,
}

/// The budget has no room for this message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many bytes of unfinished messages, from this address or from all: see unfinished-bytes")]
pub(crate) struct Exhausted;

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: Mutex::default(),
        })
    }

    /// An empty share, for a client at this address.
    pub(crate) fn share(self: &Arc<Self>, address: Option<IpAddr>) -> Share {
        Share {
            budget: self.clone(),
            network: address.map(network),
            bytes: 0,
        }
    }

    fn used(&self) -> MutexGuard<'_, UsedBytes> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UsedBytes {
    /// Whether a network may take more: it must leave at least as much free as it holds.
    fn allows(&self, network: Option<IpAddr>, more: usize, limit: usize) -> bool {
        let own = self.by_network.get(&network).copied().unwrap_or_default();
        let (own, total) = (own.saturating_add(more), self.total.saturating_add(more));
        limit.checked_sub(total).is_some_and(|free| own <= free)
    }

    fn take(&mut self, network: Option<IpAddr>, more: usize) {
        self.total += more;
        *self.by_network.entry(network).or_default() += more;
    }

    fn give_back(&mut self, network: Option<IpAddr>, bytes: usize) {
        self.total -= bytes;
        if let Entry::Occupied(mut own) = self.by_network.entry(network) {
            *own.get_mut() -= bytes;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

impl Share {
    /// Sets the size that the message has reached.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let bytes = bytes.saturating_sub(UNCOUNTED);
        if bytes == self.bytes {
            return Ok(());
        }
        let mut used = self.budget.used();
        match bytes.checked_sub(self.bytes) {
            Some(more) if !used.allows(self.network, more, self.budget.limit) => return Err(Exhausted),
            Some(more) => used.take(self.network, more),
            None => used.give_back(self.network, self.bytes - bytes),
        }
        drop(used);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.used().give_back(self.network, self.bytes);
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
    fn shares_are_bounded_together_and_given_back() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (budget.share(None), budget.share(None));
        assert_eq!(one.hold(UNCOUNTED), Ok(()));
        assert_eq!(one.hold(UNCOUNTED + 30), Ok(()));
        assert_eq!(other.hold(UNCOUNTED + 21), Err(Exhausted));
        assert_eq!(other.hold(UNCOUNTED + 20), Ok(()));
        assert_eq!(one.hold(0), Ok(()));
        assert_eq!(other.hold(UNCOUNTED + 50), Ok(()));
        assert_eq!(other.hold(usize::MAX), Err(Exhausted));
        drop(other);
        assert_eq!(budget.used().total, 0);
        assert!(budget.used().by_network.is_empty());
    }

    #[test]
    fn greedy_address_leaves_room_for_others() {
        let budget = Budget::new(1_000);
        let mut greedy: Vec<_> = (0..300).map(|_| budget.share(ip(1))).collect();
        let taken = greedy
            .iter_mut()
            .filter_map(|share| share.hold(UNCOUNTED + 10).ok())
            .count();
        assert_eq!(taken, 50);
        // Another network still gets some, the greedy one does not.
        let mut other = budget.share(ip(2));
        assert_eq!(other.hold(UNCOUNTED + 200), Ok(()));
        assert_eq!(budget.share(ip(1)).hold(UNCOUNTED + 1), Err(Exhausted));
        // Many networks together do not fill the budget.
        for last in 3..100 {
            let mut shares: Vec<_> = (0..300).map(|_| budget.share(ip(last))).collect();
            while shares
                .iter_mut()
                .any(|share| share.hold(UNCOUNTED + share.bytes + 1).is_ok())
            {}
            greedy.append(&mut shares);
        }
        assert!(budget.used().total < 1_000);
    }

    #[test]
    fn addresses_of_one_network_share_a_limit() {
        let budget = Budget::new(100);
        let address = |text: &str| Some(text.parse().unwrap());
        let mut one = budget.share(address("2001:db8::1"));
        assert_eq!(one.hold(UNCOUNTED + 50), Ok(()));
        assert_eq!(budget.share(address("2001:db8::2")).hold(UNCOUNTED + 1), Err(Exhausted));
        assert_eq!(budget.share(address("2001:db8:1::2")).hold(UNCOUNTED + 20), Ok(()));
    }
}
