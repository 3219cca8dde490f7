//! The log reader with changing leases, with lost hints, and on a server that loses data.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::client::testing::TestServer;
use plugnode_message::{Event, EventKind};

const SOON: Duration = Duration::from_secs(10);
const PARTITION: Partition = Partition(0);

/// A shard whose partition 0 the member `test` owns.
struct Bench {
    redis: Redis,
    server: TestServer,
    shard: Shard,
}

impl Bench {
    async fn start() -> Self {
        let (redis, server) = Redis::for_test(1).await;
        let shard = redis.layout.shard(0);
        let bench = Self { redis, server, shard };
        bench.ask(&["XADD", "{test:0}:wake:test", "*", "", ""]).await;
        bench.ask(&["HSET", "{test:0}:owner", "0", "1:test"]).await;
        bench
    }

    fn reader(&self) -> LogReader {
        LogReader::start(&self.redis, self.shard.clone(), "test", CancellationToken::new())
    }

    /// Appends an event of this size, as a dead letter that is retried.
    async fn append(&self, at: u64, bytes: usize) {
        let letter = self.server.ask(&["XADD", "{test:0}:dead", "*", "d", ""]).await.unwrap();
        let letter: String = redis::from_redis_value(letter).unwrap();
        let event = Event {
            namespace: "/".into(),
            client: None,
            received_at_ms: at,
            kind: EventKind::Custom {
                kind: "test/1".into(),
                data: vec![b'x'; bytes].into(),
                content_type: None,
            },
        };
        let names = ["dead", "in", "owner", "who", "clock", "log:0"];
        let keys = names.map(|name| self.shard.key(name));
        let arguments = [
            bytes_of(&letter),
            bytes_of(PARTITION),
            Bytes::new(),
            batch::write(std::iter::once((PARTITION, &encode(&event)))),
            bytes_of(&letter),
            self.shard.log_of(""),
            self.shard.wake(""),
        ];
        let answer: String = self.redis.link.run(&scripts::RETRY_LETTER, &keys, &arguments).await;
        assert_eq!(answer, "queued");
    }

    async fn ask(&self, words: &[&str]) {
        self.server.ask(words).await.unwrap();
    }

    async fn calls_of(&self, command: &str) -> u64 {
        let stats = self.server.ask(&["INFO", "commandstats"]).await.unwrap();
        let stats: String = redis::from_redis_value(stats).unwrap();
        let line = format!("cmdstat_{command}:calls=");
        let calls = stats
            .lines()
            .find_map(|stat| stat.strip_prefix(&line)?.split(',').next());
        calls.map_or(0, |calls| calls.parse().unwrap())
    }
}

/// Takes this many events, and returns their numbers.
async fn numbers(feed: &mut PartitionFeed, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let next = timeout(SOON, feed.next());
        let found = next.await.expect("more is open than came").unwrap();
        numbers.extend(found.events.iter().map(|event| event.number));
    }
    numbers
}

#[tokio::test]
async fn new_lease_receives_all_events_again() {
    let bench = Bench::start().await;
    let reader = bench.reader();
    let mut feed = reader.add(PARTITION, 0);
    bench.append(1, 1).await;
    assert_eq!(numbers(&mut feed, 1).await, [1]);
    reader.remove(PARTITION);
    assert!(feed.next().await.is_none());
    bench.append(2, 1).await;
    let mut feed = reader.add(PARTITION, 0);
    bench.append(3, 1).await;
    assert_eq!(numbers(&mut feed, 3).await, [1, 2, 3]);
}

