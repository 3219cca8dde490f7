//! Clients of protocol 3: those of Socket.IO 2.

use std::time::Duration;

use engine_io::{CloseReason, Message, Packet, Settings};
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::fixture::*;

async fn open<'a>(fixture: &'a Fixture, query: &str) -> Polling<'a> {
    let reply = fixture
        .http("GET", &format!("EIO=3&transport=polling{query}"), b"")
        .await;
    let text = reply.text();
    let (length, open) = text.split_once(':').unwrap();
    assert_eq!(length.parse(), Ok(open.len()));
    Polling {
        fixture,
        sid: sid(open.strip_prefix('0').unwrap()),
        version: 3,
    }
}

#[tokio::test]
async fn polling_echoes_text_and_binary() {
    let fixture = Fixture::echo().await;
    let polling = open(&fixture, "").await;
    assert_eq!(polling.post("6:4hello3:4€1").await.text(), "ok");
    assert_eq!(polling.poll().await.text(), "6:4hello3:4€1");
    let binary = "content-type: application/octet-stream\r\n";
    let body = b"\x01\x04\xff\x04\x01\x02\x03\0\x04\xff4\xe2\x82\xac";
    assert_eq!(
        fixture.http_with("POST", &polling.query(), binary, body).await.status,
        200
    );
    let reply = polling.poll().await;
    assert!(
        reply.head.contains("content-type: application/octet-stream"),
        "{}",
        reply.head
    );
    assert_eq!(reply.body, &body[..]);
    // A client that takes no binary data.
    assert_eq!(polling.post("6:b4AQID").await.status, 200);
    let text = fixture.http("GET", &format!("{}&b64=1", polling.query()), b"").await;
    assert_eq!(text.text(), "6:b4AQID");
    assert_eq!(polling.post("1:2").await.status, 200);
    assert_eq!(polling.poll().await.text(), "1:3");
    fixture.stop().await;
}

#[tokio::test]
async fn websocket_echoes_text_and_binary() {
    let fixture = Fixture::echo().await;
    let mut client = Client::connect(&fixture, "EIO=3&transport=websocket").await;
    assert!(client.hear().await.starts_with("0{"));
    client.say("4hello").await;
    assert_eq!(client.hear().await, "4hello");
    client.send(Frame::binary(vec![4, 1, 2])).await;
    assert_eq!(client.next().await, Some(Frame::binary(vec![4, 1, 2])));
    client.say("b4AQI=").await;
    assert_eq!(client.next().await, Some(Frame::binary(vec![4, 1, 2])));
    client.say("2").await;
    assert_eq!(client.hear().await, "3");
    let mut text = Client::connect(&fixture, "EIO=3&transport=websocket&b64=1").await;
    text.hear().await;
    text.say("b4AQI=").await;
    assert_eq!(text.hear().await, "b4AQI=");
    fixture.stop().await;
}

#[tokio::test]
async fn what_waits_goes_by_websocket() {
    let mut fixture = Fixture::quiet(settings()).await;
    let sid = open(&fixture, "").await.sid;
    let session = fixture.opened().await;
    for number in 0..500 {
        session
            .send([Packet::text(&number.to_string()), Packet::binary(vec![1])])
            .unwrap();
    }
    let polling = Polling {
        fixture: &fixture,
        sid,
        version: 3,
    };
    let mut client = polling.probed().await;
    client.say("5").await;
    for number in 0..500 {
        assert_eq!(client.hear().await, format!("4{number}"));
        assert_eq!(client.next().await, Some(Frame::binary(vec![4, 1])));
    }
    client.send(Frame::binary(vec![4, 7])).await;
    match fixture.hear().await {
        Heard::Message(Message::Binary(data)) => assert_eq!(data, &[7][..]),
        other => panic!("{other:?}"),
    }
    fixture.stop().await;
}

#[tokio::test]
async fn client_that_does_not_ping_is_lost() {
    let settings = Settings {
        ping_interval: Duration::from_millis(100),
        ping_timeout: Duration::from_millis(200),
        ..settings()
    };
    let mut fixture = Fixture::quiet(settings).await;
    let mut client = Client::connect(&fixture, "EIO=3&transport=websocket").await;
    client.hear().await;
    fixture.opened().await;
    for _ in 0..5 {
        client.say("2").await;
        assert_eq!(client.hear().await, "3");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(client.closed().await, 1005);
    assert_eq!(fixture.closed().await, CloseReason::PingTimeout);
    fixture.stop().await;
}

#[tokio::test]
async fn pings_of_server_are_none_of_client() {
    let mut fixture = Fixture::quiet(settings()).await;
    let mut client = Client::connect(&fixture, "EIO=3&transport=websocket").await;
    client.hear().await;
    client.say("3").await;
    assert_eq!(client.closed().await, 1005);
    assert_eq!(fixture.closed().await, CloseReason::ParseError);
    fixture.stop().await;
}
