//! Sessions that begin as websockets.

use std::time::Duration;

use engine_io::{CloseReason, Message, Packet, Settings};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::fixture::*;

#[tokio::test]
async fn session_opens_and_echoes() {
    let fixture = Fixture::echo().await;
    let mut client = Client::connect(&fixture, "EIO=4&transport=websocket").await;
    let open: serde_json::Value = serde_json::from_str(&client.next_text().await[1..]).unwrap();
    let expected = serde_json::json!({
        "sid": open["sid"], "upgrades": [], "pingInterval": 20_000, "pingTimeout": 20_000, "maxPayload": 100_000
    });
    assert_eq!(open, expected);
    client.send_text("4hello").await;
    assert_eq!(client.next_text().await, "4hello");
    client.send(Frame::binary(vec![1, 2, 3])).await;
    assert_eq!(client.next().await, Some(Frame::binary(vec![1, 2, 3])));
    // A client that cannot send binary data sends base64.
    client.send_text("bAQID").await;
    assert_eq!(client.next().await, Some(Frame::binary(vec![1, 2, 3])));
    client.send(Frame::Ping("are you there".into())).await;
    assert_eq!(client.next().await, Some(Frame::Pong("are you there".into())));
    let large = "x".repeat(99_999);
    client.send_text(&format!("4{large}")).await;
    assert_eq!(client.next_text().await[1..], large);
    fixture.stop().await;
}

#[tokio::test]
async fn client_without_binary_gets_base64() {
    let fixture = Fixture::echo().await;
    let mut client = Client::connect(&fixture, "EIO=4&transport=websocket&b64=1").await;
    client.next_text().await;
    client.send_text("bAQID").await;
    assert_eq!(client.next_text().await, "bAQID");
    fixture.stop().await;
}

#[tokio::test]
async fn first_subprotocol_is_selected() {
    let fixture = Fixture::echo().await;
    let url = format!("ws://{}/engine.io/?EIO=4&transport=websocket", fixture.address);
    let mut request = url.into_client_request().unwrap();
    request
        .headers_mut()
        .insert("sec-websocket-protocol", "one, two".parse().unwrap());
    let (_socket, answer) = connect_async(request).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "one");
    fixture.stop().await;
}

#[tokio::test]
async fn meaningless_packets_are_ignored() {
    let fixture = Fixture::echo().await;
    let mut client = Client::open(&fixture).await;
    for packet in ["0", "1", "5", "6", "3", "3probe", "6x"] {
        client.send_text(packet).await;
    }
    client.send_text("4still here").await;
    assert_eq!(client.next_text().await, "4still here");
    fixture.stop().await;
}

#[tokio::test]
async fn end_of_session_sends_close_frame() {
    let mut fixture = Fixture::quiet(settings()).await;
    for (frame, code, reason) in [
        (Frame::text("abc"), 1005, CloseReason::ParseError),
        (Frame::text(""), 1005, CloseReason::ParseError),
        (Frame::text("2"), 1005, CloseReason::ParseError),
        (Frame::Close(None), 1005, CloseReason::Client),
        (Frame::text("4".repeat(100_001)), 1009, CloseReason::TooLarge),
        (Frame::text("4".repeat(10_000_000)), 1009, CloseReason::TooLarge),
    ] {
        let mut client = Client::open(&fixture).await;
        fixture.opened().await;
        let (received_code, ()) = {
            let (mut sink, stream) = futures_util::StreamExt::split(client.socket);
            let mut receiver = Receiver(stream);
            tokio::join!(receiver.closed(), async {
                let _ = futures_util::SinkExt::send(&mut sink, frame.clone()).await;
            })
        };
        assert_eq!(received_code, code, "{reason}");
        assert_eq!(fixture.closed().await, reason);
        client = Client::open(&fixture).await;
        fixture.opened().await;
        drop(client);
        assert!(matches!(
            fixture.closed().await,
            CloseReason::TransportClose | CloseReason::TransportError
        ));
    }
    fixture.stop().await;
}

/// The receiving half of a client.
struct Receiver<S>(S);

