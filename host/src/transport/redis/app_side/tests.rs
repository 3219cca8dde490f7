//! What only this transport has to do: keep its log short.

use std::time::Duration;

use redis::Value;
use tokio::time::{sleep, timeout};

use super::super::connection::testing::TestServer;
use super::*;
use crate::message::{Client, Effects, Event, EventId, EventKind};
use crate::transport::conformance::{BACKLOG, PARTITIONS};
use crate::transport::{Delivery, Inbox, IoNode, Outcome, Transport, Verdict, partition_of};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_is_open_for_long_does_not_hold_the_log() {
    let (redis, server) = Redis::for_test(1).await;
    let node = IoNode {
        id: "io".into(),
        host: String::new(),
        port: 1,
        probes: Vec::new(),
    };
    let io = redis.join_io(node).await.unwrap();
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
        .find(|id| partition_of(&id.as_str().into(), PARTITIONS) != slow);
    let quick = quick.unwrap();

    take_in(&*io.inbox, "slow", 1).await;
    let id = read(held.get_mut(&slow).unwrap()).await.id;
    let partition = partition_of(&quick.as_str().into(), PARTITIONS);
    for number in 0..3 * BACKLOG as u64 {
        take_in(&*io.inbox, &quick, number).await;
        let lease = held.get_mut(&partition).unwrap();
        let delivery = read(lease).await;
        commit(lease, delivery.id).await;
    }
    timeout(SOON, async {
        while number(&server, &["XLEN", "{test:0}:log"]).await > BACKLOG as u64 + 1 {
            // Whoever has a partition waits for more of it.
            let more = held.get_mut(&slow).unwrap().log.next();
            assert!(timeout(Duration::from_millis(10), more).await.is_err(), "there is none");
        }
    })
    .await
    .expect("the log becomes short");
    assert_eq!(redis.backlog_of_all().await, 1);

    // It goes to the next owner all the same, before what came later, and is committed once.
    take_in(&*io.inbox, "slow", 2).await;
    drop(held.remove(&slow));
    let mut lease = timeout(SOON, leases.next()).await.expect("it comes back").unwrap();
    assert_eq!(lease.partition, slow);
    let again = read(&mut lease).await;
    assert_eq!((again.id, again.event.received_at_ms), (id, 1));
    assert_eq!(read(&mut lease).await.event.received_at_ms, 2);
    // An empty field stands there from the beginning.
    assert_eq!(number(&server, &["HLEN", "{test:0}:kept"]).await, 2);
    commit(&lease, id).await;
    commit(&lease, id).await;
    assert_eq!(number(&server, &["HLEN", "{test:0}:kept"]).await, 1);
    assert_eq!(redis.backlog_of_all().await, 1);
}

impl Redis {
    async fn backlog_of_all(&self) -> u64 {
        crate::transport::Registry::backlog(self).await.unwrap()
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
        // What is committed makes room as soon as the io-node has heard of it.
        if inbox.ingest(vec![event.clone()]).await.unwrap().is_empty() {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// The next event, which comes alone or first.
async fn read(lease: &mut Lease) -> Delivery {
    let next = timeout(SOON, lease.log.next()).await.expect("it comes soon");
    next.unwrap().expect("the lease holds").remove(0)
}

async fn commit(lease: &Lease, id: EventId) {
    let verdict = Verdict::Done(Effects::default());
    lease
        .commits
        .commit(vec![Outcome {
            id,
            verdict,
            keep_turn: None,
        }])
        .await
        .unwrap();
}

async fn number(server: &TestServer, words: &[&str]) -> u64 {
    match server.ask(words).await.unwrap() {
        Value::Int(number) => number as u64,
        other => panic!("{words:?}: {other:?}"),
    }
}
