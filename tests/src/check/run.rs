//! One run: starts the clients, waits for quiet when they have stopped, asks the cluster what it kept, and judges.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::client::{self, Fleet, Phase};
use super::history::{History, Record, Watch};
use super::inspector::Inspector;
use super::progress::Progress;
use super::report::Report;
use super::socket::{Target, Targets};
use super::watcher;

/// How often it is looked whether something is so by now.
const LOOK: Duration = Duration::from_millis(50);

/// How a run goes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The io-nodes, as `http://host:port`. Clients are spread over them.
    pub urls: Vec<String>,
    /// The path of Engine.IO.
    pub path: String,
    /// The namespace that the handler `recorder` is bound to.
    pub namespace: String,
    /// How many clients there are at any time.
    pub clients: usize,
    /// How many messages a client sends in a second.
    pub rate: f64,
    /// How many messages of a client may be on their way.
    pub window: usize,
    /// How many clients are in a channel.
    pub channel: usize,
    /// How long a client stays, more or less, before it goes and another comes. None: until the end.
    pub lifetime: Option<Duration>,
    /// Of all messages, the part that asks the handler to fail at the first attempt. Its log tells of each.
    pub trouble: f64,
    /// Of all messages, the part that asks the handler to fail at every attempt.
    pub failures: f64,
    /// How many shared counters messages increment, by a read, an addition and a write.
    pub counters: usize,
    /// Of all messages, the part that increments a shared counter, where there are any.
    pub increments: f64,
    /// Whether each message sets an attribute of its client, which the client's next event must see.
    pub attributes: bool,
    /// Of all messages, the part that sets a timer of its client.
    pub timers: f64,
    /// How long to wait at the end for what is still on its way, for disconnects, and for an answer of the cluster.
    pub patience: Duration,
    /// The cluster's `refuse-after-ms`: how long a message waits at least before it is refused.
    pub refuse_after: Duration,
    /// How long nobody may hear anything before all is taken for quiet.
    pub quiet: Duration,
    /// Which random numbers to take.
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
            patience: Duration::from_secs(30),
            refuse_after: Duration::from_secs(10),
            quiet: Duration::from_secs(1),
            seed: 1,
        }
    }
}

/// A run that goes on.
pub struct Check {
    fleet: Arc<Fleet>,
    phases: watch::Sender<Phase>,
    clients: JoinSet<()>,
    watchers: JoinSet<Vec<Watch>>,
    watching: watch::Sender<Phase>,
    inspector: Inspector,
}

