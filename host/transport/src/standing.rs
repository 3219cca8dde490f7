//! Whether the members of this process can still renew their places in the cluster.
//!
//! By the clock of the process alone: a heartbeat counts from when it was sent, since that is the earliest moment at which it
//! can have renewed a lease. So a node knows before all others do that its lease is about to end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// The standing of a process. Clones are the same.
#[derive(Clone, Default)]
pub struct Standing(Option<Arc<Inner>>);

struct Inner {
    lease: Duration,
    /// When each place of each member was last renewed.
    renewals: Mutex<Vec<Weak<Mutex<Instant>>>>,
    is_overdue: AtomicBool,
    /// What the transport tells of itself.
    absence: Box<dyn Fn() -> Absence + Send + Sync>,
}

/// What a transport tells of itself while places cannot be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// Nothing: it is silent, or cannot be reached, at least by this node.
    Unknown,
    /// Its host refuses connections.
    Refuses,
    /// It answers this node that it cannot serve now: it loads its data, moves slots, waits for a master. A node that is told so
    /// is not cut off.
    Answers,
}

/// The place of a member, which it has until this is dropped.
pub struct Renewal(Option<Arc<Mutex<Instant>>>);

impl Standing {
    /// Of members whose places have to be renewed within this time. `absence` tells what the transport tells of itself.
    pub fn new(lease: Duration, absence: impl Fn() -> Absence + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(Inner {
            lease,
            renewals: Mutex::default(),
            is_overdue: AtomicBool::new(false),
            absence: Box::new(absence),
        })))
    }

    /// The time within which places have to be renewed; none where they need not be.
    pub fn lease(&self) -> Option<Duration> {
        self.0.as_ref().map(|inner| inner.lease)
    }

    /// How long ago the place was renewed that was not renewed for longest. None where there is no place.
    pub fn silence(&self) -> Option<Duration> {
        self.0.as_ref()?.silence()
    }

    /// Whether a place was not renewed for half a lease or longer: then nothing new is begun. Cheap enough to be asked for each
    /// event.
    pub fn is_overdue(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|inner| inner.is_overdue.load(Ordering::Relaxed))
    }

    /// What is wrong, for a person.
    pub fn problem(&self) -> Option<String> {
        self.is_overdue().then(|| {
            let silence = self.silence().unwrap_or_default().as_millis();
            format!("cannot renew its place in the cluster: last renewed {silence} ms ago")
        })
    }

    /// What the transport tells of itself at present.
    pub fn absence(&self) -> Absence {
        self.0.as_ref().map_or(Absence::Unknown, |inner| (inner.absence)())
    }

    /// Takes note of a place, which counts as renewed now.
    pub fn place(&self) -> Renewal {
        Renewal(self.0.as_ref().map(|inner| {
            let renewed = Arc::new(Mutex::new(Instant::now()));
            let mut renewals = inner.renewals();
            renewals.retain(|renewed| renewed.strong_count() > 0);
            renewals.push(Arc::downgrade(&renewed));
            renewed
        }))
    }

    /// Keeps [`Standing::is_overdue`] up to date, and tells of each change, for as long as anybody has this standing.
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

    /// Looks whether a place is overdue, and says when to look again.
    fn look(&self) -> Duration {
        let silence = self.silence().unwrap_or_default();
        let is_overdue = silence >= self.lease / 2;
        if self.is_overdue.swap(is_overdue, Ordering::Relaxed) != is_overdue {
            match is_overdue {
                true => warn!(
                    ?silence,
                    "this node cannot renew its place in the cluster: it takes no new clients and begins no events until it can"
                ),
                false => info!("this node has renewed its place in the cluster"),
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

impl Renewal {
    /// Notes that a heartbeat that was sent at this time has renewed the place.
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
    fn oldest_place_of_those_held_counts() {
        let standing = Standing::new(LEASE, || Absence::Unknown);
        assert_eq!(standing.silence(), None);
        let (one, other) = (standing.place(), standing.place());
        let ago = |age: Duration| Instant::now() - age;
        *lock(one.0.as_ref().unwrap()) = ago(LEASE);
        *lock(other.0.as_ref().unwrap()) = ago(LEASE / 4);
        assert!(standing.silence() >= Some(LEASE));
        standing.0.as_ref().unwrap().look();
        assert!(standing.is_overdue());
        one.renewed(ago(LEASE / 3));
        let inner = standing.0.as_ref().unwrap();
        assert!(inner.look() <= LEASE / 6, "it looks again when it may be overdue");
        assert!(!standing.is_overdue());
        one.renewed(ago(LEASE));
        assert!(standing.silence() < Some(LEASE / 2), "a late answer does not count");
        drop(one);
        assert!(standing.silence() < Some(LEASE / 3));
    }

    #[test]
    fn standing_without_lease_is_never_overdue() {
        let standing = Standing::default();
        standing.place().renewed(Instant::now());
        assert_eq!((standing.silence(), standing.lease()), (None, None));
        assert!(!standing.is_overdue() && standing.absence() == Absence::Unknown);
    }
}
