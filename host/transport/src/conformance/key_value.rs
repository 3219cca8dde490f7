//! The key-value store: conflicts, bounds, expiry.

use std::time::Duration;

use bytes::Bytes;

use super::fixture::BUCKET_BYTES;
use super::fixture::*;
use crate::*;
use plugnode_message::*;

pub async fn writes_are_visible_after_commit_never_from_dead_letters(transport: Transport) {
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
    let dead = Verdict::Dead(cause("broken"), Effects::default());
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

/// Enough keys that every shard has some.
const SPREAD: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

pub async fn write_conflicts_when_its_reads_changed(transport: Transport) {
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
        // One changed key that was read causes a conflict; a key that was only written does not.
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
        assert_eq!(
            hear(&mut *outbox, 1).await,
            ["done"],
            "conflicting attempts sent nothing"
        );
        before = Some(value.to_owned());
    }
}

pub async fn conflicts_are_detected_event_by_event(transport: Transport) {
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
        // Across shards, the second of two events on the same key is committed by a later call, so it need not conflict.
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
    let most = MAX_SUM.to_string();
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
        [Some((MAX_SUM - 1_000_000).to_string())]
    );
}

pub async fn bucket_is_bounded_in_bytes(transport: Transport) {
    const VALUE: usize = 300_000;
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut held = hold_all(&mut *leases).await;
    let mut clients = 0;
    let set = |key: &str, bytes: usize| write(key, Change::set("x".repeat(bytes)));
    let mut commit = async |writes| {
        // A new client for each event, because the share of a client in the backlog is small.
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
        // The shards divide the budget.
        assert!(kept <= BUCKET_BYTES / VALUE, "a bucket is bounded");
        refusal = commit(vec![set("a", 1), set(&format!("a{kept}"), VALUE)]).await;
        kept += usize::from(refusal.is_none());
    }
    assert!(kept >= 8, "{kept}");
    let Some(Conflict::Full { bucket, reason }) = refusal else {
        panic!("{refusal:?}")
    };
    assert_eq!(&*bucket, "b");
    assert!(
        reason.contains("bucket \"b\" is full") && reason.contains("bucket-bytes"),
        "{reason}"
    );
    // Still accepted: a write to another bucket, writes that do not grow the bucket, and any write after deletions.
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

pub async fn bucket_filled_concurrently_keeps_its_bound(transport: Transport) {
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
                    reserve_for: Some(Duration::from_secs(60)),
                    ..wrote(id, Vec::new(), writes)
                };
                let mut lost = commits.commit(vec![outcome]).await.unwrap();
                match lost.pop().map(|lost| lost.conflict) {
                    None => return,
                    Some(Conflict::Changed) => tokio::time::sleep(Duration::from_millis(2)).await,
                    Some(Conflict::Full { reason, .. }) => {
                        assert!(reason.contains("bucket \"b\" is full"), "{reason}");
                        return;
                    }
                    other => panic!("{other:?} was not expected"),
                }
            }
        });
    }
    futures_util::future::join_all(filling).await;
    let kept = all_keys(&*transport.key_value.clone(), "").await.len();
    assert!(kept * VALUE <= BUCKET_BYTES, "{kept} values of {VALUE} bytes");
    // Each shard fills its part of the budget.
    assert!(kept >= 6, "{kept}");
}

pub async fn reserved_keys_exclude_younger_events(transport: Transport) {
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
    outcome.reserve_for = Some(Duration::from_secs(60));
    let lost = first.commit(vec![outcome]).await.unwrap();
    assert_eq!(
        lost,
        [ConflictedOutcome {
            has_reservation: true,
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

pub async fn key_expires_after_its_time_to_live(transport: Transport) {
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
    // `set` removes the TTL; `add` keeps it.
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
    // Commits treat an expired key as absent, and `add` starts from zero.
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

pub async fn reads_are_bounded_in_bytes(transport: Transport) {
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
            // This shard has no key.
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

/// Retries as an app-node does: reads again after a conflict, and reserves the keys at the third.
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
                    outcome.reserve_for = (losses > 1).then_some(Duration::from_secs(60));
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
    println!("{CLIENTS} clients at once on the same keys: {each:.1} µs per event");
    assert_eq!(
        values(&*store, &SPREAD).await,
        vec![Some(CLIENTS.to_string()); SPREAD.len()]
    );
}

/// Prints the time from ingest to commit of an event that reads and writes 0, 1 and 10 keys without conflicts (`--nocapture` shows it).
/// [`counters_of_many_clients_add_up`] prints the time with conflicts.
pub async fn cost_of_keys_is_reported(transport: Transport) {
    const EVENTS: usize = 160;
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut held = hold_all(&mut *leases).await;
    let store = transport.key_value.clone();
    let mut outbox = io.outbox;
    // Reads the outbox, so that the io-node learns of commits and has room for more events.
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
            "{keys} keys: {:.1} µs per event",
            begun.elapsed().as_secs_f64() * 1e6 / handled as f64
        );
    }
    heard.abort();
}