impl Check {
    /// Connects everybody and begins to send.
    ///
    /// # Errors
    /// When the cluster cannot be reached, or does not run the handler `recorder`.
    pub async fn start(settings: Settings) -> Result<Self> {
        if settings.urls.is_empty() {
            bail!("no io-node was named");
        }
        let targets = Targets::default();
        for url in &settings.urls {
            targets.add(Target::new(url, &settings.path, &settings.namespace)?);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = format!("check-{:x}-{:x}", since.as_micros(), std::process::id());
        let progress = Arc::new(Progress::new());
        let fleet = Arc::new(Fleet::new(settings, targets.clone(), progress, run));

        let mut inspector = Inspector::new(targets.clone());
        let deadline = Instant::now() + fleet.settings.patience;
        let nobody = inspector.records(&["nobody".to_owned()], deadline).await;
        nobody.context("the cluster cannot be checked: is the handler `recorder` bound to this namespace?")?;

        // Before all others, so that nobody goes unseen.
        let (watching, watch_phases) = watch::channel(Phase::Sending);
        let mut watchers = JoinSet::new();
        for number in 0..fleet.settings.urls.len() {
            let (socket, first) = watcher::begin(&targets.at(number), &fleet).await?;
            watchers.spawn(watcher::run(fleet.clone(), socket, first, number, watch_phases.clone()));
        }
        let (phases, following) = watch::channel(Phase::Sending);
        let mut clients = JoinSet::new();
        for number in 0..fleet.settings.clients {
            clients.spawn(client::run(fleet.clone(), number, following.clone()));
        }
        let check = Self {
            fleet,
            phases,
            clients,
            watchers,
            watching,
            inspector,
        };
        let everybody = check.fleet.settings.clients as u64;
        let (connected, limit) = (check.progress(), check.fleet.settings.patience);
        if !wait_until(limit, || connected.connected() >= everybody * 9 / 10).await {
            let refusal = check.fleet.refusal.lock().expect("nobody panics with it").take();
            bail!(
                "{} of {everybody} clients are connected: {}",
                connected.connected(),
                refusal.unwrap_or_else(|| "the others wait".into())
            );
        }
        Ok(check)
    }

    /// Tells clients of one more io-node, that they may find when they connect again.
    ///
    /// # Errors
    /// When it is no URL that can be connected to.
    pub fn add_url(&self, url: &str) -> Result<()> {
        let settings = &self.fleet.settings;
        self.fleet
            .targets
            .add(Target::new(url, &settings.path, &settings.namespace)?);
        Ok(())
    }

    /// Its counters.
    pub fn progress(&self) -> Arc<Progress> {
        self.fleet.progress.clone()
    }

    /// How many clients are connected to the io-node at this URL.
    pub fn connected_to(&self, url: &str) -> usize {
        let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
        self.fleet.connected_to(authority.trim_end_matches('/'))
    }

    /// Lets clients stop and leave without a judgement. Returns whether every message of those that are connected at the end
    /// was handled or refused.
    pub async fn abandon(mut self) -> bool {
        self.enter(Phase::Listening);
        sleep(LOOK * 2).await;
        let progress = self.fleet.progress.clone();
        let settled = wait_until(self.fleet.settings.patience, || progress.outstanding() == 0).await;
        self.enter(Phase::Leaving);
        while self.clients.join_next().await.is_some() {}
        self.watching.send_replace(Phase::Leaving);
        while self.watchers.join_next().await.is_some() {}
        self.inspector.end().await;
        settled
    }

    /// Lets clients stop, waits until all is quiet, asks the cluster, and judges.
    pub async fn finish(mut self) -> Report {
        let stopped_at = self.fleet.progress.now();
        self.enter(Phase::Listening);
        let patience = self.fleet.settings.patience;
        let all_is_quiet = self.quiet(patience).await;
        let settled_at = self.fleet.progress.now();

        let deadline = Instant::now() + patience;
        let (connected, _) = self.fleet.ids();
        let open = self.open_records(&connected, deadline).await;
        self.enter(Phase::Leaving);
        while self.clients.join_next().await.is_some() {}
        let mut history = History {
            // Clocks and the way there are not exact.
            refuse_after: self.fleet.settings.refuse_after.mul_f64(0.9).as_micros() as u64,
            stories: self.fleet.take_stories(),
            watches: Vec::new(),
            releases: self.fleet.take_releases(),
            counters: Vec::new(),
        };
        let records = self.last_records(&history).await;
        // Once every client has gone: nothing increments them any more.
        let deadline = Instant::now() + patience;
        let counters = self.inspector.counters(&self.fleet.counters(), deadline).await;
        self.watching.send_replace(Phase::Leaving);
        while let Some(watches) = self.watchers.join_next().await {
            history.watches.extend(watches.unwrap_or_default());
        }

        let incomplete = match (open, records, counters) {
            (Ok(mut open), Ok(mut records), Ok(counters)) => {
                history.counters = counters;
                for story in &mut history.stories {
                    story.open_record = open.remove(&story.id);
                    story.record = records.remove(&story.id);
                }
                None
            }
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => Some(format!("{error:#}")),
        };
        self.clean_up(&history).await;
        Report::new(history, incomplete, all_is_quiet, stopped_at, settled_at)
    }

    fn enter(&self, phase: Phase) {
        self.phases.send_replace(phase);
    }

    /// Waits until everything sent is handled and nobody hears anything any more.
    async fn quiet(&self, limit: Duration) -> bool {
        // A moment, so that each client has sent its last message.
        sleep(LOOK * 2).await;
        let (progress, quiet) = (&self.fleet.progress, self.fleet.settings.quiet);
        let settled = wait_until(limit, || progress.outstanding() == 0).await;
        wait_until(limit, || progress.silence() > quiet).await;
        settled
    }

    /// What is kept of clients that are connected. Waits for timers that they have set.
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

    /// What is kept of each client when all of them have gone. Waits for disconnects that are late.
    async fn last_records(&mut self, history: &History) -> Result<HashMap<String, Record>> {
        let ids: Vec<String> = history.stories.iter().map(|story| story.id.clone()).collect();
        let deadline = Instant::now() + self.fleet.settings.patience;
        let mut records = self.inspector.records(&ids, deadline).await?;
        loop {
            // Who has heard nothing may have been lost before the cluster knew of it.
            let expected = history.stories.iter().filter(|story| !story.heard.is_empty());
            let missing: Vec<String> = expected
                .filter(|story| records.get(&story.id).is_none_or(|record| record.disconnects == 0))
                .map(|story| story.id.clone())
                .collect();
            if missing.is_empty() || Instant::now() + LOOK >= deadline {
                break;
            }
            sleep(LOOK * 4).await;
            let limit = Instant::now() + self.fleet.settings.patience;
            records.extend(self.inspector.records(&missing, limit).await?);
        }
        // One disconnect is there; what would be too many may come a moment later.
        let (progress, quiet) = (self.fleet.progress.clone(), self.fleet.settings.quiet);
        wait_until(self.fleet.settings.patience, || progress.silence() > quiet).await;
        let deadline = Instant::now() + self.fleet.settings.patience;
        self.inspector.records(&ids, deadline).await
    }

    /// Leaves nothing behind in the cluster, if it can be reached.
    async fn clean_up(mut self, history: &History) {
        let ids: Vec<String> = history.stories.iter().map(|story| story.id.clone()).collect();
        let deadline = Instant::now() + Duration::from_secs(5);
        let _ = self.inspector.forget(&ids, deadline).await;
        let _ = self.inspector.forget_counters(&self.fleet.counters(), deadline).await;
        self.inspector.end().await;
    }
}

/// Waits until something is so, and says whether it came to be.
async fn wait_until(limit: Duration, so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !so() {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(LOOK).await;
    }
    true
}
