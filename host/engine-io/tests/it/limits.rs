//! Clients that send too much or read too little, and slow but well-behaved ones.

use std::time::Duration;

use engine_io::{CloseReason, Packet, SendError, Session, Settings};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame as Raw;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::fixture::*;

/// Opens a websocket session on a connection with a small receive buffer.
async fn connect_narrow(fixture: &Fixture) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut tcp = socket.connect(fixture.address).await.unwrap();
    let handshake = "GET /engine.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    tcp.write_all(handshake.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("maxPayload") {
        tcp.read_buf(&mut read).await.unwrap();
    }
    tcp
}

fn packet(size: usize) -> Packet {
    Packet::text(&"x".repeat(size))
}

#[tokio::test]
async fn overflow_of_send_buffer_ends_session() {
    let mut fixture = Fixture::quiet(settings()).await;
    let _client = connect_narrow(&fixture).await;
    let session = fixture.opened().await;
    let large = packet(50_000);
    let mut sent = 0;
    let overflow = loop {
        match session.send([large.clone()]) {
            Ok(()) => sent += large.size(),
            Err(error) => break error,
        }
        assert!(session.unsent() <= 4 * 1_000_000);
        tokio::task::yield_now().await;
    };
    assert_eq!(overflow, SendError::Overflow);
    assert!(sent >= 1_000_000);
    assert_eq!(fixture.closed().await, CloseReason::SlowReader);
    assert_eq!(session.send([large]), Err(SendError::Closed));
    fixture.stop().await;
}

#[tokio::test]
async fn empty_packets_count_in_send_buffer() {
    let mut fixture = Fixture::quiet(settings()).await;
    let _polling = Polling::open(&fixture).await.sid;
    let session = fixture.opened().await;
    let sent = (0..1_000_000)
        .take_while(|_| session.send([Packet::text("")]).is_ok())
        .count();
    assert!((10_000..100_000).contains(&sent), "{sent}");
    assert_eq!(fixture.closed().await, CloseReason::SlowReader);
    fixture.stop().await;
}

/// Sends more than the kernel buffers for a client that does not read.
async fn send_much(session: &Session) {
    for _ in 0..200 {
        session.send([packet(99_000)]).unwrap();
    }
}

fn large_send_buffer() -> Settings {
    Settings {
        send_buffer: 50_000_000,
        send_timeout: Duration::from_millis(400),
        ..settings()
    }
}

#[tokio::test]
async fn stalled_client_ends_after_send_timeout() {
    let mut fixture = Fixture::quiet(large_send_buffer()).await;
    let _client = connect_narrow(&fixture).await;
    let session = fixture.opened().await;
    send_much(&session).await;
    assert_eq!(fixture.closed().await, CloseReason::SlowReader);
    fixture.stop().await;
}

#[tokio::test]
async fn slow_client_stays() {
    let mut fixture = Fixture::quiet(large_send_buffer()).await;
    let mut client = connect_narrow(&fixture).await;
    let session = fixture.opened().await;
    send_much(&session).await;
    let begun = std::time::Instant::now();
    let mut buffer = vec![0; 1 << 20];
    let mut left: usize = 200 * 99_000;
    while left > 0 {
        tokio::time::sleep(Duration::from_millis(40)).await;
        let mut now = 600_000;
        while now > 0 && left > 0 {
            let read = client.read(&mut buffer).await.unwrap();
            assert_ne!(read, 0, "closed with {left} bytes left");
            now -= read.min(now);
            left -= read.min(left);
        }
    }
    assert!(begun.elapsed() > large_send_buffer().send_timeout);
    assert!(session.is_open());
    fixture.assert_no_event();
    fixture.stop().await;
}

