//! Repeated, late and reordered copies of script calls; and conflicts of node names.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::FromRedisValue;
use tokio::time::{sleep, timeout};

use crate::arguments::bytes_of;
use crate::client::testing::TestServer;
use crate::io_node::membership::join_keys;
use crate::key_value::lock_items::LockItems;
use crate::key_value::transaction::Transaction;
use crate::keys::Shard;
use crate::membership::lost_io_nodes::disconnect_clients;
use crate::membership::member::{Member, Role};
use crate::redis::Redis;
use crate::wire::encode;
use crate::{batch, scripts};
use plugnode_message::{DisconnectReason, Event, EventId, EventKind, Partition, Timer};
use plugnode_transport::{Events, IoNode, TransportError};

const SOON: Duration = Duration::from_secs(20);
/// The lease of tests, in milliseconds.
const LEASE: &str = "1000";

struct Bench {
    redis: Redis,
    server: TestServer,
    shard: Shard,
}

impl Bench {
    async fn start() -> Self {
        let (redis, server) = Redis::for_test(1).await;
        let shard = redis.layout.shard(0);
        Self { redis, server, shard }
    }

    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        redis::from_redis_value(self.server.ask(words).await.unwrap()).unwrap()
    }

    /// Ingests one event of partition 0; with a client, the event begins or ends its session.
    async fn ingest(&self, member: &str, number: u64, backlog: usize, client: Option<[&str; 2]>) -> Vec<String> {
        let (incarnation, name) = member.split_once('@').unwrap();
        let keys = [
            self.shard.key("io"),
            self.shard.live(member),
            self.shard.key("who"),
            self.shard.key("in"),
            self.shard.key("done"),
            self.shard.key("owner"),
            self.shard.log(Partition(0)),
        ];
        let event = encode(&event());
        let written = batch::write(std::iter::once((Partition(0), &event)));
        let mut arguments = vec![
            bytes_of(name),
            bytes_of(incarnation),
            bytes_of(number),
            bytes_of(backlog),
            "1000000".into(),
            self.shard.wake(""),
            "1".into(),
            "0".into(),
            "1".into(),
            bytes_of(event.len()),
            written.clone(),
        ];
        if let Some([how, client]) = client {
            arguments.extend([bytes_of(how), bytes_of(client), written]);
        }
        self.redis.link.run(&scripts::INGEST, &keys, &arguments).await
    }

    async fn join(&self, member: &str, epoch: &str, replaces: &str) -> String {
        let (incarnation, name) = member.split_once('@').unwrap();
        let keys = join_keys(&self.shard, member);
        let arguments = [name, incarnation, LEASE, epoch, replaces, "here"].map(bytes_of);
        let answer: Vec<String> = self.redis.link.run(&scripts::JOIN_IO, &keys, &arguments).await;
        answer[0].clone()
    }

    async fn leave(&self, member: &str) {
        let (incarnation, name) = member.split_once('@').unwrap();
        let keys = ["io", "io:until", "lost", "clock"].map(|name| self.shard.key(name));
        let arguments = [bytes_of(name), bytes_of(incarnation)];
        self.redis.link.run::<()>(&scripts::LEAVE_IO, &keys, &arguments).await;
    }

    async fn present(&self) -> Vec<String> {
        self.ask(&["HGETALL", "{test:0}:io"]).await
    }

    async fn epoch(&self) -> String {
        let epoch: u64 = self.ask(&["HINCRBY", "{test:0}:clock", "epoch", "1"]).await;
        epoch.to_string()
    }

    async fn log(&self) -> usize {
        self.ask(&["XLEN", "{test:0}:log:0"]).await
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

#[tokio::test]
async fn repeated_ingest_call_gets_the_same_answer() {
    let bench = Bench::start().await;
    assert_eq!(bench.join("a@io", &bench.epoch().await, " ").await, "joined");
    let member = "a@io";
    let taken = bench.ingest(member, 1, 1, Some(["c", "x"])).await;
    assert_eq!(taken[..3], ["taken", "0", "1"]);
    assert_eq!(bench.ingest(member, 1, 1, Some(["c", "x"])).await, taken);
    let full = bench.ingest(member, 2, 1, None).await;
    assert_eq!(full[..3], ["full", "0", "0"]);
    assert_eq!(bench.ingest(member, 2, 1, None).await, full);
    assert_eq!(
        bench.ingest(member, 3, 9, Some(["d", "y\0\n1"])).await,
        ["over", "y\0\n1"]
    );
    // Refused calls stay refused after their reasons are gone.
    bench.ask::<()>(&["HSET", "{test:0}:live:a@io", "y\0\n1", "will"]).await;
    bench.ask::<()>(&["HSET", "{test:0}:done", "0", "1 1 1"]).await;
    assert_eq!(
        bench.ingest(member, 3, 9, Some(["d", "y\0\n1"])).await,
        ["over", "y\0\n1"]
    );
    assert_eq!(bench.ingest(member, 2, 1, None).await, ["late"]);
    assert_eq!(bench.log().await, 1);
    assert_eq!(bench.ingest(member, 4, 1, None).await[0], "taken");
    assert_eq!(bench.ingest(member, 3, 9, Some(["d", "y\0\n1"])).await, ["late"]);
    // An answered call is missing: Redis has lost data.
    assert_eq!(bench.ingest(member, 6, 1, None).await, ["behind"]);
    assert_eq!(bench.log().await, 2);

    bench
        .ask::<()>(&["XADD", "{test:0}:log:0", "18446744073709551615-1", "a", "b"])
        .await;
    assert_eq!(bench.ingest(member, 5, 9, None).await, ["taken"]);
    assert_eq!(bench.log().await, 4, "with the foreign entry");
}

#[tokio::test]
async fn late_join_restores_and_fences_nothing() {
    let bench = Bench::start().await;
    let (first, second) = (bench.epoch().await, bench.epoch().await);
    assert_eq!(bench.join("a@io", &first, " ").await, "joined");
    assert_eq!(
        bench.join("a@io", &first, " ").await,
        "joined",
        "the answer may have been lost"
    );
    assert_eq!(bench.ingest("a@io", 1, 9, Some(["c", "x"])).await, ["taken"]);
    bench.leave("a@io").await;
    disconnect_clients(&bench.redis, &bench.shard, &["a@io".into()]).await;
    assert_eq!(bench.join("a@io", &first, " ").await, "late");
    assert_eq!(bench.ingest("a@io", 2, 9, None).await, ["fenced"]);
    assert_eq!((bench.log().await, bench.present().await), (2, Vec::new()));

    assert_eq!(bench.join("b@io", &second, " a ").await, "joined");
    let third = bench.epoch().await;
    assert_eq!(bench.join("c@io", &third, " ").await, "held");
    assert_eq!(bench.join("c@io", &third, " b ").await, "joined");
    for (member, epoch) in [("a@io", &first), ("b@io", &second)] {
        assert_eq!(bench.join(member, epoch, " a b c ").await, "late");
        bench.leave(member).await;
    }
    assert_eq!(bench.present().await, ["io", "c"]);
    // A copy so late that its epoch is forgotten.
    bench.leave("c@io").await;
    bench.ask::<()>(&["HINCRBY", "{test:0}:clock", "epoch", "5000"]).await;
    let now = bench.epoch().await;
    assert_eq!(bench.join("d@other", &now, " ").await, "joined");
    assert_eq!(bench.ask::<usize>(&["ZCARD", "{test:0}:epochs"]).await, 1);
    assert_eq!(bench.join("c@io", &third, " ").await, "late");
}

#[tokio::test]
async fn refuses_second_node_with_the_same_name() {
    let bench = Bench::start().await;
    let other = Redis::for_test_on(&bench.server, 1).await;
    let mut io = bench.redis.join_io(IoNode::without_address("one")).await.unwrap();
    let mut leases = bench.redis.join_app("two".into()).await.unwrap();
    let refused = timeout(SOON, other.join_io(IoNode::without_address("one")))
        .await
        .unwrap()
        .err()
        .unwrap();
    let words = refused.to_string();
    assert!(
        words.contains("\"one\" is taken: another io-node") && words.contains("[io-node] name"),
        "{words}"
    );
    let refused = timeout(SOON, other.join_app("two".into()))
        .await
        .unwrap()
        .err()
        .unwrap();
    let words = refused.to_string();
    assert!(
        words.contains("\"two\" is taken: another app-node") && words.contains("[app-node] name"),
        "{words}"
    );
    assert!(
        timeout(Duration::ZERO, io.outbox.next()).await.is_err(),
        "it stays a member"
    );
    let lease = timeout(SOON, leases.next()).await.unwrap();
    assert!(lease.is_ok(), "it stays a member");

    // A process may replace its own member at any time.
    let again = timeout(SOON, bench.redis.join_io(IoNode::without_address("one")))
        .await
        .unwrap()
        .unwrap();
    let told = timeout(SOON, io.outbox.next()).await.unwrap();
    assert!(matches!(told, Err(TransportError::Fenced)), "{told:?}");
    timeout(SOON, bench.redis.join_app("two".into()))
        .await
        .unwrap()
        .unwrap();
    drop(again);
}

#[tokio::test]
async fn killed_node_gets_its_name_back_after_the_lease() {
    let bench = Bench::start().await;
    assert_eq!(bench.join("dead@one", &bench.epoch().await, " ").await, "joined");
    let member = Member::new(&bench.redis, "app-node", "two".into());
    member
        .heartbeat(&bench.redis, &bench.shard, Role::Joining, &mut Arc::default())
        .await;
    let other = Redis::for_test_on(&bench.server, 1).await;
    let _io = timeout(SOON, other.join_io(IoNode::without_address("one")))
        .await
        .unwrap()
        .unwrap();
    let mut leases = timeout(SOON, other.join_app("two".into())).await.unwrap().unwrap();
    assert!(timeout(SOON, leases.next()).await.unwrap().is_ok());
    assert_eq!(bench.ask::<Vec<String>>(&["HKEYS", "{test:0}:info"]).await, ["one"]);
}

#[tokio::test]
async fn leases_expire_correctly_after_the_clock_is_set_back() {
    let bench = Bench::start().await;
    let mut io = bench.redis.join_io(IoNode::without_address("living")).await.unwrap();
    let mut time = 0;
    while time == 0 {
        time = bench
            .ask::<Option<u64>>(&["HGET", "{test:0}:clock", "last"])
            .await
            .unwrap_or(0);
    }
    // As if Redis' clock had been an hour ahead until now.
    let ahead = (time + 3_600_000).to_string();
    let mut set = redis::pipe();
    set.atomic();
    set.cmd("HSET").arg("{test:0}:clock").arg("last").arg(&ahead);
    set.cmd("ZADD").arg("{test:0}:io:until").arg(&ahead).arg("living");
    set.cmd("ZADD").arg("{test:0}:io:until").arg(&ahead).arg("dead");
    set.cmd("HSET").arg("{test:0}:io").arg("dead").arg("x");
    bench.redis.link.ask_all(&set).await;
    let is_found = async {
        while bench.present().await.contains(&"dead".to_owned()) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, is_found).await.expect("the dead are found");
    assert!(timeout(Duration::ZERO, io.outbox.next()).await.is_err());
    assert!(bench.present().await.contains(&"living".to_owned()));
}

#[tokio::test]
async fn foreign_id_in_the_log_stops_no_event() {
    let bench = Bench::start().await;
    assert_eq!(bench.join("a@gone", &bench.epoch().await, " ").await, "joined");
    assert_eq!(bench.ingest("a@gone", 1, 9, Some(["c", "x"])).await, ["taken"]);
    bench.leave("a@gone").await;
    bench.ask::<()>(&["XADD", "{test:0}:log:0", "7000-3", "a", "b"]).await;
    bench
        .ask::<()>(&["XADD", "{test:0}:log:0", "18446744073709551615-1", "a", "b"])
        .await;
    timeout(SOON, disconnect_clients(&bench.redis, &bench.shard, &["a@gone".into()]))
        .await
        .unwrap();
    assert_eq!(bench.ask::<usize>(&["SCARD", "{test:0}:lost"]).await, 0);
    for field in ["tail", "0"] {
        assert_eq!(bench.ask::<String>(&["HGET", "{test:0}:in", field]).await, "2");
    }
    type Entries = Vec<(String, Vec<String>)>;
    let entries: Entries = bench.ask(&["XRANGE", "{test:0}:log:0", "-", "+"]).await;
    let ids: Vec<&str> = entries.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["1-0", "1-1", "1-2", "2-0"]);
}

