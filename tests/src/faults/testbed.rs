//! The test bed of every scenario: a cluster of processes under the load of the checker's clients.

use std::fs;
use std::ops::Range;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Plan;
use crate::check::random::Random;
use crate::check::{Check, Report, Settings};
use crate::{Cluster, LIMIT, Node, app, component, verb};

/// Interval of polling for a condition.
const LOOK: Duration = Duration::from_millis(20);
/// Longer than any fault, so that waiting messages are handled and not refused.
const REFUSE_AFTER: Duration = Duration::from_secs(30);
/// Time-out for the outcome of all messages at the end; generous, for busy machines.
const PATIENCE: Duration = Duration::from_secs(120);
/// Settings of the app.
const APP: &str = "instances = 8\ngrants = { keyvalue = [\"default\"] }";
/// Number of shared counters, in plans with counters.
const COUNTERS: usize = 8;
/// Share of messages that increment one: no more than a contended key can take on a busy machine.
const INCREMENTS: f64 = 0.05;
/// Share of messages that set a timer: after an outage all waiting messages are handled at once, and a client's timers are limited.
const TIMERS: f64 = 0.1;
/// Publishes of each publisher per second, as a share of the messages of a client.
const PUBLISHES: f64 = 0.25;
/// Fewest publishes of a scenario for a verdict.
const FEWEST_PUBLISHES: usize = 10;
/// The server API, which each node serves.
const API: &str = r#"
[api]
listen = "127.0.0.1:0"

[[api.key]]
name = "publisher"
key = "0123456789abcdef0123456789abcdef"
namespaces = ["/"]
permissions = ["publish"]
calls-per-second = 10000
"#;
const API_KEY: &str = "0123456789abcdef0123456789abcdef";
/// Log lines of each process that are printed after a violation.
const LINES: usize = 40;

/// A cluster under load.
pub(super) struct Testbed {
    pub(super) cluster: Cluster,
    pub(super) ios: Vec<Node>,
    pub(super) apps: Vec<Node>,
    pub(super) check: Check,
    pub(super) random: Random,
    plan: Plan,
    /// Logs of processes that have ended.
    past: Vec<String>,
}

/// Prints the last log lines of the cluster's processes when it is dropped by a panic.
pub(super) struct LogsOnPanic<'a>(pub(super) &'a Testbed);

impl Drop for LogsOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.0.logs());
        }
    }
}

/// A cluster that runs the handler `recorder`, with this lease.
pub(super) fn cluster(url: impl Into<String>, plan: Plan, lease: Duration) -> Cluster {
    cluster_of(url, APP).transport(&format!("lease-ms = {}\nshards = {}", lease.as_millis(), plan.shards))
}

/// The same with other settings of the app, and with the default transport.
pub(super) fn cluster_of(url: impl Into<String>, app: &str) -> Cluster {
    Cluster::new(url)
        .app("/", &component("recorder"), app)
        .settings(&settings())
}

fn settings() -> String {
    format!("[io-node]\nrefuse-after-ms = {}\n{API}\n", REFUSE_AFTER.as_millis())
}

impl Testbed {
    /// Starts `ios` io-nodes, `apps` app-nodes, and the clients.
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

    /// One process with all roles on the memory transport, listed as an app-node.
    pub(super) async fn alone(plan: Plan) -> Self {
        let app = app("/", &component("recorder"), APP);
        let node = Node::run(&(settings() + &app)).await;
        Self::with(Cluster::new("memory:"), plan, Vec::new(), vec![node]).await
    }

    /// With running nodes. Clients connect to the io-nodes or, without any, to the processes with all roles.
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

    /// Ends the running check without a verdict and starts another with new clients. For faults that may lose accepted events.
    ///
    /// # Panics
    /// When a connected client of the old check never learns the outcome of a message.
    pub(super) async fn restart_check(&mut self) {
        self.plan.seed += 1;
        let next = check(self.plan, &self.ios, &self.apps).await;
        let settled = std::mem::replace(&mut self.check, next).abandon().await;
        assert!(
            settled,
            "connected clients did not learn the outcome of their messages:\n{}",
            self.logs()
        );
    }

