//! Events: delivery, order, backlogs, leases.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use super::fixture::*;
use crate::*;
use plugnode_message::*;

pub async fn event_is_delivered_in_order_and_committed_once(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
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

pub async fn uncommitted_events_go_to_next_owner(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(&io, (0..4).map(|n| message("alice", n)).collect()).await;
    let deliveries = read(&mut lease, 4).await;
    // Commits only the third event.
    lease
        .commits
        .commit(vec![done(deliveries[2].id, Vec::new())])
        .await
        .unwrap();
    drop(lease);

    let mut lease = lease_of("alice", &mut *leases).await;
    let again = read(&mut lease, 3).await;
    assert_eq!(numbers(&again), [0, 1, 3]);
    assert_eq!(again[0].id, deliveries[0].id, "an event keeps its id");
}

pub async fn full_backlog_refuses_and_keeps_order(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("client-0", &mut *leases).await;
    // One event from each of many clients of one partition.
    let clients: Vec<String> = clients_in(lease.partition).take(BACKLOG + 2).collect();
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

pub async fn one_client_cannot_fill_a_partition(transport: Transport) {
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
        "the last events are refused, in order"
    );
}

pub async fn one_caller_has_one_share_in_all_partitions(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    let partition = lease.partition;
    // Each call has an order of its own, in any partition.
    let refused = io
        .inbox
        .ingest((0..9).map(|n| call("large", n, &format!("order-{n}"))).collect())
        .await;
    assert_eq!(refused.unwrap().len(), 9 - CLIENT_BACKLOG);
    // A call that is refused refuses none of another caller in the same order.
    let same: Vec<Event> = (0..9)
        .map(|n| call("first", n, "alice"))
        .chain([call("second", 0, "alice")])
        .collect();
    assert_eq!(io.inbox.ingest(same).await.unwrap().len(), 9 - CLIENT_BACKLOG);
    let deliveries = read(&mut lease, CLIENT_BACKLOG + 1).await;
    let outcomes = deliveries.iter().map(|delivery| done(delivery.id, Vec::new()));
    lease.commits.commit(outcomes.collect()).await.unwrap();
    let calls = |caller: &str, count: usize| -> Vec<Event> {
        let orders = clients_in(partition).take(count);
        orders
            .enumerate()
            .map(|(n, order)| call(caller, n as u64, &order))
            .collect()
    };
    let refused = io.inbox.ingest(calls("office", BACKLOG)).await.unwrap();
    assert_eq!(refused.len(), BACKLOG - CLIENT_BACKLOG);
    accept(&io, calls("shop", CLIENT_BACKLOG)).await;
    accept(&io, vec![message("alice", 7)]).await;

    let deliveries = read(&mut lease, 2 * CLIENT_BACKLOG + 1).await;
    lease
        .commits
        .commit(vec![done(deliveries[0].id, Vec::new())])
        .await
        .unwrap();
    // The io-node learns of the commit a moment later.
    let mut next = calls("office", 1);
    while !next.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        next = io.inbox.ingest(next).await.unwrap();
    }
    assert_eq!(
        io.inbox.ingest(calls("office", 1)).await.unwrap().len(),
        1,
        "one was committed"
    );
}

pub async fn greedy_clients_leave_room_for_newcomer(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("client-0", &mut *leases).await;
    let mut clients = clients_in(lease.partition);
    // Each offers more events than its share, repeatedly, and none is committed.
    let greedy: Vec<String> = clients.by_ref().take(2 * BACKLOG / CLIENT_BACKLOG - 1).collect();
    for round in 0..3 {
        for id in &greedy {
            let events = (0..8).map(|n| message(id, 100 * round + n));
            io.inbox.ingest(events.collect()).await.unwrap();
        }
    }
    let newcomer = clients.next().unwrap();
    accept(&io, vec![message(&newcomer, 7)]).await;
    let is_its = |delivery: &Delivery| delivery.event.client.as_ref().unwrap().id.as_str() == newcomer;
    let mut heard = Vec::new();
    while !heard.iter().any(is_its) {
        heard.extend(lease.log.next().await.unwrap().expect("the lease holds"));
    }
    assert!(heard.len() <= BACKLOG, "{} events are open", heard.len());
}

