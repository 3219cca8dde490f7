//! Commands: order, bounds, and the io-nodes that they reach.

use bytes::Bytes;

use super::fixture::*;
use crate::*;
use plugnode_message::*;

pub async fn all_outboxes_have_the_same_order(transport: Transport) {
    let mut one = join_io(&transport, "one").await;
    let mut two = join_io(&transport, "two").await;
    accept(&one, vec![connection("alice", "one")]).await;
    accept(&two, vec![connection("bob", "two")]).await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
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

pub async fn outbox_is_bounded_in_bytes(transport: Transport) {
    const EVENTS: usize = 18;
    let mut io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("client-0", &mut *leases).await;
    let clients = clients_in(lease.partition).take(EVENTS);
    accept(&io, clients.map(|id| message(&id, 1)).collect()).await;
    let deliveries = read(&mut lease, EVENTS).await;
    // The commands of each event take three quarters of the outbox.
    let reply = |number: usize| {
        let mut reply = to_all(&number.to_string());
        if let Command::Publish { args, .. } = &mut reply {
            args.attachments.push(vec![0; OUTBOX.bytes / 4].into());
        }
        reply
    };
    let mut commit_all = std::pin::pin!(async {
        for (number, delivery) in deliveries.iter().enumerate() {
            let outcome = done(delivery.id, (0..3).map(|_| reply(number)).collect());
            lease.commits.commit(vec![outcome]).await.unwrap();
        }
    });
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut commit_all);
    assert!(early.await.is_err(), "commits must wait until commands are read");
    let ((), heard) = tokio::join!(commit_all, hear(&mut *io.outbox, 3 * EVENTS));
    let sent = (0..3 * EVENTS).map(|number| (number / 3).to_string());
    assert_eq!(heard, sent.collect::<Vec<_>>());
}

pub async fn command_for_one_client_reaches_only_its_io_node(transport: Transport) {
    let one = join_io(&transport, "one").await;
    let mut two = join_io(&transport, "two").await;
    accept(&one, vec![connection("alice", "one")]).await;
    accept(&two, vec![connection("bob", "two")]).await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    let deliveries = read(&mut lease, 1).await;
    let commands = vec![to_client("alice", "hers"), to_client("bob", "his")];
    lease
        .commits
        .commit(vec![done(deliveries[0].id, commands)])
        .await
        .unwrap();
    assert_eq!(hear(&mut *two.outbox, 1).await, ["his"]);
}

pub async fn command_reaches_client_that_is_not_accepted_yet(transport: Transport) {
    let mut one = join_io(&transport, "one").await;
    let mut two = join_io(&transport, "two").await;
    accept(&one, vec![connection("alice", "one")]).await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    let deliveries = read(&mut lease, 1).await;
    // Her session id is known as soon as the io-node has made it.
    let commands = vec![
        to_client("alice", "a"),
        to_client("early", "b"),
        to_client("alice", "c"),
    ];
    lease
        .commits
        .commit(vec![done(deliveries[0].id, commands)])
        .await
        .unwrap();
    assert_eq!(hear(&mut *one.outbox, 3).await, ["a", "b", "c"]);
    assert_eq!(hear(&mut *two.outbox, 1).await, ["b"]);
}

/// Many events with direct commands and broadcasts; their commits are written while io-nodes read.
pub async fn broadcasts_keep_their_place_among_direct_commands(transport: Transport) {
    const ROUNDS: usize = 40;
    let mut one = join_io(&transport, "one").await;
    let mut two = join_io(&transport, "two").await;
    accept(&one, vec![connection("alice", "one")]).await;
    accept(&two, vec![connection("bob", "two")]).await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    let connected = read(&mut lease, 1).await.remove(0);
    // Once this is heard, no event is open.
    let commands = vec![to_all("end")];
    lease.commits.commit(vec![done(connected.id, commands)]).await.unwrap();
    assert_eq!(hear(&mut *one.outbox, 1).await, ["end"]);
    assert_eq!(hear(&mut *two.outbox, 1).await, ["end"]);
    for round in 0..ROUNDS {
        let messages = (0..CLIENT_BACKLOG).map(|number| {
            let mut message = message("alice", (round * CLIENT_BACKLOG + number) as u64);
            message.client.as_mut().expect("she is its client").io_node = "one".into();
            message
        });
        accept(&one, messages.collect()).await;
        let deliveries = read(&mut lease, CLIENT_BACKLOG).await;
        let (mut for_one, mut for_two) = (Vec::new(), Vec::new());
        let mut outcomes = Vec::new();
        for (place, delivery) in deliveries.iter().enumerate() {
            let mut commands = Vec::new();
            for number in 0..(round + place) % 7 {
                let name = format!("{round}.{place}.{number}");
                let (to_one, to_two) = [(true, false), (false, true), (true, true)][(round + place + 2 * number) % 3];
                for_one.extend(to_one.then(|| name.clone()));
                for_two.extend(to_two.then(|| name.clone()));
                commands.push(match (to_one, to_two) {
                    (true, true) => to_all(&name),
                    (true, false) => to_client("alice", &name),
                    _ => to_client("bob", &name),
                });
            }
            if place + 1 == CLIENT_BACKLOG {
                for_one.push("end".to_owned());
                for_two.push("end".to_owned());
                commands.push(to_all("end"));
            }
            outcomes.push(done(delivery.id, commands));
        }
        let commit = async {
            let together = 1 + round % CLIENT_BACKLOG;
            while !outcomes.is_empty() {
                let some = outcomes.drain(..together.min(outcomes.len())).collect();
                lease.commits.commit(some).await.unwrap();
            }
        };
        let (heard_one, heard_two) = (
            hear(&mut *one.outbox, for_one.len()),
            hear(&mut *two.outbox, for_two.len()),
        );
        let ((), heard_one, heard_two) = tokio::join!(commit, heard_one, heard_two);
        assert_eq!((heard_one, heard_two), (for_one, for_two));
    }
}

pub async fn command_between_io_nodes_reaches_only_its_target(transport: Transport) {
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

pub async fn query_of_lost_client_is_collected_elsewhere(transport: Transport) {
    let mut one = join_io(&transport, "one").await;
    let two = join_io(&transport, "two").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    let ask = |id: EventId| Command::Ask {
        origin: QueryOrigin {
            id: id.to_string().into(),
            namespace: "/".into(),
            client: "alice".into(),
            io_node: "two".into(),
        },
        question: Question::Settled,
        timeout_ms: 1_000,
        token: Bytes::new(),
    };
    accept(&two, vec![connection("alice", "two")]).await;
    let first = read(&mut lease, 1).await.remove(0);
    drop(two);
    let last = read(&mut lease, 1).await.remove(0);
    assert_eq!(
        last.event.kind,
        EventKind::Disconnect(DisconnectReason::NodeLost.into())
    );
    let outcomes = [&first, &last].map(|delivery| done(delivery.id, vec![ask(delivery.id)]));
    lease.commits.commit(outcomes.into()).await.unwrap();
    let askers = commands(&mut *one.outbox, 2)
        .await
        .into_iter()
        .map(|command| match command {
            Command::Ask { origin, .. } => origin.io_node.to_string(),
            other => panic!("{other:?} was not expected"),
        });
    assert_eq!(askers.collect::<Vec<_>>(), ["two", "one"]);
}
