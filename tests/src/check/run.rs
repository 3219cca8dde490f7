//! One run: starts the clients, stops them, waits until nothing more arrives, reads the cluster's records, and judges.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::client::{self, Phase, SharedState};
use super::history::{History, Publishes, Record, Watch};
use super::inspector::Inspector;
use super::progress::Progress;
use super::publisher;
use super::report::Report;
use super::socket::{Target, Targets};
use super::watcher;

/// Interval of polling for a condition.
const LOOK: Duration = Duration::from_millis(50);

/// Settings of a run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The io-nodes, as `http://host:port`. Clients are spread over them.
    pub urls: Vec<String>,
    /// The path of Engine.IO.
    pub path: String,
    /// The namespace that the handler `recorder` is bound to.
    pub namespace: String,
    /// Number of clients at any time.
    pub clients: usize,
    /// Messages of one client per second.
    pub rate: f64,
    /// Most messages of one client in flight.
    pub window: usize,
    /// Clients per channel.
    pub channel: usize,
    /// Mean time before a client disconnects and a new one takes its place; none: until the end.
    pub lifetime: Option<Duration>,
    /// Share of messages that ask the handler to fail at the first attempt. Each is logged there.
    pub trouble: f64,
    /// Share of messages that ask the handler to fail at every attempt.
    pub failures: f64,
    /// Number of shared counters, which messages increment by read, addition and write.
    pub counters: usize,
    /// Share of messages that increment a shared counter, if there are any.
    pub increments: f64,
    /// Whether each message sets an attribute of its client, which the client's next event must see.
    pub attributes: bool,
    /// Share of messages that set a timer of their client.
    pub timers: f64,
    /// Number of programs that publish through the server API, if the run has one.
    pub publishers: usize,
    /// Publishes of one publisher per second.
    pub publish_rate: f64,
    /// Time-out at the end for messages in flight, for disconnects, and for answers of the cluster.
    pub patience: Duration,
    /// The cluster's `refuse-after-ms`: the shortest wait of a message before it is refused.
    pub refuse_after: Duration,
    /// Time without any delivery after which the run counts as settled.
    pub quiet: Duration,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            path: "/socket.io".into(),
            namespace: "/".into(),
            clients: 50,
            rate: 20.0,
            window: 32,
            channel: 8,
            lifetime: Some(Duration::from_secs(10)),
            trouble: 0.0,
            failures: 0.0,
            counters: 0,
            increments: 0.2,
            attributes: false,
            timers: 0.0,
            publishers: 4,
            publish_rate: 20.0,
            patience: Duration::from_secs(30),
            refuse_after: Duration::from_secs(10),
            quiet: Duration::from_secs(1),
            seed: 1,
        }
    }
}

/// A run in progress.
pub struct Check {
    shared: Arc<SharedState>,
    phases: watch::Sender<Phase>,
    clients: JoinSet<()>,
    watchers: JoinSet<Vec<Watch>>,
    publishers: JoinSet<(usize, Publishes)>,
    watching: watch::Sender<Phase>,
    inspector: Inspector,
}

