//! Members of several shards, when one shard does not answer or fences them.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::arguments::client_key;
use crate::batch;
use crate::client::testing::TestServer;
use crate::membership::lost_io_nodes::disconnect_clients;
use crate::wire::encode;
use plugnode_message::{Change, Client, Effects, Event, EventKind, KeyChange, KeyValue, Write};
use plugnode_transport::conformance::PARTITIONS;
use plugnode_transport::{
    Events, Inbox, IoNode, IoSession, Lease, Leases, Outcome, TransportError, Verdict, partition_of,
};

const SOON: Duration = Duration::from_secs(20);
const SHARDS: u16 = 3;

#[tokio::test]
async fn waiting_for_one_shard_keeps_leases_in_others() {
    let cluster = Cluster::start().await;
    let (mut io, mut leases) = cluster.join().await;
    let mut held = cluster.all(&mut *leases).await;
    // The previous owner has a pending write for the shard that does not answer.
    let mut keys = (0..).map(|number| format!("key-{number}"));
    let key = keys
        .find(|key| cluster.redis.layout.shard_of_key("test", key) == 1)
        .unwrap();
    let write = Write {
        bucket: "test".into(),
        key: key.as_str().into(),
        value: Some("value".into()),
    };
    let mut pending = redis::cmd("XADD");
    let pending = pending.arg("{test:0}:to:1").arg("*").arg("w").arg(&encode(&write)[..]);
    cluster.redis.link.ask::<()>(pending).await;
    cluster.answer_in(&[0, 2]).await;
    drop(held.remove(&Partition(0)));
    let back = timeout(SOON, leases.next()).await.expect("it comes back").unwrap();
    held.insert(back.partition, back);
    // An event with a write in that shard waits; events of other partitions do not.
    let change = KeyChange {
        bucket: "test".into(),
        key: key.as_str().into(),
        change: Change::Set {
            value: "value".into(),
            ttl_ms: None,
        },
    };
    let waits = timeout(SOON, commit(&change, &*io.inbox, &mut held));
    let waits = waits.await.expect("it is read");
    cluster.watch(&[0, 2]).await;

    handle("in-shard-2", 2, &*io.inbox, &mut held).await;
    let waiting = timeout(Duration::ZERO, io.outbox.next()).await;
    assert!(waiting.is_err(), "it holds its place and has nothing to tell");
    assert!(timeout(Duration::ZERO, leases.next()).await.is_err());
    assert!(!waits.is_finished());
    let store = cluster.redis.clone();
    assert!(
        store.get("test", &[key.as_str().into()], 1_000).await.is_err(),
        "the write may not have arrived"
    );
    cluster.answer_in(&[0, 1, 2]).await;
    handle("in-shard-1", 1, &*io.inbox, &mut held).await;
    timeout(SOON, waits).await.expect("it is committed").unwrap();
    let values = store.get("test", &[key.as_str().into()], 1_000).await.unwrap();
    assert_eq!(values, [Some("value".into())]);
}

#[tokio::test]
async fn lost_io_node_is_buried_while_another_shard_is_silent() {
    let cluster = Cluster::start().await;
    let (mut io, mut leases) = cluster.join().await;
    let _held = cluster.all(&mut *leases).await;
    cluster.answer_in(&[1, 2]).await;
    cluster.ask(&["SADD", "{test:1}:lost", "1234@gone"]).await;
    // Scripts that change the set change the version of the view.
    cluster.ask(&["HDEL", "{test:1}:clock", "view"]).await;
    cluster.watch(&[1, 2]).await;
    assert_eq!(cluster.ask(&["SCARD", "{test:1}:lost"]).await, 0);
    assert!(timeout(Duration::ZERO, io.outbox.next()).await.is_err());
    assert!(timeout(Duration::ZERO, leases.next()).await.is_err());
}

#[tokio::test]
async fn late_join_of_one_shard_keeps_membership_in_others() {
    let cluster = Cluster::start().await;
    cluster.answer_in(&[0, 1]).await;
    let joining = tokio::spawn({
        let redis = cluster.redis.clone();
        async move { redis.join_io(IoNode::without_address("io")).await.unwrap() }
    });
    let mut leases = cluster.redis.join_app("app".into()).await.unwrap();
    for partition in 0..PARTITIONS {
        if partition % SHARDS != 2 {
            std::mem::forget(timeout(SOON, leases.next()).await.expect("it is dealt out"));
        }
    }
    cluster.watch(&[0, 1]).await;
    assert!(!joining.is_finished());
    cluster.answer_in(&[0, 1, 2]).await;
    let mut io = timeout(SOON, joining).await.expect("it joins").unwrap();
    assert!(timeout(Duration::from_millis(200), io.outbox.next()).await.is_err());
    let late = timeout(SOON, leases.next()).await.expect("it is dealt out").unwrap();
    assert_eq!(late.partition.0 % SHARDS, 2);
}