/// Many more events than are read ahead, taken while they are read.
#[tokio::test(flavor = "multi_thread")]
async fn catch_up_leaves_no_event_out() {
    const EVENTS: u64 = 30_000;
    let bench = Bench::start().await;
    let event = encode(&Event {
        namespace: "/".into(),
        client: None,
        received_at_ms: 1,
        kind: EventKind::Custom {
            kind: "test/1".into(),
            data: Bytes::new(),
            content_type: None,
        },
    });
    let batch = batch::write(std::iter::once((PARTITION, &event)));
    let fill = "for id = 1, ARGV[1] do redis.call('XADD', KEYS[1], id .. '-0', 'b', ARGV[2]) end redis.call('HSET', KEYS[2], '0', ARGV[1])";
    let mut ask = redis::cmd("EVAL");
    ask.arg(fill)
        .arg(2)
        .arg(&bench.shard.log(PARTITION)[..])
        .arg(&bench.shard.key("in")[..]);
    ask.arg(EVENTS).arg(&batch[..]);
    bench.redis.link.ask::<()>(&ask).await;
    let reader = bench.reader();
    for _ in 0..5 {
        let mut feed = reader.add(PARTITION, 0);
        let found = numbers(&mut feed, EVENTS as usize).await;
        assert!(found.into_iter().eq(1..=EVENTS));
        reader.remove(PARTITION);
    }
}

#[tokio::test]
async fn small_events_come_with_hints_and_large_ones_from_the_log() {
    let bench = Bench::start().await;
    let reader = bench.reader();
    let mut feed = reader.add(PARTITION, 0);
    bench.append(1, 1).await;
    assert_eq!(numbers(&mut feed, 1).await, [1]);
    let read = async || bench.calls_of("xrange").await;
    let before = read().await;
    for number in 2..=9 {
        bench.append(number, 100).await;
        assert_eq!(numbers(&mut feed, 1).await, [number]);
    }
    // Each result reads its dead letter.
    assert_eq!(read().await - before, 8, "the log is not read");
    for number in 10..=12 {
        bench.append(number, 100_000).await;
        assert_eq!(numbers(&mut feed, 1).await, [number]);
    }
    for number in 13..=40 {
        bench.append(number, 1).await;
        assert_eq!(numbers(&mut feed, 1).await, [number]);
    }
    let hints_are_deleted = async {
        let mut length = redis::cmd("XLEN");
        length.arg(&reader.wake[..]);
        while bench.redis.link.ask::<u64>(&length).await > KEPT_HINTS as u64 {}
    };
    timeout(SOON, hints_are_deleted)
        .await
        .expect("what was read is deleted");
}

#[tokio::test]
async fn lost_hint_is_found_by_the_next_or_by_comparison() {
    let bench = Bench::start().await;
    let reader = bench.reader();
    let mut feed = reader.add(PARTITION, 0);
    bench.append(1, 1).await;
    assert_eq!(numbers(&mut feed, 1).await, [1]);
    let lose = async |at: u64| {
        bench.ask(&["HSET", "{test:0}:owner", "0", "1:another"]).await;
        bench.append(at, 1).await;
        bench.ask(&["HSET", "{test:0}:owner", "0", "1:test"]).await;
    };
    lose(2).await;
    bench.append(3, 1).await;
    assert_eq!(numbers(&mut feed, 2).await, [2, 3]);
    lose(4).await;
    reader.find_missed(4).await;
    assert!(timeout(Duration::from_millis(50), feed.next()).await.is_err());
    reader.find_missed(4).await;
    assert_eq!(numbers(&mut feed, 1).await, [4]);
}

/// Redis' clock was set back, and the stream of hints has begun again.
#[tokio::test]
async fn hints_with_lower_ids_are_read_after_one_was_missed() {
    let bench = Bench::start().await;
    let reader = bench.reader();
    let mut feed = reader.add(PARTITION, 0);
    bench
        .ask(&["XADD", "{test:0}:wake:test", "9999999999999-0", "", ""])
        .await;
    bench.append(1, 1).await;
    assert_eq!(numbers(&mut feed, 1).await, [1]);
    bench.ask(&["DEL", "{test:0}:wake:test"]).await;
    bench.ask(&["XADD", "{test:0}:wake:test", "*", "", ""]).await;
    bench.append(2, 1).await;
    assert!(
        timeout(Duration::from_millis(50), feed.next()).await.is_err(),
        "it is missed"
    );
    reader.find_missed(2).await;
    reader.find_missed(2).await;
    assert_eq!(numbers(&mut feed, 1).await, [2]);
    // The read that waits ends within a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    bench.append(3, 1).await;
    assert_eq!(numbers(&mut feed, 1).await, [3]);
}