#[tokio::test]
async fn unread_poll_response_ends_session() {
    let settings = Settings {
        max_payload: 30_000_000,
        ..large_send_buffer()
    };
    let mut fixture = Fixture::quiet(settings).await;
    let query = Polling::open(&fixture).await.query();
    let session = fixture.opened().await;
    send_much(&session).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut tcp = socket.connect(fixture.address).await.unwrap();
    tcp.write_all(format!("GET /engine.io/?{query} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes())
        .await
        .unwrap();
    assert_eq!(fixture.closed().await, CloseReason::SlowReader);
    drop(tcp);
    fixture.stop().await;
}

#[tokio::test]
async fn cut_off_poll_response_ends_session() {
    let settings = Settings {
        max_payload: 30_000_000,
        ..large_send_buffer()
    };
    let mut fixture = Fixture::quiet(settings).await;
    let query = Polling::open(&fixture).await.query();
    let session = fixture.opened().await;
    send_much(&session).await;
    let mut tcp = fixture.send("GET", &query, "", b"").await;
    let mut some = [0; 1_000];
    tcp.read_exact(&mut some).await.unwrap();
    drop(tcp);
    assert_eq!(fixture.closed().await, CloseReason::TransportError);
    fixture.stop().await;
}

#[tokio::test]
async fn input_is_not_read_while_send_buffer_is_full() {
    let behaviour = Behaviour {
        echoes: true,
        is_silent: true,
        ..Behaviour::default()
    };
    let settings = Settings {
        send_buffer: 100_000,
        ..settings()
    };
    let mut fixture = Fixture::start(behaviour, settings).await;
    let client = Client::open(&fixture).await;
    fixture.opened().await;
    let (mut sink, mut stream) = client.socket.split();
    let texts: Vec<String> = (0..60)
        .map(|number| format!("4{number}{}", "x".repeat(90_000)))
        .collect();
    let sending = async {
        for text in &texts {
            sink.send(Frame::text(text.clone())).await.unwrap();
        }
    };
    let receiving = async {
        for text in &texts {
            let received = stream.next().await.unwrap().unwrap();
            assert!(received == Frame::text(text.clone()), "{} bytes", received.len());
        }
    };
    tokio::time::timeout(SOON, async { tokio::join!(sending, receiving) })
        .await
        .unwrap();
    fixture.assert_no_event();
    fixture.stop().await;
}

#[tokio::test]
async fn flood_of_control_packets_ends_session() {
    let mut fixture = Fixture::quiet(settings()).await;
    let empty = || Frame::Frame(Raw::message("", OpCode::Data(Data::Continue), false));
    let many: [fn() -> Frame; 4] = [
        || Frame::Ping("".into()),
        || Frame::Pong("".into()),
        || Frame::text("6"),
        || Frame::text("3"),
    ];
    for frame in many
        .map(|frame| Box::new(frame) as Box<dyn Fn() -> Frame>)
        .into_iter()
        .chain([Box::new(empty) as Box<_>])
    {
        let client = Client::open(&fixture).await;
        fixture.opened().await;
        let (mut sink, mut stream) = client.socket.split();
        let is_fragment = matches!(frame(), Frame::Frame(_));
        let sending = async {
            if is_fragment {
                let _ = sink
                    .send(Frame::Frame(Raw::message("4", OpCode::Data(Data::Text), false)))
                    .await;
            }
            for _ in 0..2_000 {
                if sink.feed(frame()).await.is_err() {
                    break;
                }
            }
            let _ = sink.flush().await;
        };
        let receiving = async {
            let mut pongs = 0;
            loop {
                match stream.next().await {
                    Some(Ok(Frame::Close(close))) => return (close.map(|close| u16::from(close.code)), pongs),
                    Some(Ok(_)) => pongs += 1,
                    _ => return (None, pongs),
                }
            }
        };
        let (_, (code, pongs)) = tokio::time::timeout(SOON, async { tokio::join!(sending, receiving) })
            .await
            .unwrap();
        assert_eq!(code, Some(1008));
        assert!(pongs <= 501, "{pongs}");
        assert_eq!(fixture.closed().await, CloseReason::Flood);
    }
    // By polling.
    let query = Polling::open(&fixture).await.query();
    fixture.opened().await;
    let body = vec!["6"; 2_000].join("\x1e");
    assert_eq!(fixture.http("POST", &query, body.as_bytes()).await.status, 400);
    assert_eq!(fixture.closed().await, CloseReason::Flood);
    fixture.stop().await;
}

#[tokio::test]
async fn unfinished_messages_share_a_limit() {
    let settings = Settings {
        max_payload: 1_000_000,
        unfinished_bytes: 2_000_000,
        ..settings()
    };
    let mut fixture = Fixture::quiet(settings).await;
    let part = "4".repeat(900_000);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::open(&fixture).await;
        fixture.opened().await;
        client
            .send(Frame::Frame(Raw::message(
                part.clone(),
                OpCode::Data(Data::Text),
                false,
            )))
            .await;
        clients.push(client);
    }
    for _ in 0..2 {
        assert_eq!(fixture.closed().await, CloseReason::Overloaded);
    }
    fixture.assert_no_event();
    drop(clients);
    fixture.closed().await;
    fixture.stop().await;
}

#[tokio::test]
async fn volatile_packets_are_dropped_for_stalled_client() {
    let mut fixture = Fixture::quiet(large_send_buffer()).await;
    let _client = connect_narrow(&fixture).await;
    let session = fixture.opened().await;
    assert_eq!(session.send_volatile([packet(10)]), Ok(true));
    send_much(&session).await;
    assert_eq!(session.send_volatile([packet(10)]), Ok(false));
    fixture.closed().await;
    fixture.stop().await;
}

#[tokio::test]
async fn slow_reader_does_not_delay_shutdown() {
    let settings = Settings {
        close_timeout: Duration::from_millis(300),
        send_timeout: SOON,
        ..large_send_buffer()
    };
    let mut fixture = Fixture::quiet(settings).await;
    let mut client = connect_narrow(&fixture).await;
    let session = fixture.opened().await;
    send_much(&session).await;
    let reading = tokio::spawn(async move {
        let mut little = vec![0; 128 * 1024];
        while client.read(&mut little).await.is_ok_and(|read| read > 0) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let began = std::time::Instant::now();
    fixture.engine.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    reading.abort();
}

#[tokio::test]
async fn other_requests_do_not_replace_polls() {
    let settings = Settings {
        send_buffer: 1_000_000,
        ..settings()
    };
    let mut fixture = Fixture::quiet(settings).await;
    let _polling = Polling::open(&fixture).await;
    let session = fixture.opened().await;
    // Requests of other sessions take none of these packets.
    let mut sent = 0;
    while session.send([packet(99_000)]).is_ok() {
        sent += 99_000;
        fixture.http("GET", "EIO=4&transport=polling&sid=unknown", b"").await;
    }
    assert!((1_000_000..5_000_000).contains(&sent), "{sent}");
    assert_eq!(fixture.closed().await, CloseReason::SlowReader);
    fixture.stop().await;
}

#[tokio::test]
async fn client_that_keeps_sending_after_close_is_cut_off() {
    let settings = Settings {
        close_timeout: SOON,
        ..settings()
    };
    let mut fixture = Fixture::quiet(settings).await;
    let mut tcp = connect_narrow(&fixture).await;
    fixture.opened().await;
    // Pings, masked with zeros.
    let pings = [&[0x89, 0x80 | 125][..], &[0; 4 + 125]].concat().repeat(1_000);
    let mut sent = 0;
    while tcp.write_all(&pings).await.is_ok() {
        sent += pings.len();
        assert!(sent < 64 << 20, "the connection is never cut off");
    }
    assert_eq!(fixture.closed().await, CloseReason::Flood);
    fixture.stop().await;
}