#[tokio::test]
async fn fencing_in_one_shard_fences_in_all() {
    let cluster = Cluster::start().await;
    let (mut io, mut leases) = cluster.join().await;
    let mut held = cluster.all(&mut *leases).await;
    cluster.ask(&["HSET", "{test:2}:io", "io", "another"]).await;
    let told = timeout(SOON, io.outbox.next()).await.expect("it is told");
    assert!(matches!(told, Err(TransportError::Fenced)), "{told:?}");
    let refused = io.inbox.ingest(vec![event("in-shard-0", 0)]).await;
    assert!(matches!(refused, Err(TransportError::Fenced)), "{refused:?}");
    drop(io);

    cluster.ask(&["HSET", "{test:2}:app", "app", "another"]).await;
    let told = timeout(SOON, leases.next()).await.expect("it is told");
    assert!(matches!(told, Err(TransportError::Fenced)));
    for lease in held.values_mut() {
        let told = timeout(SOON, lease.log.next()).await.expect("it is told");
        assert!(matches!(told, Err(TransportError::Fenced)), "{}", lease.partition);
    }
    // A fenced node does not leave the other shards, where its work may continue.
    assert_eq!(cluster.ask(&["HEXISTS", "{test:0}:io", "io"]).await, 1);
    assert_eq!(cluster.ask(&["HEXISTS", "{test:0}:app", "app"]).await, 1);
}

#[tokio::test]
async fn members_give_up_when_a_shard_was_emptied() {
    let cluster = Cluster::start().await;
    let (mut io, mut leases) = cluster.join().await;
    let _held = cluster.all(&mut *leases).await;
    cluster.ask(&["HSET", "{test:1}:clock", "data", "another"]).await;
    let told = timeout(SOON, io.outbox.next()).await.expect("it is told");
    assert!(matches!(told, Err(TransportError::DataLost)), "{told:?}");
    let told = timeout(SOON, leases.next()).await.expect("it is told");
    assert!(matches!(told, Err(TransportError::DataLost)));
}

#[tokio::test]
async fn older_data_end_io_node_only_without_its_events() {
    let cluster = Cluster::start().await;
    let (mut io, mut leases) = cluster.join().await;
    let mut held = cluster.all(&mut *leases).await;
    handle("in-shard-1", 1, &*io.inbox, &mut held).await;
    let has_heard = async {
        while cluster.redis.data_watch.tail(1) == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, has_heard).await.expect("a heartbeat tells of the event");
    // As if another node's last event were lost.
    cluster.ask(&["HSET", "{test:1}:in", "tail", "0"]).await;
    let told = timeout(SOON, leases.next()).await.expect("it is told");
    assert!(matches!(told, Err(TransportError::DataLost)));
    assert!(timeout(cluster.redis.settings.lease, io.outbox.next()).await.is_err());

    let live = cluster.server.ask(&["KEYS", "{test:1}:live:*"]).await.unwrap();
    let live: Vec<String> = redis::from_redis_value(live).unwrap();
    cluster.ask(&["HSET", &live[0], "", "0"]).await;
    let told = timeout(SOON, io.outbox.next()).await.expect("it is told");
    assert!(matches!(told, Err(TransportError::DataLost)), "{told:?}");
}

