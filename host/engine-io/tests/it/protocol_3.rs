//! Clients of protocol 3 (Socket.IO 2).

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
    // A client that accepts no binary data.
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
    assert!(client.next_text().await.starts_with("0{"));
    client.send_text("4hello").await;
    assert_eq!(client.next_text().await, "4hello");
    client.send(Frame::binary(vec![4, 1, 2])).await;
    assert_eq!(client.next().await, Some(Frame::binary(vec![4, 1, 2])));
    client.send_text("b4AQI=").await;
    assert_eq!(client.next().await, Some(Frame::binary(vec![4, 1, 2])));
    client.send_text("2").await;
    assert_eq!(client.next_text().await, "3");
    let mut text = Client::connect(&fixture, "EIO=3&transport=websocket&b64=1").await;
    text.next_text().await;
    text.send_text("b4AQI=").await;
    assert_eq!(text.next_text().await, "b4AQI=");
    fixture.stop().await;
}

#[tokio::test]
async fn queued_packets_go_by_websocket() {
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
    client.send_text("5").await;
    for number in 0..500 {
        assert_eq!(client.next_text().await, format!("4{number}"));
        assert_eq!(client.next().await, Some(Frame::binary(vec![4, 1])));
    }
    client.send(Frame::binary(vec![4, 7])).await;
    match fixture.next_event().await {
        AppEvent::Message(Message::Binary(data)) => assert_eq!(data, &[7][..]),
        other => panic!("{other:?}"),
    }
    fixture.stop().await;
}

#[tokio::test]
async fn client_without_pings_times_out() {
    let settings = Settings {
        ping_interval: Duration::from_millis(100),
        ping_timeout: Duration::from_millis(200),
        ..settings()
    };
    let mut fixture = Fixture::quiet(settings).await;
    let mut client = Client::connect(&fixture, "EIO=3&transport=websocket").await;
    client.next_text().await;
    fixture.opened().await;
    for _ in 0..5 {
        client.send_text("2").await;
        assert_eq!(client.next_text().await, "3");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(client.closed().await, 1005);
    assert_eq!(fixture.closed().await, CloseReason::PingTimeout);
    fixture.stop().await;
}

#[tokio::test]
async fn client_must_not_send_pongs() {
    let mut fixture = Fixture::quiet(settings()).await;
    let mut client = Client::connect(&fixture, "EIO=3&transport=websocket").await;
    client.next_text().await;
    client.send_text("3").await;
    assert_eq!(client.closed().await, 1005);
    assert_eq!(fixture.closed().await, CloseReason::ParseError);
    fixture.stop().await;
}
