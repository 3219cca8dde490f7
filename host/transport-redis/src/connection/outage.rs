//! The times at which Redis does not answer as it should, as the whole process sees them: each is told once when it
//! begins and once when it ends, however many wait for it.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::trouble::{Kind, Trouble};
use plugnode_transport::Absence;

/// Without a refusal for so long, an outage that nobody waits for is over.
const QUIET: Duration = Duration::from_secs(10);

/// What was heard longer ago says nothing of the present.
const FRESH: Duration = Duration::from_secs(5);

/// The present outage of a server, if there is one.
#[derive(Debug)]
pub(super) struct Outages {
    /// The server, as a person calls it.
    server: String,
    /// Whether there is one: looked at with every answer, so without a lock.
    present: AtomicBool,
    outage: Mutex<Option<Outage>>,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    /// How many wait for its end.
    waiting: usize,
    /// What has been told already.
    told: BTreeSet<Kind>,
    /// Whether any answer at all is proof of its end, or only that to one who was refused.
    concerns_all: bool,
    last: String,
    last_at: Instant,
    /// What Redis tells of itself by what was heard last.
    absence: Absence,
}

impl Outages {
    /// Of a server that has not been heard of yet.
    pub(super) fn new(server: String) -> Self {
        let present = AtomicBool::new(false);
        let outage = Mutex::new(None);
        Self {
            server,
            present,
            outage,
        }
    }

    /// What was last heard of the present outage.
    pub(super) fn present(&self) -> Option<String> {
        let present = self.present.load(Ordering::Acquire);
        present
            .then(|| self.outage().as_ref().map(|outage| outage.last.clone()))
            .flatten()
    }

    /// How long the present outage lasts, and what was last heard of it.
    pub(super) fn lasting(&self) -> Option<(Duration, String)> {
        let outage = self.outage();
        outage
            .as_ref()
            .map(|outage| (outage.since.elapsed(), outage.last.clone()))
    }

    /// What Redis tells of itself at present.
    pub(super) fn absence(&self) -> Absence {
        let outage = self.outage();
        let fresh = outage.as_ref().filter(|outage| outage.last_at.elapsed() < FRESH);
        fresh.map_or(Absence::Unknown, |outage| outage.absence)
    }

    /// Notes an answer to somebody who was not refused before.
    pub(super) fn answered(&self) {
        if self.present.load(Ordering::Acquire) {
            // Whoever was refused may have given up; when nobody was for a while, it is over.
            let ends = |outage: &Outage| outage.concerns_all || outage.last_at.elapsed() > QUIET;
            self.end_if(|outage| outage.waiting == 0 && ends(outage));
        }
    }

    fn begin(&self, trouble: &Trouble, joins: bool) {
        let mut guard = self.outage();
        let outage = guard.get_or_insert_with(|| Outage {
            since: Instant::now(),
            waiting: 0,
            told: BTreeSet::new(),
            concerns_all: true,
            last: String::new(),
            last_at: Instant::now(),
            absence: Absence::Unknown,
        });
        outage.waiting += usize::from(joins);
        outage.concerns_all &= trouble.concerns_all();
        outage.last_at = Instant::now();
        outage.last = trouble.words(&self.server);
        outage.absence = trouble.absence();
        if outage.told.insert(trouble.kind) {
            let meaning = match trouble.kind {
                Kind::Rights => "what needs it waits",
                _ => "clients stay connected, what they send waits",
            };
            tracing::warn!("{}: {meaning}, trying again", outage.last);
        }
        self.present.store(true, Ordering::Release);
    }

    fn end_if(&self, ends: impl Fn(&Outage) -> bool) {
        let mut guard = self.outage();
        if let Some(outage) = guard.take_if(|outage| ends(outage)) {
            self.present.store(false, Ordering::Release);
            let seconds = outage.since.elapsed().as_secs_f32();
            tracing::info!("Redis at {} answers again, after {seconds:.1} s", self.server);
        }
    }

    fn outage(&self) -> std::sync::MutexGuard<'_, Option<Outage>> {
        self.outage.lock().expect("nothing panics while it holds this lock")
    }
}

/// One who waits to be answered. Dropped before that, it waits no more.
pub(super) struct Waiting<'a> {
    outages: &'a Outages,
    waits: bool,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(outages: &'a Outages) -> Self {
        Self { outages, waits: false }
    }

    pub(super) fn refused(&mut self, trouble: &Trouble) {
        self.outages.begin(trouble, !self.waits);
        self.waits = true;
    }

    pub(super) fn answered(mut self) {
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

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