#[tokio::test]
async fn view_is_sent_again_only_after_a_change() {
    let (redis, server) = Redis::for_test(1).await;
    let shard = redis.layout.shard(0);
    let watcher = Member::new(&redis, "app-node", "watcher".into());
    let mut view = Arc::default();
    let mut hear = async |is_expected: &dyn Fn(&ClusterView) -> bool| {
        let changes = async {
            while !is_expected(&view) {
                watcher.heartbeat(&redis, &shard, Role::Leaving, &mut view).await;
            }
        };
        timeout(SOON, changes).await.expect("a heartbeat tells of it");
        let before = view.clone();
        watcher.heartbeat(&redis, &shard, Role::Leaving, &mut view).await;
        Arc::ptr_eq(&before, &view)
    };
    assert!(hear(&|view| !view.version.is_empty()).await);
    let mut leases = redis.join_app("app".into()).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..PARTITIONS {
        held.push(timeout(SOON, leases.next()).await.expect("it is dealt out").unwrap());
    }
    let is_held = |lease: &String| lease.ends_with("@app");
    let all_are_held = |view: &ClusterView| view.leases.values().filter(|lease| is_held(lease)).count() == held.len();
    assert!(hear(&|view| view.apps == ["app".into()] && all_are_held(view)).await);
    drop((leases, std::mem::take(&mut held)));
    assert!(hear(&|view| view.apps.is_empty() && !view.leases.values().any(is_held)).await);

    for (how, lost) in [("leave", 1), ("fence", 2)] {
        let member = format!("{how}@io");
        let names = ["io", "io:until", "lost", "clock"].map(|name| shard.key(name));
        server.ask(&["HSET", "{test:0}:io", "io", how]).await.unwrap();
        let mut keys = names.to_vec();
        let mut arguments = vec![bytes_of("io"), bytes_of(how)];
        let script = match how {
            "leave" => &scripts::LEAVE_IO,
            _ => {
                let outbox = [
                    shard.outbox(&member),
                    shard.outbox_in(&member),
                    shard.outbox_read(&member),
                ];
                keys.splice(3..3, outbox);
                keys.extend(shard.broadcasts());
                arguments.extend(["0".into(), "0".into()]);
                &scripts::FENCE_IO
            }
        };
        redis.link.ask::<()>(&script.by_code(&keys, &arguments)).await;
        assert!(hear(&|view| view.lost.len() == lost).await, "{how}");
    }
    let lost = ["leave@io".to_owned(), "fence@io".to_owned()];
    disconnect_clients(&redis, &shard, &lost).await;
    assert!(hear(&|view| view.lost.is_empty()).await);
}

/// Two nodes do so at once.
#[tokio::test]
async fn lost_clients_get_one_disconnect_each() {
    const CLIENTS: u64 = 3_000;
    let (redis, server) = Redis::for_test(1).await;
    let other = Redis::for_test_on(&server, 1).await;
    let shard = redis.layout.shard(0);
    server.ask(&["SADD", "{test:0}:lost", "1@gone"]).await.unwrap();
    let (mut live, mut who) = (redis::cmd("HSET"), redis::cmd("HSET"));
    live.arg("{test:0}:live:1@gone").arg("").arg("7");
    who.arg("{test:0}:who");
    for number in 0..CLIENTS {
        let event = event(&format!("lost-{number}"), 0);
        let client = client_key(&event);
        let partition = Partition((number % 4) as u16);
        let event = Event {
            received_at_ms: number,
            ..event
        };
        let will = batch::write(std::iter::once((partition, &encode(&event))));
        live.arg(&client[..]).arg(&will[..]);
        who.arg(&client[..]).arg("gone");
    }
    redis.link.ask::<()>(&live).await;
    redis.link.ask::<()>(&who).await;

    let lost = ["1@gone".to_owned()];
    tokio::join!(
        disconnect_clients(&redis, &shard, &lost),
        disconnect_clients(&other, &shard, &lost)
    );
    for key in ["lost", "live:1@gone", "who"] {
        let left = server.ask(&["EXISTS", &format!("{{test:0}}:{key}")]).await.unwrap();
        assert_eq!(redis::from_redis_value::<u64>(left).unwrap(), 0, "{key}");
    }
    let mut leases = redis.join_app("app".into()).await.unwrap();
    let mut found = Vec::new();
    for _ in 0..PARTITIONS {
        let mut lease = timeout(SOON, leases.next()).await.expect("it is dealt out").unwrap();
        let number = lease.partition.0;
        let expected = if number < 4 { CLIENTS / 4 } else { 0 };
        let mut next = 1;
        while next <= expected {
            let deliveries = timeout(SOON, lease.log.next()).await.expect("more were lost");
            for delivery in deliveries.unwrap().expect("the lease holds") {
                assert_eq!((delivery.id.partition.0, delivery.id.sequence), (number, next));
                next += 1;
                found.push(delivery.event.received_at_ms);
            }
        }
        assert!(lease.log.next().now_or_never().is_none(), "there are no more");
        std::mem::forget(lease);
    }
    found.sort_unstable();
    assert!(found.into_iter().eq(0..CLIENTS));
    let entries: u64 = redis::from_redis_value(server.ask(&["XLEN", "{test:0}:log:0"]).await.unwrap()).unwrap();
    assert!(entries < CLIENTS / 40, "{entries} entries, where one call needs one");
}

/// An io-node `io` and an app-node `app` over three shards of one server.
struct Cluster {
    redis: Redis,
    server: TestServer,
}

impl Cluster {
    async fn start() -> Self {
        let (redis, server) = Redis::for_test(SHARDS).await;
        Self { redis, server }
    }

    async fn join(&self) -> (IoSession, Box<dyn Leases>) {
        let io = self.redis.join_io(IoNode::without_address("io")).await.unwrap();
        (io, self.redis.join_app("app".into()).await.unwrap())
    }

