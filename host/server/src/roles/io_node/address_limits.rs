//! Limits of one address: sessions at once, and new sessions per second.
//!
//! Memory is bounded: an address without sessions and without recent connects is forgotten, and only so many others are remembered. The
//! caller says what time it is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use engine_io::Gcra;

/// The connects allowed in this many seconds may come at once.
const BURST_SECONDS: u32 = 10;
/// Addresses without sessions that are remembered for their recent connects.
const MAX_IDLE: usize = 16_384;
/// With fewer addresses than this, none is forgotten.
const MIN_KNOWN: usize = 1_024;

/// The limits of one address; none is without a limit. An IPv6 address counts by its first 64 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PerAddress {
    /// Sessions open at once from one address; one more is answered 429. An IPv6 address counts by its first 64 bits. Behind
    /// a proxy, set `http.trusted-proxies` or `http.proxy-protocol` first: else all clients have the proxy's address. Unset: no
    /// limit.
    #[schemars(example = 100)]
    #[serde(rename = "max-clients-per-address")]
    pub clients: Option<usize>,
    /// New sessions per second from one address; one more is answered 429. The allowance of ten seconds may come at once. Unset: no
    /// limit.
    #[schemars(example = 10)]
    pub connects_per_second: Option<u32>,
}

/// The sessions and recent connects of all addresses.
#[derive(Debug)]
pub(super) struct AddressLimits {
    limits: RwLock<PerAddress>,
    known: Mutex<AddressTable>,
}

#[derive(Debug, Default)]
struct AddressTable {
    addresses: HashMap<IpAddr, Address>,
    /// Number of addresses at which idle ones are forgotten.
    forget_at: usize,
}

#[derive(Debug, Default)]
struct Address {
    sessions: usize,
    /// The theoretical arrival time of the next connect.
    arrival: Option<Instant>,
}

/// Permits one session of an address, until it is dropped.
#[derive(Debug)]
pub(super) struct SessionPermit {
    address: IpAddr,
    addresses: Arc<AddressLimits>,
}

/// Why an address may not open another session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMany {
    /// It has as many sessions as it may.
    #[error("this address has as many sessions as it may have at once")]
    Sessions,
    /// It opens sessions too fast, and may open the next after this time.
    #[error("this address opens sessions faster than it may")]
    Rate(Duration),
}

impl AddressLimits {
    pub(super) fn new(limits: PerAddress) -> Arc<Self> {
        Arc::new(Self {
            limits: RwLock::new(limits),
            known: Mutex::default(),
        })
    }

    /// Changes the limits for new sessions.
    pub(super) fn set(&self, limits: PerAddress) {
        *self.limits.write() = limits;
    }