#[tokio::test]
async fn repeated_retry_takes_effect_once_and_is_answered_alike() {
    let bench = Bench::start().await;
    assert_eq!(bench.join("a@io", &bench.epoch().await, " ").await, "joined");
    let id: String = bench.ask(&["XADD", "{test:0}:dead", "*", "d", "letter"]).await;
    let event = encode(&event());
    let retry = async |call: &str| -> String {
        let names = ["dead", "in", "owner", "who", "clock", "log:0"];
        let keys = names.map(|name| bench.shard.key(name));
        let written = batch::write(std::iter::once((Partition(0), &event)));
        let prefixes = [bench.shard.log_of(""), bench.shard.wake("")];
        let arguments = [bytes_of(&id), "0".into(), Bytes::new(), written, bytes_of(call)];
        let arguments = [&arguments[..], &prefixes].concat();
        bench.redis.link.run(&scripts::RETRY_LETTER, &keys, &arguments).await
    };
    let mut answers = Vec::new();
    for call in ["one", "one", "two"] {
        answers.push(retry(call).await);
    }
    assert_eq!(answers, ["queued", "queued", "unknown"]);
    assert_eq!(bench.log().await, 1);
}

#[tokio::test]
async fn repeated_firing_of_timers_takes_effect_once() {
    let bench = Bench::start().await;
    assert_eq!(bench.join("a@io", &bench.epoch().await, " ").await, "joined");
    assert_eq!(bench.ingest("a@io", 1, 9, Some(["c", "x"])).await, ["taken"]);
    let bucket = "{test:0}:kv:plugnode:timers:/";
    for name in ["periodic", "once"] {
        let (member, of_client) = (format!("{bucket}\0{name}"), format!("{name}\0{bucket}"));
        bench.ask::<()>(&["HSET", bucket, name, "000000000000001 record"]).await;
        bench.ask::<()>(&["ZADD", "{test:0}:timers", "1", &member]).await;
        bench
            .ask::<()>(&["ZADD", "{test:0}:timers:names", "0", &of_client])
            .await;
    }
    let names = ["sizes", "timers", "owner", "in", "done", "who", "io", "out-all-in"];
    let keys = [&names.map(|name| bench.shard.key(name))[..], &[bytes_of(bucket)]].concat();
    let shard = &bench.shard;
    let prefixes = [
        shard.outbox(""),
        shard.outbox_in(""),
        shard.outbox_read(""),
        "9".into(),
        "1000".into(),
        "9".into(),
        shard.log_of(""),
        shard.wake(""),
    ];
    let periodic = ["9", "periodic", "000000000000001 record", "000000000000900 record"];
    let once = ["9", "once", "000000000000001 record", ""];
    let of_client = ["0", "x", "commands"];
    let timers = [&periodic[..], &of_client, &once, &of_client].concat();
    let arguments = [&prefixes[..], &timers.into_iter().map(bytes_of).collect::<Vec<_>>()].concat();
    for _ in 0..2 {
        let next: Option<u64> = bench.redis.link.run(&scripts::FIRE_TIMERS, &keys, &arguments).await;
        assert_eq!(next, Some(900));
        let entries: Vec<(String, Vec<String>)> = bench.ask(&["XRANGE", "{test:0}:out:a@io", "-", "+"]).await;
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].1, ["a", "0", "c0", "commands", "c1", "commands"]);
        assert_eq!(bench.ask::<String>(&["GET", "{test:0}:out-in:a@io"]).await, "16");
        assert_eq!(bench.ask::<Vec<String>>(&["HKEYS", bucket]).await, ["periodic"]);
        assert_eq!(bench.ask::<usize>(&["ZCARD", "{test:0}:timers:names"]).await, 1);
    }
}

#[tokio::test]
async fn late_check_of_exclusive_keys_locks_nothing() {
    let bench = Bench::start().await;
    let timer = Timer {
        namespace: "/".into(),
        client: Some("x".into()),
        key: "tick".into(),
        kind: "test.tick/1".into(),
        data: Bytes::new(),
        period_ms: None,
    };
    let id = EventId {
        partition: Partition(0),
        sequence: 1,
    };
    let set = timer.set(&"/".into(), id.partition, 5);
    let mut transaction = Transaction::new(id, "1".into(), 0, Vec::new(), vec![set]);
    for (is_exclusive, locks) in [(true, 0), (false, 1)] {
        transaction.is_exclusive = is_exclusive;
        let mut items = LockItems::new(&bench.shard);
        items.add(&bench.redis.layout, &transaction);
        let arguments = ["lock", "0", "1:test", "1000", "9", "9"].map(bytes_of);
        let arguments = [&arguments[..], &items.items].concat();
        let answers: Vec<Vec<String>> = bench.redis.link.run(&scripts::LOCK_KEYS, &items.keys, &arguments).await;
        assert_eq!(answers[0][1], "ok");
        assert_eq!(bench.ask::<usize>(&["HLEN", "{test:0}:locks"]).await, locks);
    }
}
