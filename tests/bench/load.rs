//! A load: clients that run concurrently against a server, and the measurement of a round.
//!
//! Clients send until the round is over; then there is a grace period for messages on their way. Messages that are still
//! missing after it are lost. What clients send, and when, is in [`crate::exchange`], [`crate::fan_out`] and
//! [`crate::requests`].

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use plugnode_tests::sequence::{SequenceCheck, SequenceCounts};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::latency::{Latency, Percentiles};
use crate::rounds::{Round, RunSize};
use crate::server::{Part, Server, own_cpu};

/// How long after the end of a round a message may still arrive.
const GRACE_PERIOD: Duration = Duration::from_secs(15);
/// How often the end of the grace period is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// How long to wait for duplicates after everything has arrived.
const DUPLICATES: Duration = Duration::from_millis(50);

/// Progress of a load, shared by its clients.
pub(crate) struct Progress {
    /// Messages that have to arrive, of all clients together.
    expected: AtomicU64,
    received: AtomicU64,
    is_over: AtomicBool,
    pub(crate) latency: Latency,
}

/// Running clients.
pub(crate) struct Load {
    pub(crate) progress: Arc<Progress>,
    /// The clients. They run until this is dropped.
    pub(crate) tasks: JoinSet<io::Error>,
    pub(crate) checks: Vec<Arc<Mutex<SequenceCheck>>>,
}

/// The measurement of a round.
pub(crate) struct Measurement {
    /// Messages received.
    pub(crate) received: u64,
    pub(crate) time: Duration,
    pub(crate) cpu: Vec<(Part, Duration)>,
    /// CPU time of the clients. It is not a cost of the server, but they share the machine.
    pub(crate) client_cpu: Duration,
}

impl Progress {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            expected: AtomicU64::new(0),
            received: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            latency: Latency::new(),
        })
    }

    /// A message is about to be sent that this many clients have to receive.
    pub(crate) fn expect(&self, recipients: u64) {
        self.expected.fetch_add(recipients, Ordering::Relaxed);
    }

    /// A missing message has arrived.
    pub(crate) fn received(&self) {
        self.received.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl Load {
    /// A load without clients.
    pub(crate) fn new() -> Self {
        Self {
            progress: Progress::new(),
            tasks: JoinSet::new(),
            checks: Vec::new(),
        }
    }

    /// Warms up, and measures for the time of a round.
    pub(crate) async fn measure(&self, server: &Server, size: RunSize) -> Measurement {
        sleep(size.warm_up()).await;
        self.progress.latency.clear();
        let received = || self.progress.received.load(Ordering::Relaxed);
        let (before, cpu, client_cpu, begun) = (received(), server.cpu(), own_cpu(), Instant::now());
        sleep(size.time).await;
        let (after, time) = (received(), begun.elapsed());
        Measurement {
            received: after - before,
            time,
            cpu: server
                .cpu()
                .into_iter()
                .zip(cpu)
                .map(|((part, after), (_, before))| (part, after - before))
                .collect(),
            client_cpu: own_cpu() - client_cpu,
        }
    }

    /// Stops sending, waits for messages on their way, and adds up the counts of all checks.
    pub(crate) async fn close(mut self) -> SequenceCounts {
        self.progress.is_over.store(true, Ordering::Relaxed);
        let end = Instant::now() + GRACE_PERIOD;
        let is_missing =
            || self.progress.received.load(Ordering::Acquire) < self.progress.expected.load(Ordering::Relaxed);
        // A client that has not seen the end yet may still send.
        sleep(CHECK_INTERVAL).await;
        while is_missing() && Instant::now() < end {
            sleep(CHECK_INTERVAL).await;
        }
        sleep(DUPLICATES).await;
        let mut counts = SequenceCounts::default();
        while let Some(ended) = self.tasks.try_join_next() {
            counts.broken += 1;
            eprintln!("a connection ended: {}", ended.expect("no client panics"));
        }
        let clients = self.tasks.len();
        self.tasks.shutdown().await;
        for check in &self.checks {
            counts += check.lock().expect("the lock is not poisoned").counts();
        }
        // The server's work for the disconnects must not count in the next round.
        sleep(Duration::from_millis(200) + Duration::from_micros(100) * clients as u32).await;
        counts
    }

    /// A round of clients with one message in flight each. Latencies are corrected as if messages had been due at a fixed
    /// rate; they come first in the results.
    pub(crate) async fn latency_round(self, server: &Server, size: RunSize, unit: &'static str) -> Round {
        let measurement = self.measure(server, size).await;
        let latency = self.progress.latency.corrected();
        let mut round = Round::of(self.close().await);
        round.record_latency(latency);
        measurement.record_in(&mut round, unit);
        round
    }

    /// A round of clients with many messages in flight: `unit` per second, the cost of each, and latencies.
    pub(crate) async fn throughput_round(self, server: &Server, size: RunSize, unit: &'static str) -> Round {
        let measurement = self.measure(server, size).await;
        let latency = self.progress.latency.percentiles();
        let mut round = Round::of(self.close().await);
        measurement.record_in(&mut round, unit);
        round.record_latency(latency);
        round
    }
}

impl Measurement {
    /// Records messages per second, under the name `unit`, and the cost of each.
    pub(crate) fn record_in(&self, round: &mut Round, unit: &'static str) {
        let each = |cost: Duration| cost.as_secs_f64() * 1e6 / self.received as f64;
        round.record(unit, "/s", self.received as f64 / self.time.as_secs_f64());
        round.record_cpu(self.cpu.iter().map(|(part, cpu)| (*part, each(*cpu))).collect());
        round.record("load", "µs", each(self.client_cpu));
    }
}

impl Round {
    /// Records CPU time in microseconds: of the whole server, and of each part if there are several.
    pub(crate) fn record_cpu(&mut self, parts: Vec<(Part, f64)>) {
        if parts.is_empty() {
            return;
        }
        self.record("CPU", "µs", parts.iter().map(|(_, cost)| cost).sum());
        if parts.len() > 1 {
            for (part, cost) in parts {
                self.record(part.name(), "µs", cost);
            }
        }
    }

    pub(crate) fn record_latency(&mut self, percentiles: Option<Percentiles>) {
        let Some(Percentiles { p50, p99 }) = percentiles else {
            return;
        };
        self.record("p50", "ms", p50.as_secs_f64() * 1e3);
        self.record("p99", "ms", p99.as_secs_f64() * 1e3);
    }
}
