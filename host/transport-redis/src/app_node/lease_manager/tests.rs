//! Leases of the Redis transport: a short log, events of other versions, and poison events.

use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::time::{sleep, timeout};

use super::*;
use crate::batch;
use crate::client::testing::{Lines, TestServer};
use plugnode_message::{Client, Effects, Event, EventId, EventKind};
use plugnode_transport::conformance::{BACKLOG, PARTITIONS};
use plugnode_transport::{Delivery, Events, Inbox, IoNode, Leases, Outcome, TransportError, Verdict, partition_of};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn long_open_event_does_not_hold_the_log() {
    let (redis, server) = Redis::for_test(1).await;
    let io = redis.join_io(IoNode::without_address("io")).await.unwrap();
    let mut leases = redis.join_app("app".into()).await.unwrap();
    let mut held = HashMap::new();
    for _ in 0..PARTITIONS {
        let lease = leases.next().await.unwrap();
        held.insert(lease.partition, lease);
    }
    let slow = partition_of(&"slow".into(), PARTITIONS);
    let quick = (0..).map(|n| format!("quick-{n}"));
    let quick = quick
        .into_iter()
        .find(|id| partition_of(&id.as_str().into(), PARTITIONS) == slow);
    let quick = quick.unwrap();

    take_in(&*io.inbox, "slow", 1).await;
    let id = read(held.get_mut(&slow).unwrap()).await.id;
    for number in 0..3 * BACKLOG as u64 {
        take_in(&*io.inbox, &quick, number).await;
        let lease = held.get_mut(&slow).unwrap();
        let delivery = read(lease).await;
        commit(lease, delivery.id).await;
    }
    let log = format!("{{test:0}}:log:{slow}");
    let becomes_short = async {
        while number(&server, &["XLEN", &log]).await > BACKLOG as u64 + 1 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, becomes_short).await.expect("the log becomes short");
    assert_eq!(redis.backlog_of_all().await, 1);

    // The next owner gets it before later events, and it is committed once.
    take_in(&*io.inbox, "slow", 2).await;
    drop(held.remove(&slow));
    let mut lease = timeout(SOON, leases.next()).await.expect("it comes back").unwrap();
    assert_eq!(lease.partition, slow);
    let again = read(&mut lease).await;
    assert_eq!((again.id, again.event.received_at_ms), (id, 1));
    assert_eq!(read(&mut lease).await.event.received_at_ms, 2);
    // The hash always has an empty field.
    assert_eq!(number(&server, &["HLEN", "{test:0}:kept"]).await, 2);
    commit(&lease, id).await;
    commit(&lease, id).await;
    assert_eq!(number(&server, &["HLEN", "{test:0}:kept"]).await, 1);
    assert_eq!(redis.backlog_of_all().await, 1);
}

#[tokio::test]
async fn event_of_another_version_stays_and_delays_nothing() {
    let (lines, _guard) = Lines::heard();
    let (redis, server) = Redis::for_test(1).await;
    let io = redis.join_io(IoNode::without_address("io")).await.unwrap();
    let mut leases = redis.join_app("app".into()).await.unwrap();
    let partition = partition_of(&"alice".into(), PARTITIONS);
    let mut lease = lease_of(partition, &mut *leases).await;
    let log = format!("{{test:0}}:log:{partition}");
    let mut append = redis::pipe();
    append.atomic();
    for id in ["1-0", "2-0"] {
        let written = batch::write_as(9, std::iter::once((partition, &Bytes::from("strange"))));
        append.cmd("XADD").arg(&log).arg(id).arg("b").arg(&written[..]);
    }
    let counts = append.cmd("HSET").arg("{test:0}:in");
    counts.arg("tail").arg(2).arg(partition.to_string()).arg(2);
    redis.link.ask_all(&append).await;

    for number in 0..3 * BACKLOG as u64 {
        take_in(&*io.inbox, "alice", number).await;
        let delivery = read(&mut lease).await;
        assert_eq!(delivery.event.received_at_ms, number);
        commit(&lease, delivery.id).await;
    }
    let becomes_short = async {
        while number(&server, &["XLEN", &log]).await > BACKLOG as u64 + 1 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, becomes_short).await.expect("the log becomes short");
    drop(lease);
    let mut lease = lease_of(partition, &mut *leases).await;
    take_in(&*io.inbox, "alice", 7).await;
    let delivery = read(&mut lease).await;
    assert_eq!(delivery.event.received_at_ms, 7);
    commit(&lease, delivery.id).await;

    assert_eq!(
        redis.backlog_of_all().await,
        2,
        "they stay open until a node can read them"
    );
    for number in [1, 2] {
        let kept = server
            .ask(&["HGET", "{test:0}:kept", &format!("{partition}:{number}")])
            .await
            .unwrap();
        let kept = batch::read(&redis::from_redis_value(kept).unwrap()).unwrap();
        assert_eq!((kept.version, &kept.events[0].1[..]), (9, &b"strange"[..]));
    }
    assert_eq!(number(&server, &["XLEN", "{test:0}:dead"]).await, 0);
    assert_eq!(lines.with("WARN", "a version that this node does not know"), 1);
}

/// An app-node that dies with events in flight.
struct Process(tokio::runtime::Runtime);

impl Process {
    fn start() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        Self(builder.worker_threads(1).enable_all().build().unwrap())
    }

    /// Leases a partition in this process.
    async fn lease(&self, url: String, partition: Partition) -> Lease {
        let task = self.0.spawn(async move {
            let redis = Redis::for_test_at(url, 1).await;
            let mut leases = redis.join_app("app".into()).await.unwrap();
            let lease = lease_of(partition, &mut *leases).await;
            // Leaked, so that no lease is given back.
            std::mem::forget((redis, leases));
            lease
        });
        task.await.unwrap()
    }

    fn die(self, lease: Lease) {
        std::mem::forget(lease);
        self.0.shutdown_background();
    }
}

