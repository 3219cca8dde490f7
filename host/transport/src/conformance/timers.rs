//! Timers: firing, cancelling, bounds.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bytes::Bytes;

use super::fixture::*;
use crate::*;
use plugnode_message::*;

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

/// A write that sets a timer to fire in `in_ms` milliseconds.
fn sets(timer: &Timer, in_ms: u64) -> KeyChange {
    timer.set(&"/".into(), timer_partition(timer), now_ms() + in_ms)
}

fn timer_partition(timer: &Timer) -> Partition {
    let of_client = |client| partition_of(client, PARTITIONS);
    timer.client.as_ref().map_or(Partition(0), of_client)
}

/// Offers an event of a client, and commits it without effects.
async fn is_handled(io: &IoSession, held: &mut BTreeMap<Partition, Lease>, event: Event) {
    let partition = partition_of(&event.client.as_ref().unwrap().id, PARTITIONS);
    let lease = held.get_mut(&partition).unwrap();
    accept(io, vec![event]).await;
    let id = read(lease, 1).await[0].id;
    assert_eq!(lease.commits.commit(vec![done(id, Vec::new())]).await.unwrap(), []);
}

/// Commits an event of this client with these writes. After a conflict, commits it without.
async fn commits(
    io: &IoSession,
    held: &mut BTreeMap<Partition, Lease>,
    client: &str,
    writes: Vec<KeyChange>,
) -> Vec<ConflictedOutcome> {
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

pub async fn timer_fires_once_at_its_owner(transport: Transport) {
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

pub async fn timer_is_replaced_cancelled_and_dropped_with_its_client(transport: Transport) {
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
    // A client's timer can be set until its disconnect, which deletes it.
    let writes = vec![sets(&timer(Some("bob"), "late"), 60_000)];
    assert_eq!(commits(&io, &mut held, "bob", writes).await, []);
    for client in ["alice", "bob"] {
        is_handled(&io, &mut held, event_of_its_end(client)).await;
    }
    assert_eq!(transport.nodes.timers().await.unwrap(), 0);
}

pub async fn periodic_timer_fires_until_cancelled(transport: Transport) {
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
    // Firings that are skipped are counted as missed.
    let steps = (due[3] - due[0]) / 60;
    assert!(steps >= 3 && steps <= 3 + u64::from(missed), "{due:?}, {missed} missed");
    let cancel = every.cancel(&"/".into(), Partition(0));
    assert_eq!(commits(&io, &mut held, "alice", vec![cancel]).await, []);
    assert_eq!(transport.nodes.timers().await.unwrap(), 0);
}

pub async fn timer_without_room_delays_no_other(transport: Transport) {
    let mut io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut held = hold_all(&mut *leases).await;
    is_handled(&io, &mut held, connection("alice", "io")).await;
    // More due timers than the backlog of their partition has room for.
    let all = BACKLOG + 5;
    let ours = (0..all).map(|number| sets(&timer(None, &format!("timer {number}")), 0));
    let writes = ours.chain([sets(&timer(Some("alice"), "hers"), 150)]).collect();
    assert_eq!(commits(&io, &mut held, "alice", writes).await, []);
    assert_eq!(fired(&mut *io.outbox, 1).await, ["hers"]);
    // The others fire once there is room.
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

pub async fn timers_are_bounded_per_app_and_client(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut held = hold_all(&mut *leases).await;
    let of_alice = |number: usize| sets(&timer(Some("alice"), &format!("timer {number}")), 60_000);
    let most = TIMERS.of_client;
    let writes = (0..most).map(of_alice).collect();
    assert_eq!(commits(&io, &mut held, "alice", writes).await, []);
    // Setting a timer again needs no room.
    let writes = (0..most).map(of_alice).collect();
    assert_eq!(commits(&io, &mut held, "alice", writes).await, []);
    let refused = |lost: Vec<ConflictedOutcome>| match lost.into_iter().next().map(|lost| lost.conflict) {
        Some(Conflict::Full { bucket, reason }) => {
            assert!(
                has_timers(&bucket) && reason.contains("too many timers"),
                "{bucket}: {reason}"
            );
        }
        other => panic!("{other:?} was not expected"),
    };
    refused(commits(&io, &mut held, "alice", vec![of_alice(most)]).await);
    // The shards divide the app's budget.
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
