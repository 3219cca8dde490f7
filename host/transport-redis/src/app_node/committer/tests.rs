//! Commits on a real Redis: verdicts for each partition, and size limits of calls.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use redis::FromRedisValue;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::app_node::committer::commit::PreparedOutcome;
use crate::app_node::held_lease::{HeldLease, LeaseEnd};
use crate::app_node::progress::DecodedEvent;
use crate::app_node::routes::OutboxTarget;
use crate::client::testing::{NarrowLink, TestServer};
use crate::stream::EntryId;
use crate::wire::CommandRun;
use plugnode_message::{DisconnectReason, Event, EventKind, Partition};
use plugnode_transport::Result;

const SOON: Duration = Duration::from_secs(20);

/// One shard and its committer.
struct Bench {
    redis: Redis,
    server: TestServer,
    shard: Shard,
    commits: mpsc::Sender<Commit>,
}

impl Bench {
    async fn start() -> Self {
        let (redis, server) = Redis::for_test(1).await;
        Self::with(redis, server)
    }

    fn with(redis: Redis, server: TestServer) -> Self {
        let shard = redis.layout.shard(0);
        let (commits, queue) = mpsc::channel(64);
        tokio::spawn(run(redis.clone(), shard.clone(), queue));
        Self {
            redis,
            server,
            shard,
            commits,
        }
    }

    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        redis::from_redis_value(self.server.ask(words).await.unwrap()).unwrap()
    }

    async fn done(&self, partition: &str) -> Option<String> {
        self.ask(&["HGET", "{test:0}:done", partition]).await
    }

    /// A lease of a partition whose events up to this number were read.
    async fn held_lease(&self, partition: u16, read: u64) -> Arc<HeldLease> {
        let lease = format!("1:test@app-{partition}");
        self.ask::<()>(&["HSET", "{test:0}:owner", &partition.to_string(), &lease])
            .await;
        let held_lease = HeldLease {
            partition: Partition(partition),
            lease,
            end: Arc::new(LeaseEnd::default()),
            progress: Mutex::default(),
            changed: Arc::default(),
            returns: mpsc::unbounded_channel().0,
        };
        for number in 1..=read {
            assert!(
                held_lease
                    .progress()
                    .add(number, DecodedEvent::Event(Arc::new(event())), 10)
            );
        }
        Arc::new(held_lease)
    }

    async fn commit(
        &self,
        held_lease: &Arc<HeldLease>,
        outcomes: impl IntoIterator<Item = PreparedOutcome>,
        set_aside: Option<u64>,
    ) -> oneshot::Receiver<Result<()>> {
        let (done, answer) = oneshot::channel();
        let commit = Commit {
            held_lease: held_lease.clone(),
            outcomes: outcomes.into_iter().collect(),
            set_aside,
            other_shards: BTreeSet::new(),
            done,
        };
        self.commits.send(commit).await.expect("the committer works");
        answer
    }

    /// Answer of the script to a call with these parts and a dead letter.
    async fn call(&self, parts: &[[&str; 4]]) -> Vec<String> {
        let mut arguments: Vec<String> = [
            "settings",
            "1",
            "6",
            "{test:0}:out:",
            "{test:0}:out-in:",
            "{test:0}:out-read:",
            "100",
            "1000000",
            "",
        ]
        .map(String::from)
        .to_vec();
        arguments.extend(["parts".into(), parts.len().to_string(), "4".into()]);
        arguments.extend(parts.concat().into_iter().map(String::from));
        arguments.extend(["letters", "1", "3", "letter", "app", ""].map(String::from));
        let arguments: Vec<Bytes> = arguments.into_iter().map(Bytes::from).collect();
        let names = [
            "owner", "io", "done", "dead", "who", "lost", "over", "kept", "begun", "sizes",
        ];
        let keys = [&names.map(|name| self.shard.key(name))[..], &self.shard.broadcasts()].concat();
        self.redis.link.run(&scripts::COMMIT, &keys, &arguments).await
    }

    async fn letters(&self) -> usize {
        self.ask(&["XLEN", "{test:0}:dead"]).await
    }
}

fn event() -> Event {
    Event {
        namespace: "/".into(),
        client: None,
        received_at_ms: 0,
        kind: EventKind::Disconnect(DisconnectReason::Client.into()),
    }
}

fn letter(number: u64, bytes: usize) -> PreparedOutcome {
    PreparedOutcome {
        letter: vec![b'x'; bytes].into(),
        ..PreparedOutcome::nothing(number)
    }
}

async fn answered(answer: oneshot::Receiver<Result<()>>) -> bool {
    let answer = timeout(SOON, answer).await.expect("nobody waits for ever");
    answer.expect("the committer works").is_ok()
}

