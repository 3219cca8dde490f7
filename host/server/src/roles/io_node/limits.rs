//! How much one address and one client may do.
//!
//! Rates are kept as one moment each: when all that was done would be done had it been done at the rate allowed. What lies
//! ahead of now is what was done too early, and so much of it is let pass. Memory is bounded: an address of which nothing
//! is held and nothing was done lately is forgotten, and no more than a number of the others are kept. Whoever asks says what time it is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

/// Connects of so many seconds may come at once,
const CONNECTS_AT_ONCE: u32 = 10;
/// and events of so many.
const EVENTS_AT_ONCE: u32 = 2;
/// A client that wants more than its rate for so long is not let go on.
const PATIENCE: Duration = Duration::from_secs(30);
/// Addresses that hold nothing and are remembered for what they did lately.
const REMEMBERED: usize = 16_384;
/// Addresses that are always kept without a look at whether they can be forgotten.
const LEAST_LOOK: usize = 1_024;

/// What one address may have; none is any number. An address of IPv6 counts by its first 64 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerAddress {
    /// Sessions held at once.
    pub clients: Option<usize>,
    /// New sessions a second.
    pub connects_per_second: Option<u32>,
}

/// What the addresses have of what they may have.
#[derive(Debug)]
pub(super) struct Addresses {
    limits: RwLock<PerAddress>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    addresses: HashMap<IpAddr, Address>,
    /// At how many addresses it is looked for some to forget.
    look_at: usize,
}

#[derive(Debug, Default)]
struct Address {
    held: usize,
    connects: Option<Instant>,
}

/// What an address has of its sessions. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    address: IpAddr,
    addresses: Arc<Addresses>,
}

/// Why an address may not open one more session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMany {
    /// It has as many as it may.
    #[error("this address has as many sessions as it may have at once")]
    Clients,
    /// It opens them faster than it may, and may open the next after this time.
    #[error("this address opens sessions faster than it may")]
    Connects(Duration),
}

impl Addresses {
    pub(super) fn new(limits: PerAddress) -> Arc<Self> {
        Arc::new(Self {
            limits: RwLock::new(limits),
            known: Mutex::default(),
        })
    }

    /// So much an address may have from now on. Nobody is closed for what was allowed before.
    pub(super) fn limit(&self, limits: PerAddress) {
        *self.limits.write().expect("nothing panics while it holds this lock") = limits;
    }

    fn limits(&self) -> PerAddress {
        *self.limits.read().expect("nothing panics while it holds this lock")
    }

    /// Takes a place for one more session of this address. Without limits there is none to take.
    pub(super) fn connect(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Option<Place>, TooMany> {
        let limits = self.limits();
        if limits == PerAddress::default() {
            return Ok(None);
        }
        let address = engine_io::network(address);
        let mut known = self.known();
        known.forget_some(now);
        let entry = known.addresses.entry(address).or_default();
        limits.allow(entry, now)?;
        if let Some(rate) = limits.connects_per_second {
            Pace::new(rate, CONNECTS_AT_ONCE).take(&mut entry.connects, now);
        }
        entry.held += 1;
        Ok(Some(Place {
            address,
            addresses: self.clone(),
        }))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics while it holds this lock")
    }
}

impl PerAddress {
    fn allow(&self, address: &Address, now: Instant) -> Result<(), TooMany> {
        if self.clients.is_some_and(|most| address.held >= most) {
            return Err(TooMany::Clients);
        }
        let Some(rate) = self.connects_per_second else {
            return Ok(());
        };
        // What is refused is not done.
        let pace = Pace::new(rate, CONNECTS_AT_ONCE);
        let ahead = pace.take(&mut { address.connects }, now);
        pace.excess(ahead).map_or(Ok(()), |wait| Err(TooMany::Connects(wait)))
    }
}

impl Known {
    fn forget_some(&mut self, now: Instant) {
        if self.addresses.len() < self.look_at.max(LEAST_LOOK) {
            return;
        }
        self.addresses
            .retain(|_, address| address.held > 0 || address.connects.is_some_and(|due| due > now));
        let idle = self.addresses.values().filter(|address| address.held == 0).count();
        if idle >= REMEMBERED {
            // So many come from somebody whom no limit of an address holds back; the limit of all connections does.
            self.addresses.retain(|_, address| address.held > 0);
        }
        self.look_at = self.addresses.len() * 2;
        self.addresses.shrink_to(self.look_at.max(LEAST_LOOK));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.addresses.known();
        if let Entry::Occupied(mut entry) = known.addresses.entry(self.address) {
            entry.get_mut().held -= 1;
            if entry.get().held == 0 && entry.get().connects.is_none() {
                entry.remove();
            }
        }
    }
}

/// How fast a client sends events, or packets. It may send a number a second, and those of two seconds at once. One that sends more
/// has to be read no faster; one that goes on to want more for 30 seconds, or is so far ahead, is to be disconnected.
#[derive(Debug)]
pub(super) struct EventRate {
    pace: Pace,
    due: Option<Instant>,
    pressing: Option<Instant>,
}

/// What to do after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on.
    Go,
    /// Take this event, and read no other for so long.
    Pause(Duration),
    /// Disconnect the client: it is a [`Flood`].
    Disconnect,
}