    /// Permits another session of this address. None if there are no limits.
    ///
    /// # Errors
    /// If the address is over a limit.
    pub(super) fn permit(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Option<SessionPermit>, TooMany> {
        let limits = *self.limits.read();
        if limits == PerAddress::default() {
            return Ok(None);
        }
        let address = engine_io::network(address);
        let mut known = self.known.lock();
        known.forget_idle(now);
        let entry = known.addresses.entry(address).or_default();
        limits.allow(entry, now)?;
        if let Some(rate) = limits.connects_per_second {
            Gcra::new(rate, BURST_SECONDS).count(&mut entry.arrival, now);
        }
        entry.sessions += 1;
        Ok(Some(SessionPermit {
            address,
            addresses: self.clone(),
        }))
    }
}

impl PerAddress {
    fn allow(&self, address: &Address, now: Instant) -> Result<(), TooMany> {
        if self.clients.is_some_and(|most| address.sessions >= most) {
            return Err(TooMany::Sessions);
        }
        let Some(rate) = self.connects_per_second else {
            return Ok(());
        };
        let limit = Gcra::new(rate, BURST_SECONDS);
        // Counted in a copy: a refused connect does not count.
        let ahead = limit.count(&mut { address.arrival }, now);
        limit.wait(ahead).map_or(Ok(()), |wait| Err(TooMany::Rate(wait)))
    }
}

impl AddressTable {
    fn forget_idle(&mut self, now: Instant) {
        if self.addresses.len() < self.forget_at.max(MIN_KNOWN) {
            return;
        }
        self.addresses
            .retain(|_, address| address.sessions > 0 || address.arrival.is_some_and(|due| due > now));
        let idle = self.addresses.values().filter(|address| address.sessions == 0).count();
        if idle >= MAX_IDLE {
            // A client with this many addresses evades limits per address. The limit of all connections holds for it.
            self.addresses.retain(|_, address| address.sessions > 0);
        }
        self.forget_at = self.addresses.len() * 2;
        self.addresses.shrink_to(self.forget_at.max(MIN_KNOWN));
    }
}

impl Drop for SessionPermit {
    fn drop(&mut self) {
        let mut known = self.addresses.known.lock();
        if let Entry::Occupied(mut entry) = known.addresses.entry(self.address) {
            entry.get_mut().sessions -= 1;
            if entry.get().sessions == 0 && entry.get().arrival.is_none() {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn addresses(clients: Option<usize>, connects_per_second: Option<u32>) -> Arc<AddressLimits> {
        AddressLimits::new(PerAddress {
            clients,
            connects_per_second,
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn remembers_nothing_without_limits() {
        let addresses = addresses(None, None);
        for _ in 0..10_000 {
            assert!(addresses.permit(ip("10.0.0.1"), Instant::now()).unwrap().is_none());
        }
        assert!(addresses.known.lock().addresses.is_empty());
    }

    #[test]
    fn limits_sessions_of_an_address() {
        let now = Instant::now();
        let addresses = addresses(Some(2), None);
        let first = addresses.permit(ip("10.0.0.1"), now).unwrap();
        let _second = addresses.permit(ip("::ffff:10.0.0.1"), now).unwrap();
        assert_eq!(addresses.permit(ip("10.0.0.1"), now).unwrap_err(), TooMany::Sessions);
        assert!(addresses.permit(ip("10.0.0.2"), now).is_ok());
        drop(first);
        let _third = addresses.permit(ip("10.0.0.1"), now).unwrap();
        assert_eq!(addresses.permit(ip("10.0.0.1"), now).unwrap_err(), TooMany::Sessions);
    }

    #[test]
    fn ipv6_addresses_of_one_network_share_limits() {
        let now = Instant::now();
        let addresses = addresses(Some(1), None);
        let _one = addresses.permit(ip("2001:db8:0:1::1"), now).unwrap();
        assert!(addresses.permit(ip("2001:db8:0:1:ffff::9"), now).is_err());
        assert!(addresses.permit(ip("2001:db8:0:2::1"), now).is_ok());
    }

    #[test]
    fn limits_rate_of_connects() {
        let mut now = Instant::now();
        let addresses = addresses(None, Some(4));
        let connect = |now| addresses.permit(ip("10.0.0.1"), now).map(drop);
        // A burst of ten seconds.
        let burst = (0..100).take_while(|_| connect(now).is_ok()).count();
        assert_eq!(burst, 40);
        let Err(TooMany::Rate(wait)) = connect(now) else {
            panic!("it should be refused");
        };
        assert!(wait <= SECOND / 4, "{wait:?}");
        assert!(addresses.permit(ip("10.0.0.2"), now).is_ok());
        // Refused connects do not count.
        (0..1_000).for_each(|_| assert!(connect(now).is_err()));
        now += SECOND + SECOND / 100;
        assert_eq!((0..100).take_while(|_| connect(now).is_ok()).count(), 4);
        now += 100 * SECOND;
        assert_eq!((0..100).take_while(|_| connect(now).is_ok()).count(), burst);
    }

    #[test]
    fn memory_is_bounded_for_many_addresses() {
        let mut now = Instant::now();
        let addresses = addresses(Some(10), Some(1));
        let held: Vec<_> = (0..5_000_u32)
            .map(|i| addresses.permit(IpAddr::V4(i.into()), now).unwrap())
            .collect();
        for i in 0..300_000_u32 {
            drop(addresses.permit(IpAddr::V4(((1 << 30) + i).into()), now).unwrap());
        }
        let kept = addresses.known.lock().addresses.len();
        assert!(kept <= 2 * (MAX_IDLE + 5_000), "{kept}");
        // Addresses with sessions are not forgotten.
        assert_eq!(addresses.known.lock().addresses[&IpAddr::V4(7.into())].sessions, 1);
        drop(held);
        now += 100 * SECOND;
        for i in 0..100_000_u32 {
            drop(addresses.permit(IpAddr::V4(((1 << 30) + i).into()), now).unwrap());
        }
        let kept = addresses.known.lock().addresses.len();
        assert!(kept <= 2 * MAX_IDLE, "{kept}");
    }

    mod arbitrary {
        use proptest::collection::vec;
        use proptest::prelude::*;

        use super::*;

        /// After so many milliseconds, an address opens a session or ends its oldest.
        fn steps() -> impl Strategy<Value = Vec<(u8, u64, bool)>> {
            vec((0_u8..4, prop_oneof![0_u64..50, 0_u64..5_000], any::<bool>()), 0..200)
        }

        proptest! {
            #[test]
            fn never_exceeds_the_limits(
                steps in steps(),
                most in proptest::option::of(1_usize..6),
                rate in proptest::option::of(1_u32..5),
            ) {
                let addresses = addresses(most, rate);
                let start = Instant::now();
                let mut now = start;
                let mut places: HashMap<u8, Vec<Option<SessionPermit>>> = HashMap::new();
                let mut taken: HashMap<u8, u64> = HashMap::new();
                for (who, later, connects) in steps {
                    now += Duration::from_millis(later);
                    let held = places.entry(who).or_default();
                    if !connects {
                        if !held.is_empty() {
                            held.remove(0);
                        }
                        continue;
                    }
                    let full = most.is_some_and(|most| held.len() >= most);
                    match addresses.permit(IpAddr::V4(u32::from(who).into()), now) {
                        Ok(place) => {
                            prop_assert!(!full);
                            held.push(place);
                            let taken = taken.entry(who).or_default();
                            *taken += 1;
                            if let Some(rate) = rate {
                                let allowed = u64::from(rate * BURST_SECONDS) + (now - start).as_millis() as u64 * u64::from(rate) / 1_000;
                                prop_assert!(*taken <= allowed + 1, "{taken} of {allowed}");
                            }
                        }
                        Err(TooMany::Sessions) => prop_assert!(full),
                        Err(TooMany::Rate(wait)) => {
                            prop_assert!(rate.is_some() && wait > Duration::ZERO);
                            prop_assert!(wait <= SECOND, "{wait:?}");
                        }
                    }
                }
                drop(places);
                let left: usize = addresses.known.lock().addresses.values().map(|address| address.sessions).sum();
                prop_assert_eq!(left, 0);
            }
        }
    }
}
