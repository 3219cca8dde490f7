//! The log reader with changing leases, and on a server that loses data.

use super::*;
use plugnode_message::{Event, EventKind};

#[tokio::test]
async fn new_lease_receives_all_events_again() {
    let (redis, server) = Redis::for_test(1).await;
    let (shard, partition) = (redis.layout.shard(0), Partition(0));
    let write = async |number: u64| {
        let event = Event {
            namespace: "/".into(),
            client: None,
            received_at_ms: number,
            kind: EventKind::Custom {
                kind: "test/1".into(),
                data: Bytes::new(),
                content_type: None,
            },
        };
        let mut add = redis::cmd("XADD");
        let batch = batch::write(std::iter::once((partition, &encode(&event))));
        add.arg(&shard.key("log")[..])
            .arg(format!("{number}-0"))
            .arg("b")
            .arg(&batch[..]);
        redis.link.ask::<()>(&add).await;
    };
    let reader = LogReader::start(&redis, shard.clone(), "test", CancellationToken::new());
    let mut feed = reader.add(partition, 0).await;
    write(1).await;
    assert_eq!(numbers(&mut feed, 1).await, [1]);
    // The blocked read continues while the partition is removed and added again.
    loop {
        let clients = server.ask(&["INFO", "clients"]).await.unwrap();
        if format!("{clients:?}").contains("blocked_clients:1") {
            break;
        }
    }
    reader.remove(partition);
    let mut feed = reader.subscribe(partition, 0);
    write(2).await;
    assert_eq!(numbers(&mut feed, 2).await, [1, 2]);
}

#[tokio::test]
async fn detects_lost_entries_behind_a_new_connection() {
    let (redis, server) = Redis::for_test(1).await;
    let (shard, partition) = (redis.layout.shard(0), Partition(0));
    let log = shard.key("log");
    let write = async |number: u64, at: u64| {
        let event = Event {
            namespace: "/".into(),
            client: None,
            received_at_ms: at,
            kind: EventKind::Disconnect(plugnode_message::DisconnectReason::Client.into()),
        };
        let batch = batch::write(std::iter::once((partition, &encode(&event))));
        let mut add = redis::cmd("XADD");
        add.arg(&log[..]).arg(format!("{number}-0")).arg("b").arg(&batch[..]);
        redis.link.ask::<()>(&add).await;
    };
    let reader = LogReader::start(&redis, shard.clone(), "test", CancellationToken::new());
    let second = EntryId { major: 2, minor: 0 };
    let last = Some(second);
    write(1, 1).await;
    write(2, 2).await;
    let there = first_from(&redis.link, &log, second).await.as_ref().map(fingerprint);
    assert!(!reader.has_lost(&log, last, there).await, "nothing has changed");
    write(3, 3).await;
    assert!(!reader.has_lost(&log, last, there).await, "entries were added");

    server.ask(&["DEL", "{test:0}:log"]).await.unwrap();
    assert!(reader.has_lost(&log, last, there).await, "the log is gone");
    write(1, 1).await;
    write(2, 7).await;
    write(3, 8).await;
    assert!(reader.has_lost(&log, last, there).await, "another event has its number");
    server.ask(&["DEL", "{test:0}:log"]).await.unwrap();
    write(3, 9).await;
    assert!(
        reader.has_lost(&log, last, there).await,
        "its number is within another entry"
    );

    server.ask(&["HSET", "{test:0}:in", "floor", "2"]).await.unwrap();
    assert!(!reader.has_lost(&log, last, there).await, "it was trimmed");
}

async fn numbers(feed: &mut PartitionFeed, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let next = tokio::time::timeout(std::time::Duration::from_secs(10), feed.next());
        let found = next.await.expect("more is open than came").unwrap();
        numbers.extend(found.events.iter().map(|event| event.number));
    }
    numbers
}
