//! What every transport must do, as tests that know none of them.
//!
//! To hold a new transport to the list, name it in `conforms!` with what makes one, and what that needs to live.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::message::{
    Audience, Client, DisconnectReason, EventKind, Handshake, Namespace, Payload, Refusal, Scope, Selection, SessionId,
    Text, Write, now_ms,
};

/// What a transport under test is made with.
pub(super) const PARTITIONS: u16 = 8;
pub(super) const BACKLOG: usize = 20;
pub(super) const CLIENT_BACKLOG: usize = 5;

macro_rules! conforms {
    ($($transport:ident: $make:expr),* $(,)?) => {$(
        mod $transport {
            conforms!(@tests $make;
                an_event_is_handed_out_in_order_and_committed_once,
                what_is_not_committed_goes_to_the_next_owner,
                a_full_backlog_refuses_and_keeps_order,
                one_client_cannot_fill_a_partition,
                every_outbox_has_one_order,
                a_command_for_one_client_reaches_its_io_node_alone,
                a_lost_io_node_leaves_one_disconnect_for_each_client,
                a_refused_client_is_forgotten,
                what_an_io_node_tells_another_reaches_it_alone,
                a_newer_session_fences_the_older,
                partitions_are_dealt_out_and_move,
                writes_are_seen_after_the_commit_and_not_from_dead_letters,
                a_dead_letter_is_kept_until_it_is_revived_or_buried,
            );
        }
    )*};
    (@tests $make:expr; $($test:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $test() {
            let (transport, _server) = $make.await;
            let limit = std::time::Duration::from_secs(20);
            tokio::time::timeout(limit, super::$test(transport)).await.expect("the test must not hang");
        }
    )*};
}

conforms! {
    in_memory: super::super::memory::for_conformance(),
    on_redis: super::super::redis::for_conformance(1),
    on_redis_in_shards: super::super::redis::for_conformance(3),
}

crate::transport::registry_conforms! {
    registry_in_memory: crate::transport::memory::for_conformance(),
    registry_on_redis: super::super::redis::for_conformance(1),
    registry_on_redis_in_shards: super::super::redis::for_conformance(3),
}

type Shared = Arc<dyn Transport>;

async fn an_event_is_handed_out_in_order_and_committed_once(transport: Shared) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(&io, (0..5).map(|n| message("alice", n)).collect()).await;

    let deliveries = read(&mut lease, 5).await;
    assert_eq!(numbers(&deliveries), [0, 1, 2, 3, 4]);
    assert_eq!(
        deliveries
            .iter()
            .map(|delivery| delivery.id)
            .collect::<HashSet<_>>()
            .len(),
        5
    );

    let mut outbox = io.outbox;
    let id = deliveries[2].id;
    lease
        .commits
        .commit(vec![done(id, vec![to_all("first")])])
        .await
        .unwrap();
    lease
        .commits
        .commit(vec![done(id, vec![to_all("again")])])
        .await
        .unwrap();
    lease
        .commits
        .commit(vec![done(deliveries[0].id, vec![to_all("second")])])
        .await
        .unwrap();
    assert_eq!(hear(&mut *outbox, 2).await, ["first", "second"]);
}

async fn what_is_not_committed_goes_to_the_next_owner(transport: Shared) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(&io, (0..4).map(|n| message("alice", n)).collect()).await;
    let deliveries = read(&mut lease, 4).await;
    // The third is done and the others are not.
    lease
        .commits
        .commit(vec![done(deliveries[2].id, Vec::new())])
        .await
        .unwrap();
    drop(lease);

    let mut lease = lease_of("alice", &mut *leases).await;
    let again = read(&mut lease, 3).await;
    assert_eq!(numbers(&again), [0, 1, 3]);
    assert_eq!(again[0].id, deliveries[0].id, "an event keeps its name");
}

async fn a_full_backlog_refuses_and_keeps_order(transport: Shared) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("client-0", &mut *leases).await;
    // Many clients of one partition.
    let clients: Vec<String> = (0..)
        .map(|n| format!("client-{n}"))
        .filter(|id| partition_of(&id.as_str().into(), PARTITIONS) == lease.partition)
        .take(BACKLOG + 2)
        .collect();
    let refused = io
        .inbox
        .ingest(clients.iter().map(|id| message(id, 0)).collect())
        .await
        .unwrap();
    assert_eq!(refused.len(), 2);
    let refused = io.inbox.ingest(refused).await.unwrap();
    assert_eq!(refused.len(), 2, "it is still full");

    let deliveries = read(&mut lease, BACKLOG).await;
    lease
        .commits
        .commit(vec![done(deliveries[7].id, Vec::new())])
        .await
        .unwrap();
    let refused = io.inbox.ingest(refused).await.unwrap();
    assert_eq!(
        refused.len(),
        1,
        "a committed event makes room for one, though older ones are open"
    );
}