/// A client sends so much more than it may that it has to be disconnected, for this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flood {
    #[error("too many events: it sent more than it may for too long")]
    Events,
    #[error("too many packets: it sent more than it may for too long")]
    Packets,
}

impl EventRate {
    /// So many events a second, 1 or more.
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            pace: Pace::new(per_second, EVENTS_AT_ONCE),
            due: None,
            pressing: None,
        }
    }

    /// Whether a client that sends so many more at once is so far ahead that it is to be disconnected.
    pub(super) fn is_flooded_by(&self, events: usize, now: Instant) -> bool {
        let ahead = self
            .due
            .map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        ahead.saturating_add(self.pace.each.saturating_mul(events)) >= self.pace.slack + PATIENCE
    }

    /// Counts an event that came in.
    pub(super) fn event(&mut self, now: Instant) -> Verdict {
        let ahead = self.pace.take(&mut self.due, now);
        let Some(wait) = self.pace.excess(ahead) else {
            // It kept below its rate for a while: what was before does not count any more.
            if ahead <= self.pace.slack / 2 {
                self.pressing = None;
            }
            return Verdict::Go;
        };
        let since = *self.pressing.get_or_insert(now);
        if now - since >= PATIENCE || wait >= PATIENCE {
            return Verdict::Disconnect;
        }
        Verdict::Pause(wait)
    }
}

/// A rate, and how far ahead of it one may be.
#[derive(Debug, Clone, Copy)]
struct Pace {
    each: Duration,
    slack: Duration,
}

impl Pace {
    fn new(per_second: u32, seconds_at_once: u32) -> Self {
        let each = Duration::from_secs(1) / per_second.max(1);
        Self {
            each,
            slack: each * per_second.max(1) * seconds_at_once,
        }
    }

    /// Counts one, and says how far ahead of the rate that is.
    fn take(self, due: &mut Option<Instant>, now: Instant) -> Duration {
        let next = due.map_or(now, |due| due.max(now)) + self.each;
        *due = Some(next);
        next - now
    }