#[tokio::test]
async fn hints_that_nobody_reads_are_bounded() {
    let bench = Bench::start().await;
    for number in 1..=200 {
        bench.append(number, 10).await;
    }
    let waiting: u64 = bench.redis.link.ask(redis::cmd("XLEN").arg("{test:0}:wake:test")).await;
    assert_eq!(waiting, 64);
    let reader = bench.reader();
    let mut feed = reader.add(PARTITION, 150);
    assert_eq!(numbers(&mut feed, 50).await, (151..=200).collect::<Vec<_>>());
    bench.append(201, 10).await;
    assert_eq!(numbers(&mut feed, 1).await, [201]);
}

#[tokio::test]
async fn foreign_entry_becomes_a_dead_letter() {
    let bench = Bench::start().await;
    let reader = bench.reader();
    bench.append(1, 1).await;
    for id in ["1-7", "5000-0"] {
        bench.ask(&["XADD", "{test:0}:log:0", id, "a", "b"]).await;
    }
    bench.append(2, 1).await;
    let mut feed = reader.add(PARTITION, 0);
    assert_eq!(numbers(&mut feed, 2).await, [1, 2]);
    let dead = async {
        while bench
            .redis
            .link
            .ask::<u64>(redis::cmd("XLEN").arg("{test:0}:dead"))
            .await
            < 2
        {}
    };
    timeout(SOON, dead).await.expect("both are put aside");
    let log: u64 = bench.redis.link.ask(redis::cmd("XLEN").arg("{test:0}:log:0")).await;
    assert_eq!(log, 2);
}

#[tokio::test]
async fn detects_lost_entries_behind_a_new_connection() {
    let bench = Bench::start().await;
    let reader = bench.reader();
    let mut feed = reader.add(PARTITION, 0);
    bench.append(1, 1).await;
    bench.append(2, 2).await;
    assert_eq!(numbers(&mut feed, 2).await, [1, 2]);
    let last = reader.subscriptions()[&PARTITION].last.expect("it was read");
    let read = [(PARTITION, last)];
    let lost = async || reader.first_lost(&read).await.is_some();
    assert!(!lost().await, "nothing has changed");
    bench.append(3, 3).await;
    assert!(!lost().await, "an entry was added");

    bench.ask(&["DEL", "{test:0}:log:0"]).await;
    bench.ask(&["HSET", "{test:0}:in", "0", "0"]).await;
    assert!(lost().await, "the log is gone");
    for number in 1..=3 {
        bench.append(number, 7).await;
    }
    assert!(lost().await, "another event has its number");

    bench.ask(&["XTRIM", "{test:0}:log:0", "MINID", "3-0"]).await;
    bench.ask(&["HSET", "{test:0}:done", "0", "2 2 20"]).await;
    assert!(!lost().await, "it was trimmed");
    bench.ask(&["HSET", "{test:0}:in", "0", "1"]).await;
    assert!(lost().await, "its number was not given out yet");
}

#[tokio::test]
async fn owner_of_timers_is_woken_for_one_that_is_due_first() {
    let bench = Bench::start().await;
    bench.ask(&["SET", "{test:0}:timers:keeper", "test"]).await;
    let bucket = bench.shard.bucket("plugnode:timers:/");
    let keys = [bench.shard.key("from"), bench.shard.key("sizes"), bucket];
    // The second one is due before the others and soon.
    for (number, due) in [999_999_999_999_999_u64, 5, 6].into_iter().enumerate() {
        let timer = format!("{due:015} record");
        let arguments = ["1", &number.to_string(), "1", "3", "s", &due.to_string(), &timer].map(bytes_of);
        let link = &bench.redis.link;
        link.run::<()>(&scripts::APPLY_FORWARDED, &keys, &arguments).await;
    }
    let hints = bench.server.ask(&["XLEN", "{test:0}:wake:test"]).await.unwrap();
    assert_eq!(hints, redis::Value::Int(2), "one, besides the first entry");
    let reader = bench.reader();
    timeout(SOON, reader.timer_set.notified())
        .await
        .expect("the owner is woken");
}