async fn one_client_cannot_fill_a_partition(transport: Shared) {
    let io = join_io(&transport, "io").await;
    let refused = io
        .inbox
        .ingest((0..8).map(|n| message("alice", n)).collect())
        .await
        .unwrap();
    let refused: Vec<u64> = refused.iter().map(number).collect();
    assert_eq!(
        refused,
        (CLIENT_BACKLOG as u64..8).collect::<Vec<_>>(),
        "what is refused is the end, in order"
    );
}

async fn every_outbox_has_one_order(transport: Shared) {
    let mut one = join_io(&transport, "one").await;
    let mut two = join_io(&transport, "two").await;
    accept(&one, vec![connection("alice", "one")]).await;
    accept(&two, vec![connection("bob", "two")]).await;
    let mut leases = transport.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(&one, vec![message("alice", 1)]).await;
    let deliveries = read(&mut lease, 2).await;
    let commands = vec![to_all("a"), to_client("bob", "b"), to_all("c"), to_client("alice", "d")];
    lease
        .commits
        .commit(vec![done(deliveries[0].id, commands)])
        .await
        .unwrap();
    lease
        .commits
        .commit(vec![done(deliveries[1].id, vec![to_client("bob", "e"), to_all("f")])])
        .await
        .unwrap();
    assert_eq!(hear(&mut *two.outbox, 5).await, ["a", "b", "c", "e", "f"]);
    assert_eq!(hear(&mut *one.outbox, 4).await, ["a", "c", "d", "f"]);
}

async fn a_command_for_one_client_reaches_its_io_node_alone(transport: Shared) {
    let one = join_io(&transport, "one").await;
    let mut two = join_io(&transport, "two").await;
    accept(&one, vec![connection("alice", "one")]).await;
    accept(&two, vec![connection("bob", "two")]).await;
    let mut leases = transport.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    let deliveries = read(&mut lease, 1).await;
    let commands = vec![
        to_client("alice", "hers"),
        to_client("nobody", "lost"),
        to_client("bob", "his"),
    ];
    lease
        .commits
        .commit(vec![done(deliveries[0].id, commands)])
        .await
        .unwrap();
    assert_eq!(hear(&mut *two.outbox, 1).await, ["his"]);
}

async fn a_lost_io_node_leaves_one_disconnect_for_each_client(transport: Shared) {
    let io = join_io(&transport, "io").await;
    let disconnect = event_of_its_end("bob");
    accept(
        &io,
        vec![
            connection("alice", "io"),
            connection("bob", "io"),
            message("alice", 1),
            disconnect,
        ],
    )
    .await;
    drop(io);
    while !transport.io_nodes().await.unwrap().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }

    let mut leases = transport.join_app("app".into()).await.unwrap();
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut held = Vec::new();
    for _ in 0..PARTITIONS {
        let mut lease = leases.next().await.unwrap();
        let expected = ["alice", "bob"]
            .iter()
            .filter(|id| partition_of(&(**id).into(), PARTITIONS) == lease.partition)
            .map(|id| if *id == "alice" { 3 } else { 2 })
            .sum();
        for delivery in read(&mut lease, expected).await {
            let client = delivery.event.client.as_ref().unwrap().id.to_string();
            seen.entry(client).or_default().push(match &delivery.event.kind {
                EventKind::Disconnect(reason) => format!("{reason:?}"),
                kind => kind.word().to_owned(),
            });
        }
        held.push(lease);
    }
    assert_eq!(seen["alice"], ["connection", "message", "NodeLost"]);
    assert_eq!(seen["bob"], ["connection", "Client"]);
}