    /// By how much that is too far ahead.
    fn excess(self, ahead: Duration) -> Option<Duration> {
        ahead.checked_sub(self.slack).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn addresses(clients: Option<usize>, connects_per_second: Option<u32>) -> Arc<Addresses> {
        Addresses::new(PerAddress {
            clients,
            connects_per_second,
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn without_limits_nothing_is_kept() {
        let addresses = addresses(None, None);
        for _ in 0..10_000 {
            assert!(addresses.connect(ip("10.0.0.1"), Instant::now()).unwrap().is_none());
        }
        assert!(addresses.known().addresses.is_empty());
    }

    #[test]
    fn an_address_holds_no_more_than_it_may() {
        let now = Instant::now();
        let addresses = addresses(Some(2), None);
        let first = addresses.connect(ip("10.0.0.1"), now).unwrap();
        let _second = addresses.connect(ip("::ffff:10.0.0.1"), now).unwrap();
        assert_eq!(addresses.connect(ip("10.0.0.1"), now).unwrap_err(), TooMany::Clients);
        assert!(addresses.connect(ip("10.0.0.2"), now).is_ok());
        drop(first);
        let _third = addresses.connect(ip("10.0.0.1"), now).unwrap();
        assert_eq!(addresses.connect(ip("10.0.0.1"), now).unwrap_err(), TooMany::Clients);
    }

    #[test]
    fn addresses_of_ipv6_count_by_their_network() {
        let now = Instant::now();
        let addresses = addresses(Some(1), None);
        let _one = addresses.connect(ip("2001:db8:0:1::1"), now).unwrap();
        assert!(addresses.connect(ip("2001:db8:0:1:ffff::9"), now).is_err());
        assert!(addresses.connect(ip("2001:db8:0:2::1"), now).is_ok());
    }

    #[test]
    fn an_address_connects_no_faster_than_it_may() {
        let mut now = Instant::now();
        let addresses = addresses(None, Some(4));
        let connect = |now| addresses.connect(ip("10.0.0.1"), now).map(drop);
        // Those of ten seconds come at once.
        let burst = (0..100).take_while(|_| connect(now).is_ok()).count();
        assert_eq!(burst, 40);
        let Err(TooMany::Connects(wait)) = connect(now) else {
            panic!("it should be refused");
        };
        assert!(wait <= SECOND / 4, "{wait:?}");
        assert!(addresses.connect(ip("10.0.0.2"), now).is_ok());
        // Being refused does not make it worse.
        (0..1_000).for_each(|_| assert!(connect(now).is_err()));
        now += SECOND + SECOND / 100;
        assert_eq!((0..100).take_while(|_| connect(now).is_ok()).count(), 4);
        now += 100 * SECOND;
        assert_eq!((0..100).take_while(|_| connect(now).is_ok()).count(), burst);
    }

    #[test]
    fn many_addresses_do_not_make_it_grow() {
        let mut now = Instant::now();
        let addresses = addresses(Some(10), Some(1));
        let held: Vec<_> = (0..5_000_u32)
            .map(|i| addresses.connect(IpAddr::V4(i.into()), now).unwrap())
            .collect();
        for i in 0..300_000_u32 {
            drop(addresses.connect(IpAddr::V4(((1 << 30) + i).into()), now).unwrap());
        }
        let kept = addresses.known().addresses.len();
        assert!(kept <= 2 * (REMEMBERED + 5_000), "{kept}");
        // Those that hold something were not forgotten.
        assert_eq!(addresses.known().addresses[&IpAddr::V4(7.into())].held, 1);
        drop(held);
        now += 100 * SECOND;
        for i in 0..100_000_u32 {
            drop(addresses.connect(IpAddr::V4(((1 << 30) + i).into()), now).unwrap());
        }
        let kept = addresses.known().addresses.len();
        assert!(kept <= 2 * REMEMBERED, "{kept}");
    }

    #[test]
    fn a_client_that_sends_no_more_than_it_may_is_let_go_on() {
        let mut now = Instant::now();
        let mut rate = EventRate::new(100);
        for _ in 0..10_000 {
            assert_eq!(rate.event(now), Verdict::Go);
            now += SECOND / 100;
        }
        // Two seconds' worth, from time to time.
        for _ in 0..100 {
            (0..200).for_each(|_| assert_eq!(rate.event(now), Verdict::Go));
            now += 2 * SECOND;
        }
    }

    #[test]
    fn a_client_that_sends_more_is_paused_and_then_disconnected() {
        let start = Instant::now();
        let mut now = start;
        let mut rate = EventRate::new(10);
        let mut sent = 0;
        loop {
            match rate.event(now) {
                Verdict::Go => sent += 1,
                Verdict::Pause(wait) => {
                    sent += 1;
                    now += wait;
                }
                Verdict::Disconnect => break,
            }
        }
        assert!((PATIENCE..PATIENCE + SECOND).contains(&(now - start)));
        // Two seconds' worth at once, and then ten a second.
        assert!((310..=330).contains(&sent), "{sent}");
    }

    #[test]
    fn a_client_that_holds_back_begins_anew() {
        let mut now = Instant::now();
        let mut rate = EventRate::new(10);
        for _ in 0..20 {
            let mut paused = false;
            while !paused {
                match rate.event(now) {
                    Verdict::Go => {}
                    Verdict::Pause(wait) => {
                        now += wait;
                        paused = true;
                    }
                    Verdict::Disconnect => panic!("it paused in between"),
                }
            }
            now += 3 * SECOND;
        }
    }

    #[test]
    fn many_events_that_come_at_once_are_a_flood() {
        let now = Instant::now();
        let mut rate = EventRate::new(10);
        let taken = (0..10_000)
            .take_while(|_| rate.event(now) != Verdict::Disconnect)
            .count();
        assert!((310..=330).contains(&taken), "{taken}");
    }

    mod arbitrary {
        use proptest::collection::vec;
        use proptest::prelude::*;

        use super::*;

        /// What an address does: it connects after so many milliseconds, or lets the oldest of its places go.
        fn deeds() -> impl Strategy<Value = Vec<(u8, u64, bool)>> {
            vec((0_u8..4, prop_oneof![0_u64..50, 0_u64..5_000], any::<bool>()), 0..200)
        }

        proptest! {
            #[test]
            fn nobody_holds_or_connects_more_than_allowed(
                deeds in deeds(),
                most in proptest::option::of(1_usize..6),
                rate in proptest::option::of(1_u32..5),
            ) {
                let addresses = addresses(most, rate);
                let start = Instant::now();
                let mut now = start;
                let mut places: HashMap<u8, Vec<Option<Place>>> = HashMap::new();
                let mut taken: HashMap<u8, u64> = HashMap::new();
                for (who, later, connects) in deeds {
                    now += Duration::from_millis(later);
                    let held = places.entry(who).or_default();
                    if !connects {
                        if !held.is_empty() {
                            held.remove(0);
                        }
                        continue;
                    }
                    let full = most.is_some_and(|most| held.len() >= most);
                    match addresses.connect(IpAddr::V4(u32::from(who).into()), now) {
                        Ok(place) => {
                            prop_assert!(!full);
                            held.push(place);
                            let taken = taken.entry(who).or_default();
                            *taken += 1;
                            if let Some(rate) = rate {
                                let allowed = u64::from(rate * CONNECTS_AT_ONCE) + (now - start).as_millis() as u64 * u64::from(rate) / 1_000;
                                prop_assert!(*taken <= allowed + 1, "{taken} of {allowed}");
                            }
                        }
                        Err(TooMany::Clients) => prop_assert!(full),
                        Err(TooMany::Connects(wait)) => {
                            prop_assert!(rate.is_some() && wait > Duration::ZERO);
                            prop_assert!(wait <= SECOND, "{wait:?}");
                        }
                    }
                }
                drop(places);
                let left: usize = addresses.known().addresses.values().map(|address| address.held).sum();
                prop_assert_eq!(left, 0);
            }

            #[test]
            fn a_client_is_never_let_go_faster_than_its_rate(
                rate in 1_u32..1_000,
                events in vec((0_u64..200, any::<bool>()), 0..400),
            ) {
                let start = Instant::now();
                let (mut now, mut taken) = (start, 0_u64);
                let mut limit = EventRate::new(rate);
                for (later, is_patient) in events {
                    now += Duration::from_millis(later);
                    taken += 1;
                    match limit.event(now) {
                        Verdict::Go => {
                            let allowed = u64::from(rate * EVENTS_AT_ONCE) + (now - start).as_millis() as u64 * u64::from(rate) / 1_000;
                            prop_assert!(taken <= allowed + 1, "{taken} of {allowed}");
                        }
                        Verdict::Pause(wait) => {
                            prop_assert!(wait > Duration::ZERO && wait < PATIENCE);
                            now += if is_patient { wait } else { Duration::ZERO };
                        }
                        Verdict::Disconnect => break,
                    }
                }
            }
        }
    }
}
