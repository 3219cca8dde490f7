//! Live replacement: repeated deploys under load, also concurrent and disturbed by faults, drop no connection and break no promise.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use plugnode_tests::faults::{Deployer, Plan, Scenario};
use plugnode_tests::{Client, Cluster, Console, Flaw, KEY_VALUE, Node, Redis, component, rebuilt};
use serde_json::json;

/// Environment variable with the duration of the deploys over Redis, in seconds.
const SECONDS: &str = "PLUGNODE_STORM_SECONDS";

/// 200 clients and a deploy every second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deploys_every_second_keep_promises_over_redis() {
    let seconds = std::env::var(SECONDS).map_or(60, |seconds| seconds.parse().expect("a number of seconds"));
    let plan = Plan {
        clients: 200,
        rate: 1.0,
        rounds: usize::div_ceil(seconds, 10),
        ..Default::default()
    };
    let report = Scenario::named("swap-storm").run(plan).await;
    report.assert_clean();
    assert!(
        report.verdict.tally.acked > 1_000,
        "too few messages for a verdict: {report}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deploys_every_second_keep_promises_in_memory() {
    let plan = Plan {
        clients: 50,
        rate: 3.0,
        rounds: 1,
        ..Default::default()
    };
    let report = Scenario::named("swap-storm-in-memory").run(plan).await;
    report.assert_clean();
    assert!(
        report.verdict.tally.acked > 500,
        "too few messages for a verdict: {report}"
    );
}

macro_rules! scenarios {
    ($($test:ident: $name:literal in $shards:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let plan = Plan { shards: $shards, ..Default::default() };
                let report = Scenario::named($name).run(plan).await;
                report.assert_clean();
                assert!(report.verdict.tally.acked > 200, "too few messages for a verdict: {report}");
            }
        )*
    };
}

scenarios! {
    concurrent_deploys_agree_on_one_release: "deploys-at-once" in 1;
    deploy_survives_killed_app_node: "deploys-while-app-nodes-die" in 1;
    deploy_survives_paused_app_node: "deploys-while-app-nodes-sleep" in 1;
    deploy_survives_killed_redis: "deploys-while-redis-dies" in 1;
    rollback_cancels_canary: "rollbacks-in-rollouts" in 1;
    failing_canary_is_rolled_back: "canaries-of-flawed-builds" in 1;
    concurrent_deploys_agree_with_shards: "deploys-at-once" in 3;
}