async fn a_refused_client_is_forgotten(transport: Shared) {
    let one = join_io(&transport, "one").await;
    let mut two = join_io(&transport, "two").await;
    let mut leases = transport.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    // All in one partition.
    let mut names = (0..)
        .map(|n| format!("client-{n}"))
        .filter(|id| partition_of(&id.as_str().into(), PARTITIONS) == lease.partition);
    let [stays, leaves, late, dead, lives] = [(); 5].map(|()| names.next().unwrap());

    // All but the last are refused; of the second the disconnect is in the log already, of the third it comes too late.
    let connections = [&stays, &leaves, &late, &dead, &lives].map(|id| connection(id, "two"));
    accept(&two, connections.into()).await;
    accept(&two, vec![event_of_its_end(&leaves)]).await;
    let deliveries = read(&mut lease, 6).await;
    let refused = |id: &String| Effects {
        commands: vec![refusal(id)],
        writes: Vec::new(),
    };
    let verdicts = [
        Verdict::Done(refused(&stays)),
        Verdict::Done(refused(&leaves)),
        Verdict::Done(refused(&late)),
        Verdict::Dead(death("broken"), vec![refusal(&dead)]),
        Verdict::Done(Effects::default()),
    ];
    let outcomes = deliveries.iter().zip(verdicts);
    let outcomes = outcomes.map(|(delivery, verdict)| Outcome {
        id: delivery.id,
        verdict,
    });
    lease.commits.commit(outcomes.collect()).await.unwrap();
    let told = commands(&mut *two.outbox, 4).await;
    assert_eq!(told, [&stays, &leaves, &late, &dead].map(|id| refusal(id)));
    let revived = transport.revive(deliveries[3].id).await.unwrap();
    assert_eq!(revived, Revival::ClientGone, "it was refused for good");

    // What its io-node had not heard yet is accepted, and nothing comes of it.
    accept(&two, vec![event_of_its_end(&late), message("alice", 7)]).await;
    assert_eq!(numbers(&read(&mut lease, 1).await), [7]);

    // Their io-node dies, and only the one who came in has an end. The next owner finds no other.
    drop(two);
    let lost = read(&mut lease, 1).await.remove(0);
    let client = lost.event.client.as_ref().unwrap();
    assert_eq!(client.id.as_str(), lives);
    assert_eq!(lost.event.kind, EventKind::Disconnect(DisconnectReason::NodeLost));
    drop(lease);
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(&one, vec![message("alice", 8)]).await;
    let left = read(&mut lease, 3).await;
    assert_eq!([number(&left[0].event), number(&left[2].event)], [7, 8]);
    assert_eq!(left[1].id, lost.id);
}

async fn what_an_io_node_tells_another_reaches_it_alone(transport: Shared) {
    let mut one = join_io(&transport, "one").await;
    let mut two = join_io(&transport, "two").await;
    one.inbox.tell(&"two".into(), to_all("a")).await.unwrap();
    one.inbox.tell(&"nobody".into(), to_all("lost")).await.unwrap();
    one.inbox.tell(&"two".into(), to_all("b")).await.unwrap();
    two.inbox.tell(&"two".into(), to_all("c")).await.unwrap();
    two.inbox.tell(&"one".into(), to_all("d")).await.unwrap();
    assert_eq!(hear(&mut *two.outbox, 3).await, ["a", "b", "c"]);
    assert_eq!(hear(&mut *one.outbox, 1).await, ["d"]);
    let old = one;
    let _new = join_io(&transport, "one").await;
    let told = old.inbox.tell(&"two".into(), to_all("late")).await;
    assert!(told.is_ok() || matches!(told, Err(TransportError::Fenced)), "{told:?}");
}

async fn a_newer_session_fences_the_older(transport: Shared) {
    let mut old = join_io(&transport, "io").await;
    let new = join_io(&transport, "io").await;
    assert!(matches!(
        old.inbox.ingest(vec![message("alice", 1)]).await,
        Err(TransportError::Fenced)
    ));
    assert!(matches!(old.outbox.next().await, Err(TransportError::Fenced)));
    drop(old);
    accept(&new, vec![message("alice", 1)]).await;
    assert_eq!(transport.io_nodes().await.unwrap().len(), 1);
}

