//! How many connections each address has, so that one alone cannot take all places.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

/// The addresses that have connections.
#[derive(Debug)]
pub(super) struct Peers {
    most: usize,
    /// Whether addresses that are private count as well. A proxy has one of these, as a rule.
    counts_private: bool,
    held: Mutex<HashMap<IpAddr, usize>>,
}

/// What a connection has of the places of its address, until this is dropped.
#[derive(Debug)]
pub(super) struct Place(Option<(Arc<Peers>, IpAddr)>);

/// The right to hold a connection: its place among all, and among those of its address.
#[derive(Debug)]
pub(super) struct Permit {
    pub(super) _of_all: OwnedSemaphorePermit,
    pub(super) _of_address: Place,
}

impl Place {
    /// Of somebody whose connections are not counted.
    pub(super) fn of_nobody() -> Self {
        Self(None)
    }
}

impl Peers {
    /// Of a port that holds so many connections, and so many of one address if that is said.
    pub(super) fn new(max_connections: usize, per_address: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            most: per_address.unwrap_or_else(|| max_connections.div_ceil(2)),
            counts_private: per_address.is_some(),
            held: Mutex::default(),
        })
    }

    /// The most connections of one address.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Takes a place for one more connection of this address. None when it has all that it may have.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        if !self.counts_private && is_private(address.to_canonical()) {
            return Some(Place(None));
        }
        let address = engine_io::network(address);
        let mut held = self.held();
        let held = held.entry(address).or_default();
        if *held >= self.most {
            return None;
        }
        *held += 1;
        Some(Place(Some((self.clone(), address))))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((peers, address)) = &self.0 else { return };
        if let Entry::Occupied(mut held) = peers.held().entry(*address) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

/// Whether an address is none of the Internet's.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn address_has_no_more_connections_than_it_may() {
        let peers = Peers::new(100, Some(2));
        let first = peers.enter(ip("127.0.0.1")).unwrap();
        let _second = peers.enter(ip("::ffff:127.0.0.1")).unwrap();
        assert!(peers.enter(ip("127.0.0.1")).is_none());
        let _other = peers.enter(ip("127.0.0.2")).unwrap();
        drop(first);
        let third = peers.enter(ip("127.0.0.1"));
        assert!(third.is_some() && peers.enter(ip("127.0.0.1")).is_none());
        drop(third);
        drop((_second, _other));
        assert!(peers.held().is_empty());
    }

    #[test]
    fn by_default_one_address_leaves_half_to_others() {
        let peers = Peers::new(10, None);
        let held: Vec<_> = (0..20).filter_map(|_| peers.enter(ip("203.0.113.1"))).collect();
        assert_eq!(held.len(), 5);
        assert!(peers.enter(ip("203.0.113.2")).is_some());
        let held: Vec<_> = (0..20)
            .filter_map(|i| peers.enter(ip(&format!("2001:db8::{i}"))))
            .collect();
        assert_eq!(held.len(), 5);
        // A proxy, or a load test.
        for proxy in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "fd00::1", "::1"] {
            assert_eq!((0..20).filter_map(|_| peers.enter(ip(proxy))).count(), 20, "{proxy}");
        }
        assert_eq!(Peers::new(1, None).most(), 1);
    }
}