#[tokio::test]
async fn script_gives_each_partition_its_own_verdict() {
    let bench = Bench::start().await;
    for partition in ["1", "2", "3"] {
        bench.ask::<()>(&["HSET", "{test:0}:owner", partition, "1:a@app"]).await;
    }
    bench
        .ask::<()>(&["HSET", "{test:0}:done", "1", "5 50", "2", "7 70"])
        .await;
    let still = ["1", "1:a@app", "5 50", "5 50"];
    let more = ["2", "1:a@app", "7 70", "8 71"];
    assert_eq!(bench.call(&[still, more]).await, ["done"]);
    assert_eq!(bench.done("2").await.as_deref(), Some("8 71"));
    assert_eq!(bench.letters().await, 1);

    // A repeated call is answered as done. Beside other parts, each gets its own verdict and nothing is written.
    let new = ["3", "1:a@app", "0 0 0", "1 1 10"];
    let gone = ["1", "1:b@app", "5 50", "6 51"];
    let strange = ["1", "1:a@app", "9 90", "10 91"];
    assert_eq!(bench.call(&[more]).await, ["parts", "done"]);
    assert_eq!(
        bench.call(&[gone, more, new, strange]).await,
        ["parts", "lost", "done", "apply", "lost"]
    );
    assert_eq!((bench.done("3").await, bench.letters().await), (None, 1));
    assert_eq!(bench.call(&[new]).await, ["done"]);

    // A late copy of an earlier call.
    assert_eq!(bench.call(&[["2", "1:a@app", "8 71", "9 72"]]).await, ["done"]);
    assert_eq!(bench.call(&[still, more]).await, ["parts", "apply", "lost"]);
    assert_eq!(bench.letters().await, 3);
}

#[tokio::test]
async fn each_commit_of_a_round_is_answered_by_itself() {
    let bench = Bench::start().await;
    let (one, two, lost) = (
        bench.held_lease(1, 5).await,
        bench.held_lease(2, 5).await,
        bench.held_lease(3, 5).await,
    );
    bench.ask::<()>(&["HSET", "{test:0}:owner", "3", "2:b@other"]).await;
    let answers = [
        bench.commit(&one, [letter(1, 1)], None).await,
        bench.commit(&one, [], Some(0)).await,
        bench.commit(&lost, [letter(1, 1)], None).await,
        bench.commit(&one, [letter(1, 1)], None).await,
        bench.commit(&two, [letter(2, 1), letter(3, 1)], None).await,
        bench.commit(&one, [letter(2, 1)], Some(3)).await,
        bench.commit(&lost, [letter(1, 1)], None).await,
    ];
    let mut are_done = Vec::new();
    for answer in answers {
        are_done.push(answered(answer).await);
    }
    assert_eq!(are_done, [true, true, false, true, true, true, false]);
    assert!(lost.end.lost.is_cancelled());
    assert!(
        !answered(bench.commit(&lost, [letter(1, 1)], None).await).await,
        "it was not committed before"
    );
    assert!(!answered(bench.commit(&lost, [], None).await).await);
    assert_eq!(bench.done("1").await.as_deref(), Some("2 3 20"));
    assert_eq!(bench.done("2").await.as_deref(), Some("2 0 20 2 1"));
    assert_eq!((bench.done("3").await, bench.letters().await), (None, 4));
    assert_eq!(bench.ask::<Vec<String>>(&["HKEYS", "{test:0}:kept"]).await, ["1:3"]);
}

#[tokio::test]
async fn one_commit_is_split_into_calls_by_bytes() {
    let bench = Bench::start().await;
    let held_lease = bench.held_lease(1, 40).await;
    bench.ask::<()>(&["CONFIG", "RESETSTAT"]).await;
    let outcomes = (1..=20).map(|number| letter(number, 100_000));
    assert!(
        answered(
            bench
                .commit(&held_lease, outcomes.chain([letter(21, 3_000_000)]), None)
                .await
        )
        .await
    );
    let stats: String = bench.ask(&["INFO", "commandstats"]).await;
    let calls = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    let calls: u32 = calls.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap();
    assert!((11..=26).contains(&calls), "{stats}");
    assert_eq!(bench.done("1").await.as_deref(), Some("21 21 210"));
}

#[tokio::test]
async fn large_commits_on_a_slow_link_fence_no_node() {
    let server = TestServer::start().await;
    let narrow = NarrowLink::to(&server, 12_500_000);
    let bench = Bench::with(Redis::for_test_at(narrow.url(), 1).await, server);
    let mut leases = plugnode_transport::Events::join_app(&bench.redis, "app".into())
        .await
        .unwrap();
    let held_lease = bench.held_lease(50, 250).await;
    let replies = (1..=250).map(|number| letter(number, 400_000));
    let answer = bench.commit(&held_lease, replies, None).await;
    let committed = timeout(3 * SOON, answer).await.expect("it ends");
    assert!(committed.unwrap().is_ok());
    assert_eq!(bench.done("50").await.as_deref(), Some("250 250 2500"));
    while let Ok(lease) = timeout(Duration::from_millis(1), leases.next()).await {
        assert!(lease.is_ok(), "it keeps its place meanwhile");
    }
}

