//! Whether this process renews its leases in the cluster in time.
//!
//! Measured by the clock of the process alone. A heartbeat counts from the moment it was sent, the earliest at which it can have renewed
//! a lease: so a node knows before any other that its lease is about to expire.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// Health of the leases of this process: whether they are renewed in time. Clones share their state.
#[derive(Clone, Default)]
pub struct LeaseHealth(Option<Arc<Inner>>);

struct Inner {
    lease: Duration,
    /// When each registration was last renewed.
    renewals: Mutex<Vec<Weak<Mutex<Instant>>>>,
    is_overdue: AtomicBool,
    /// The current state of the transport.
    reachability: Box<dyn Fn() -> Reachability + Send + Sync>,
}

/// The state of the transport while leases cannot be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachability {
    /// Unknown: it does not answer, or this node cannot reach it.
    Unknown,
    /// Its host refuses connections, so it is down for all nodes.
    RefusesConnections,
    /// It answers, but cannot serve at present: it loads data, moves slots, or waits for a master. This node is not cut off.
    Answers,
}

/// The registration of a lease, until this is dropped.
pub struct LeaseRenewal(Option<Arc<Mutex<Instant>>>);

impl LeaseHealth {
    /// Lease health of members whose leases last this long. `reachability` returns the state of the transport.
    pub fn new(lease: Duration, reachability: impl Fn() -> Reachability + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(Inner {
            lease,
            renewals: Mutex::default(),
            is_overdue: AtomicBool::new(false),
            reachability: Box::new(reachability),
        })))
    }

    /// The duration of the lease. None where there are no leases.
    pub fn lease(&self) -> Option<Duration> {
        self.0.as_ref().map(|inner| inner.lease)
    }

    /// Time since the last renewal of the registration that was renewed longest ago. None without registrations.
    pub fn silence(&self) -> Option<Duration> {
        self.0.as_ref()?.silence()
    }

    /// Whether a registration was not renewed for half a lease: then no new work begins. Cheap enough to be called for each event.
    pub fn is_overdue(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|inner| inner.is_overdue.load(Ordering::Relaxed))
    }

    /// The problem, for people.
    pub fn problem(&self) -> Option<String> {
        self.is_overdue().then(|| {
            let silence = self.silence().unwrap_or_default().as_millis();
            format!("cannot renew its lease in the cluster: last renewed {silence} ms ago")
        })
    }

    /// The state of the transport at present.
    pub fn reachability(&self) -> Reachability {
        self.0
            .as_ref()
            .map_or(Reachability::Unknown, |inner| (inner.reachability)())
    }

    /// Adds a registration, renewed now.
    pub fn register(&self) -> LeaseRenewal {
        LeaseRenewal(self.0.as_ref().map(|inner| {
            let renewed = Arc::new(Mutex::new(Instant::now()));
            let mut renewals = inner.renewals();
            renewals.retain(|renewed| renewed.strong_count() > 0);
            renewals.push(Arc::downgrade(&renewed));
            renewed
        }))
    }

    /// Keeps [`LeaseHealth::is_overdue`] up to date and logs each change, as long as a clone of this exists.
    pub fn watch(&self) -> impl Future<Output = ()> + Send + use<> {
        let inner = self.0.as_ref().map(Arc::downgrade);
        async move {
            while let Some(inner) = inner.as_ref().and_then(Weak::upgrade) {
                let pause = inner.look();
                drop(inner);
                sleep(pause).await;
            }
        }
    }
}

impl Inner {
    fn silence(&self) -> Option<Duration> {
        let renewals = self.renewals();
        let renewed = renewals.iter().filter_map(Weak::upgrade);
        renewed.map(|renewed| lock(&renewed).elapsed()).max()
    }

    /// Checks whether a registration is overdue. Returns the time until the next check.
    fn look(&self) -> Duration {
        let silence = self.silence().unwrap_or_default();
        let is_overdue = silence >= self.lease / 2;
        if self.is_overdue.swap(is_overdue, Ordering::Relaxed) != is_overdue {
            match is_overdue {
                true => warn!(
                    silence_ms = silence.as_millis(),
                    "cannot renew the lease of this node; it takes no new clients and events until the lease is renewed"
                ),
                false => info!("renewed the lease of this node"),
            }
        }
        let shortest = self.lease / 60;
        match is_overdue {
            true => shortest,
            false => (self.lease / 2 - silence).max(shortest),
        }
    }

    fn renewals(&self) -> MutexGuard<'_, Vec<Weak<Mutex<Instant>>>> {
        self.renewals.lock().expect("nothing panics while it holds this lock")
    }
}

impl LeaseRenewal {
    /// Records that a heartbeat sent at this time renewed the registration.
    pub fn renewed(&self, sent: Instant) {
        if let Some(renewed) = &self.0 {
            let mut renewed = lock(renewed);
            *renewed = sent.max(*renewed);
        }
    }
}

fn lock(renewed: &Mutex<Instant>) -> MutexGuard<'_, Instant> {
    renewed.lock().expect("nothing panics while it holds this lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(60);

    #[test]
    fn oldest_registration_counts() {
        let lease_health = LeaseHealth::new(LEASE, || Reachability::Unknown);
        assert_eq!(lease_health.silence(), None);
        let (one, other) = (lease_health.register(), lease_health.register());
        let ago = |age: Duration| Instant::now() - age;
        *lock(one.0.as_ref().unwrap()) = ago(LEASE);
        *lock(other.0.as_ref().unwrap()) = ago(LEASE / 4);
        assert!(lease_health.silence() >= Some(LEASE));
        lease_health.0.as_ref().unwrap().look();
        assert!(lease_health.is_overdue());
        one.renewed(ago(LEASE / 3));
        let inner = lease_health.0.as_ref().unwrap();
        assert!(inner.look() <= LEASE / 6, "it looks again when it may be overdue");
        assert!(!lease_health.is_overdue());
        one.renewed(ago(LEASE));
        assert!(lease_health.silence() < Some(LEASE / 2), "a late answer does not count");
        drop(one);
        assert!(lease_health.silence() < Some(LEASE / 3));
    }

    #[test]
    fn standing_without_lease_is_never_overdue() {
        let lease_health = LeaseHealth::default();
        lease_health.register().renewed(Instant::now());
        assert_eq!((lease_health.silence(), lease_health.lease()), (None, None));
        assert!(!lease_health.is_overdue() && lease_health.reachability() == Reachability::Unknown);
    }
}
