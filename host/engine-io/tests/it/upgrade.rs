//! Sessions that move from polling to a websocket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine_io::{CloseReason, Packet, Settings};
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::fixture::*;

/// What a client hears by its websocket: so many numbers.
async fn hears_numbers(client: &mut Client, numbers: std::ops::Range<usize>) {
    for number in numbers {
        assert_eq!(client.hear().await, format!("4{number}"));
    }
}

#[tokio::test]
async fn what_waits_goes_by_websocket() {
    for greets in [1, 127, 128, 500, 5_000] {
        let ways = Ways {
            greets,
            echoes: true,
            ..Ways::default()
        };
        let fixture = Fixture::start(ways, settings()).await;
        let polling = Polling::open(&fixture).await;
        let mut client = polling.probed().await;
        client.say("5").await;
        hears_numbers(&mut client, 0..greets).await;
        client.say("4moved").await;
        assert_eq!(client.hear().await, "4moved");
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
    client.say("5").await;
    hears_numbers(&mut client, 0..500).await;
    fixture.stop().await;
}

#[tokio::test]
async fn posted_packets_come_before_those_of_websocket() {
    let mut fixture = Fixture::quiet(settings()).await;
    let (query, mut client) = {
        let polling = Polling::open(&fixture).await;
        (polling.query(), polling.probed().await)
    };
    let session = fixture.opened().await;
    let mut post = fixture.begin("POST", &query, "", b"4pause\x1e40\x1e41").await;
    assert_eq!(fixture.message().await, "pause");
    client.say("5").await;
    client.say("42").await;
    while !session.is_websocket() {
        tokio::task::yield_now().await;
    }
    fixture.heard_nothing();
    session.resume();
    for number in 0..3 {
        assert_eq!(fixture.message().await, number.to_string());
    }
    assert_eq!(Fixture::reply(&mut post).await.status, 200);
    fixture.stop().await;
}

#[tokio::test]
async fn waiting_poll_ends_by_noop_at_probe() {
    let fixture = Fixture::echo().await;
    let polling = Polling::open(&fixture).await;
    let mut poll = fixture.begin("GET", &polling.query(), "", b"").await;
    let mut client = polling.probed().await;
    assert_eq!(Fixture::reply(&mut poll).await.text(), "6");
    // So does one that comes then, if nothing else comes in a while.
    assert_eq!(polling.poll().await.text(), "6");
    // Until it moves, the session polls.
    polling.post("4polled").await;
    assert_eq!(polling.poll().await.text(), "4polled");
    client.say("5").await;
    client.say("4moved").await;
    assert_eq!(client.hear().await, "4moved");
    assert_eq!(polling.poll().await.status, 400);
    assert_eq!(polling.post("4late").await.status, 400);
    fixture.stop().await;
}

#[tokio::test]
async fn poll_that_waits_at_upgrade_ends_by_noop() {
    let fixture = Fixture::echo().await;
    let polling = Polling::open(&fixture).await;
    let mut client = polling.probed().await;
    let mut poll = fixture.begin("GET", &polling.query(), "", b"").await;
    client.say("5").await;
    let poll = Fixture::reply(&mut poll).await;
    // Unless the websocket was there first.
    assert!(poll.text() == "6" || poll.status == 400, "{poll:?}");
    client.say("4a").await;
    assert_eq!(client.hear().await, "4a");
    fixture.stop().await;
}

#[tokio::test]
async fn failed_upgrade_leaves_session() {
    let settings = Settings {
        upgrade_timeout: Duration::from_millis(300),
        ..settings()
    };
    let ways = Ways {
        echoes: true,
        ..Ways::default()
    };
    let fixture = Fixture::start(ways, settings).await;
    let polling = Polling::open(&fixture).await;
    let goes_on = async |text: &str| {
        assert_eq!(polling.post(format!("4{text}")).await.status, 200);
        polling.poll_until(&format!("4{text}")).await;
    };
    for garbage in ["nonsense", "5", "2", "", "40", "6"] {
        let mut wrong = polling.websocket().await;
        wrong.say(garbage).await;
        assert_eq!(wrong.closed().await, 1005, "{garbage}");
        goes_on(garbage).await;
    }
    let mut large = polling.websocket().await;
    large.say(&"2".repeat(200_000)).await;
    assert_ne!(large.closed().await, 1000);
    goes_on("large").await;
    let mut closing = polling.probed().await;
    closing.send(Frame::Close(None)).await;
    assert_eq!(closing.closed().await, 1005);
    drop(polling.probed().await);
    goes_on("closed").await;
    // The place of the one that was dropped may still be taken.
    let mut slow = loop {
        let query = format!("EIO=4&transport=websocket&sid={}", polling.sid);
        if let Ok(slow) = Client::try_connect(&fixture, &query).await {
            break slow;
        }
    };
    assert_eq!(slow.closed().await, 1005);
    goes_on("slow").await;
    let mut client = polling.probed().await;
    client.say("5").await;
    client.say("4moved").await;
    assert_eq!(client.hear().await, "4moved");
    fixture.stop().await;
}

#[tokio::test]
async fn second_websocket_of_session_is_refused() {
    let fixture = Fixture::echo().await;
    let polling = Polling::open(&fixture).await;
    let query = format!("EIO=4&transport=websocket&sid={}", polling.sid);
    let mut client = polling.websocket().await;
    assert_eq!(Client::try_connect(&fixture, &query).await.err(), Some(400));
    client.say("2probe").await;
    assert_eq!(client.hear().await, "3probe");
    assert_eq!(Client::try_connect(&fixture, &query).await.err(), Some(400));
    client.say("5").await;
    client.say("4moved").await;
    assert_eq!(client.hear().await, "4moved");
    assert_eq!(Client::try_connect(&fixture, &query).await.err(), Some(400));
    client.say("4still").await;
    assert_eq!(client.hear().await, "4still");
    fixture.stop().await;
}

#[tokio::test]
async fn websockets_that_fail_are_bounded() {
    let settings = Settings {
        close_timeout: SOON,
        ..settings()
    };
    let fixture = Fixture::quiet(settings).await;
    let polling = Polling::open(&fixture).await;
    let query = format!("EIO=4&transport=websocket&sid={}", polling.sid);
    let mut failed = Vec::new();
    // They are held open by a client that does not close them.
    for _ in 0..800 {
        match Client::try_connect(&fixture, &query).await {
            Ok(mut client) => {
                client.say("nonsense").await;
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
async fn end_of_session_closes_its_upgrade() {
    let mut fixture = Fixture::quiet(settings()).await;
    let mut client = Polling::open(&fixture).await.probed().await;
    fixture.opened().await.close();
    assert_eq!(client.closed().await, 1005);
    assert_eq!(fixture.closed().await, CloseReason::Server);
    let mut client = Polling::open(&fixture).await.probed().await;
    fixture.opened().await;
    client.say("5").await;
    client.say("4moved").await;
    assert_eq!(fixture.message().await, "moved");
    drop(client);
    assert!(matches!(
        fixture.closed().await,
        CloseReason::TransportClose | CloseReason::TransportError
    ));
    fixture.stop().await;
}

/// Both sides send numbers all the time, while the client polls and posts for a while and then moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_doubled_or_reordered() {
    const NUMBERS: usize = 600;
    for round in 0..60 {
        let mut fixture = Fixture::quiet(settings()).await;
        let opened = Polling::open(&fixture).await.sid;
        let session = fixture.opened().await;
        let is_over = Arc::new(AtomicBool::new(false));
        let sending = tokio::spawn({
            let is_over = is_over.clone();
            async move {
                let mut sent = 0;
                while !is_over.load(Ordering::Relaxed) {
                    session.send([Packet::text(&sent.to_string())]).unwrap();
                    sent += 1;
                    if sent % (1 + round % 7) == 0 {
                        tokio::time::sleep(Duration::from_micros(100)).await;
                    }
                }
                sent
            }
        });
        let mut heard = Vec::new();
        let mut said = 0;
        let mut client = {
            let polling = Polling {
                fixture: &fixture,
                sid: opened,
                version: 4,
            };
            let mut client = polling.websocket().await;
            let post = async |said: &mut usize, count: usize| {
                let body: Vec<String> = (*said..*said + count).map(|number| format!("4{number}")).collect();
                *said += count;
                assert_eq!(polling.post(body.join("\x1e")).await.status, 200);
            };
            for _ in 0..round % 4 {
                let (reply, ()) = tokio::join!(polling.poll(), post(&mut said, 10));
                heard.extend(reply.text().split('\x1e').map(str::to_owned));
            }
            client.say("2probe").await;
            let (reply, ()) = tokio::join!(polling.poll(), post(&mut said, 30));
            assert_eq!(reply.status, 200);
            heard.extend(reply.text().split('\x1e').map(str::to_owned));
            assert_eq!(client.hear().await, "3probe");
            client.say("5").await;
            client
        };
        while said < NUMBERS {
            client.say(&format!("4{said}")).await;
            said += 1;
        }
        is_over.store(true, Ordering::Relaxed);
        let sent: usize = sending.await.unwrap();
        heard.retain(|packet| packet != "6");
        while heard.len() < sent {
            heard.push(client.hear().await);
        }
        let expected: Vec<String> = (0..sent).map(|number| format!("4{number}")).collect();
        assert!(heard == expected, "round {round}: {heard:?}");
        for number in 0..NUMBERS {
            assert_eq!(fixture.message().await, number.to_string(), "round {round}");
        }
        drop(client);
        fixture.stop().await;
    }
}
