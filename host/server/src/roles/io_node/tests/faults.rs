//! A transport that is full, away, or has fenced the io-node.

use std::collections::HashMap;

use futures_util::future::join_all;

use super::engine::Polling;
use super::*;

#[tokio::test]
async fn fenced_io_node_disconnects_clients_and_joins_again() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let mut old = Client::connect(fixture.address).await;
    assert_eq!(app.read().await, [format!("{} connection", old.id)]);
    // It has a session and has joined no namespace yet.
    let late = Polling::open(&fixture).await.sid;

    fixture.transport.join.send_replace(false);
    fixture.fence().await;
    old.say("42[\"zombie\"]").await;
    assert_eq!(old.hear().await, None, "its connection is ended");
    assert_eq!(app.read().await, [format!("{} lost", old.id)]);
    timeout(SOON, async {
        while (fixture.joined)().is_ready() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("not ready");
    let refused = fixture.http("GET /socket.io/?EIO=4&transport=polling", "").await;
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after"),
        "{refused}"
    );
    assert!(Client::try_connect(fixture.address).await.is_none());
    // A client that connects meanwhile is disconnected without any event.
    fixture
        .http(
            &format!("POST /socket.io/?EIO=4&transport=polling&sid={late}"),
            "40\u{1e}42[\"early\"]",
        )
        .await;
    timeout(SOON, async {
        let poll = format!("GET /socket.io/?EIO=4&transport=polling&sid={late}");
        while fixture.http(&poll, "").await.starts_with("HTTP/1.1 200") {}
    })
    .await
    .expect("the end of its session");

    fixture.transport.join.send_replace(true);
    timeout(SOON, async {
        while !(fixture.joined)().is_ready() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("joined again");
    let mut new = Client::connect(fixture.address).await;
    new.say("42[\"hello\"]").await;
    let heard = app.read_some(2).await;
    assert_eq!(heard, [format!("{} connection", new.id), format!("{} hello", new.id)]);
    app.reads_nothing().await;
    fixture.stop().await;
    assert_eq!(app.read().await, [format!("{} disconnect", new.id)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_and_one_disconnect_despite_repeated_fencing() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let over = AtomicBool::new(false);
    let clients = (0..20).map(async |n| {
        let mut ids = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let Some(mut client) = Client::try_connect(fixture.address).await else {
                sleep(Duration::from_millis(5)).await;
                continue;
            };
            ids.push(client.id.clone());
            for number in 0..n {
                client.say(&format!("42[\"{number}\"]")).await;
            }
            if n % 3 == 0 {
                client.say("1").await;
            }
            sleep(Duration::from_millis(n)).await;
        }
        ids
    });
    let fences = async {
        for pause in 0..12 {
            sleep(Duration::from_millis(20 * pause)).await;
            fixture.fence().await;
        }
        over.store(true, Ordering::Relaxed);
    };
    let (ids, ()) = tokio::join!(join_all(clients), fences);
    let address = fixture.address;
    fixture.stop().await;
    assert!(TcpStream::connect(address).await.is_err());

    let mut histories: HashMap<String, Vec<String>> = HashMap::new();
    while let Ok(words) = timeout(MOMENT, app.read()).await {
        for word in words {
            let (client, word) = word.split_once(' ').unwrap();
            histories.entry(client.to_owned()).or_default().push(word.to_owned());
        }
    }
    assert!(ids.iter().flatten().count() > 20, "clients come back");
    assert!(!histories.is_empty());
    let mut lost = 0;
    for (client, history) in histories {
        let (first, last) = (history.first().unwrap(), history.last().unwrap());
        assert_eq!(first, "connection", "{client}: {history:?}");
        assert!(["lost", "disconnect"].contains(&last.as_str()), "{client}: {history:?}");
        lost += usize::from(last == "lost");
        let messages: Vec<String> = (0..history.len() - 2).map(|number| number.to_string()).collect();
        assert_eq!(history[1..history.len() - 1], messages, "{client}");
    }
    assert!(lost > 0, "some were lost with their io-node");
}

#[tokio::test]
async fn refuses_late_events_with_acknowledgement_and_keeps_order() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    app.read().await;
    fixture.transport.ingest.send_replace(false);
    client.say("420[\"offered\"]").await;
    sleep(MOMENT).await;
    for packet in ["421[\"late\"]", "42[\"waits\"]", "422[\"late\"]", "42[\"waits too\"]"] {
        client.say(packet).await;
    }
    for number in [1, 2] {
        let answer = client.hear().await.unwrap();
        let (ack, error) = answer.split_at("431".len());
        assert_eq!(ack, format!("43{number}"));
        let error: serde_json::Value = serde_json::from_str(error).unwrap();
        assert_eq!(error[0]["error"]["code"], "overloaded");
        assert!(error[0]["error"]["message"].as_str().unwrap().contains("try again"));
    }
    fixture.transport.ingest.send_replace(true);
    let heard = app.read_some(3).await;
    assert_eq!(
        heard,
        ["offered", "waits", "waits too"].map(|word| format!("{} {word}", client.id))
    );
    app.reads_nothing().await;
    fixture.stop().await;
}

#[tokio::test]
async fn refused_events_go_on_when_the_backlog_has_room() {
    let fixture = Fixture::start(TransportSettings {
        backlog: Backlog {
            client_events: 2,
            ..Backlog::default()
        },
        ..TransportSettings::default()
    })
    .await;
    let mut client = Client::connect(fixture.address).await;
    for packet in ["420[\"fits\"]", "421[\"late\"]", "42[\"waits\"]"] {
        client.say(packet).await;
    }
    assert!(client.hear().await.unwrap().starts_with("431[{\"error\""));
    client.say("422[\"in time\"]").await;
    let mut app = fixture.app().await;
    let heard = app.read_some(4).await;
    assert_eq!(
        heard,
        ["connection", "fits", "waits", "in time"].map(|word| format!("{} {word}", client.id))
    );
    fixture.stop().await;
}

#[tokio::test]
async fn turns_away_client_with_unaccepted_connection_without_events() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    fixture.transport.ingest.send_replace(false);
    let mut offered = Client::connect(fixture.address).await;
    sleep(MOMENT / 4).await;
    let mut waits = Client::connect(fixture.address).await;
    waits.say("42[\"hello\"]").await;
    assert_eq!(waits.hear().await, None, "it is turned away");
    fixture.transport.ingest.send_replace(true);
    offered.say("42[\"hello\"]").await;
    let heard = app.read_some(2).await;
    assert_eq!(
        heard,
        ["connection", "hello"].map(|word| format!("{} {word}", offered.id))
    );
    app.reads_nothing().await;
    fixture.stop().await;
}

#[tokio::test]
async fn long_paused_websocket_stays_and_loses_nothing() {
    let fixture = Fixture::pinging(Duration::from_millis(300), TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let client = Client::connect(fixture.address).await;
    app.read().await;
    fixture.transport.ingest.send_replace(false);
    let long = "x".repeat(10_000);
    let count = 500;
    // It sends far more than is read, and answers pings behind all that.
    let (mut sending, mut listening) = client.socket.split();
    let send = async {
        for number in 0..count {
            let packet = format!("42[\"{number}\",\"{long}\"]");
            sending.send(Message::text(packet)).await.expect("the connection stays");
        }
        sending
    };
    let listen = async {
        let mut pings = 0;
        while let Some(Ok(_)) = listening.next().await {
            pings += 1;
        }
        panic!("the connection ended after {pings} pings");
    };
    let paused = sleep(Duration::from_secs(3));
    let rest = async {
        paused.await;
        fixture.transport.ingest.send_replace(true);
        let heard = app.read_some(count).await;
        let expected: Vec<_> = (0..count).map(|number| format!("{} {number}", client.id)).collect();
        assert_eq!(heard, expected);
    };
    tokio::select! {
        _ = async { tokio::join!(send, rest) } => {}
        () = listen => {}
    }
    fixture.stop().await;
}

#[tokio::test]
async fn long_paused_polling_client_stays() {
    let fixture = Fixture::pinging(Duration::from_millis(300), TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let sid = Polling::open(&fixture).await.sid;
    let post = format!("POST /socket.io/?EIO=4&transport=polling&sid={sid}");
    let poll = format!("GET /socket.io/?EIO=4&transport=polling&sid={sid}");
    fixture.http(&post, "40").await;
    let connected = app.read().await.remove(0);
    let id = connected.strip_suffix(" connection").expect("a connection event");
    assert_ne!(id, sid, "a client's id is not enough to poll in its place");
    fixture.transport.ingest.send_replace(false);
    let many = |numbers: std::ops::Range<usize>| {
        numbers
            .map(|n| format!("42[\"{n}\"]"))
            .collect::<Vec<_>>()
            .join("\u{1e}")
    };
    assert!(fixture.http(&post, &many(0..50)).await.starts_with("HTTP/1.1 200"));
    let late = many(50..200);
    let held = fixture.http(&post, &late);
    let polling = async {
        loop {
            let answer = fixture.http(&poll, "").await;
            assert!(
                answer.starts_with("HTTP/1.1 200") && !answer.ends_with("\r\n1"),
                "{answer}"
            );
        }
    };
    let rest = async {
        sleep(Duration::from_secs(2)).await;
        fixture.transport.ingest.send_replace(true);
        app.read_some(200).await
    };
    tokio::select! {
        (heard, held) = async { tokio::join!(rest, held) } => {
            assert!(held.starts_with("HTTP/1.1 200"), "{held}");
            assert_eq!(heard, (0..200).map(|n| format!("{id} {n}")).collect::<Vec<_>>());
        }
        () = polling => {}
    }
    fixture.stop().await;
}