    async fn all(&self, leases: &mut dyn Leases) -> HashMap<Partition, Lease> {
        let mut held = HashMap::new();
        for _ in 0..PARTITIONS {
            let lease = timeout(SOON, leases.next()).await.expect("it is dealt out").unwrap();
            held.insert(lease.partition, lease);
        }
        held
    }

    /// Makes all other shards refuse every call.
    async fn answer_in(&self, shards: &[u16]) {
        let mut rights = vec!["ACL".to_owned(), "SETUSER".into(), "default".into(), "resetkeys".into()];
        rights.extend(shards.iter().map(|shard| format!("~{{test:{shard}}}:*")));
        let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
        self.server.ask(&rights).await.unwrap();
    }

    /// Checks for longer than a lease that both nodes are alive in these shards. A third member sends heartbeats, so that no
    /// grace period applies.
    async fn watch(&self, shards: &[u16]) {
        let watcher = Member::new(&self.redis, "app-node", "watcher".into());
        let begun = Instant::now();
        while begun.elapsed() < 5 * self.redis.settings.lease / 2 {
            for number in shards {
                let shard = self.redis.layout.shard(*number);
                let mut view = Arc::default();
                let heard = watcher.heartbeat(&self.redis, &shard, Role::Leaving, &mut view);
                let HeartbeatAnswer::Alive { .. } = timeout(SOON, heard).await.expect("the shard answers") else {
                    panic!("the watcher is not alone");
                };
                assert_eq!(view.apps, ["app".into()], "in shard {number}");
                let io = self.ask(&["HEXISTS", &format!("{{test:{number}}}:io"), "io"]).await;
                assert_eq!(io, 1, "in shard {number}");
            }
            sleep(self.redis.settings.heartbeat_interval()).await;
        }
    }

    async fn ask(&self, words: &[&str]) -> i64 {
        let answer = self.server.ask(words).await.unwrap();
        redis::from_redis_value(answer).unwrap()
    }
}

/// An event of a client in this shard.
fn event(name: &str, shard: u16) -> Event {
    let mut ids = (0..).map(|number| format!("{name}-{number}"));
    let is_there = |id: &String| partition_of(&id.as_str().into(), PARTITIONS).0 % SHARDS == shard;
    let client = Client {
        id: ids.find(is_there).expect("there are enough").as_str().into(),
        io_node: "io".into(),
        attributes: "{}".into(),
        patched: 0,
    };
    Event {
        namespace: "/".into(),
        client: Some(client),
        received_at_ms: 0,
        kind: EventKind::Custom {
            kind: "test/1".into(),
            data: Bytes::new(),
            content_type: None,
        },
    }
}

/// Ingests, reads and commits an event.
async fn handle(name: &str, shard: u16, inbox: &dyn Inbox, held: &mut HashMap<Partition, Lease>) {
    let event = event(name, shard);
    let client = event.client.clone().expect("it is of one");
    let lease = held.get_mut(&partition_of(&client.id, PARTITIONS)).expect("it is held");
    let work = async {
        assert!(inbox.ingest(vec![event]).await.unwrap().is_empty());
        let delivery = lease.log.next().await.unwrap().expect("the lease holds").remove(0);
        assert_eq!(delivery.event.client.as_ref().unwrap().id, client.id);
        let (id, verdict) = (delivery.id, Verdict::Done(Effects::default()));
        lease.commits.commit(vec![Outcome::new(id, verdict)]).await.unwrap();
    };
    timeout(SOON, work).await.expect("it is handled soon");
}

/// Ingests an event in partition 3, and commits it with a write.
async fn commit(change: &KeyChange, inbox: &dyn Inbox, held: &mut HashMap<Partition, Lease>) -> JoinHandle<()> {
    let lease = held.get_mut(&Partition(3)).expect("it is held");
    let mut events = (0..).map(|number| event(&format!("writes-{number}"), 0));
    let is_there = |event: &Event| {
        let client = event.client.as_ref().expect("it is of one");
        partition_of(&client.id, PARTITIONS) == Partition(3)
    };
    let event = events.find(is_there).expect("there are enough");
    assert!(inbox.ingest(vec![event]).await.unwrap().is_empty());
    let id = lease.log.next().await.unwrap().expect("the lease holds").remove(0).id;
    let (commits, writes) = (lease.commits.clone(), vec![change.clone()]);
    let verdict = Verdict::Done(Effects {
        writes,
        ..Effects::default()
    });
    let outcome = Outcome::new(id, verdict);
    tokio::spawn(async move { assert!(commits.commit(vec![outcome]).await.unwrap().is_empty()) })
}