/// Handling time of a slow event: longer than a swap takes, shorter than the time limit.
const SLOW_MS: u64 = 900;
const SLOW_APP: &str = "instances = 8\nlimits = { time-ms = 10000 }\ngrants = { keyvalue = [\"default\"] }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_event_finishes_on_old_release_in_memory() {
    let node = Node::app(&component("recorder"), SLOW_APP).await;
    assert_old_release_finishes(Console::of_node(&node), &node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_event_finishes_on_old_release_over_redis() {
    let redis = Redis::new().start().await;
    let cluster = Cluster::new(redis.url()).app("/", &component("recorder"), SLOW_APP);
    let _app = cluster.start_app().await;
    let io = cluster.start_io().await;
    assert_old_release_finishes(Console::of(&cluster.config("app-node")), &io).await;
}

/// Deploys a build while some clients send slow events and one sends fast ones.
async fn assert_old_release_finishes(console: Console, io_node: &Node) {
    let mut deployer = Deployer::at(console).await;
    let over = AtomicBool::new(false);
    let slow = join_all((0..3).map(|_| ask_on(io_node, SLOW_MS, &over)));
    let quick = ask_on(io_node, 0, &over);
    let deploy = async {
        // By then all clients have sent events.
        Client::connect(io_node).await.ask("slow", &[json!(SLOW_MS)]).await;
        let answer = deployer.deploy_good(0, &[]).await;
        Client::connect(io_node).await.ask("slow", &[json!(SLOW_MS)]).await;
        over.store(true, Ordering::Relaxed);
        answer.digest()
    };
    let (slow, quick, new) = tokio::join!(slow, quick, deploy);
    let last_of_old = quick.iter().rev().find(|(_, release)| *release != new);
    let swapped_at = last_of_old.expect("the old release answered first").0;
    let finished = |(at, release): &&(Instant, String)| *release != new && *at > swapped_at;
    let finished: Vec<Instant> = slow.iter().flatten().filter(finished).map(|(at, _)| *at).collect();
    let last = finished.iter().max().unwrap_or_else(|| {
        panic!("no slow event was answered by the old release after the swap: {slow:?}");
    });
    let meanwhile = quick.iter().filter(|(at, _)| (swapped_at..*last).contains(at)).count();
    assert!(
        meanwhile > 1,
        "the new release answered nothing while the old one finished"
    );
    assert!(
        slow.iter()
            .all(|answers| answers.last().is_some_and(|(_, release)| *release == new))
    );
}

/// Sends requests until `over`; returns the time and the release of each answer.
async fn ask_on(io_node: &Node, ms: u64, over: &AtomicBool) -> Vec<(Instant, String)> {
    let mut client = Client::connect(io_node).await;
    let mut answers = Vec::new();
    loop {
        // A request sent after the deploy is answered by the new release.
        let is_last = over.load(Ordering::Relaxed);
        let answer = client.ask("slow", &[json!(ms)]).await;
        let release = answer[0]["release"]
            .as_str()
            .expect("the answer names the release")
            .to_owned();
        answers.push((Instant::now(), release));
        if is_last {
            return answers;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_build_replaces_nothing_and_reason_is_shown() {
    let node = Node::app(&component("recorder"), KEY_VALUE).await;
    let mut deployer = Deployer::at(Console::of_node(&node)).await;
    let mut client = Client::connect(&node).await;
    let before = client.ask("slow", &[json!(0)]).await[0]["release"].clone();
    for (flaw, words) in [
        (Flaw::Start, "this build fails when it starts"),
        (Flaw::First, "this build fails at every event"),
        (Flaw::Loops, "time"),
        (Flaw::World, "plugnode:app/handler"),
    ] {
        let over = AtomicBool::new(false);
        let asking = async {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(client.ask("slow", &[json!(0)]).await[0]["release"], before);
            }
        };
        let deploy = async {
            let answer = deployer.deploy_flawed(flaw, &[]).await;
            over.store(true, Ordering::Relaxed);
            answer
        };
        let (answer, ()) = tokio::join!(deploy, asking);
        assert!(answer.reason().contains(words), "{flaw:?}: {answer:#?}");
        let told = answer.said.lines().any(|line| line.contains(words));
        assert!(told, "{flaw:?}: standard error lacks the reason: {}", answer.said);
    }
}

/// The handler `counter` counts each client's events in instance memory only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instance_state_survives_deploys() {
    for settings in ["dispatch = \"sticky\"", "instances = 1"] {
        let counts = counted_through_deploys(settings, 0, 5).await;
        assert!(
            counts.iter().all(|count| *count > 20),
            "too few messages for a verdict: {counts:?}"
        );
    }
}

/// Events are so slow that the new release always has one on trial, also when it comes into use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trial_running_at_cutover_changes_no_state() {
    let counts = counted_through_deploys("dispatch = \"sticky\"", 100, 3).await;
    assert!(
        counts.iter().all(|count| *count > 3),
        "too few messages for a verdict: {counts:?}"
    );
}

/// Deploys `deploys` builds while clients send events that take `ms` to handle, and asserts that their counts have no gaps.
async fn counted_through_deploys(settings: &str, ms: u64, deploys: u64) -> Vec<u64> {
    const CLIENTS: usize = 8;
    let node = Node::app(&component("counter"), settings).await;
    let console = Console::of_node(&node);
    let over = AtomicBool::new(false);
    let count_on = join_all((0..CLIENTS).map(|_| async {
        let mut client = Client::connect(&node).await;
        let mut count = 0;
        while !over.load(Ordering::Relaxed) {
            count += 1;
            let answer = client.ask("slow", &[json!(ms)]).await;
            assert_eq!(answer, [json!(count)], "{settings}\n{}", node.log());
        }
        count
    }));
    let deploys = async {
        for number in 0..deploys {
            let answer = console.deploy(&rebuilt(&component("counter"), number), &[]).await;
            assert!(answer.is_in_use(), "{answer:#?}");
            assert!(
                !answer.said.contains("instance 0"),
                "an instance's state was refused: {}",
                answer.said
            );
        }
        over.store(true, Ordering::Relaxed);
    };
    let (counts, ()) = tokio::join!(count_on, deploys);
    counts
}