pub async fn open_events_are_bounded_in_bytes(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let refused = async |events: Vec<Event>| -> Vec<u64> {
        let refused = io.inbox.ingest(events).await.unwrap();
        refused.iter().map(number).collect()
    };
    let Backlog {
        bytes, client_bytes, ..
    } = BUDGETS;
    let over_half = client_bytes * 3 / 5;
    let events = vec![
        large("alice", 0, over_half),
        large("alice", 1, over_half),
        message("alice", 2),
    ];
    assert_eq!(refused(events).await, [1, 2], "beyond her share");
    let events = vec![large("bob", 0, 2 * client_bytes), message("bob", 1)];
    assert_eq!(refused(events).await, [1], "larger than his share, it is alone");

    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("client-0", &mut *leases).await;
    let partition = lease.partition;
    let large_of = |count: usize, size: usize| {
        let clients = clients_in(partition).take(count).enumerate();
        clients.map(|(n, id)| large(&id, n as u64, size)).collect()
    };
    let of_others = transport.nodes.backlog().await.unwrap() as usize;
    let (size, count) = (bytes / 8, 12);
    let left: Vec<u64> = refused(large_of(count, size)).await;
    let taken = transport.nodes.backlog().await.unwrap() as usize - of_others;
    assert_eq!(taken + left.len(), count);
    assert!((5..=8).contains(&taken), "{taken} of {size} bytes are open in {bytes}");

    let mut deliveries = Vec::new();
    while deliveries.len() < taken {
        let read = lease.log.next().await.unwrap().expect("the lease holds");
        deliveries.extend(read.into_iter().filter(|delivery| size_of(&delivery.event) == size));
    }
    let outcomes = deliveries.iter().map(|delivery| done(delivery.id, Vec::new()));
    lease.commits.commit(outcomes.collect()).await.unwrap();
    while !refused(large_of(1, size)).await.is_empty() {
        // The io-node has not learnt of the commit yet.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

pub async fn lost_io_node_leaves_one_disconnect_per_client(transport: Transport) {
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
    while !transport.nodes.io_nodes().await.unwrap().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }

    let mut leases = transport.events.join_app("app".into()).await.unwrap();
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
                EventKind::Disconnect(gone) => format!("{:?}", gone.reason),
                kind => kind.word().to_owned(),
            });
        }
        held.push(lease);
    }
    assert_eq!(seen["alice"], ["connection", "message", "NodeLost"]);
    assert_eq!(seen["bob"], ["connection", "Client"]);
}

pub async fn refused_client_is_removed(transport: Transport) {
    let one = join_io(&transport, "one").await;
    let mut two = join_io(&transport, "two").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    // Five clients of one partition.
    let mut names = (0..)
        .map(|n| format!("client-{n}"))
        .filter(|id| partition_of(&id.as_str().into(), PARTITIONS) == lease.partition);
    let [stays, leaves, late, dead, lives] = [(); 5].map(|()| names.next().unwrap());

    // All but the last are refused. The disconnect of the second is already in the log; that of the third arrives after the refusal.
    let connections = [&stays, &leaves, &late, &dead, &lives].map(|id| connection(id, "two"));
    accept(&two, connections.into()).await;
    accept(&two, vec![event_of_its_end(&leaves)]).await;
    let deliveries = read(&mut lease, 6).await;
    let refused = |id: &String| Effects {
        commands: vec![refusal(id)],
        ..Effects::default()
    };
    let verdicts = [
        Verdict::Done(refused(&stays)),
        Verdict::Done(refused(&leaves)),
        Verdict::Done(refused(&late)),
        Verdict::Dead(
            cause("broken"),
            Effects {
                commands: vec![refusal(&dead)],
                ..Effects::default()
            },
        ),
        Verdict::Done(Effects::default()),
    ];
    let outcomes = deliveries.iter().zip(verdicts);
    let outcomes = outcomes.map(|(delivery, verdict)| outcome(delivery.id, verdict));
    lease.commits.commit(outcomes.collect()).await.unwrap();
    let told = commands(&mut *two.outbox, 4).await;
    assert_eq!(told, [&stays, &leaves, &late, &dead].map(|id| refusal(id)));
    let retried = transport.dead_letters.retry(deliveries[3].id).await.unwrap();
    assert_eq!(retried, RetryResult::ClientGone, "it was refused for good");

    // The io-node may still send a disconnect of a refused client: it is accepted and dropped.
    accept(&two, vec![event_of_its_end(&late), message("alice", 7)]).await;
    assert_eq!(numbers(&read(&mut lease, 1).await), [7]);

    // The io-node dies: only the admitted client gets a disconnect, also for the next owner of the partition.
    drop(two);
    let lost = read(&mut lease, 1).await.remove(0);
    let client = lost.event.client.as_ref().unwrap();
    assert_eq!(client.id.as_str(), lives);
    assert_eq!(
        lost.event.kind,
        EventKind::Disconnect(DisconnectReason::NodeLost.into())
    );
    drop(lease);
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(&one, vec![message("alice", 8)]).await;
    let left = read(&mut lease, 3).await;
    assert_eq!([number(&left[0].event), number(&left[2].event)], [7, 8]);
    assert_eq!(left[1].id, lost.id);
}