impl<S: futures_util::Stream<Item = Result<Frame, tokio_tungstenite::tungstenite::Error>> + Unpin> Receiver<S> {
    async fn closed(&mut self) -> u16 {
        loop {
            match tokio::time::timeout(SOON, futures_util::StreamExt::next(&mut self.0))
                .await
                .expect("the connection ends")
            {
                Some(Ok(Frame::Close(close))) => return close.map_or(1005, |close| close.code.into()),
                Some(Ok(_)) => {}
                _ => return 1006,
            }
        }
    }
}

#[tokio::test]
async fn close_flushes_sent_packets() {
    let mut fixture = Fixture::quiet(settings()).await;
    let mut client = Client::open(&fixture).await;
    let session = fixture.opened().await;
    for number in 0..500 {
        session.send([Packet::text(&number.to_string())]).unwrap();
    }
    session.close();
    assert_eq!(fixture.closed().await, CloseReason::Server);
    for number in 0..500 {
        assert_eq!(client.next_text().await, format!("4{number}"));
    }
    assert_eq!(client.closed().await, 1005);
    fixture.stop().await;
}

#[tokio::test]
async fn shutdown_closes_websockets() {
    let mut fixture = Fixture::quiet(settings()).await;
    let mut client = Client::open(&fixture).await;
    fixture.opened().await;
    let (code, ()) = tokio::join!(client.closed(), fixture.engine.shutdown());
    assert_eq!(code, 1005);
    assert_eq!(fixture.closed().await, CloseReason::Shutdown);
    assert_eq!(
        Client::try_connect(&fixture, "EIO=4&transport=websocket").await.err(),
        Some(403)
    );
}

#[tokio::test]
async fn paused_session_delivers_no_message() {
    let mut fixture = Fixture::quiet(settings()).await;
    let mut client = Client::open(&fixture).await;
    let session = fixture.opened().await;
    client.send_text("4pause").await;
    for number in 0..300 {
        client.send_text(&format!("4{number}")).await;
    }
    assert_eq!(fixture.message().await, "pause");
    // A paused session still sends.
    session.send([Packet::text("hi")]).unwrap();
    assert_eq!(client.next_text().await, "4hi");
    fixture.assert_no_event();
    session.pause();
    session.resume();
    fixture.assert_no_event();
    session.resume();
    for number in 0..300 {
        assert_eq!(fixture.message().await, number.to_string());
    }
    fixture.stop().await;
}

#[tokio::test]
async fn silent_client_times_out_with_close_frame() {
    let settings = Settings {
        ping_interval: Duration::from_millis(150),
        ping_timeout: Duration::from_millis(150),
        ..settings()
    };
    let mut fixture = Fixture::quiet(settings).await;
    let mut client = Client::open(&fixture).await;
    for _ in 0..3 {
        assert_eq!(client.next_text().await, "2");
        client.send_text("3").await;
    }
    assert_eq!(client.next_text().await, "2");
    assert_eq!(client.closed().await, 1005);
    assert_eq!(fixture.closed().await, CloseReason::PingTimeout);
    fixture.stop().await;
}

#[tokio::test]
async fn one_packet_is_sent_to_many_sessions() {
    let mut fixture = Fixture::quiet(settings()).await;
    let mut clients = Vec::new();
    let packets = [Packet::text("one"), Packet::binary(&b"two"[..])];
    for _ in 0..20 {
        clients.push(Client::open(&fixture).await);
    }
    for _ in 0..20 {
        fixture.opened().await.send(packets.clone()).unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.next_text().await, "4one");
        assert_eq!(client.next().await, Some(Frame::binary(&b"two"[..])));
    }
    fixture.stop().await;
}

#[tokio::test]
async fn fragments_become_one_message() {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame as Raw;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    let mut fixture = Fixture::quiet(settings()).await;
    let mut client = Client::open(&fixture).await;
    fixture.opened().await;
    let fragment = |data: &'static str, kind, is_final| Frame::Frame(Raw::message(data, OpCode::Data(kind), is_final));
    client.send(fragment("4ab", Data::Text, false)).await;
    client.send(Frame::Ping("between".into())).await;
    client.send(fragment("cd", Data::Continue, true)).await;
    match fixture.next_event().await {
        AppEvent::Message(Message::Text(text)) => assert_eq!(text, "abcd"),
        other => panic!("{other:?}"),
    }
    fixture.stop().await;
}
