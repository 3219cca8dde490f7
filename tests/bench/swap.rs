//! What a deploy each second costs those who talk meanwhile: round trips of an echo over Redis and three app-nodes, in rounds
//! without deploys and rounds with them, in turn and in one run.
//!
//! Clients send at fixed times, and a round trip begins when it was due, so that nothing is hidden by waiting. Compiling
//! shares the machine with everything else here; read the ratio, and beside it how many processors there are.
//! `cargo bench -p plugnode-tests --bench swap`, after `make build` and `.ci/setup-tests redis`.

use std::time::Duration;

use futures_util::future::join_all;
use plugnode_tests::{Client, Cluster, Console, Node, Redis, component, rebuilt};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

const CLIENTS: u32 = 100;
/// From message to message of one client.
const PAUSE: Duration = Duration::from_millis(200);
/// From deploy to deploy, unless one takes longer.
const DEPLOY: Duration = Duration::from_secs(1);
/// One without deploys and one with them. Medians of these, because other work on the machine comes and goes.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(12);
const APP_NODES: usize = 3;

/// The round trips of some rounds.
#[derive(Default)]
struct Rounds {
    messages: usize,
    /// Of each round: half took no longer,
    p50: Vec<Duration>,
    /// and 99 of 100 did not.
    p99: Vec<Duration>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let redis = Redis::new().start().await;
    let cluster = Cluster::new(redis.url()).app("/", &component("echo"), "instances = 2");
    let mut apps = Vec::new();
    for _ in 0..APP_NODES {
        apps.push(cluster.start_app().await);
    }
    let io = cluster.start_io().await;
    let console = Console::of(&cluster.config("app-node"));
    let (mut quiet, mut stormy, mut deploys) = (Rounds::default(), Rounds::default(), Vec::new());
    // Connections, caches and the first artifacts are nobody's round.
    let end = Instant::now() + ROUND / 2;
    tokio::join!(talk(&io, end), deploy_until(&console, &mut deploys, end));
    deploys.clear();
    let before = memory(&apps);
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        quiet.add(talk(&io, Instant::now() + ROUND).await);
        let end = Instant::now() + ROUND;
        let (waits, ()) = tokio::join!(talk(&io, end), deploy_until(&console, &mut deploys, end));
        stormy.add(waits);
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "== {CLIENTS} clients, a message each {PAUSE:?}, {APP_NODES} app-nodes over Redis, {cores} processors for all of it"
    );
    println!("{:<26} {:>12} {:>12} {:>12}", "", "messages", "p50", "p99");
    for (name, rounds) in [("without deploys", &quiet), ("with deploys", &stormy)] {
        let (p50, p99) = (median(&rounds.p50), median(&rounds.p99));
        println!("{name:<26} {:>12} {p50:>12.2?} {p99:>12.2?}", rounds.messages);
    }
    let ratio = |of: fn(&Rounds) -> &[Duration]| median(of(&stormy)).as_secs_f64() / median(of(&quiet)).as_secs_f64();
    let (p50, p99) = (ratio(|rounds| &rounds.p50), ratio(|rounds| &rounds.p99));
    println!("{:<26} {:>12} {p50:>12.2} {p99:>12.2}", "with to without", "");
    println!(
        "{} deploys; to the last node's first use {:.2?} (median), {:.2?} (longest)",
        deploys.len(),
        median(&deploys),
        deploys.iter().max().copied().unwrap_or_default()
    );
    for (node, (before, after)) in before.into_iter().zip(memory(&apps)).enumerate() {
        println!(
            "memory of app-{}: {} MB, then {} MB",
            node + 1,
            before >> 20,
            after >> 20
        );
    }
}

/// All clients talk until then. How long their round trips took.
async fn talk(io: &Node, end: Instant) -> Vec<Duration> {
    let begun = Instant::now();
    // One after the other, and not all at the same moment.
    let clients = (0..CLIENTS).map(|number| client(io, begun + PAUSE * number / CLIENTS, end));
    join_all(clients).await.into_iter().flatten().collect()
}

async fn client(io: &Node, mut due: Instant, end: Instant) -> Vec<Duration> {
    let mut client = Client::connect(io).await;
    let mut waits = Vec::new();
    let mut number = 0u64;
    // Connecting is not what is measured.
    while due < Instant::now() {
        due += PAUSE;
    }
    while due < end {
        sleep_until(due).await;
        let message = json!({ "id": number, "ok": true, "text": "the quick brown fox jumps over the lazy dog" });
        client.emit("n", std::slice::from_ref(&message)).await;
        assert_eq!(
            client.event().await,
            ("n".to_owned(), vec![message]),
            "nothing is lost or overtaken"
        );
        waits.push(due.elapsed());
        due += PAUSE;
        number += 1;
    }
    waits
}

/// Another build each second, and how long it took until the last node used it.
async fn deploy_until(console: &Console, deploys: &mut Vec<Duration>, end: Instant) {
    let run = u64::from(std::process::id()) * 1_000_000;
    while Instant::now() < end {
        let next = Instant::now() + DEPLOY;
        let number = console.releases().await[0]["release"]
            .as_u64()
            .expect("a release has a number");
        let answer = console.deploy(&rebuilt(&component("echo"), run + number), &[]).await;
        assert_eq!(answer.outcome(), "in-use", "{answer:#?}");
        deploys.extend(answer.until_last_node());
        sleep_until(next.min(end)).await;
    }
    // What is still being tidied up belongs to this round.
    sleep(DEPLOY / 2).await;
}

fn memory(nodes: &[Node]) -> Vec<u64> {
    nodes.iter().map(Node::memory).collect()
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

impl Rounds {
    fn add(&mut self, mut waits: Vec<Duration>) {
        waits.sort_unstable();
        let at = |part: usize| waits[waits.len() * part / 100];
        self.messages += waits.len();
        self.p50.push(at(50));
        self.p99.push(at(99));
    }
}