#[tokio::test]
async fn attempts_survive_the_death_of_the_process() {
    let (redis, server) = Redis::for_test(1).await;
    let io = redis.join_io(IoNode::without_address("io")).await.unwrap();
    let partition = partition_of(&"alice".into(), PARTITIONS);
    take_in(&*io.inbox, "alice", 0).await;
    take_in(&*io.inbox, "alice", 1).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let process = Process::start();
        let mut lease = process.lease(server.url(), partition).await;
        let mut deliveries = Vec::new();
        while deliveries.len() < 2 {
            deliveries.extend(timeout(SOON, lease.log.next()).await.unwrap().unwrap().unwrap());
        }
        seen.extend(
            deliveries
                .iter()
                .map(|delivery| (delivery.event.received_at_ms, delivery.attempts)),
        );
        process.die(lease);
    }
    assert_eq!(seen, [(0, 0), (1, 0), (0, 0), (1, 0)]);
    // Both have started twice: from now on one at a time.
    let process = Process::start();
    let mut lease = process.lease(server.url(), partition).await;
    let delivery = read(&mut lease).await;
    assert_eq!((delivery.event.received_at_ms, delivery.attempts), (0, 1));
    assert!(
        timeout(Duration::from_millis(50), lease.log.next()).await.is_err(),
        "the other waits for its end"
    );
    process.die(lease);

    let process = Process::start();
    let mut lease = process.lease(server.url(), partition).await;
    for attempts in [(0, 2), (1, 1)] {
        let delivery = read(&mut lease).await;
        assert_eq!((delivery.event.received_at_ms, delivery.attempts), attempts);
        commit(&lease, delivery.id).await;
    }
    take_in(&*io.inbox, "alice", 2).await;
    let delivery = read(&mut lease).await;
    assert_eq!((delivery.event.received_at_ms, delivery.attempts), (2, 0));
    // Their marks are gone. An empty field and the limit of the suspects are left.
    assert_eq!(number(&server, &["HLEN", "{test:0}:begun"]).await, 2);
    process.die(lease);
}

#[tokio::test]
async fn lost_lease_of_a_living_process_is_no_attempt() {
    let (redis, server) = Redis::for_test(1).await;
    let io = redis.join_io(IoNode::without_address("io")).await.unwrap();
    let partition = partition_of(&"alice".into(), PARTITIONS);
    take_in(&*io.inbox, "alice", 0).await;
    let mut living = Vec::new();
    for _ in 0..5 {
        let process = Process::start();
        let mut lease = process.lease(server.url(), partition).await;
        let delivery = read(&mut lease).await;
        assert_eq!((delivery.event.received_at_ms, delivery.attempts), (0, 0));
        // As if its lease had expired, and another node had used its name and left.
        server.ask(&["HSET", "{test:0}:app", "app", "another"]).await.unwrap();
        let fenced = timeout(SOON, lease.log.next()).await.expect("it finds out");
        assert!(matches!(fenced, Err(TransportError::Fenced)), "{fenced:?}");
        server.ask(&["HDEL", "{test:0}:app", "app"]).await.unwrap();
        server.ask(&["ZREM", "{test:0}:app:until", "app"]).await.unwrap();
        drop(lease);
        // An empty field and the limit of the suspects are left.
        let is_unmarked = async { while number(&server, &["HLEN", "{test:0}:begun"]).await > 2 {} };
        timeout(SOON, is_unmarked).await.expect("it is no suspect");
        living.push(process);
    }
    living.into_iter().for_each(|process| process.0.shutdown_background());
}

/// Lease of this partition. The others are leaked, so that they do not return.
async fn lease_of(partition: Partition, leases: &mut dyn Leases) -> Lease {
    loop {
        let lease = timeout(SOON, leases.next()).await.expect("it is dealt out").unwrap();
        if lease.partition == partition {
            return lease;
        }
        std::mem::forget(lease);
    }
}

impl Redis {
    async fn backlog_of_all(&self) -> u64 {
        plugnode_transport::Nodes::backlog(self).await.unwrap()
    }
}

async fn take_in(inbox: &dyn Inbox, client: &str, number: u64) {
    let client = Client {
        id: client.into(),
        io_node: "io".into(),
        attributes: "{}".into(),
        patched: 0,
    };
    let event = Event {
        namespace: "/".into(),
        client: Some(client),
        received_at_ms: number,
        kind: EventKind::Custom {
            kind: "test/1".into(),
            data: Bytes::new(),
            content_type: None,
        },
    };
    loop {
        // A commit makes room once the io-node has received its report.
        if inbox.ingest(vec![event.clone()]).await.unwrap().is_empty() {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// The first of the next events.
async fn read(lease: &mut Lease) -> Delivery {
    let next = timeout(SOON, lease.log.next()).await.expect("it comes soon");
    next.unwrap().expect("the lease holds").remove(0)
}

async fn commit(lease: &Lease, id: EventId) {
    let verdict = Verdict::Done(Effects::default());
    lease.commits.commit(vec![Outcome::new(id, verdict)]).await.unwrap();
}

async fn number(server: &TestServer, words: &[&str]) -> u64 {
    match server.ask(words).await.unwrap() {
        Value::Int(number) => number as u64,
        other => panic!("{words:?}: {other:?}"),
    }
}