pub async fn late_reply_follows_last_event_of_its_client(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(&io, vec![connection("alice", "io")]).await;
    let kind = EventKind::LateReply {
        client: "alice".into(),
        token: Bytes::from_static(b"token"),
        answer: Payload {
            json: "[{}]".into(),
            attachments: vec![Bytes::from_static(b"\0")],
        },
    };
    let late = Event {
        client: None,
        ..event("alice", kind)
    };
    accept(&io, vec![event_of_its_end("alice"), late.clone()]).await;
    let deliveries = read(&mut lease, 3).await;
    assert!(matches!(deliveries[1].event.kind, EventKind::Disconnect(_)));
    assert_eq!(*deliveries[2].event, late);
    let outcomes = deliveries.iter().map(|delivery| done(delivery.id, Vec::new()));
    lease.commits.commit(outcomes.collect()).await.unwrap();
    // If an event of a client is refused, its later events in the same call are refused too.
    let chatter = (0..CLIENT_BACKLOG as u64 + 1).map(|number| message("alice", number));
    let refused = io.inbox.ingest(chatter.chain([late.clone()]).collect()).await.unwrap();
    assert_eq!(refused.len(), 2);
    assert_eq!(refused[1], late);
}

pub async fn patches_are_kept_for_next_owner(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    assert_eq!(lease.patches, []);
    accept(
        &io,
        vec![connection("alice", "io"), message("alice", 1), message("alice", 2)],
    )
    .await;
    let deliveries = read(&mut lease, 3).await;
    let patch = |client: &str, number| Command::PatchAttributes {
        namespace: "/".into(),
        client: client.into(),
        patch: r#"{"a":1}"#.into(),
        number,
    };
    let numbers = [0, 1].map(|place: usize| deliveries[place].id.sequence);
    let outcomes = [
        done(deliveries[0].id, vec![patch("alice", numbers[0]), patch("bob", 0)]),
        done(deliveries[1].id, vec![patch("alice", numbers[1])]),
    ];
    lease.commits.commit(outcomes.into()).await.unwrap();
    drop(lease);
    let lease = lease_of("alice", &mut *leases).await;
    let left = lease.patches.clone();
    assert_eq!(left.iter().map(|patch| patch.number).collect::<Vec<_>>(), numbers);
    assert_eq!((left[0].client.as_str(), &*left[0].patch), ("alice", r#"{"a":1}"#));
    let forgetting = |id, patch: &AttributePatch| Outcome {
        forget: vec![patch.clone()],
        ..done(id, Vec::new())
    };
    // The outcome of an event that is committed already changes nothing.
    let outcome = forgetting(deliveries[0].id, &left[0]);
    lease.commits.commit(vec![outcome]).await.unwrap();
    drop(lease);
    let mut lease = lease_of("alice", &mut *leases).await;
    assert_eq!(lease.patches, left);
    // The io-node has applied the first patch, so the outcome drops it.
    let again = read(&mut lease, 1).await;
    let outcome = forgetting(again[0].id, &left[0]);
    lease.commits.commit(vec![outcome]).await.unwrap();
    drop(lease);
    let lease = lease_of("alice", &mut *leases).await;
    assert_eq!(lease.patches, left[1..]);
}

pub async fn newer_session_fences_older(transport: Transport) {
    let mut old = join_io(&transport, "io").await;
    let new = join_io(&transport, "io").await;
    assert!(matches!(
        old.inbox.ingest(vec![message("alice", 1)]).await,
        Err(TransportError::Fenced)
    ));
    assert!(matches!(old.outbox.next().await, Err(TransportError::Fenced)));
    drop(old);
    accept(&new, vec![message("alice", 1)]).await;
    assert_eq!(transport.nodes.io_nodes().await.unwrap().len(), 1);
}

pub async fn partitions_are_assigned_and_move(transport: Transport) {
    let mut first = transport.events.join_app("first".into()).await.unwrap();
    let mut held = BTreeMap::new();
    for _ in 0..PARTITIONS {
        let lease = first.next().await.unwrap();
        held.insert(lease.partition, lease);
    }
    let mut second = transport.events.join_app("second".into()).await.unwrap();
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
