//! What every scene stands on: a cluster of processes, the checker's clients, and a feeling for whether work goes on.

use std::fs;
use std::ops::Range;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Plan;
use crate::check::random::Random;
use crate::check::{Check, Report, Settings};
use crate::{Cluster, LIMIT, Node, app, component, verb};

/// How often it is looked whether work goes on.
const LOOK: Duration = Duration::from_millis(20);
/// Longer than anything is broken: what waits is to be handled, and not to be refused.
const REFUSE_AFTER: Duration = Duration::from_secs(30);
/// Time that clients have to hear of all that they sent, once they have stopped: a machine may be very busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// The handler's app.
const APP: &str = "instances = 8\ngrants = { keyvalue = [\"default\"] }";
/// Shared counters, where they are incremented.
const COUNTERS: usize = 8;
/// Part of all messages that increment one: no more than a contended key can take on a busy machine.
const INCREMENTS: f64 = 0.05;
/// Part of all messages that set a timer: no more than a client may have when all that waited is handled at once.
const TIMERS: f64 = 0.1;
/// So many of the last lines of each process are shown when something was found.
const LINES: usize = 40;

/// A cluster under load.
pub(super) struct Ground {
    pub(super) cluster: Cluster,
    pub(super) ios: Vec<Node>,
    pub(super) apps: Vec<Node>,
    pub(super) check: Check,
    pub(super) random: Random,
    plan: Plan,
    /// Logs of processes that are gone.
    past: Vec<String>,
}

/// Shows what the processes of a cluster said last, if a panic ends its life.
pub(super) struct ShownOnPanic<'a>(pub(super) &'a Ground);

impl Drop for ShownOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.0.logs());
        }
    }
}

/// A cluster that runs the handler `recorder`, whose nodes are taken for dead after so long.
pub(super) fn cluster(url: impl Into<String>, plan: Plan, lease: Duration) -> Cluster {
    cluster_of(url, APP).transport(&format!("lease-ms = {}\nshards = {}", lease.as_millis(), plan.shards))
}

/// The same with other settings of the app, and without any of the transport.
pub(super) fn cluster_of(url: impl Into<String>, app: &str) -> Cluster {
    Cluster::new(url)
        .app("/", &component("recorder"), app)
        .settings(&format!("[io-node]\nrefuse-after-ms = {}", REFUSE_AFTER.as_millis()))
}

impl Ground {
    /// So many nodes of each role, and clients that speak to them.
    pub(super) async fn of(cluster: Cluster, plan: Plan, ios: usize, apps: usize) -> Self {
        let (mut io_nodes, mut app_nodes) = (Vec::new(), Vec::new());
        for _ in 0..apps {
            app_nodes.push(cluster.start_app().await);
        }
        for _ in 0..ios {
            io_nodes.push(cluster.start_io().await);
        }
        Self::with(cluster, plan, io_nodes, app_nodes).await
    }

    /// One process on the memory transport that has all roles; it is among the app-nodes.
    pub(super) async fn alone(plan: Plan) -> Self {
        let settings = format!("[io-node]\nrefuse-after-ms = {}", REFUSE_AFTER.as_millis());
        let app = app("/", &component("recorder"), APP);
        let node = Node::run(&format!("{settings}\n{app}")).await;
        Self::with(Cluster::new("memory:"), plan, Vec::new(), vec![node]).await
    }

    /// With nodes that run already. Clients go to the io-nodes, or, where there is none, to those that have all roles.
    pub(super) async fn with(cluster: Cluster, plan: Plan, ios: Vec<Node>, apps: Vec<Node>) -> Self {
        let check = check(plan, &ios, &apps).await;
        Self {
            cluster,
            ios,
            apps,
            check,
            random: Random::new(plan.seed),
            plan,
            past: Vec::new(),
        }
    }

    /// Ends the account of what happened so far without a judgement, and begins another with new clients. For faults that may
    /// lose what was accepted.
    ///
    /// # Panics
    /// When clients of the old account are connected and never hear of a message.
    pub(super) async fn start_anew(&mut self) {
        self.plan.seed += 1;
        let next = check(self.plan, &self.ios, &self.apps).await;
        let settled = std::mem::replace(&mut self.check, next).abandon().await;
        assert!(
            settled,
            "clients are connected and do not hear of their messages:\n{}",
            self.logs()
        );
    }