async fn partitions_are_dealt_out_and_move(transport: Shared) {
    let mut first = transport.join_app("first".into()).await.unwrap();
    let mut held = BTreeMap::new();
    for _ in 0..PARTITIONS {
        let lease = first.next().await.unwrap();
        held.insert(lease.partition, lease);
    }
    let mut second = transport.join_app("second".into()).await.unwrap();
    let members = [NodeId::from("first"), NodeId::from("second")];
    let moving: Vec<Partition> = (0..PARTITIONS)
        .map(Partition)
        .filter(|partition| owner_of(*partition, members.iter()) == Some(&members[1]))
        .collect();
    assert!(
        !moving.is_empty() && moving.len() < usize::from(PARTITIONS),
        "{moving:?}"
    );
    for partition in &moving {
        let mut lease = held.remove(partition).unwrap();
        assert!(
            lease.log.next().await.unwrap().is_none(),
            "it is told to give the partition up"
        );
    }
    let mut moved: Vec<Partition> = Vec::new();
    let mut kept = Vec::new();
    for _ in &moving {
        let lease = second.next().await.unwrap();
        moved.push(lease.partition);
        kept.push(lease);
    }
    moved.sort();
    assert_eq!(moved, moving);

    drop((second, kept));
    for _ in &moving {
        assert!(
            moving.contains(&first.next().await.unwrap().partition),
            "it comes back when the other leaves"
        );
    }
}

async fn writes_are_seen_after_the_commit_and_not_from_dead_letters(transport: Shared) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(&io, (0..2).map(|n| message("alice", n)).collect()).await;
    let deliveries = read(&mut lease, 2).await;

    let write = |key: &str, value: Option<&'static str>| Write {
        bucket: "b".into(),
        key: key.into(),
        value: value.map(|value| Bytes::from_static(value.as_bytes())),
    };
    let writes = vec![
        write("k", Some("1")),
        write("gone", Some("1")),
        write("k", Some("2")),
        write("gone", None),
    ];
    let verdict = Verdict::Done(Effects {
        commands: Vec::new(),
        writes,
    });
    lease
        .commits
        .commit(vec![Outcome {
            id: deliveries[0].id,
            verdict,
        }])
        .await
        .unwrap();
    let verdict = Verdict::Dead(death("broken"), Vec::new());
    lease
        .commits
        .commit(vec![Outcome {
            id: deliveries[1].id,
            verdict,
        }])
        .await
        .unwrap();

    let store = transport.key_value();
    let values = store.get("b", &["k".into(), "gone".into()]).await.unwrap();
    assert_eq!(values, [Some(Bytes::from_static(b"2")), None]);
    assert_eq!(all_keys(&*store, "b").await, [Text::from("k")]);
    assert_eq!(store.get("other", &["k".into()]).await.unwrap(), [None]);
    let dead = transport.dead_letters(10).await.unwrap();
    assert_eq!((dead.len(), dead[0].id), (1, deliveries[1].id));
}

async fn a_dead_letter_is_kept_until_it_is_revived_or_buried(transport: Shared) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(
        &io,
        vec![connection("alice", "io"), message("alice", 1), message("alice", 2)],
    )
    .await;
    let deliveries = read(&mut lease, 3).await;
    let outcomes = deliveries[1..].iter().map(|delivery| Outcome {
        id: delivery.id,
        verdict: Verdict::Dead(death("broken"), Vec::new()),
    });
    lease.commits.commit(outcomes.collect()).await.unwrap();

    let dead = transport.dead_letters(10).await.unwrap();
    assert_eq!(
        dead.iter().map(|letter| letter.id).collect::<Vec<_>>(),
        [deliveries[1].id, deliveries[2].id]
    );
    assert_eq!(dead[0].death, death("broken"));
    let DeadContent::Event(event) = &dead[0].content else {
        panic!("{dead:?}")
    };
    assert_eq!(number(event), 1);
    assert_eq!(
        transport.dead_letters(1).await.unwrap()[0].id,
        deliveries[2].id,
        "the latest"
    );

    assert_eq!(transport.revive(deliveries[1].id).await.unwrap(), Revival::Queued);
    assert_eq!(transport.revive(deliveries[1].id).await.unwrap(), Revival::Unknown);
    let again = read(&mut lease, 1).await;
    assert_eq!(numbers(&again), [1]);
    assert!(again[0].id > deliveries[2].id, "it has a new name");
    lease.commits.commit(vec![done(again[0].id, Vec::new())]).await.unwrap();

    accept(&io, vec![event_of_its_end("alice")]).await;
    assert_eq!(transport.revive(deliveries[2].id).await.unwrap(), Revival::ClientGone);
    assert!(transport.bury(deliveries[2].id).await.unwrap());
    assert!(!transport.bury(deliveries[2].id).await.unwrap());
    assert!(transport.dead_letters(10).await.unwrap().is_empty());
}

