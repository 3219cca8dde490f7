//! Outages of Redis, as the whole process sees them: each is logged once at its begin and once at its end, however many requests
//! wait for it.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client::fault::{FaultKind, RedisFault};
use plugnode_transport::Reachability;

/// An outage without waiting requests is over after this time without a fault.
const QUIET: Duration = Duration::from_secs(10);

/// Time for which the last fault is evidence about Redis.
const REACHABILITY_VALIDITY: Duration = Duration::from_secs(5);

/// The present outage of a server, if there is one.
#[derive(Debug)]
pub(crate) struct Outages {
    /// Server name for logs.
    server: String,
    /// Whether there is an outage. Atomic, because every answer reads it.
    present: AtomicBool,
    outage: Mutex<Option<Outage>>,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    /// Number of requests that wait for its end.
    waiting: usize,
    /// Kinds of faults that are logged already.
    logged: BTreeSet<FaultKind>,
    /// Whether any answer proves its end, or only one to a request that has failed.
    concerns_all: bool,
    /// Description of the last fault.
    last: String,
    last_at: Instant,
    /// The reachability of Redis that the last fault proves.
    reachability: Reachability,
}

impl Outages {
    /// For a server without an outage.
    pub(crate) fn new(server: String) -> Self {
        let present = AtomicBool::new(false);
        let outage = Mutex::new(None);
        Self {
            server,
            present,
            outage,
        }
    }

    /// Description of the present outage.
    pub(crate) fn present(&self) -> Option<String> {
        let present = self.present.load(Ordering::Acquire);
        present
            .then(|| self.outage().as_ref().map(|outage| outage.last.clone()))
            .flatten()
    }

    /// Duration and description of the present outage.
    pub(crate) fn lasting(&self) -> Option<(Duration, String)> {
        let outage = self.outage();
        outage
            .as_ref()
            .map(|outage| (outage.since.elapsed(), outage.last.clone()))
    }

    /// The reachability of Redis that the last fault proves.
    pub(crate) fn reachability(&self) -> Reachability {
        let outage = self.outage();
        let fresh = outage
            .as_ref()
            .filter(|outage| outage.last_at.elapsed() < REACHABILITY_VALIDITY);
        fresh.map_or(Reachability::Unknown, |outage| outage.reachability)
    }

    /// Notes an answer to a request that has not failed before.
    pub(crate) fn answered(&self) {
        if self.present.load(Ordering::Acquire) {
            // The failed requests may have been given up, so a quiet time ends the outage, too.
            let ends = |outage: &Outage| outage.concerns_all || outage.last_at.elapsed() > QUIET;
            self.end_if(|outage| outage.waiting == 0 && ends(outage));
        }
    }

    fn begin(&self, fault: &RedisFault, joins: bool) {
        let mut guard = self.outage();
        let outage = guard.get_or_insert_with(|| Outage {
            since: Instant::now(),
            waiting: 0,
            logged: BTreeSet::new(),
            concerns_all: true,
            last: String::new(),
            last_at: Instant::now(),
            reachability: Reachability::Unknown,
        });
        outage.waiting += usize::from(joins);
        outage.concerns_all &= fault.concerns_all();
        outage.last_at = Instant::now();
        outage.last = fault.describe(&self.server);
        outage.reachability = fault.reachability();
        if outage.logged.insert(fault.kind) {
            let meaning = match fault.kind {
                FaultKind::Rights => "work that needs it waits",
                _ => "clients stay connected, their messages wait",
            };
            tracing::warn!("{}; {meaning}, trying again", outage.last);
        }
        self.present.store(true, Ordering::Release);
    }

    fn end_if(&self, ends: impl Fn(&Outage) -> bool) {
        let mut guard = self.outage();
        if let Some(outage) = guard.take_if(|outage| ends(outage)) {
            self.present.store(false, Ordering::Release);
            let seconds = outage.since.elapsed().as_secs();
            tracing::info!(server = %self.server, seconds, "Redis answers again");
        }
    }

    fn outage(&self) -> std::sync::MutexGuard<'_, Option<Outage>> {
        self.outage.lock().expect("nothing panics while it holds this lock")
    }
}

/// A request that repeats until it is answered. Dropping it gives it up.
pub(crate) struct OutageWaiter<'a> {
    outages: &'a Outages,
    waits: bool,
}

impl<'a> OutageWaiter<'a> {
    pub(crate) fn new(outages: &'a Outages) -> Self {
        Self { outages, waits: false }
    }

    pub(crate) fn refused(&mut self, fault: &RedisFault) {
        self.outages.begin(fault, !self.waits);
        self.waits = true;
    }

    pub(crate) fn answered(mut self) {
        if !self.waits {
            return self.outages.answered();
        }
        self.leave();
        self.outages.end_if(|outage| outage.waiting == 0);
    }

    fn leave(&mut self) {
        if std::mem::take(&mut self.waits)
            && let Some(outage) = self.outages.outage().as_mut()
        {
            outage.waiting = outage.waiting.saturating_sub(1);
        }
    }
}

impl Drop for OutageWaiter<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