    /// Waits until something is so.
    ///
    /// # Panics
    /// When it does not come to be.
    pub(super) async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !so(self) {
            assert!(
                Instant::now() < deadline,
                "{what}: not within {LIMIT:?}\n{}",
                self.logs()
            );
            sleep(LOOK).await;
        }
    }

    /// Lets time pass, in milliseconds.
    pub(super) async fn wait(&mut self, milliseconds: Range<u64>) {
        let length = (milliseconds.end - milliseconds.start) as usize;
        let time = milliseconds.start + self.random.below(length) as u64;
        sleep(Duration::from_millis(time)).await;
    }

    /// Waits until clients are answered again: as many answers as there are clients.
    ///
    /// # Panics
    /// When they are not.
    pub(super) async fn work_goes_on(&self) {
        let progress = self.check.progress();
        let enough = progress.acked() + progress.connected().max(10);
        let deadline = Instant::now() + LIMIT;
        while progress.acked() < enough {
            assert!(
                Instant::now() < deadline,
                "work does not go on: {progress:?}\n{}",
                self.logs()
            );
            sleep(LOOK).await;
        }
    }

    /// Resident memory of each app-node, in bytes.
    pub(super) fn memory(&self) -> Vec<u64> {
        self.apps.iter().map(Node::memory).collect()
    }

    /// Puts a node in the place of one that has ended.
    pub(super) fn replace_app(&mut self, place: usize, node: Node) {
        let ended = std::mem::replace(&mut self.apps[place], node);
        self.past.push(ended.log());
    }

    /// The same for an io-node; clients may find it.
    pub(super) fn replace_io(&mut self, place: usize, node: Node) {
        self.check.add_url(&node.url()).expect("it is a URL");
        let ended = std::mem::replace(&mut self.ios[place], node);
        self.past.push(ended.log());
    }

    /// Lets the clients come to an end, and judges.
    pub(super) async fn finish(self, scene: &str) -> Report {
        self.end(scene, true).await
    }

    /// The same where no client may have lost its connection.
    pub(super) async fn finish_undisturbed(self, scene: &str) -> Report {
        let report = self.end(scene, false).await;
        let lost = report.history.stories.iter().filter_map(|story| match &story.ended {
            crate::check::Ended::Lost(reason) => Some((&story.id, reason)),
            _ => None,
        });
        let lost: Vec<_> = lost.collect();
        assert!(lost.is_empty(), "{scene}: clients lost their connection: {lost:?}");
        report
    }

    async fn end(mut self, scene: &str, may_lose_connections: bool) -> Report {
        self.work_goes_on().await;
        let (ios, apps, past) = (
            std::mem::take(&mut self.ios),
            std::mem::take(&mut self.apps),
            std::mem::take(&mut self.past),
        );
        let report = self.check.finish().await;
        println!("{scene}:\n{report}");
        if !report.is_clean() || report.reconnects > 0 && !may_lose_connections {
            println!("{}", logs(&ios, &apps, &past));
            println!("{}", unasked_deaths(&self.cluster).await);
        }
        report
    }

    pub(super) fn logs(&self) -> String {
        logs(&self.ios, &self.apps, &self.past)
    }
}

/// The dead letters of a cluster over Redis that no client asked for: what was lost may be among them.
async fn unasked_deaths(cluster: &Cluster) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    fs::write(folder.path().join("plugnode.toml"), cluster.config("app-node")).expect("it can be written");
    let said = verb(&["dead", "list", "--most", "1000"], folder.path()).await;
    let unasked = said.out.lines().filter(|line| !line.contains("asked to"));
    let unasked: Vec<_> = unasked.collect();
    format!("dead letters:\n{}\n{}", unasked.join("\n"), said.err)
}

async fn check(plan: Plan, ios: &[Node], apps: &[Node]) -> Check {
    let doors = if ios.is_empty() { apps } else { ios };
    let check = Check::start(Settings {
        urls: doors.iter().map(Node::url).collect(),
        clients: plan.clients,
        rate: plan.rate,
        lifetime: Some(plan.lifetime),
        trouble: plan.trouble,
        failures: plan.failures,
        counters: if plan.counters { COUNTERS } else { 0 },
        increments: INCREMENTS,
        attributes: plan.attributes,
        timers: TIMERS,
        refuse_after: REFUSE_AFTER,
        patience: PATIENCE,
        seed: plan.seed,
        ..Default::default()
    });
    check
        .await
        .unwrap_or_else(|error| panic!("the cluster cannot be checked: {error:#}\n{}", logs(ios, apps, &[])))
}

fn logs(ios: &[Node], apps: &[Node], past: &[String]) -> String {
    let present = ios.iter().chain(apps).map(Node::log);
    let all = present.chain(past.iter().cloned()).map(|log| tail(&log));
    all.collect::<Vec<_>>().join("\n\n")
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
