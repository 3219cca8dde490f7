//! Limits the connections of a port, in all and of each address, so that one address cannot take all of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counts the connections of a port.
#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    all: Arc<Semaphore>,
    by_address: Arc<AddressCounts>,
}

/// The right to hold a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    _of_all: OwnedSemaphorePermit,
    _of_address: Option<AddressPermit>,
}

/// The limit that a connection exceeds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExceededLimit {
    /// That of its address.
    Address,
    /// That of the port.
    All,
}

/// The connections of each address.
#[derive(Debug)]
struct AddressCounts {
    limit: usize,
    /// Whether connections of private addresses count. A proxy usually has one.
    counts_private: bool,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection counted for its address, until this is dropped.
#[derive(Debug)]
struct AddressPermit {
    counts: Arc<AddressCounts>,
    address: IpAddr,
}

impl ConnectionLimiter {
    /// A limiter for a port with so many connections, and so many of each address. For None see
    /// [`HttpSettings`](super::HttpSettings).
    pub(super) fn new(max_connections: usize, per_address: Option<usize>) -> Self {
        Self {
            all: Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS))),
            by_address: Arc::new(AddressCounts {
                limit: per_address.unwrap_or_else(|| max_connections.div_ceil(2)),
                counts_private: per_address.is_some(),
                counts: Mutex::default(),
            }),
        }
    }

    /// Number of connections that one address may have.
    pub(super) fn per_address(&self) -> usize {
        self.by_address.limit
    }

    /// Admits a connection. `address` is None for one of a proxy: it has many clients behind it, and no limit of its own.
    pub(super) fn admit(&self, address: Option<IpAddr>) -> Result<ConnectionPermit, ExceededLimit> {
        let of_address = match address.filter(|address| self.by_address.is_counted(*address)) {
            Some(address) => Some(self.by_address.admit(address).ok_or(ExceededLimit::Address)?),
            None => None,
        };
        let of_all = self.all.clone().try_acquire_owned().map_err(|_| ExceededLimit::All)?;
        Ok(ConnectionPermit {
            _of_all: of_all,
            _of_address: of_address,
        })
    }
}

impl AddressCounts {
    fn is_counted(&self, address: IpAddr) -> bool {
        self.counts_private || !is_private(address.to_canonical())
    }

    fn admit(self: &Arc<Self>, address: IpAddr) -> Option<AddressPermit> {
        let address = engine_io::network(address);
        let mut counts = self.counts.lock();
        let count = counts.entry(address).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(AddressPermit {
            counts: self.clone(),
            address,
        })
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.counts.counts.lock().entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Whether an address is not one of the public Internet.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(limiter: &ConnectionLimiter, address: &str) -> Result<ConnectionPermit, ExceededLimit> {
        limiter.admit(Some(address.parse().unwrap()))
    }

    #[test]
    fn limits_connections_of_address() {
        let limiter = ConnectionLimiter::new(100, Some(2));
        let first = admit(&limiter, "127.0.0.1").unwrap();
        let second = admit(&limiter, "::ffff:127.0.0.1").unwrap();
        assert_eq!(admit(&limiter, "127.0.0.1").unwrap_err(), ExceededLimit::Address);
        let other = admit(&limiter, "127.0.0.2").unwrap();
        drop(first);
        let third = admit(&limiter, "127.0.0.1").unwrap();
        assert!(admit(&limiter, "127.0.0.1").is_err());
        drop((second, other, third));
        assert!(limiter.by_address.counts.lock().is_empty());
    }

    #[test]
    fn one_address_gets_half_by_default() {
        for address in [|_| "203.0.113.1".to_owned(), |number| format!("2001:db8::{number}")] {
            let limiter = ConnectionLimiter::new(10, None);
            let held: Vec<_> = (0..20).map(|number| admit(&limiter, &address(number))).collect();
            assert_eq!(held.iter().filter(|held| held.is_ok()).count(), 5);
            assert!(admit(&limiter, "203.0.113.2").is_ok());
        }
        // A proxy, or a load test.
        for proxy in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "fd00::1", "::1"] {
            let limiter = ConnectionLimiter::new(10, None);
            let held: Vec<_> = (0..20).map(|_| admit(&limiter, proxy)).collect();
            assert_eq!(held.iter().filter(|held| held.is_ok()).count(), 10, "{proxy}");
            assert!(matches!(held.last(), Some(Err(ExceededLimit::All))));
        }
        assert_eq!(ConnectionLimiter::new(1, None).per_address(), 1);
    }
}
