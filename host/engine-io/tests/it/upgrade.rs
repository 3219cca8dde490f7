//! Upgrades from polling to a websocket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine_io::{CloseReason, Packet, Settings};
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::fixture::*;

/// Receives these numbers by the websocket.
async fn receive_numbers(client: &mut Client, numbers: std::ops::Range<usize>) {
    for number in numbers {
        assert_eq!(client.next_text().await, format!("4{number}"));
    }
}

#[tokio::test]
async fn queued_packets_go_by_websocket() {
    for greetings in [1, 127, 128, 500, 5_000] {
        let behaviour = Behaviour {
            greetings,
            echoes: true,
            ..Behaviour::default()
        };
        let fixture = Fixture::start(behaviour, settings()).await;
        let polling = Polling::open(&fixture).await;
        let mut client = polling.probed().await;
        client.send_text("5").await;
        receive_numbers(&mut client, 0..greetings).await;
        client.send_text("4moved").await;
        assert_eq!(client.next_text().await, "4moved");
        fixture.stop().await;
    }
}

#[tokio::test]
async fn posted_burst_is_answered_by_websocket() {
    let fixture = Fixture::echo().await;
    let polling = Polling::open(&fixture).await;
    let body: Vec<String> = (0..500).map(|number| format!("4{number}")).collect();
    assert_eq!(polling.post(body.join("\x1e")).await.status, 200);
    let mut client = polling.probed().await;
    client.send_text("5").await;
    receive_numbers(&mut client, 0..500).await;
    fixture.stop().await;
}

#[tokio::test]
async fn posted_packets_precede_those_of_websocket() {
    let mut fixture = Fixture::quiet(settings()).await;
    let (query, mut client) = {
        let polling = Polling::open(&fixture).await;
        (polling.query(), polling.probed().await)
    };
    let session = fixture.opened().await;
    let mut post = fixture.send("POST", &query, "", b"4pause\x1e40\x1e41").await;
    assert_eq!(fixture.message().await, "pause");
    client.send_text("5").await;
    client.send_text("42").await;
    while !session.is_websocket() {
        tokio::task::yield_now().await;
    }
    fixture.assert_no_event();
    session.resume();
    for number in 0..3 {
        assert_eq!(fixture.message().await, number.to_string());
    }
    assert_eq!(Fixture::reply(&mut post).await.status, 200);
    fixture.stop().await;
}

#[tokio::test]
async fn probe_ends_pending_poll_by_noop() {
    let fixture = Fixture::echo().await;
    let polling = Polling::open(&fixture).await;
    let mut poll = fixture.send("GET", &polling.query(), "", b"").await;
    let mut client = polling.probed().await;
    assert_eq!(Fixture::reply(&mut poll).await.text(), "6");
    // So ends a poll that comes after the probe, if there are no packets for a while.
    assert_eq!(polling.poll().await.text(), "6");
    // The session polls until the upgrade is complete.
    polling.post("4polled").await;
    assert_eq!(polling.poll().await.text(), "4polled");
    client.send_text("5").await;
    client.send_text("4moved").await;
    assert_eq!(client.next_text().await, "4moved");
    assert_eq!(polling.poll().await.status, 400);
    assert_eq!(polling.post("4late").await.status, 400);
    fixture.stop().await;
}

#[tokio::test]
async fn upgrade_ends_pending_poll_by_noop() {
    let fixture = Fixture::echo().await;
    let polling = Polling::open(&fixture).await;
    let mut client = polling.probed().await;
    let mut poll = fixture.send("GET", &polling.query(), "", b"").await;
    client.send_text("5").await;
    let poll = Fixture::reply(&mut poll).await;
    // 400 if the upgrade was complete before the poll arrived.
    assert!(poll.text() == "6" || poll.status == 400, "{poll:?}");
    client.send_text("4a").await;
    assert_eq!(client.next_text().await, "4a");
    fixture.stop().await;
}

#[tokio::test]
async fn failed_upgrade_keeps_session() {
    let settings = Settings {
        upgrade_timeout: Duration::from_millis(300),
        ..settings()
    };
    let behaviour = Behaviour {
        echoes: true,
        ..Behaviour::default()
    };
    let fixture = Fixture::start(behaviour, settings).await;
    let polling = Polling::open(&fixture).await;
    let assert_alive = async |text: &str| {
        assert_eq!(polling.post(format!("4{text}")).await.status, 200);
        polling.poll_until(&format!("4{text}")).await;
    };
    for garbage in ["nonsense", "5", "2", "", "40", "6"] {
        let mut wrong = polling.websocket().await;
        wrong.send_text(garbage).await;
        assert_eq!(wrong.closed().await, 1005, "{garbage}");
        assert_alive(garbage).await;
    }
    let mut large = polling.websocket().await;
    large.send_text(&"2".repeat(200_000)).await;
    assert_ne!(large.closed().await, 1000);
    assert_alive("large").await;
    let mut closing = polling.probed().await;
    closing.send(Frame::Close(None)).await;
    assert_eq!(closing.closed().await, 1005);
    drop(polling.probed().await);
    assert_alive("closed").await;
    // The dropped websocket may still occupy the upgrade.
    let mut slow = loop {
        let query = format!("EIO=4&transport=websocket&sid={}", polling.sid);
        if let Ok(slow) = Client::try_connect(&fixture, &query).await {
            break slow;
        }
    };
    assert_eq!(slow.closed().await, 1005);
    assert_alive("slow").await;
    let mut client = polling.probed().await;
    client.send_text("5").await;
    client.send_text("4moved").await;
    assert_eq!(client.next_text().await, "4moved");
    fixture.stop().await;
}

