//! Dead letters.

use super::fixture::*;
use crate::*;
use plugnode_message::Effects;

pub async fn dead_letter_is_kept_until_retried_or_deleted(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    accept(
        &io,
        vec![connection("alice", "io"), message("alice", 1), message("alice", 2)],
    )
    .await;
    let deliveries = read(&mut lease, 3).await;
    let dead = |delivery: &Delivery| outcome(delivery.id, Verdict::Dead(cause("broken"), Effects::default()));
    let outcomes = deliveries[1..].iter().map(dead);
    lease.commits.commit(outcomes.collect()).await.unwrap();

    let dead = transport.dead_letters.dead_letters(10).await.unwrap();
    assert_eq!(
        dead.iter().map(|letter| letter.id).collect::<Vec<_>>(),
        [deliveries[1].id, deliveries[2].id]
    );
    assert_eq!(dead[0].cause, cause("broken"));
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
        transport.dead_letters.retry(deliveries[1].id).await.unwrap(),
        RetryResult::Queued
    );
    assert_eq!(
        transport.dead_letters.retry(deliveries[1].id).await.unwrap(),
        RetryResult::Unknown
    );
    let again = read(&mut lease, 1).await;
    assert_eq!(numbers(&again), [1]);
    assert!(again[0].id > deliveries[2].id, "it has a new id");
    lease.commits.commit(vec![done(again[0].id, Vec::new())]).await.unwrap();

    accept(&io, vec![event_of_its_end("alice")]).await;
    assert_eq!(
        transport.dead_letters.retry(deliveries[2].id).await.unwrap(),
        RetryResult::ClientGone
    );
    assert!(transport.dead_letters.delete(deliveries[2].id).await.unwrap());
    assert!(!transport.dead_letters.delete(deliveries[2].id).await.unwrap());
    assert!(transport.dead_letters.dead_letters(10).await.unwrap().is_empty());
}

pub async fn dead_letters_are_bounded_per_app_and_client(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("client-0", &mut *leases).await;
    let mut clients = clients_in(lease.partition);
    let mut add_letter = async |app: &str, client: &str, number: u64, bytes: usize| {
        // The io-node has room for the event once it has learnt of the previous commit.
        while !io
            .inbox
            .ingest(vec![large(client, number, bytes)])
            .await
            .unwrap()
            .is_empty()
        {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let cause = DeadLetterCause {
            app: Some(app.into()),
            ..cause("broken")
        };
        let id = read(&mut lease, 1).await[0].id;
        let verdict = Verdict::Dead(cause, Effects::default());
        lease.commits.commit(vec![outcome(id, verdict)]).await.unwrap();
    };
    let kept = async |app: &str| -> Vec<u64> {
        let letters = transport.dead_letters.dead_letters(1_000).await.unwrap();
        let of_app = letters.iter().filter(|letter| letter.cause.app == Some(app.into()));
        let number = |letter: &DeadLetter| match &letter.content {
            DeadContent::Event(event) => number(event),
            DeadContent::Foreign(_) => panic!("{letter:?}"),
        };
        of_app.map(number).collect()
    };
    add_letter("/other", &clients.next().unwrap(), 7, 10).await;
    let first = clients.next().unwrap();
    add_letter("/", &first, 0, 10).await;

    // One client may have a tenth of the budget, in bytes and in letters. Letters of others stay.
    let greedy = clients.next().unwrap();
    for number in 1..=12 {
        add_letter("/", &greedy, number, DEAD_LETTERS.bytes / 50).await;
    }
    assert_eq!(kept("/").await, [0, 9, 10, 11, 12]);
    let greedy = clients.next().unwrap();
    for number in 13..=30 {
        add_letter("/", &greedy, number, 10).await;
    }
    let left: Vec<u64> = [0].into_iter().chain(9..=12).chain(21..=30).collect();
    assert_eq!(kept("/").await, left);

    // A letter larger than its client's share is kept if the client has no other. The total is bounded; the oldest are dropped first.
    for (number, client) in clients.take(5).enumerate() {
        add_letter("/", &client, 100, 10).await;
        add_letter("/", &client, 101 + number as u64, DEAD_LETTERS.bytes / 4).await;
    }
    assert_eq!(kept("/").await, [103, 104, 105]);
    assert_eq!(kept("/other").await, [7]);
}

pub async fn dead_letters_of_one_caller_leave_those_of_others(transport: Transport) {
    let io = join_io(&transport, "io").await;
    let mut leases = transport.events.join_app("app".into()).await.unwrap();
    let mut lease = lease_of("alice", &mut *leases).await;
    let calls = (0..30).map(|number| call("office", number, "alice"));
    for event in [message("alice", 7)].into_iter().chain(calls) {
        while !io.inbox.ingest(vec![event.clone()]).await.unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let id = read(&mut lease, 1).await[0].id;
        let verdict = Verdict::Dead(cause("broken"), Effects::default());
        lease.commits.commit(vec![outcome(id, verdict)]).await.unwrap();
    }
    let letters = transport.dead_letters.dead_letters(1_000).await.unwrap();
    let is_of_client =
        |letter: &&DeadLetter| matches!(&letter.content, DeadContent::Event(event) if event.client.is_some());
    let of_clients = letters.iter().filter(is_of_client).count();
    assert_eq!((letters.len(), of_clients), (DEAD_LETTERS.letters / 10 + 1, 1));
}
