//! What every transport must do, as tests that know none of them.
//!
//! To hold a new transport to the list, name it in `conforms!` with what makes one, and what that needs to live.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use super::*;
use plugnode_message::{
    Asker, Audience, Change, Client, DisconnectReason, EventKind, Handshake, KeyChange, KeyValueError, MOST_SUM,
    Namespace, Payload, Question, Read, Refusal, Scope, Seen, Selection, SessionId, Text, Timer, now_ms,
};

/// What a transport under test is made with.
pub const PARTITIONS: u16 = 8;
pub const BACKLOG: usize = 20;
pub const CLIENT_BACKLOG: usize = 5;
pub const BUDGETS: Backlog = Backlog {
    events: BACKLOG,
    bytes: 1_000_000,
    client_events: CLIENT_BACKLOG,
    client_bytes: 100_000,
};
pub const OUTBOX: OutboxBudget = OutboxBudget {
    entries: 1_000,
    bytes: 1_000_000,
};
/// The most bytes in a bucket.
pub const BUCKET_BYTES: usize = 8_000_000;
/// How many timers there may be.
pub const TIMERS: TimerBudget = TimerBudget {
    of_app: 90,
    of_client: 3,
};
pub const DEAD_LETTERS: DeadLetterBudget = DeadLetterBudget {
    letters: 100,
    bytes: 1_000_000,
};

#[macro_export]
macro_rules! conforms {
    ($($transport:ident: $make:expr),* $(,)?) => {$(
        mod $transport {
            $crate::conforms!(@tests $make;
                an_event_is_handed_out_in_order_and_committed_once,
                what_is_not_committed_goes_to_the_next_owner,
                a_full_backlog_refuses_and_keeps_order,
                one_client_cannot_fill_a_partition,
                greedy_clients_leave_room_for_a_newcomer,
                open_events_are_bounded_in_bytes,
                every_outbox_has_one_order,
                an_outbox_is_bounded_in_bytes,
                a_command_for_one_client_reaches_its_io_node_alone,
                a_lost_io_node_leaves_one_disconnect_for_each_client,
                a_refused_client_is_forgotten,
                what_an_io_node_tells_another_reaches_it_alone,
                late_reply_follows_last_event_of_its_client,
                timer_is_due_once_at_its_owner,
                timer_is_replaced_cancelled_and_gone_with_its_client,
                timer_goes_on_until_it_is_cancelled,
                timers_are_bounded_for_each_app_and_client,
                timer_without_room_holds_up_no_other,
                question_for_lost_client_has_another_asker,
                patches_are_kept_for_the_next_owner,
                a_newer_session_fences_the_older,
                partitions_are_dealt_out_and_move,
                writes_are_seen_after_the_commit_and_not_from_dead_letters,
                writes_on_changed_reads_are_lost,
                one_call_is_checked_event_by_event,
                additions_need_no_reads,
                bucket_takes_no_more_than_its_bytes,
                bucket_filled_by_many_at_once_keeps_its_bound,
                a_kept_turn_keeps_younger_events_out,
                a_key_is_gone_after_its_time,
                answers_of_the_store_are_bounded,
                keys_are_listed_by_prefix,
                counters_of_many_clients_add_up,
                cost_of_keys_is_told,
                a_dead_letter_is_kept_until_it_is_revived_or_buried,
                dead_letters_are_bounded_for_each_app_and_client,
            );
        }
    )*};
    (@tests $make:expr; $($test:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $test() {
            let (transport, _server) = $make.await;
            let limit = std::time::Duration::from_secs(20);
            tokio::time::timeout(limit, $crate::conformance::$test(transport)).await.expect("the test must not hang");
        }
    )*};
}