#[tokio::test]
async fn second_upgrade_is_refused() {
    let fixture = Fixture::echo().await;
    let polling = Polling::open(&fixture).await;
    let query = format!("EIO=4&transport=websocket&sid={}", polling.sid);
    let mut client = polling.websocket().await;
    assert_eq!(Client::try_connect(&fixture, &query).await.err(), Some(400));
    client.send_text("2probe").await;
    assert_eq!(client.next_text().await, "3probe");
    assert_eq!(Client::try_connect(&fixture, &query).await.err(), Some(400));
    client.send_text("5").await;
    client.send_text("4moved").await;
    assert_eq!(client.next_text().await, "4moved");
    assert_eq!(Client::try_connect(&fixture, &query).await.err(), Some(400));
    client.send_text("4still").await;
    assert_eq!(client.next_text().await, "4still");
    fixture.stop().await;
}

#[tokio::test]
async fn failed_upgrades_are_bounded() {
    let settings = Settings {
        close_timeout: SOON,
        ..settings()
    };
    let fixture = Fixture::quiet(settings).await;
    let polling = Polling::open(&fixture).await;
    let query = format!("EIO=4&transport=websocket&sid={}", polling.sid);
    let mut failed = Vec::new();
    // This client never closes its websockets.
    for _ in 0..800 {
        match Client::try_connect(&fixture, &query).await {
            Ok(mut client) => {
                client.send_text("nonsense").await;
                failed.push(client);
            }
            Err(status) => assert_eq!(status, 400),
        }
    }
    assert!((1..=4).contains(&failed.len()), "{}", failed.len());
    drop(failed);
    fixture.stop().await;
}

#[tokio::test]
async fn end_of_session_closes_pending_upgrade() {
    let mut fixture = Fixture::quiet(settings()).await;
    let mut client = Polling::open(&fixture).await.probed().await;
    fixture.opened().await.close();
    assert_eq!(client.closed().await, 1005);
    assert_eq!(fixture.closed().await, CloseReason::Server);
    let mut client = Polling::open(&fixture).await.probed().await;
    fixture.opened().await;
    client.send_text("5").await;
    client.send_text("4moved").await;
    assert_eq!(fixture.message().await, "moved");
    drop(client);
    assert!(matches!(
        fixture.closed().await,
        CloseReason::TransportClose | CloseReason::TransportError
    ));
    fixture.stop().await;
}

/// Both sides keep sending numbers, while the client first polls and posts, and then upgrades.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn upgrade_loses_doubles_and_reorders_nothing() {
    const NUMBERS: usize = 600;
    for round in 0..60 {
        let mut fixture = Fixture::quiet(settings()).await;
        let opened = Polling::open(&fixture).await.sid;
        let session = fixture.opened().await;
        let is_done = Arc::new(AtomicBool::new(false));
        let sending = tokio::spawn({
            let is_done = is_done.clone();
            async move {
                let mut sent = 0;
                while !is_done.load(Ordering::Relaxed) {
                    session.send([Packet::text(&sent.to_string())]).unwrap();
                    sent += 1;
                    if sent % (1 + round % 7) == 0 {
                        tokio::time::sleep(Duration::from_micros(100)).await;
                    }
                }
                sent
            }
        });
        let mut received = Vec::new();
        let mut posted = 0;
        let mut client = {
            let polling = Polling {
                fixture: &fixture,
                sid: opened,
                version: 4,
            };
            let mut client = polling.websocket().await;
            let post = async |posted: &mut usize, count: usize| {
                let body: Vec<String> = (*posted..*posted + count).map(|number| format!("4{number}")).collect();
                *posted += count;
                assert_eq!(polling.post(body.join("\x1e")).await.status, 200);
            };
            for _ in 0..round % 4 {
                let (reply, ()) = tokio::join!(polling.poll(), post(&mut posted, 10));
                received.extend(reply.text().split('\x1e').map(str::to_owned));
            }
            client.send_text("2probe").await;
            let (reply, ()) = tokio::join!(polling.poll(), post(&mut posted, 30));
            assert_eq!(reply.status, 200);
            received.extend(reply.text().split('\x1e').map(str::to_owned));
            assert_eq!(client.next_text().await, "3probe");
            client.send_text("5").await;
            client
        };
        while posted < NUMBERS {
            client.send_text(&format!("4{posted}")).await;
            posted += 1;
        }
        is_done.store(true, Ordering::Relaxed);
        let sent: usize = sending.await.unwrap();
        received.retain(|packet| packet != "6");
        while received.len() < sent {
            received.push(client.next_text().await);
        }
        let expected: Vec<String> = (0..sent).map(|number| format!("4{number}")).collect();
        assert!(received == expected, "round {round}: {received:?}");
        for number in 0..NUMBERS {
            assert_eq!(fixture.message().await, number.to_string(), "round {round}");
        }
        drop(client);
        fixture.stop().await;
    }
}
