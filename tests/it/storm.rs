//! Live replacement: builds are deployed under load, again and again, in the way of each other and of everything else, and nobody
//! notices but by the answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use plugnode_tests::faults::{Deployer, Plan, Scenario};
use plugnode_tests::{Client, Cluster, Console, Flaw, Node, Redis, component, rebuilt};
use serde_json::json;

/// Tells how long the storm lasts, in seconds.
const SECONDS: &str = "PLUGNODE_STORM_SECONDS";

/// 200 clients, and a deploy each second.
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
        "too little happened to tell: {report}"
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
        "too little happened to tell: {report}"
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
                assert!(report.verdict.tally.acked > 200, "too little happened to tell: {report}");
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

/// What is slow here is slower than anything else, and still allowed.
const SLOW_MS: u64 = 900;
const SLOW_APP: &str = "instances = 8\nlimits = { time-ms = 10000 }\ngrants = { keyvalue = [\"default\"] }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_event_finishes_on_old_release_in_memory() {
    let node = Node::app(&component("recorder"), SLOW_APP).await;
    old_code_finishes(Console::of_node(&node), &node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_event_finishes_on_old_release_over_redis() {
    let redis = Redis::new().start().await;
    let cluster = Cluster::new(redis.url()).app("/", &component("recorder"), SLOW_APP);
    let _app = cluster.start_app().await;
    let io = cluster.start_io().await;
    old_code_finishes(Console::of(&cluster.config("app-node")), &io).await;
}

/// Slow events are under way at any time, and one who is quick asks again and again, while a build is deployed.
async fn old_code_finishes(console: Console, door: &Node) {
    let mut deployer = Deployer::at(console).await;
    let over = AtomicBool::new(false);
    let slow = join_all((0..3).map(|_| ask_on(door, SLOW_MS, &over)));
    let quick = ask_on(door, 0, &over);
    let deploy = async {
        // All of them speak by then.
        Client::connect(door).await.ask("slow", &[json!(SLOW_MS)]).await;
        let answer = deployer.deploy_good(0, &[]).await;
        Client::connect(door).await.ask("slow", &[json!(SLOW_MS)]).await;
        over.store(true, Ordering::Relaxed);
        answer.digest()
    };
    let (slow, quick, new) = tokio::join!(slow, quick, deploy);
    let last_of_old = quick.iter().rev().find(|(_, release)| *release != new);
    let swapped_at = last_of_old.expect("the old one answered first").0;
    let finished = |(at, release): &&(Instant, String)| *release != new && *at > swapped_at;
    let finished: Vec<Instant> = slow.iter().flatten().filter(finished).map(|(at, _)| *at).collect();
    let last = finished.iter().max().unwrap_or_else(|| {
        panic!("no slow event was answered by the old code after the swap: {slow:?}");
    });
    let meanwhile = quick.iter().filter(|(at, _)| (swapped_at..*last).contains(at)).count();
    assert!(
        meanwhile > 1,
        "nobody was answered by the new code while the old one finished"
    );
    assert!(
        slow.iter()
            .all(|answers| answers.last().is_some_and(|(_, release)| *release == new))
    );
}

/// Asks again and again until it is over, and returns when which release answered.
async fn ask_on(door: &Node, ms: u64, over: &AtomicBool) -> Vec<(Instant, String)> {
    let mut client = Client::connect(door).await;
    let mut answers = Vec::new();
    loop {
        // What begins when it is over is answered by the new code.
        let is_last = over.load(Ordering::Relaxed);
        let answer = client.ask("slow", &[json!(ms)]).await;
        let release = answer[0]["release"].as_str().expect("it says who answers").to_owned();
        answers.push((Instant::now(), release));
        if is_last {
            return answers;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_build_replaces_nothing_and_reason_is_shown() {
    let node = Node::app(&component("recorder"), "grants = { keyvalue = [\"default\"] }").await;
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
        assert!(told, "{flaw:?}: people are told as well: {}", answer.said);
    }
}

/// The handler counts in memory alone what each client says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instance_state_survives_deploys() {
    for settings in ["dispatch = \"sticky\"", "instances = 1"] {
        let counts = counted_through_deploys(settings, 0, 5).await;
        assert!(
            counts.iter().all(|count| *count > 20),
            "too little happened to tell: {counts:?}"
        );
    }
}

/// Events so slow that the new release has one on trial at any time, also when it is taken into use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trial_running_at_cutover_changes_no_state() {
    let counts = counted_through_deploys("dispatch = \"sticky\"", 100, 3).await;
    assert!(
        counts.iter().all(|count| *count > 3),
        "too little happened to tell: {counts:?}"
    );
}

/// Clients speak again and again, and each answer takes so long, while so many builds are deployed: the counts never jump.
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
                "no state was refused: {}",
                answer.said
            );
        }
        over.store(true, Ordering::Relaxed);
    };
    let (counts, ()) = tokio::join!(count_on, deploys);
    counts
}