pub async fn an_event_is_handed_out_in_order_and_committed_once(transport: Transport) {
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

pub async fn what_is_not_committed_goes_to_the_next_owner(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
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

pub async fn a_full_backlog_refuses_and_keeps_order(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("client-0", &mut *leases).await;
    // Many clients of one partition.
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
        "what is refused is the end, in order"
    );
}

pub async fn greedy_clients_leave_room_for_a_newcomer(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("client-0", &mut *leases).await;
    let mut clients = clients_in(lease.partition);
    // Each offers more than it is let have, again and again, and nothing of it is done.
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
        // Its io-node has not heard of the commit.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

pub async fn every_outbox_has_one_order(transport: Transport) {
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

pub async fn an_outbox_is_bounded_in_bytes(transport: Transport) {
    const EVENTS: usize = 18;
    let mut io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("client-0", &mut *leases).await;
    let clients = clients_in(lease.partition).take(EVENTS);
    accept(&io, clients.map(|id| message(&id, 1)).collect()).await;
    let deliveries = read(&mut lease, EVENTS).await;
    // Each event is answered with three quarters of what may wait.
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
    assert!(early.await.is_err(), "commits do not wait until something is heard");
    let ((), heard) = tokio::join!(commit_all, hear(&mut *io.outbox, 3 * EVENTS));
    let sent = (0..3 * EVENTS).map(|number| (number / 3).to_string());
    assert_eq!(heard, sent.collect::<Vec<_>>());
}

pub async fn a_command_for_one_client_reaches_its_io_node_alone(transport: Transport) {
    let one = join_io(&transport, "one").await;
    let mut two = join_io(&transport, "two").await;
    accept(&one, vec![connection("alice", "one")]).await;
    accept(&two, vec![connection("bob", "two")]).await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
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

pub async fn a_lost_io_node_leaves_one_disconnect_for_each_client(transport: Transport) {
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

pub async fn a_refused_client_is_forgotten(transport: Transport) {
    let one = join_io(&transport, "one").await;
    let mut two = join_io(&transport, "two").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
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
        ..Effects::default()
    };
    let verdicts = [
        Verdict::Done(refused(&stays)),
        Verdict::Done(refused(&leaves)),
        Verdict::Done(refused(&late)),
        Verdict::Dead(death("broken"), vec![refusal(&dead)]),
        Verdict::Done(Effects::default()),
    ];
    let outcomes = deliveries.iter().zip(verdicts);
    let outcomes = outcomes.map(|(delivery, verdict)| outcome(delivery.id, verdict));
    lease.commits.commit(outcomes.collect()).await.unwrap();
    let told = commands(&mut *two.outbox, 4).await;
    assert_eq!(told, [&stays, &leaves, &late, &dead].map(|id| refusal(id)));
    let revived = transport.dead_letters.revive(deliveries[3].id).await.unwrap();
    assert_eq!(revived, Revival::ClientGone, "it was refused for good");

    // What its io-node had not heard yet is accepted, and nothing comes of it.
    accept(&two, vec![event_of_its_end(&late), message("alice", 7)]).await;
    assert_eq!(numbers(&read(&mut lease, 1).await), [7]);

    // Their io-node dies, and only the one who came in has an end. The next owner finds no other.
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

pub async fn what_an_io_node_tells_another_reaches_it_alone(transport: Transport) {
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
    // Where a client's event is refused, what is in order with it is, too.
    let chatter = (0..CLIENT_BACKLOG as u64 + 1).map(|number| message("alice", number));
    let refused = io.inbox.ingest(chatter.chain([late.clone()]).collect()).await.unwrap();
    assert_eq!(refused.len(), 2);
    assert_eq!(refused[1], late);
}

fn timer(client: Option<&str>, key: &str) -> Timer {
    Timer {
        namespace: "/".into(),
        client: client.map(SessionId::from),
        key: key.into(),
        kind: "test.due/1".into(),
        data: Bytes::from_static(b"data"),
        period_ms: None,
    }
}

/// A write that sets a timer of the app, or of a client, to so many milliseconds from now.
fn sets(timer: &Timer, in_ms: u64) -> KeyChange {
    timer.set(&"/".into(), timer_partition(timer), now_ms() + in_ms)
}

fn timer_partition(timer: &Timer) -> Partition {
    let of_client = |client| partition_of(client, PARTITIONS);
    timer.client.as_ref().map_or(Partition(0), of_client)
}

/// A client's event is taken in, and committed without effects.
async fn is_handled(io: &IoSession, held: &mut BTreeMap<Partition, Lease>, event: Event) {
    let partition = partition_of(&event.client.as_ref().unwrap().id, PARTITIONS);
    let lease = held.get_mut(&partition).unwrap();
    accept(io, vec![event]).await;
    let id = read(lease, 1).await[0].id;
    assert_eq!(lease.commits.commit(vec![done(id, Vec::new())]).await.unwrap(), []);
}

/// Commits an event of this client that writes so.
async fn commits(
    io: &IoSession,
    held: &mut BTreeMap<Partition, Lease>,
    client: &str,
    writes: Vec<KeyChange>,
) -> Vec<Lost> {
    accept(io, vec![message(client, 0)]).await;
    let lease = held.get_mut(&partition_of(&client.into(), PARTITIONS)).unwrap();
    let id = read(lease, 1).await[0].id;
    let lost = lease
        .commits
        .commit(vec![outcome(
            id,
            Verdict::Done(Effects {
                writes,
                ..Effects::default()
            }),
        )])
        .await;
    let lost = lost.unwrap();
    if !lost.is_empty() {
        assert_eq!(lease.commits.commit(vec![done(id, Vec::new())]).await.unwrap(), []);
    }
    lost
}

/// The keys of the timers of clients that this io-node is told to fire.
async fn fired(outbox: &mut dyn Outbox, count: usize) -> Vec<String> {
    let key = |command| match command {
        Command::Fire { fired, .. } => fired.key.to_string(),
        other => panic!("{other:?} was not expected"),
    };
    commands(outbox, count).await.into_iter().map(key).collect()
}

async fn is_silent(outbox: &mut dyn Outbox) {
    let more = tokio::time::timeout(Duration::from_millis(250), outbox.next()).await;
    assert!(more.is_err(), "{more:?}");
}

pub async fn timer_is_due_once_at_its_owner(transport: Transport) {
    let mut io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut held = hold_all(&mut *leases).await;
    is_handled(&io, &mut held, connection("alice", "io")).await;
    let (hers, ours) = (timer(Some("alice"), "hers"), timer(None, "ours"));
    let begun = now_ms();
    let writes = vec![sets(&hers, 60), sets(&ours, 60)];
    assert_eq!(commits(&io, &mut held, "alice", writes).await, []);
    assert_eq!(transport.nodes.timers().await.unwrap(), 2);
    assert_eq!(fired(&mut *io.outbox, 1).await, ["hers"]);
    assert!(now_ms() >= begun + 60, "it is not early");
    let due = read(held.get_mut(&Partition(0)).unwrap(), 1).await.remove(0);
    let EventKind::Timer { fired, kind, data } = &due.event.kind else {
        panic!("{due:?} was not expected")
    };
    assert_eq!(
        (&*fired.key, &**kind, &data[..], fired.missed),
        ("ours", "test.due/1", &b"data"[..], 0)
    );
    assert!(due.event.client.is_none() && now_ms() >= fired.due_ms);
    held[&Partition(0)]
        .commits
        .commit(vec![done(due.id, Vec::new())])
        .await
        .unwrap();
    assert_eq!(transport.nodes.timers().await.unwrap(), 0);
    is_silent(&mut *io.outbox).await;
}

pub async fn timer_is_replaced_cancelled_and_gone_with_its_client(transport: Transport) {
    let mut io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut held = hold_all(&mut *leases).await;
    for client in ["alice", "bob"] {
        is_handled(&io, &mut held, connection(client, "io")).await;
    }
    let of_alice = |key| timer(Some("alice"), key);
    let writes = vec![sets(&of_alice("replaced"), 50), sets(&of_alice("cancelled"), 50)];
    assert_eq!(commits(&io, &mut held, "alice", writes).await, []);
    let cancelled = of_alice("cancelled");
    let cancel = cancelled.cancel(&"/".into(), timer_partition(&cancelled));
    let writes = vec![sets(&of_alice("replaced"), 60_000), cancel];
    assert_eq!(commits(&io, &mut held, "alice", writes).await, []);
    let writes = vec![sets(&timer(Some("bob"), "replaced"), 0)];
    assert_eq!(commits(&io, &mut held, "bob", writes).await, []);
    assert_eq!(fired(&mut *io.outbox, 1).await, ["replaced"]);
    is_silent(&mut *io.outbox).await;
    assert_eq!(transport.nodes.timers().await.unwrap(), 1);
    // What has no disconnect yet may be set, and does not come after it.
    let writes = vec![sets(&timer(Some("bob"), "late"), 60_000)];
    assert_eq!(commits(&io, &mut held, "bob", writes).await, []);
    for client in ["alice", "bob"] {
        is_handled(&io, &mut held, event_of_its_end(client)).await;
    }
    assert_eq!(transport.nodes.timers().await.unwrap(), 0);
}

pub async fn timer_goes_on_until_it_is_cancelled(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut held = hold_all(&mut *leases).await;
    let every = Timer {
        period_ms: Some(60),
        ..timer(None, "tick")
    };
    assert_eq!(commits(&io, &mut held, "alice", vec![sets(&every, 0)]).await, []);
    let (mut due, mut missed) = (Vec::new(), 0);
    for _ in 0..4 {
        let delivery = read(held.get_mut(&Partition(0)).unwrap(), 1).await.remove(0);
        let EventKind::Timer { fired, .. } = &delivery.event.kind else {
            panic!("{delivery:?} was not expected")
        };
        due.push(fired.due_ms);
        missed += fired.missed;
        held[&Partition(0)]
            .commits
            .commit(vec![done(delivery.id, Vec::new())])
            .await
            .unwrap();
    }
    assert!(due.windows(2).all(|two| two[1] > two[0]), "{due:?}");
    // None is left out without being counted.
    let steps = (due[3] - due[0]) / 60;
    assert!(steps >= 3 && steps <= 3 + u64::from(missed), "{due:?}, {missed} missed");
    let cancel = every.cancel(&"/".into(), Partition(0));
    assert_eq!(commits(&io, &mut held, "alice", vec![cancel]).await, []);
    assert_eq!(transport.nodes.timers().await.unwrap(), 0);
}

pub async fn timer_without_room_holds_up_no_other(transport: Transport) {
    let mut io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut held = hold_all(&mut *leases).await;
    is_handled(&io, &mut held, connection("alice", "io")).await;
    // More than the partition of the app's may have open.
    let all = BACKLOG + 5;
    let ours = (0..all).map(|number| sets(&timer(None, &format!("timer {number}")), 0));
    let writes = ours.chain([sets(&timer(Some("alice"), "hers"), 150)]).collect();
    assert_eq!(commits(&io, &mut held, "alice", writes).await, []);
    assert_eq!(fired(&mut *io.outbox, 1).await, ["hers"]);
    // Once there is room, the others are due as well.
    let mut due = HashSet::new();
    while due.len() < all {
        let lease = held.get_mut(&Partition(0)).unwrap();
        for delivery in lease.log.next().await.unwrap().expect("the lease holds") {
            if let EventKind::Timer { fired, .. } = &delivery.event.kind {
                assert!(due.insert(fired.key.clone()), "{fired:?}");
            }
            lease.commits.commit(vec![done(delivery.id, Vec::new())]).await.unwrap();
        }
    }
}

pub async fn timers_are_bounded_for_each_app_and_client(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut held = hold_all(&mut *leases).await;
    let of_alice = |number: usize| sets(&timer(Some("alice"), &format!("timer {number}")), 60_000);
    let most = TIMERS.of_client;
    let writes = (0..most).map(of_alice).collect();
    assert_eq!(commits(&io, &mut held, "alice", writes).await, []);
    // To set one again needs no room.
    let writes = (0..most).map(of_alice).collect();
    assert_eq!(commits(&io, &mut held, "alice", writes).await, []);
    let refused = |lost: Vec<Lost>| match lost.into_iter().next().map(|lost| lost.conflict) {
        Some(Conflict::Impossible(reason)) => assert!(reason.contains("too many timers"), "{reason}"),
        other => panic!("{other:?} was not expected"),
    };
    refused(commits(&io, &mut held, "alice", vec![of_alice(most)]).await);
    // Each shard has its part of the app's.
    let of_app = |number: usize| sets(&timer(None, &format!("timer {number}")), 60_000);
    for number in 0..TIMERS.of_app {
        let lost = commits(&io, &mut held, "bob", vec![of_app(number)]).await;
        if !lost.is_empty() {
            assert!(number >= TIMERS.of_app / 3 - most, "{number}");
            return refused(lost);
        }
    }
    refused(commits(&io, &mut held, "bob", vec![of_app(TIMERS.of_app)]).await);
}

pub async fn question_for_lost_client_has_another_asker(transport: Transport) {
    let mut one = join_io(&transport, "one").await;
    let two = join_io(&transport, "two").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    let ask = |id: EventId| Command::Ask {
        asker: Asker {
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
            Command::Ask { asker, .. } => asker.io_node.to_string(),
            other => panic!("{other:?} was not expected"),
        });
    assert_eq!(askers.collect::<Vec<_>>(), ["two", "one"]);
}

pub async fn patches_are_kept_for_the_next_owner(transport: Transport) {
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
    // The first is applied: with the next commit it is forgotten.
    lease.commits.forget_patches(vec![left[0].clone()]);
    let mut lease = lease;
    let again = read(&mut lease, 1).await;
    lease.commits.commit(vec![done(again[0].id, Vec::new())]).await.unwrap();
    drop(lease);
    let lease = lease_of("alice", &mut *leases).await;
    assert_eq!(lease.patches, left[1..]);
}

pub async fn a_newer_session_fences_the_older(transport: Transport) {
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

pub async fn partitions_are_dealt_out_and_move(transport: Transport) {
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

pub async fn writes_are_seen_after_the_commit_and_not_from_dead_letters(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(&io, (0..3).map(|n| message("alice", n)).collect()).await;
    let deliveries = read(&mut lease, 3).await;

    let writes = vec![write("k", Change::set("1")), write("gone", Change::set("1"))];
    lease
        .commits
        .commit(vec![wrote(deliveries[0].id, Vec::new(), writes)])
        .await
        .unwrap();
    let writes = vec![write("k", Change::set("2")), write("gone", Change::Delete)];
    lease
        .commits
        .commit(vec![wrote(deliveries[1].id, Vec::new(), writes)])
        .await
        .unwrap();
    let dead = Verdict::Dead(death("broken"), Vec::new());
    lease
        .commits
        .commit(vec![outcome(deliveries[2].id, dead)])
        .await
        .unwrap();

    let store = transport.key_value.clone();
    assert_eq!(values(&*store, &["k", "gone"]).await, [Some("2".into()), None]);
    assert_eq!(all_keys(&*store, "").await, ["k"]);
    assert_eq!(store.get("other", &["k".into()], MOST).await.unwrap(), [None]);
    let dead = transport.dead_letters.dead_letters(10).await.unwrap();
    assert_eq!((dead.len(), dead[0].id), (1, deliveries[2].id));
}

/// Keys of every shard.
const SPREAD: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
/// More than is ever read.
const MOST: usize = 10_000_000;

pub async fn writes_on_changed_reads_are_lost(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut outbox = io.outbox;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut held = hold_all(&mut *leases).await;
    let long = "long".repeat(1_000);
    let store = transport.key_value.clone();
    let mut before: Option<String> = None;
    for value in ["1", "12", &long, "x"] {
        let of = |client: &str| partition_of(&client.into(), PARTITIONS);
        io.inbox
            .ingest(vec![message("alice", 0), message("bob", 0)])
            .await
            .unwrap();
        let alice = read(held.get_mut(&of("alice")).unwrap(), 1).await[0].id;
        let bob = read(held.get_mut(&of("bob")).unwrap(), 1).await[0].id;
        let reads = || SPREAD.iter().map(|key| saw(key, before.as_deref())).collect::<Vec<_>>();
        let writes = |value: &str| {
            let change = Change::set(value.to_owned());
            SPREAD.iter().map(|key| write(key, change.clone())).collect::<Vec<_>>()
        };
        let (first, second) = (&held[&of("alice")].commits, &held[&of("bob")].commits);
        assert_eq!(
            first.commit(vec![wrote(alice, reads(), writes(value))]).await.unwrap(),
            []
        );
        assert_eq!(hear(&mut *outbox, 1).await, ["done"]);
        // Each key alone is reason enough, and what is only written is none.
        for key in ["a", "c", "h"] {
            let outcome = wrote(
                bob,
                vec![saw(key, before.as_deref())],
                vec![write("other", Change::set("bob"))],
            );
            assert_eq!(second.commit(vec![outcome]).await.unwrap(), [changed(bob)]);
        }
        assert_eq!(
            values(&*store, &["a", "h", "other"]).await,
            [Some(value.into()), Some(value.into()), None]
        );
        let outcome = wrote(
            bob,
            vec![saw("c", Some(value))],
            vec![write("c", Change::set(value.to_owned()))],
        );
        assert_eq!(second.commit(vec![outcome]).await.unwrap(), []);
        assert_eq!(hear(&mut *outbox, 1).await, ["done"], "nothing was sent before");
        before = Some(value.to_owned());
    }
}

pub async fn one_call_is_checked_event_by_event(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(&io, (0..5).map(|n| message("alice", n)).collect()).await;
    let ids: Vec<EventId> = read(&mut lease, 5).await.iter().map(|delivery| delivery.id).collect();
    for key in ["k", "l", "m"] {
        let count = |id, seen: Option<&str>, value: &'static str| {
            wrote(id, vec![saw(key, seen)], vec![write(key, Change::set(value))])
        };
        let nothing = |id| done(id, Vec::new());
        let outcomes = match key {
            "k" => vec![nothing(ids[0]), count(ids[1], None, "1"), count(ids[2], None, "1")],
            "l" => vec![count(ids[2], None, "1"), count(ids[3], Some("1"), "2")],
            _ => vec![count(ids[4], Some("never"), "1")],
        };
        let last = outcomes.last().unwrap().id;
        let lost = lease.commits.commit(outcomes).await.unwrap();
        // Across shards the second of two that touch a key comes with the next call.
        match key {
            "l" => assert!(lost.is_empty() || lost == [changed(last)], "{lost:?}"),
            _ => assert_eq!(lost, [changed(last)]),
        }
    }
    let store = transport.key_value.clone();
    assert_eq!(values(&*store, &["k", "m"]).await, [Some("1".into()), None]);
}

pub async fn additions_need_no_reads(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(&io, (0..5).map(|n| message("alice", n)).collect()).await;
    let mut ids: Vec<EventId> = read(&mut lease, 5).await.iter().map(|delivery| delivery.id).collect();
    let impossible = ids.pop().unwrap();
    let add = |id, delta| wrote(id, Vec::new(), SPREAD.map(|key| write(key, Change::Add(delta))).into());
    for (id, delta) in [(ids[0], 40), (ids[1], -5), (ids[2], 7)] {
        assert_eq!(lease.commits.commit(vec![add(id, delta)]).await.unwrap(), []);
    }
    let store = transport.key_value.clone();
    assert_eq!(
        values(&*store, &["a", "h"]).await,
        [Some("42".into()), Some("42".into())]
    );
    let most = MOST_SUM.to_string();
    let others = ["4 2", "", "01", "1e3", &most];
    let writes = others
        .iter()
        .enumerate()
        .map(|(number, value)| write(&format!("n{number}"), Change::set((*value).to_owned())));
    let outcome = wrote(ids[3], Vec::new(), writes.collect());
    assert_eq!(lease.commits.commit(vec![outcome]).await.unwrap(), []);
    for (number, value) in others.into_iter().enumerate() {
        let key = format!("n{number}");
        let writes = vec![write("other", Change::set("1")), write(&key, Change::Add(1))];
        let lost = lease
            .commits
            .commit(vec![wrote(impossible, Vec::new(), writes)])
            .await
            .unwrap();
        let Conflict::Impossible(reason) = &lost[0].conflict else {
            panic!("{lost:?}")
        };
        let why = if value == most { "too large" } else { "no integer" };
        assert!(reason.contains(&format!("{key:?}")) && reason.contains(why), "{reason}");
        assert_eq!(values(&*store, &[&key, "other"]).await, [Some(value.into()), None]);
    }
    let writes = vec![write("n4", Change::Add(-1_000_000))];
    assert_eq!(
        lease
            .commits
            .commit(vec![wrote(impossible, Vec::new(), writes)])
            .await
            .unwrap(),
        []
    );
    assert_eq!(
        values(&*store, &["n4"]).await,
        [Some((MOST_SUM - 1_000_000).to_string())]
    );
}

pub async fn bucket_takes_no_more_than_its_bytes(transport: Transport) {
    const VALUE: usize = 300_000;
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut held = hold_all(&mut *leases).await;
    let mut clients = 0;
    let set = |key: &str, bytes: usize| write(key, Change::set("x".repeat(bytes)));
    let mut commit = async |writes| {
        // Each by a client of its own, whose share of the backlog is free.
        let client = format!("client-{clients}");
        clients += 1;
        accept(&io, vec![message(&client, 0)]).await;
        let lease = held
            .get_mut(&partition_of(&client.as_str().into(), PARTITIONS))
            .unwrap();
        let id = read(lease, 1).await[0].id;
        let mut lost = lease.commits.commit(vec![wrote(id, Vec::new(), writes)]).await.unwrap();
        if !lost.is_empty() {
            assert_eq!(lease.commits.commit(vec![done(id, Vec::new())]).await.unwrap(), []);
        }
        lost.pop().map(|lost| lost.conflict)
    };
    let (mut kept, mut refusal) = (0, None);
    while refusal.is_none() {
        // Each shard has its part of the budget.
        assert!(kept <= BUCKET_BYTES / VALUE, "a bucket has a bound");
        refusal = commit(vec![set("a", 1), set(&format!("a{kept}"), VALUE)]).await;
        kept += usize::from(refusal.is_none());
    }
    assert!(kept >= 8, "{kept}");
    let Some(Conflict::Impossible(reason)) = refusal else {
        panic!("{refusal:?}")
    };
    assert!(
        reason.contains("bucket \"b\" is full") && reason.contains("bucket-bytes"),
        "{reason}"
    );
    // What adds nothing is taken, and another bucket, and all once there is room.
    let elsewhere = KeyChange {
        bucket: "other".into(),
        ..set("a", VALUE)
    };
    assert_eq!(commit(vec![elsewhere]).await, None);
    assert_eq!(commit(vec![set("a0", VALUE), set("a1", VALUE - 1)]).await, None);
    let all = (0..kept).map(|number| write(&format!("a{number}"), Change::Delete));
    assert_eq!(commit(all.collect()).await, None);
    for number in 0..6 {
        assert_eq!(commit(vec![set(&format!("a{number}"), VALUE)]).await, None);
    }
}

pub async fn bucket_filled_by_many_at_once_keeps_its_bound(transport: Transport) {
    const VALUE: usize = 900_000;
    const CLIENTS: usize = 24;
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut held = hold_all(&mut *leases).await;
    let names: Vec<String> = (0..CLIENTS).map(|number| format!("client-{number}")).collect();
    let mut filling = Vec::new();
    for name in &names {
        accept(&io, vec![message(name, 0)]).await;
        let lease = held.get_mut(&partition_of(&name.as_str().into(), PARTITIONS)).unwrap();
        let (id, commits) = (read(lease, 1).await[0].id, lease.commits.clone());
        filling.push(async move {
            loop {
                let writes = vec![write(name, Change::set("x".repeat(VALUE)))];
                let outcome = Outcome {
                    keep_turn: Some(Duration::from_secs(60)),
                    ..wrote(id, Vec::new(), writes)
                };
                let mut lost = commits.commit(vec![outcome]).await.unwrap();
                match lost.pop().map(|lost| lost.conflict) {
                    None => return,
                    Some(Conflict::Changed) => tokio::time::sleep(Duration::from_millis(2)).await,
                    Some(Conflict::Impossible(reason)) => {
                        assert!(reason.contains("bucket \"b\" is full"), "{reason}");
                        return;
                    }
                }
            }
        });
    }
    futures_util::future::join_all(filling).await;
    let kept = all_keys(&*transport.key_value.clone(), "").await.len();
    assert!(kept * VALUE <= BUCKET_BYTES, "{kept} values of {VALUE} bytes");
    // Each shard takes what fits into its part.
    assert!(kept >= 6, "{kept}");
}

pub async fn a_kept_turn_keeps_younger_events_out(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut held = hold_all(&mut *leases).await;
    let of = |client: &str| partition_of(&client.into(), PARTITIONS);
    let mut older = message("alice", 0);
    older.received_at_ms -= 1_000;
    io.inbox
        .ingest(vec![older, message("bob", 0), message("bob", 1)])
        .await
        .unwrap();
    let alice = read(held.get_mut(&of("alice")).unwrap(), 1).await[0].id;
    let bobs: Vec<EventId> = read(held.get_mut(&of("bob")).unwrap(), 2)
        .await
        .iter()
        .map(|d| d.id)
        .collect();
    let (first, second) = (held[&of("alice")].commits.clone(), held[&of("bob")].commits.clone());
    let reads = |seen: Option<&str>| SPREAD.iter().map(|key| saw(key, seen)).collect::<Vec<_>>();
    let mut outcome = wrote(alice, reads(Some("never")), vec![write("c", Change::set("alice"))]);
    outcome.keep_turn = Some(Duration::from_secs(60));
    let lost = first.commit(vec![outcome]).await.unwrap();
    assert_eq!(
        lost,
        [Lost {
            has_turn: true,
            ..changed(alice)
        }]
    );
    for (key, change) in [("a", Change::Add(1)), ("h", Change::set("bob"))] {
        let outcome = wrote(bobs[0], Vec::new(), vec![write(key, change)]);
        assert_eq!(second.commit(vec![outcome]).await.unwrap(), [changed(bobs[0])]);
    }
    let outcome = wrote(bobs[0], Vec::new(), vec![write("free", Change::set("bob"))]);
    assert_eq!(second.commit(vec![outcome]).await.unwrap(), []);
    let outcome = wrote(alice, reads(None), vec![write("c", Change::set("alice"))]);
    assert_eq!(first.commit(vec![outcome]).await.unwrap(), []);
    let outcome = wrote(
        bobs[1],
        Vec::new(),
        vec![write("a", Change::Add(1)), write("h", Change::set("bob"))],
    );
    assert_eq!(
        second.commit(vec![outcome]).await.unwrap(),
        [],
        "its turn is over with its commit"
    );
}

pub async fn a_key_is_gone_after_its_time(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(&io, (0..4).map(|n| message("alice", n)).collect()).await;
    let ids: Vec<EventId> = read(&mut lease, 4).await.iter().map(|delivery| delivery.id).collect();
    let for_ms = |value: &'static str, ttl_ms| Change::Set {
        value: Bytes::from_static(value.as_bytes()),
        ttl_ms: Some(ttl_ms),
    };
    let all = |change: Change| SPREAD.map(|key| write(key, change.clone())).to_vec();
    let mut writes = all(for_ms("1", 300));
    writes.push(write("stays", for_ms("1", 60_000)));
    let outcome = wrote(ids[0], Vec::new(), writes);
    let begun = std::time::Instant::now();
    assert_eq!(lease.commits.commit(vec![outcome]).await.unwrap(), []);
    // One is made to stay, and one is counted on.
    let writes = vec![
        write("a", Change::set("2")),
        write("b", Change::Add(1)),
        write("stays", Change::Add(1)),
    ];
    assert_eq!(
        lease
            .commits
            .commit(vec![wrote(ids[1], Vec::new(), writes)])
            .await
            .unwrap(),
        []
    );
    let store = transport.key_value.clone();
    let there = values(&*store, &["b", "c"]).await;
    if begun.elapsed() < Duration::from_millis(250) {
        assert_eq!(there, [Some("2".into()), Some("1".into())]);
    }
    while values(&*store, &SPREAD).await.iter().flatten().count() > 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(300), "not before");
    assert_eq!(all_keys(&*store, "").await, ["a", "stays"]);
    assert_eq!(
        values(&*store, &["a", "stays"]).await,
        [Some("2".into()), Some("2".into())]
    );
    // To a commit it is gone as well, and it begins anew.
    let reads = vec![saw("c", None), saw("d", None)];
    let outcome = wrote(
        ids[2],
        reads,
        vec![write("b", Change::Add(5)), write("c", Change::Add(5))],
    );
    assert_eq!(lease.commits.commit(vec![outcome]).await.unwrap(), []);
    let outcome = wrote(ids[3], vec![saw("d", Some("1"))], all(Change::Delete));
    assert_eq!(lease.commits.commit(vec![outcome]).await.unwrap(), [changed(ids[3])]);
    assert_eq!(values(&*store, &["b", "c"]).await, [Some("5".into()), Some("5".into())]);
    let outcome = wrote(ids[3], Vec::new(), all(Change::Delete));
    assert_eq!(lease.commits.commit(vec![outcome]).await.unwrap(), []);
    assert_eq!(all_keys(&*store, "").await, ["stays"]);
}

pub async fn answers_of_the_store_are_bounded(transport: Transport) {
    const LARGE: usize = 300_000;
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(&io, vec![message("alice", 0)]).await;
    let id = read(&mut lease, 1).await[0].id;
    let large = Change::set(vec![b'x'; LARGE]);
    let outcome = wrote(id, Vec::new(), SPREAD.map(|key| write(key, large.clone())).into());
    assert_eq!(lease.commits.commit(vec![outcome]).await.unwrap(), []);
    let store = transport.key_value.clone();
    let keys: Vec<Text> = SPREAD.into_iter().chain(["none"]).map(Text::from).collect();
    let found = store.get("b", &keys, SPREAD.len() * LARGE).await.unwrap();
    let sizes: Vec<_> = found.iter().map(|value| value.as_ref().map(Bytes::len)).collect();
    assert_eq!(sizes[..SPREAD.len()], [Some(LARGE); SPREAD.len()]);
    assert_eq!(sizes[SPREAD.len()], None);
    for (count, most) in [(SPREAD.len(), SPREAD.len() * LARGE - 1), (1, LARGE - 1), (3, LARGE)] {
        let error = store.get("b", &keys[..count], most).await.expect_err("it is too much");
        assert!(
            matches!(error, KeyValueError::TooLarge(bound) if bound == most),
            "{error}"
        );
    }
    assert!(store.has_answered_since(std::time::Instant::now()).await);
    let mut cursor = Some(0);
    while let Some(from) = cursor {
        match store.keys("b", "", from, 0).await {
            // There is nothing in this shard.
            Ok((keys, next)) => {
                assert!(keys.is_empty());
                cursor = next;
            }
            Err(error) => return assert!(matches!(error, KeyValueError::TooLarge(0)), "{error}"),
        }
    }
    panic!("no key has no bytes");
}

pub async fn keys_are_listed_by_prefix(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(&io, vec![message("alice", 0)]).await;
    let id = read(&mut lease, 1).await[0].id;
    let names = (0..1_500).map(|number| format!("user:{number:04}"));
    let mut names: Vec<String> = names.chain(["user".into(), "*[a".into(), "usex:1".into()]).collect();
    let writes = names.iter().map(|name| write(name, Change::set("1"))).collect();
    assert_eq!(
        lease.commits.commit(vec![wrote(id, Vec::new(), writes)]).await.unwrap(),
        []
    );
    let store = transport.key_value.clone();
    names.sort_unstable();
    assert_eq!(all_keys(&*store, "").await, names);
    let those = |prefix: &str| {
        names
            .iter()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect::<Vec<_>>()
    };
    for prefix in ["user:", "user:07", "use", "*[", "nobody"] {
        assert_eq!(all_keys(&*store, prefix).await, those(prefix), "{prefix}");
    }
}

/// As an app-node does it: whoever loses reads again, and after a few losses has its turn kept.
pub async fn counters_of_many_clients_add_up(transport: Transport) {
    const CLIENTS: usize = 12;
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let held = hold_all(&mut *leases).await;
    let clients: Vec<String> = (0..CLIENTS).map(|number| format!("client-{number}")).collect();
    io.inbox
        .ingest(clients.iter().map(|id| message(id, 0)).collect())
        .await
        .unwrap();
    let of = |client: &String| partition_of(&client.as_str().into(), PARTITIONS);
    let store = transport.key_value.clone();
    let (mut counting, mut kept) = (Vec::new(), Vec::new());
    for (partition, mut lease) in held {
        let expected = clients.iter().filter(|client| of(client) == partition).count();
        if expected == 0 {
            continue;
        }
        let ids: Vec<EventId> = read(&mut lease, expected)
            .await
            .iter()
            .map(|delivery| delivery.id)
            .collect();
        for id in ids {
            let (store, commits) = (store.clone(), lease.commits.clone());
            counting.push(async move {
                for losses in 0.. {
                    let before = values(&*store, &SPREAD).await;
                    let next =
                        |value: &Option<String>| value.as_ref().map_or(0, |text| text.parse::<u64>().unwrap()) + 1;
                    let seen = SPREAD.iter().zip(&before);
                    let reads = seen.clone().map(|(key, value)| saw(key, value.as_deref())).collect();
                    let writes = seen.map(|(key, value)| write(key, Change::set(next(value).to_string())));
                    let mut outcome = wrote(id, reads, writes.collect());
                    outcome.keep_turn = (losses > 1).then_some(Duration::from_secs(60));
                    if commits.commit(vec![outcome]).await.unwrap().is_empty() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(losses)).await;
                }
            });
        }
        kept.push(lease);
    }
    let begun = std::time::Instant::now();
    futures_util::future::join_all(counting).await;
    let each = begun.elapsed().as_secs_f64() * 1e6 / CLIENTS as f64;
    println!("{CLIENTS} clients at once on the same keys: {each:.1} µs an event");
    assert_eq!(
        values(&*store, &SPREAD).await,
        vec![Some(CLIENTS.to_string()); SPREAD.len()]
    );
}

/// Prints what an event costs that reads and writes so many keys of its own, from taking it in to its commit; `--nocapture`
/// shows it. What it costs where many count under one key, the test above tells in the same way.
pub async fn cost_of_keys_is_told(transport: Transport) {
    const EVENTS: usize = 160;
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut held = hold_all(&mut *leases).await;
    let store = transport.key_value.clone();
    let mut outbox = io.outbox;
    // Those that it has settled make room for the next.
    let heard = tokio::spawn(async move { while outbox.next().await.is_ok() {} });
    for keys in [0, 1, 10] {
        let begun = std::time::Instant::now();
        let mut handled = 0;
        while handled < EVENTS {
            let clients = (0..16).map(|number| format!("client-{}", handled + number));
            let refused = io
                .inbox
                .ingest(clients.map(|id| message(&id, 0)).collect())
                .await
                .unwrap();
            let mut left = 16 - refused.len();
            while left > 0 {
                let mut reading: Vec<_> = held.values_mut().map(|lease| lease.log.next()).collect();
                let (deliveries, ..) = futures_util::future::select_all(&mut reading).await;
                drop(reading);
                let deliveries = deliveries.unwrap().unwrap();
                left -= deliveries.len();
                handled += deliveries.len();
                let partition = deliveries[0].id.partition;
                let mut outcomes = Vec::new();
                for Delivery { id, .. } in deliveries {
                    let names: Vec<String> = (0..keys).map(|number| format!("{id}-{number}")).collect();
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    if !names.is_empty() {
                        values(&*store, &names).await;
                    }
                    let reads = names.iter().map(|name| saw(name, None)).collect();
                    let writes = names.iter().map(|name| write(name, Change::set("1"))).collect();
                    outcomes.push(wrote(id, reads, writes));
                }
                assert_eq!(held[&partition].commits.commit(outcomes).await.unwrap(), []);
            }
        }
        println!(
            "{keys} keys: {:.1} µs an event",
            begun.elapsed().as_secs_f64() * 1e6 / handled as f64
        );
    }
    heard.abort();
}

/// Leases of all partitions.
async fn hold_all(leases: &mut dyn Leases) -> BTreeMap<Partition, Lease> {
    let mut held = BTreeMap::new();
    while held.len() < usize::from(PARTITIONS) {
        let lease = leases.next().await.unwrap();
        held.insert(lease.partition, lease);
    }
    held
}

pub async fn a_dead_letter_is_kept_until_it_is_revived_or_buried(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(
        &io,
        vec![connection("alice", "io"), message("alice", 1), message("alice", 2)],
    )
    .await;
    let deliveries = read(&mut lease, 3).await;
    let dead = |delivery: &Delivery| outcome(delivery.id, Verdict::Dead(death("broken"), Vec::new()));
    let outcomes = deliveries[1..].iter().map(dead);
    lease.commits.commit(outcomes.collect()).await.unwrap();

    let dead = transport.dead_letters.dead_letters(10).await.unwrap();
    assert_eq!(
        dead.iter().map(|letter| letter.id).collect::<Vec<_>>(),
        [deliveries[1].id, deliveries[2].id]
    );
    assert_eq!(dead[0].death, death("broken"));
    let one = transport.dead_letters.dead_letter(deliveries[2].id).await.unwrap();
    assert_eq!(one.map(|letter| letter.id), Some(deliveries[2].id));
    let alive = transport.dead_letters.dead_letter(deliveries[0].id).await.unwrap();
    assert!(alive.is_none(), "{alive:?}");
    let DeadContent::Event(event) = &dead[0].content else {
        panic!("{dead:?}")
    };
    assert_eq!(number(event), 1);
    assert_eq!(
        transport.dead_letters.dead_letters(1).await.unwrap()[0].id,
        deliveries[2].id,
        "the latest"
    );

    assert_eq!(
        transport.dead_letters.revive(deliveries[1].id).await.unwrap(),
        Revival::Queued
    );
    assert_eq!(
        transport.dead_letters.revive(deliveries[1].id).await.unwrap(),
        Revival::Unknown
    );
    let again = read(&mut lease, 1).await;
    assert_eq!(numbers(&again), [1]);
    assert!(again[0].id > deliveries[2].id, "it has a new name");
    lease.commits.commit(vec![done(again[0].id, Vec::new())]).await.unwrap();

    accept(&io, vec![event_of_its_end("alice")]).await;
    assert_eq!(
        transport.dead_letters.revive(deliveries[2].id).await.unwrap(),
        Revival::ClientGone
    );
    assert!(transport.dead_letters.bury(deliveries[2].id).await.unwrap());
    assert!(!transport.dead_letters.bury(deliveries[2].id).await.unwrap());
    assert!(transport.dead_letters.dead_letters(10).await.unwrap().is_empty());
}

pub async fn dead_letters_are_bounded_for_each_app_and_client(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("client-0", &mut *leases).await;
    let mut clients = clients_in(lease.partition);
    let mut put_aside = async |app: &str, client: &str, number: u64, bytes: usize| {
        // There is room as soon as its io-node has heard of the commit before.
        while !io
            .inbox
            .ingest(vec![large(client, number, bytes)])
            .await
            .unwrap()
            .is_empty()
        {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let death = Death {
            app: Some(app.into()),
            ..death("broken")
        };
        let id = read(&mut lease, 1).await[0].id;
        let verdict = Verdict::Dead(death, Vec::new());
        lease.commits.commit(vec![outcome(id, verdict)]).await.unwrap();
    };
    let kept = async |app: &str| -> Vec<u64> {
        let letters = transport.dead_letters.dead_letters(1_000).await.unwrap();
        let of_app = letters.iter().filter(|letter| letter.death.app == Some(app.into()));
        let number = |letter: &DeadLetter| match &letter.content {
            DeadContent::Event(event) => number(event),
            DeadContent::Foreign(_) => panic!("{letter:?}"),
        };
        of_app.map(number).collect()
    };
    put_aside("/other", &clients.next().unwrap(), 7, 10).await;
    let first = clients.next().unwrap();
    put_aside("/", &first, 0, 10).await;

    // A client has a tenth, in bytes and in letters; others keep theirs.
    let greedy = clients.next().unwrap();
    for number in 1..=12 {
        put_aside("/", &greedy, number, DEAD_LETTERS.bytes / 50).await;
    }
    assert_eq!(kept("/").await, [0, 9, 10, 11, 12]);
    let greedy = clients.next().unwrap();
    for number in 13..=30 {
        put_aside("/", &greedy, number, 10).await;
    }
    let left: Vec<u64> = [0].into_iter().chain(9..=12).chain(21..=30).collect();
    assert_eq!(kept("/").await, left);

    // One letter over the share is kept alone. What all have is bounded, and the oldest go first.
    for (number, client) in clients.take(5).enumerate() {
        put_aside("/", &client, 100, 10).await;
        put_aside("/", &client, 101 + number as u64, DEAD_LETTERS.bytes / 4).await;
    }
    assert_eq!(kept("/").await, [103, 104, 105]);
    assert_eq!(kept("/other").await, [7]);
}

async fn join_io(transport: &Transport, id: &str) -> IoSession {
    transport
        .events
        .join_io(IoNode {
            host: "localhost".into(),
            port: 1,
            ..IoNode::without_address(id)
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
        patched: 0,
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
        query: "".into(),
        headers: [].into(),
        remote_addr: None,
        transport: "websocket".into(),
        recovered: false,
    };
    let mut event = event(client, EventKind::Connection(Box::new(handshake)));
    event.client.as_mut().unwrap().io_node = io_node.into();
    event
}

fn event_of_its_end(client: &str) -> Event {
    event(client, EventKind::Disconnect(DisconnectReason::Client.into()))
}

fn death(reason: &str) -> Death {
    Death {
        reason: reason.into(),
        attempts: 3,
        release: Some("app-1".into()),
        app: Some("/".into()),
    }
}

/// The keys of bucket `b` that begin so, sorted.
async fn all_keys(store: &dyn KeyValue, prefix: &str) -> Vec<String> {
    let (mut keys, mut cursor) = (Vec::new(), Some(0));
    while let Some(from) = cursor {
        let page = store.keys("b", prefix, from, MOST).await.unwrap();
        keys.extend(page.0.into_iter().map(String::from));
        cursor = page.1;
    }
    keys.sort_unstable();
    keys
}

/// What is stored in bucket `b`.
async fn values(store: &dyn KeyValue, keys: &[&str]) -> Vec<Option<String>> {
    let keys: Vec<Text> = keys.iter().map(|key| (*key).into()).collect();
    let values = store.get("b", &keys, MOST).await.unwrap().into_iter();
    values
        .map(|value| value.map(|value| String::from_utf8(value.into()).unwrap()))
        .collect()
}

fn write(key: &str, change: Change) -> KeyChange {
    KeyChange {
        bucket: "b".into(),
        key: key.into(),
        change,
    }
}

/// That this was under a key of bucket `b`.
fn saw(key: &str, value: Option<&str>) -> Read {
    let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    Read {
        bucket: "b".into(),
        key: key.into(),
        seen: Seen::of(value.as_ref()),
    }
}

fn wrote(id: EventId, reads: Vec<Read>, writes: Vec<KeyChange>) -> Outcome {
    let effects = Effects {
        commands: vec![to_all("done")],
        writes,
        reads,
    };
    outcome(id, Verdict::Done(effects))
}

fn outcome(id: EventId, verdict: Verdict) -> Outcome {
    Outcome {
        id,
        verdict,
        keep_turn: None,
    }
}

fn changed(id: EventId) -> Lost {
    Lost {
        id,
        conflict: Conflict::Changed,
        has_turn: false,
    }
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

/// A message with so many bytes of padding.
fn large(client: &str, number: u64, bytes: usize) -> Event {
    let mut event = message(client, number);
    let EventKind::Message { args, .. } = &mut event.kind else {
        unreachable!("it is a message")
    };
    args.attachments.push(vec![0; bytes].into());
    event
}

/// The bytes of its padding.
fn size_of(event: &Event) -> usize {
    let EventKind::Message { args, .. } = &event.kind else {
        panic!("not a message")
    };
    args.attachments.iter().map(Bytes::len).sum()
}

/// Names of clients in a partition.
fn clients_in(partition: Partition) -> impl Iterator<Item = String> {
    let clients = (0..).map(|n| format!("client-{n}"));
    clients.filter(move |id| partition_of(&id.as_str().into(), PARTITIONS) == partition)
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
    let effects = Effects {
        commands,
        ..Effects::default()
    };
    outcome(id, Verdict::Done(effects))
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
