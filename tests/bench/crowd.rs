//! A crowd of clients under way: what they have in common, and how a round is cut out of what they do.
//!
//! Clients run until they are told to stop sending; then there is time for what is still on its way, and only what is not
//! there by then is lost. What they send, and when, is in [`crate::talk`] and [`crate::fan`].

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use plugnode_tests::sequence::{SequenceCheck, SequenceCounts};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::latency::{Latency, Percentiles};
use crate::rounds::{Extent, Round};
use crate::server::{Part, Server, own_cpu};

/// How long after the end of a round something may still come before it is lost,
const GRACE: Duration = Duration::from_secs(15);
/// how often that is looked at,
const LOOK: Duration = Duration::from_millis(5);
/// and how long it may take until what comes twice has come twice.
const ECHOES: Duration = Duration::from_millis(50);

/// What all clients of a crowd share.
pub(crate) struct Field {
    /// What should have come so far, and what has, of all clients together.
    due: AtomicU64,
    came: AtomicU64,
    stop: AtomicBool,
    pub(crate) latency: Latency,
}

/// Clients that send and hear.
pub(crate) struct Crowd {
    pub(crate) field: Arc<Field>,
    /// Clients are in it for as long as it lives.
    pub(crate) tasks: JoinSet<io::Error>,
    pub(crate) accounts: Vec<Arc<Mutex<SequenceCheck>>>,
}

/// What happened in the time that was measured.
pub(crate) struct Window {
    /// What came in it.
    pub(crate) came: u64,
    pub(crate) time: Duration,
    pub(crate) cost: Vec<(Part, Duration)>,
    /// The load's own CPU time, which is nobody's cost and shares the machine.
    pub(crate) load: Duration,
}

impl Field {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            due: AtomicU64::new(0),
            came: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            latency: Latency::new(),
        })
    }

    /// Something is about to be sent that so many have to hear.
    pub(crate) fn sends(&self, listeners: u64) {
        self.due.fetch_add(listeners, Ordering::Relaxed);
    }

    /// Somebody heard what was still missing.
    pub(crate) fn came(&self) {
        self.came.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Crowd {
    /// Nobody yet.
    pub(crate) fn new() -> Self {
        Self {
            field: Field::new(),
            tasks: JoinSet::new(),
            accounts: Vec::new(),
        }
    }

    /// Lets it warm up, and watches what it does for some time.
    pub(crate) async fn watch(&self, server: &Server, extent: Extent) -> Window {
        sleep(extent.warm_up()).await;
        self.field.latency.clear();
        let came = || self.field.came.load(Ordering::Relaxed);
        let (before, cost, load, begun) = (came(), server.cpu(), own_cpu(), Instant::now());
        sleep(extent.time).await;
        let (after, time) = (came(), begun.elapsed());
        Window {
            came: after - before,
            time,
            cost: server
                .cpu()
                .into_iter()
                .zip(cost)
                .map(|((part, after), (_, before))| (part, after - before))
                .collect(),
            load: own_cpu() - load,
        }
    }

    /// Stops sending, waits for what is on its way, and closes the account.
    pub(crate) async fn close(mut self) -> SequenceCounts {
        self.field.stop.store(true, Ordering::Relaxed);
        let end = Instant::now() + GRACE;
        let missing = || self.field.came.load(Ordering::Acquire) < self.field.due.load(Ordering::Relaxed);
        // Who has just seen that it is not over yet may still send.
        sleep(LOOK).await;
        while missing() && Instant::now() < end {
            sleep(LOOK).await;
        }
        sleep(ECHOES).await;
        let mut tally = SequenceCounts::default();
        while let Some(ended) = self.tasks.try_join_next() {
            tally.broken += 1;
            eprintln!("a connection ended: {}", ended.expect("no client panics"));
        }
        let clients = self.tasks.len();
        self.tasks.shutdown().await;
        for account in &self.accounts {
            tally += account.lock().expect("nobody panics with it").counts();
        }
        // The server has its own work with those who left, which is not for the next round to pay.
        sleep(Duration::from_millis(200) + Duration::from_micros(100) * clients as u32).await;
        tally
    }

    /// A round of those who have one message in flight each: how long it took, as if messages had been due at a pace, and
    /// then what [`Self::round`] says, too.
    pub(crate) async fn unhurried_round(self, server: &Server, extent: Extent, what: &'static str) -> Round {
        let window = self.watch(server, extent).await;
        let latency = self.field.latency.corrected();
        let mut round = Round::of(self.close().await);
        round.latency(latency);
        window.tell(&mut round, what);
        round
    }

    /// A round of those who send: messages a second, what each cost, and how long it took.
    pub(crate) async fn round(self, server: &Server, extent: Extent, what: &'static str) -> Round {
        let window = self.watch(server, extent).await;
        let latency = self.field.latency.percentiles();
        let mut round = Round::of(self.close().await);
        window.tell(&mut round, what);
        round.latency(latency);
        round
    }
}

impl Window {
    /// What came a second (`what` says what that is), and what each cost.
    pub(crate) fn tell(&self, round: &mut Round, what: &'static str) {
        let each = |cost: Duration| cost.as_secs_f64() * 1e6 / self.came as f64;
        round.say(what, "/s", self.came as f64 / self.time.as_secs_f64());
        round.costs(self.cost.iter().map(|(part, cost)| (*part, each(*cost))).collect());
        round.say("load", "µs", each(self.load));
    }
}

impl Round {
    /// CPU time of something, of all parts of a server and of each, in microseconds.
    pub(crate) fn costs(&mut self, parts: Vec<(Part, f64)>) {
        if parts.is_empty() {
            return;
        }
        self.say("CPU", "µs", parts.iter().map(|(_, cost)| cost).sum());
        if parts.len() > 1 {
            for (part, cost) in parts {
                self.say(part.name(), "µs", cost);
            }
        }
    }

    pub(crate) fn latency(&mut self, percentiles: Option<Percentiles>) {
        let Some(Percentiles { p50, p99 }) = percentiles else {
            return;
        };
        self.say("p50", "ms", p50.as_secs_f64() * 1e3);
        self.say("p99", "ms", p99.as_secs_f64() * 1e3);
    }
}