impl Check {
    /// Connects the clients and starts sending.
    ///
    /// # Errors
    /// When the cluster cannot be reached, or does not run the handler `recorder`.
    pub async fn start(settings: Settings) -> Result<Self> {
        if settings.urls.is_empty() {
            bail!("no io-node is given");
        }
        let targets = Targets::default();
        for url in &settings.urls {
            targets.add(Target::new(url, &settings.path, &settings.namespace)?);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = format!("check-{:x}-{:x}", since.as_micros(), std::process::id());
        let progress = Arc::new(Progress::new());
        let shared = Arc::new(SharedState::new(settings, targets.clone(), progress, run));

        let mut inspector = Inspector::new(targets.clone());
        let deadline = Instant::now() + shared.settings.patience;
        let records = inspector.records(&["nobody".to_owned()], deadline).await;
        records.context("cannot check the cluster; is the handler `recorder` bound to this namespace?")?;

        // Watchers connect first, so that they see every disconnect.
        let (watching, watch_phases) = watch::channel(Phase::Sending);
        let mut watchers = JoinSet::new();
        for number in 0..shared.settings.urls.len() {
            let (socket, first) = watcher::begin(&targets.at(number), &shared).await?;
            watchers.spawn(watcher::run(
                shared.clone(),
                socket,
                first,
                number,
                watch_phases.clone(),
            ));
        }
        let (phases, following) = watch::channel(Phase::Sending);
        let mut clients = JoinSet::new();
        for number in 0..shared.settings.clients {
            clients.spawn(client::run(shared.clone(), number, following.clone()));
        }
        let check = Self {
            shared,
            phases,
            clients,
            watchers,
            publishers: JoinSet::new(),
            watching,
            inspector,
        };
        let wanted = check.shared.settings.clients as u64;
        let (connected, limit) = (check.progress(), check.shared.settings.patience);
        if !wait_until(limit, || connected.connected() >= wanted * 9 / 10).await {
            let refusal = check
                .shared
                .refusal
                .lock()
                .expect("no holder of this lock panics")
                .take();
            bail!(
                "only {} of {wanted} clients could connect: {}",
                connected.connected(),
                refusal.unwrap_or_else(|| "connecting timed out".into())
            );
        }
        Ok(check)
    }

    /// Adds an io-node to those that clients choose from when they reconnect.
    ///
    /// # Errors
    /// When `url` is not `http://host:port`.
    pub fn add_url(&self, url: &str) -> Result<()> {
        let settings = &self.shared.settings;
        self.shared
            .targets
            .add(Target::new(url, &settings.path, &settings.namespace)?);
        Ok(())
    }

    /// Starts to publish through the server API of the nodes that are added, with this key.
    pub fn publish(&mut self, api_key: &str) {
        for number in 0..self.shared.settings.publishers {
            let (shared, phases) = (self.shared.clone(), self.phases.subscribe());
            let publishing = publisher::run(shared, number, api_key.to_owned(), phases);
            self.publishers.spawn(async move { (number, publishing.await) });
        }
    }

    /// Adds a node that serves the server API, as `http://host:port`. Publishers use the next one when a node does not answer.
    ///
    /// # Panics
    /// If a publisher has panicked.
    pub fn add_api(&self, url: &str) {
        let mut apis = self.shared.apis.write().expect("no holder of this lock panics");
        apis.push(url.to_owned());
    }

    /// The live counters.
    pub fn progress(&self) -> Arc<Progress> {
        self.shared.progress.clone()
    }

    /// How many clients are connected to the io-node at this URL.
    pub fn connected_to(&self, url: &str) -> usize {
        let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
        self.shared.connected_to(authority.trim_end_matches('/'))
    }

    /// Stops the clients without a verdict. Returns whether every message of the clients connected at the end was handled or refused.
    pub async fn abandon(mut self) -> bool {
        self.enter(Phase::Listening);
        sleep(LOOK * 2).await;
        let progress = self.shared.progress.clone();
        let settled = wait_until(self.shared.settings.patience, || progress.outstanding() == 0).await;
        self.enter(Phase::Leaving);
        while self.clients.join_next().await.is_some() {}
        self.watching.send_replace(Phase::Leaving);
        while self.watchers.join_next().await.is_some() {}
        self.inspector.end().await;
        settled
    }

    /// Stops the clients, waits until the run has settled, reads the cluster's records, and judges.
    pub async fn finish(mut self) -> Report {
        let stopped_at = self.shared.progress.now();
        self.enter(Phase::Listening);
        let patience = self.shared.settings.patience;
        let mut publishes = Vec::new();
        while let Some(done) = self.publishers.join_next().await {
            publishes.extend(done);
        }
        publishes.sort_by_key(|(number, _)| *number);
        let settled = self.settle(patience).await;
        let settled_at = self.shared.progress.now();

        let deadline = Instant::now() + patience;
        let (connected, _) = self.shared.ids();
        let open = self.open_records(&connected, deadline).await;
        self.enter(Phase::Leaving);
        while self.clients.join_next().await.is_some() {}
        let mut history = History {
            // Leaves room for clock differences and network latency.
            refuse_after: self.shared.settings.refuse_after.mul_f64(0.9).as_micros() as u64,
            traces: self.shared.take_traces(),
            watches: Vec::new(),
            publishes: publishes.into_iter().map(|(_, publishes)| publishes).collect(),
            releases: self.shared.take_releases(),
            counters: Vec::new(),
        };
        let records = self.last_records(&history).await;
        // Read after every client has left, when nothing increments them any more.
        let deadline = Instant::now() + patience;
        let counters = self.inspector.counters(&self.shared.counters(), deadline).await;
        self.watching.send_replace(Phase::Leaving);
        while let Some(watches) = self.watchers.join_next().await {
            history.watches.extend(watches.unwrap_or_default());
        }

        let incomplete = match (open, records, counters) {
            (Ok(mut open), Ok(mut records), Ok(counters)) => {
                history.counters = counters;
                for trace in &mut history.traces {
                    trace.open_record = open.remove(&trace.id);
                    trace.record = records.remove(&trace.id);
                }
                None
            }
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => Some(format!("{error:#}")),
        };
        self.clean_up(&history).await;
        Report::new(history, incomplete, settled, stopped_at, settled_at)
    }

    fn enter(&self, phase: Phase) {
        self.phases.send_replace(phase);
    }

    /// Waits until everything sent is handled and nothing more arrives.
    async fn settle(&self, limit: Duration) -> bool {
        // Lets each client send its last message.
        sleep(LOOK * 2).await;
        let (progress, quiet) = (&self.shared.progress, self.shared.settings.quiet);
        let settled = wait_until(limit, || progress.outstanding() == 0).await;
        wait_until(limit, || progress.silence() > quiet).await;
        settled
    }

    /// The records of connected clients, once their timers have fired.
    async fn open_records(&mut self, ids: &[String], deadline: Instant) -> Result<HashMap<String, Record>> {
        loop {
            let records = self.inspector.records(ids, deadline).await?;
            let has_timers = records.values().any(|record| !record.timers.set.is_empty());
            if !has_timers || Instant::now() + LOOK * 4 >= deadline {
                return Ok(records);
            }
            sleep(LOOK * 4).await;
        }
    }

    /// The records of all clients after they have left, once their disconnects are handled.
    async fn last_records(&mut self, history: &History) -> Result<HashMap<String, Record>> {
        let ids: Vec<String> = history.traces.iter().map(|trace| trace.id.clone()).collect();
        let deadline = Instant::now() + self.shared.settings.patience;
        let mut records = self.inspector.records(&ids, deadline).await?;
        loop {
            // A client that received nothing may have been lost before the cluster had a record of it.
            let expected = history.traces.iter().filter(|trace| !trace.deliveries.is_empty());
            let missing: Vec<String> = expected
                .filter(|trace| records.get(&trace.id).is_none_or(|record| record.disconnects == 0))
                .map(|trace| trace.id.clone())
                .collect();
            if missing.is_empty() || Instant::now() + LOOK >= deadline {
                break;
            }
            sleep(LOOK * 4).await;
            let limit = Instant::now() + self.shared.settings.patience;
            records.extend(self.inspector.records(&missing, limit).await?);
        }
        // A second disconnect, which would be a fault, may come a moment later.
        let (progress, quiet) = (self.shared.progress.clone(), self.shared.settings.quiet);
        wait_until(self.shared.settings.patience, || progress.silence() > quiet).await;
        let deadline = Instant::now() + self.shared.settings.patience;
        self.inspector.records(&ids, deadline).await
    }

    /// Deletes the run's records from the cluster, if it can be reached.
    async fn clean_up(mut self, history: &History) {
        let ids: Vec<String> = history.traces.iter().map(|trace| trace.id.clone()).collect();
        let deadline = Instant::now() + Duration::from_secs(5);
        let _ = self.inspector.forget(&ids, deadline).await;
        let _ = self.inspector.forget_counters(&self.shared.counters(), deadline).await;
        self.inspector.end().await;
    }
}

/// Waits until a condition holds; false when it does not within `limit`.
async fn wait_until(limit: Duration, condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(LOOK).await;
    }
    true
}