    /// Waits until a condition holds.
    ///
    /// # Panics
    /// When it does not within [`LIMIT`].
    pub(super) async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !condition(self) {
            assert!(
                Instant::now() < deadline,
                "{what}: not within {LIMIT:?}\n{}",
                self.logs()
            );
            sleep(LOOK).await;
        }
    }

    /// Sleeps for a random time of this range, in milliseconds.
    pub(super) async fn wait(&mut self, milliseconds: Range<u64>) {
        let length = (milliseconds.end - milliseconds.start) as usize;
        let time = milliseconds.start + self.random.below(length) as u64;
        sleep(Duration::from_millis(time)).await;
    }

    /// Waits until as many further messages are acknowledged as there are clients.
    ///
    /// # Panics
    /// When they are not.
    pub(super) async fn await_progress(&self) {
        let progress = self.check.progress();
        let enough = progress.acked() + progress.connected().max(10);
        let deadline = Instant::now() + LIMIT;
        while progress.acked() < enough {
            assert!(
                Instant::now() < deadline,
                "clients are not answered any more: {progress:?}\n{}",
                self.logs()
            );
            sleep(LOOK).await;
        }
    }

    /// Resident memory of each app-node, in bytes.
    pub(super) fn memory(&self) -> Vec<u64> {
        self.apps.iter().map(Node::memory).collect()
    }

    /// Replaces an app-node that has ended.
    pub(super) async fn replace_app(&mut self, place: usize, node: Node) {
        self.check.add_api(&node.api_url().await);
        let ended = std::mem::replace(&mut self.apps[place], node);
        self.past.push(ended.log());
    }

    /// Replaces an io-node that has ended; clients may connect to the new one.
    pub(super) async fn replace_io(&mut self, place: usize, node: Node) {
        self.check.add_api(&node.api_url().await);
        self.check.add_url(&node.url()).expect("it is a URL");
        let ended = std::mem::replace(&mut self.ios[place], node);
        self.past.push(ended.log());
    }

    /// Stops the clients, and judges.
    pub(super) async fn finish(self, scenario: &str) -> Report {
        self.end(scenario, true).await
    }

    /// The same, and asserts that no client lost its connection.
    pub(super) async fn finish_undisturbed(self, scenario: &str) -> Report {
        let report = self.end(scenario, false).await;
        let lost = report.history.traces.iter().filter_map(|trace| match &trace.ended {
            crate::check::Ended::Lost(reason) => Some((&trace.id, reason)),
            _ => None,
        });
        let lost: Vec<_> = lost.collect();
        assert!(lost.is_empty(), "{scenario}: clients lost their connection: {lost:?}");
        report
    }

    async fn end(mut self, scenario: &str, may_lose_connections: bool) -> Report {
        self.await_progress().await;
        let (ios, apps, past) = (
            std::mem::take(&mut self.ios),
            std::mem::take(&mut self.apps),
            std::mem::take(&mut self.past),
        );
        let report = self.check.finish().await;
        println!("{scenario}:\n{report}");
        if !report.is_clean() || report.reconnects > 0 && !may_lose_connections {
            println!("{}", logs(&ios, &apps, &past));
            println!("{}", unexpected_dead_letters(&self.cluster).await);
        }
        assert!(
            report.verdict.counts.publishes > FEWEST_PUBLISHES,
            "too few publishes for a verdict: {report}"
        );
        report
    }

    pub(super) fn logs(&self) -> String {
        logs(&self.ios, &self.apps, &self.past)
    }
}

/// Dead letters that no client asked for; lost messages may be among them.
async fn unexpected_dead_letters(cluster: &Cluster) -> String {
    let folder = crate::temp_folder();
    fs::write(folder.path().join("plugnode.toml"), cluster.config("app-node")).expect("it can be written");
    let said = verb(&["dead", "list", "--most", "1000"], folder.path()).await;
    let unasked = said.out.lines().filter(|line| !line.contains("asked to"));
    let unasked: Vec<_> = unasked.collect();
    format!("dead letters:\n{}\n{}", unasked.join("\n"), said.err)
}

async fn check(plan: Plan, ios: &[Node], apps: &[Node]) -> Check {
    let targets = if ios.is_empty() { apps } else { ios };
    let check = Check::start(Settings {
        urls: targets.iter().map(Node::url).collect(),
        clients: plan.clients,
        rate: plan.rate,
        lifetime: Some(plan.lifetime),
        trouble: plan.trouble,
        failures: plan.failures,
        counters: if plan.counters { COUNTERS } else { 0 },
        increments: INCREMENTS,
        attributes: plan.attributes,
        timers: TIMERS,
        // Each publish waits for the lease of a killed node.
        publishers: 16,
        publish_rate: plan.rate * PUBLISHES,
        refuse_after: REFUSE_AFTER,
        patience: PATIENCE,
        seed: plan.seed,
        ..Default::default()
    });
    let mut check = check
        .await
        .unwrap_or_else(|error| panic!("cannot check the cluster: {error:#}\n{}", logs(ios, apps, &[])));
    for node in ios.iter().chain(apps) {
        check.add_api(&node.api_url().await);
    }
    check.publish(API_KEY);
    check
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