async fn join_io(transport: &Shared, id: &str) -> IoSession {
    transport
        .join_io(IoNode {
            id: id.into(),
            host: "localhost".into(),
            port: 1,
        })
        .await
        .unwrap()
}

async fn accept(io: &IoSession, events: Vec<Event>) {
    assert!(io.inbox.ingest(events).await.unwrap().is_empty(), "nothing is refused");
}

/// The lease of the partition that a client is in; other leases are kept from coming back.
async fn lease_of(client: &str, leases: &mut dyn Leases) -> Lease {
    let partition = partition_of(&client.into(), PARTITIONS);
    loop {
        let lease = leases.next().await.unwrap();
        if lease.partition == partition {
            return lease;
        }
        std::mem::forget(lease);
    }
}

async fn read(lease: &mut Lease, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        deliveries.extend(lease.log.next().await.unwrap().expect("the lease holds"));
    }
    assert_eq!(deliveries.len(), count);
    deliveries
}

/// The names of the next events published.
async fn hear(outbox: &mut dyn Outbox, count: usize) -> Vec<String> {
    let name = |command| match command {
        Command::Publish { event, .. } => event.to_string(),
        other => panic!("{other:?} was not expected"),
    };
    commands(outbox, count).await.into_iter().map(name).collect()
}

/// The next commands.
async fn commands(outbox: &mut dyn Outbox, count: usize) -> Vec<Command> {
    let mut commands = Vec::new();
    while commands.len() < count {
        commands.extend(outbox.next().await.unwrap());
    }
    commands
}

fn refusal(client: &str) -> Command {
    Command::Admit {
        namespace: "/".into(),
        client: client.into(),
        refusal: Some(Refusal {
            message: "no".into(),
            data: Some("{\"code\":7}".into()),
        }),
    }
}

fn event(client: &str, kind: EventKind) -> Event {
    let client = Client {
        id: client.into(),
        io_node: "io".into(),
        attributes: Text::from_static("{}"),
    };
    Event {
        namespace: "/".into(),
        client: Some(client),
        received_at_ms: now_ms(),
        kind,
    }
}

fn connection(client: &str, io_node: &str) -> Event {
    let handshake = Handshake {
        auth: None,
        query: String::new(),
        headers: Vec::new(),
        remote_addr: None,
        transport: "websocket".into(),
        recovered: false,
    };
    let mut event = event(client, EventKind::Connection(Box::new(handshake)));
    event.client.as_mut().unwrap().io_node = io_node.into();
    event
}

fn event_of_its_end(client: &str) -> Event {
    event(client, EventKind::Disconnect(DisconnectReason::Client))
}

fn death(reason: &str) -> Death {
    Death {
        reason: reason.into(),
        attempts: 3,
        release: Some("app-1".into()),
    }
}

async fn all_keys(store: &dyn KeyValue, bucket: &str) -> Vec<Text> {
    let (mut keys, mut cursor) = (Vec::new(), Some(0));
    while let Some(from) = cursor {
        let page = store.keys(bucket, from).await.unwrap();
        keys.extend(page.0);
        cursor = page.1;
    }
    keys
}

fn message(client: &str, number: u64) -> Event {
    let args = Payload {
        json: format!("[{number}]").into(),
        attachments: Vec::new(),
    };
    event(
        client,
        EventKind::Message {
            event: "n".into(),
            args,
            ack: None,
        },
    )
}

fn number(event: &Event) -> u64 {
    let EventKind::Message { args, .. } = &event.kind else {
        panic!("not a message")
    };
    args.json.trim_matches(['[', ']']).parse().unwrap()
}

fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| number(&delivery.event)).collect()
}

fn done(id: EventId, commands: Vec<Command>) -> Outcome {
    Outcome {
        id,
        verdict: Verdict::Done(Effects {
            commands,
            writes: Vec::new(),
        }),
    }
}

fn to_all(event: &str) -> Command {
    publish(Scope::All, event)
}

fn to_client(client: &str, event: &str) -> Command {
    publish(
        Scope::Only(Selection {
            clients: vec![SessionId::from(client)],
            channels: Vec::new(),
        }),
        event,
    )
}

fn publish(to: Scope, event: &str) -> Command {
    Command::Publish {
        to: Audience {
            namespace: Namespace::from("/"),
            to,
            except: Selection::default(),
        },
        event: event.into(),
        args: Payload {
            json: Text::from_static("[]"),
            attachments: Vec::new(),
        },
        volatile: false,
        local: false,
    }
}