/// Io-nodes `x@slow` and `y@well`, of which the first is far behind with one of these streams.
async fn slow_io_node_is_fenced(stream: &str, target: OutboxTarget) {
    let bench = Bench::start().await;
    let held_lease = bench.held_lease(1, 2).await;
    bench
        .ask::<()>(&["HSET", "{test:0}:io", "slow", "x", "well", "y"])
        .await;
    bench
        .ask::<()>(&["ZADD", "{test:0}:out-all-read", "0", "x@slow", "1000", "y@well"])
        .await;
    bench.ask::<()>(&["SET", "{test:0}:out-all-in", "1000"]).await;
    let fill = "for id = 1, 1000 do redis.call('XADD', KEYS[1], id .. '-0', 'c', '') end";
    bench.ask::<()>(&["EVAL", fill, "1", stream]).await;
    let outcome = |number| PreparedOutcome {
        commands: vec![(target.clone(), CommandRun::of(&[]))],
        ..PreparedOutcome::nothing(number)
    };
    // Other commits do not wait for it.
    assert!(answered(bench.commit(&held_lease, [letter(1, 1)], None).await).await);
    assert_eq!(bench.ask::<usize>(&["HLEN", "{test:0}:io"]).await, 2);
    assert!(answered(bench.commit(&held_lease, [outcome(2)], None).await).await);
    assert_eq!(bench.ask::<Vec<String>>(&["HKEYS", "{test:0}:io"]).await, ["well"]);
    assert_eq!(
        bench.ask::<Vec<String>>(&["SMEMBERS", "{test:0}:lost"]).await,
        ["x@slow"]
    );
}

#[tokio::test]
async fn io_node_with_full_outbox_is_fenced() {
    slow_io_node_is_fenced("{test:0}:out:x@slow", OutboxTarget::Node("slow".into())).await;
}

#[tokio::test]
async fn io_node_that_does_not_read_broadcasts_is_fenced() {
    slow_io_node_is_fenced("{test:0}:out-all", OutboxTarget::All).await;
}

#[tokio::test]
async fn broadcasts_that_nobody_needs_fence_nobody() {
    let bench = Bench::start().await;
    let held_lease = bench.held_lease(1, 1).await;
    bench.ask::<()>(&["HSET", "{test:0}:io", "fresh", "x"]).await;
    bench
        .ask::<()>(&["ZADD", "{test:0}:out-all-read", "1000", "x@fresh"])
        .await;
    bench.ask::<()>(&["SET", "{test:0}:out-all-in", "1000"]).await;
    let fill = "for id = 1, 1000 do redis.call('XADD', KEYS[1], id .. '-0', 'b', id) end";
    bench.ask::<()>(&["EVAL", fill, "1", "{test:0}:out-all"]).await;
    let outcome = PreparedOutcome {
        commands: vec![(OutboxTarget::All, CommandRun::of(&[]))],
        ..PreparedOutcome::nothing(1)
    };
    assert!(answered(bench.commit(&held_lease, [outcome], None).await).await);
    assert_eq!(bench.ask::<usize>(&["XLEN", "{test:0}:out-all"]).await, 1);
    assert_eq!(bench.ask::<Vec<String>>(&["HKEYS", "{test:0}:io"]).await, ["fresh"]);
}

#[tokio::test]
async fn broadcasts_are_kept_until_all_have_read_them() {
    let bench = Bench::start().await;
    let held_lease = bench.held_lease(1, 9).await;
    bench.ask::<()>(&["HSET", "{test:0}:io", "one", "x", "two", "y"]).await;
    // The third is gone and was not forgotten.
    bench
        .ask::<()>(&[
            "ZADD",
            "{test:0}:out-all-read",
            "0",
            "x@one",
            "0",
            "y@two",
            "0",
            "z@gone",
        ])
        .await;
    for number in 1..=9 {
        let outcome = PreparedOutcome {
            commands: vec![(OutboxTarget::All, CommandRun::of(&[]))],
            ..PreparedOutcome::nothing(number)
        };
        assert!(answered(bench.commit(&held_lease, [outcome], None).await).await);
    }
    let entries: Vec<(String, Vec<String>)> = bench.ask(&["XRANGE", "{test:0}:out-all", "-", "+"]).await;
    let [all, all_in, readers] = bench.shard.broadcasts();
    let keys = [bench.shard.key("io"), all, all_in, readers];
    for (member, read, is_trimmed, left) in [
        ("x@one", 4, false, 9),
        ("y@two", 3, true, 6),
        // A late copy of an earlier report.
        ("y@two", 1, true, 6),
        ("x@one", 4, false, 6),
        ("y@two", 9, false, 6),
        ("x@one", 4, true, 5),
        ("x@one", 9, true, 0),
    ] {
        let (id, fields) = &entries[read - 1];
        let id: EntryId = id.parse().unwrap();
        let arguments = [bytes_of(member), bytes_of(&fields[1]), bytes_of(id.next())];
        let answer: bool = bench.redis.link.run(&scripts::NOTE_READ, &keys, &arguments).await;
        let now: usize = bench.ask(&["XLEN", "{test:0}:out-all"]).await;
        assert_eq!((answer, now), (is_trimmed, left), "{member} {read}");
    }
}
