//! Polling sessions.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use engine_io::{CloseReason, Message, Packet, SendError, Settings};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};

use crate::fixture::*;

#[tokio::test]
async fn session_opens_and_echoes() {
    let fixture = Fixture::echo().await;
    let reply = fixture.http("GET", "EIO=4&transport=polling", b"").await;
    assert!(reply.head.contains("cache-control: no-store"), "{}", reply.head);
    assert!(
        reply.head.contains("content-type: text/plain; charset=utf-8"),
        "{}",
        reply.head
    );
    let open: serde_json::Value = serde_json::from_str(reply.text().strip_prefix('0').unwrap()).unwrap();
    let expected = serde_json::json!({
        "sid": open["sid"], "upgrades": ["websocket"], "pingInterval": 20_000, "pingTimeout": 20_000, "maxPayload": 100_000
    });
    assert_eq!(open, expected);
    assert_eq!(open["sid"].as_str().unwrap().len(), 20);
    let polling = Polling::open(&fixture).await;
    let reply = polling.post("4a\x1ebAQID\x1e4ü").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
    assert!(reply.head.contains("cache-control: no-store"), "{}", reply.head);
    let reply = polling.poll().await;
    assert!(reply.head.contains("cache-control: no-store"), "{}", reply.head);
    assert_eq!(reply.text(), "4a\x1ebAQID\x1e4ü");
    fixture.stop().await;
}

#[tokio::test]
async fn invalid_requests_get_error_codes_of_node() {
    let fixture = Fixture::echo().await;
    let polling = Polling::open(&fixture).await;
    let websocket = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (method, query, headers, status, body) in [
        ("GET", "EIO=4", "", 400, r#"{"code":0,"message":"Transport unknown"}"#),
        (
            "GET",
            "EIO=4&transport=polling&sid=a",
            "",
            400,
            r#"{"code":1,"message":"Session ID unknown"}"#,
        ),
        (
            "POST",
            "EIO=4&transport=polling&sid=a",
            "",
            400,
            r#"{"code":1,"message":"Session ID unknown"}"#,
        ),
        (
            "GET",
            "EIO=4&transport=websocket&sid=a",
            websocket,
            400,
            r#"{"code":1,"message":"Session ID unknown"}"#,
        ),
        (
            "POST",
            "EIO=4&transport=polling",
            "",
            400,
            r#"{"code":2,"message":"Bad handshake method"}"#,
        ),
        (
            "GET",
            "EIO=4&transport=websocket",
            "",
            400,
            r#"{"code":3,"message":"Bad request"}"#,
        ),
        (
            "GET",
            "EIO=5&transport=polling",
            "",
            400,
            r#"{"code":5,"message":"Unsupported protocol version"}"#,
        ),
        (
            "GET",
            "transport=polling",
            "",
            400,
            r#"{"code":5,"message":"Unsupported protocol version"}"#,
        ),
    ] {
        let reply = fixture.http_with(method, query, headers, b"").await;
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (status, body),
            "{method} {query}"
        );
        assert!(reply.head.contains("content-type: application/json"), "{}", reply.head);
    }
    let other = format!("EIO=3&transport=polling&sid={}", polling.sid);
    assert_eq!(
        fixture.http("GET", &other, b"").await.text(),
        r#"{"code":3,"message":"Bad request"}"#
    );
    fixture.stop().await;
    let behaviour = Behaviour {
        refuses: true,
        ..Behaviour::default()
    };
    let fixture = Fixture::start(behaviour, settings()).await;
    let reply = fixture.http("GET", "EIO=4&transport=polling", b"").await;
    assert_eq!(
        (reply.status, reply.text().as_str()),
        (403, r#"{"code":4,"message":"not you"}"#)
    );
    assert_eq!(
        Client::try_connect(&fixture, "EIO=4&transport=websocket").await.err(),
        Some(403)
    );
    assert!(fixture.engine.sessions().is_empty());
    fixture.stop().await;
}

#[tokio::test]
async fn overlapping_poll_ends_session() {
    let mut fixture = Fixture::quiet(settings()).await;
    let polling = Polling::open(&fixture).await;
    let query = polling.query();
    let mut first = fixture.send("GET", &query, "", b"").await;
    // Repeated, because a poll that arrives before the first one becomes the pending poll.
    let second = loop {
        let reply = fixture.http("GET", &query, b"").await;
        if reply.status == 400 {
            break reply;
        }
    };
    assert_eq!(second.text(), "");
    let first = Fixture::reply(&mut first).await;
    assert_eq!((first.status, first.text().as_str()), (200, "1"));
    fixture.opened().await;
    assert_eq!(fixture.closed().await, CloseReason::TransportError);
    assert_eq!(
        fixture.http("GET", &query, b"").await.text(),
        r#"{"code":1,"message":"Session ID unknown"}"#
    );
    fixture.stop().await;
}

#[tokio::test]
async fn overlapping_post_ends_session() {
    let mut fixture = Fixture::quiet(settings()).await;
    let query = Polling::open(&fixture).await.query();
    let session = fixture.opened().await;
    session.pause();
    let mut first = fixture.send("POST", &query, "", b"4a").await;
    // Either of them may arrive first.
    let second = fixture.http("POST", &query, b"4b").await;
    assert_eq!(second.status, 400);
    assert_eq!(Fixture::reply(&mut first).await.status, 400);
    assert_eq!(fixture.closed().await, CloseReason::TransportError);
    fixture.stop().await;
}

#[tokio::test]
async fn close_packet_ends_pending_poll_by_noop() {
    let mut fixture = Fixture::quiet(settings()).await;
    let query = Polling::open(&fixture).await.query();
    let mut poll = fixture.send("GET", &query, "", b"").await;
    fixture.opened().await;
    wait_for_pending_poll(&fixture, &query).await;
    assert_eq!(fixture.http("POST", &query, b"1").await.text(), "ok");
    let poll = Fixture::reply(&mut poll).await;
    assert_eq!((poll.status, poll.text().as_str()), (200, "6"));
    assert_eq!(fixture.closed().await, CloseReason::Client);
    assert_eq!(fixture.http("GET", &query, b"").await.status, 400);
    // A poll that is overtaken by its close packet.
    let query = Polling::open(&fixture).await.query();
    assert_eq!(fixture.http("POST", &query, b"1").await.text(), "ok");
    assert_eq!(fixture.http("POST", &query, b"4late").await.status, 400);
    let poll = fixture.http("GET", &query, b"").await;
    assert!(poll.text() == "6" || poll.status == 400, "{poll:?}");
    assert_eq!(fixture.http("GET", &query, b"").await.status, 400);
    fixture.stop().await;
}

/// Waits until the session has a pending poll: only then are volatile packets sent.
async fn wait_for_pending_poll(fixture: &Fixture, query: &str) {
    let sid = query.split("sid=").nth(1).unwrap();
    let session = fixture.engine.session(sid).unwrap();
    let pending = async {
        while !session.send_volatile([]).unwrap() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, pending).await.unwrap();
}

#[tokio::test]
async fn close_flushes_sent_packets() {
    let mut fixture = Fixture::quiet(settings()).await;
    let query = Polling::open(&fixture).await.query();
    let session = fixture.opened().await;
    // More than fits into one response.
    for text in ["a".repeat(60_000), "b".repeat(60_000)] {
        session.send([Packet::text(&text)]).unwrap();
    }
    session.close();
    assert_eq!(session.send([Packet::text("late")]), Err(SendError::Closed));
    assert_eq!(fixture.closed().await, CloseReason::Server);
    assert_eq!(fixture.http("GET", &query, b"").await.body.len(), 60_001);
    let last = fixture.http("GET", &query, b"").await.text();
    assert!(last.starts_with("4b") && last.ends_with('b'), "{}", last.len());
    // Not with the packets: clients act upon the close first.
    assert_eq!(fixture.http("GET", &query, b"").await.text(), "6\x1e1");
    fixture.stop().await;
    // A poll that comes after the end, and one that is pending at the end.
    let mut fixture = Fixture::quiet(settings()).await;
    let query = Polling::open(&fixture).await.query();
    fixture.opened().await.close();
    fixture.closed().await;
    assert_eq!(fixture.http("GET", &query, b"").await.text(), "6\x1e1");
    let query = Polling::open(&fixture).await.query();
    let session = fixture.opened().await;
    let mut poll = fixture.send("GET", &query, "", b"").await;
    wait_for_pending_poll(&fixture, &query).await;
    session.close();
    assert_eq!(Fixture::reply(&mut poll).await.text(), "1");
    fixture.stop().await;
}

/// Bodies of the responses, in the order in which they were given to the kernel.
type Written = Arc<Mutex<Vec<String>>>;

/// A connection that delays the response to a POST, so that a poll that does not wait for it is answered first.
struct DelayedPosts {
    tcp: TcpStream,
    written: Written,
    until: Option<Pin<Box<Sleep>>>,
}

const DELAY: Duration = Duration::from_millis(20);

impl AsyncRead for DelayedPosts {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for DelayedPosts {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let text =
            String::from_utf8_lossy(&bytes.iter().flat_map(|part| part.to_vec()).collect::<Vec<_>>()).into_owned();
        // Only responses to polls are text/plain.
        if !text.contains("text/plain") {
            let until = this.until.get_or_insert_with(|| Box::pin(sleep(DELAY)));
            ready!(until.as_mut().poll(cx));
        }
        let count = ready!(Pin::new(&mut this.tcp).poll_write_vectored(cx, bytes))?;
        let body = text[..count].split("\r\n\r\n").last().unwrap_or_default();
        this.written.lock().unwrap().push(body.to_owned());
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// A server whose connections delay the responses to POSTs.
async fn delayed_posts(behaviour: Behaviour, settings: Settings) -> (Fixture, Written) {
    let written = Written::default();
    let recorded = written.clone();
    let wrap = move |tcp| DelayedPosts {
        tcp,
        written: recorded.clone(),
        until: None,
    };
    (Fixture::start_wrapped(behaviour, settings, wrap).await, written)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn post_is_answered_before_replies_to_it() {
    let behaviour = Behaviour {
        echoes: true,
        ..Behaviour::default()
    };
    let (fixture, written) = delayed_posts(behaviour, settings()).await;
    // With a poll that is pending before the POST, and with one that comes about then.
    for is_pending in [true, false] {
        let polling = Polling::open(&fixture).await;
        let query = polling.query();
        written.lock().unwrap().clear();
        let mut poll = fixture.send("GET", &query, "", b"").await;
        if is_pending {
            wait_for_pending_poll(&fixture, &query).await;
        }
        let mut post = fixture.send("POST", &query, "", b"4a").await;
        assert_eq!(Fixture::reply(&mut poll).await.text(), "4a");
        assert_eq!(Fixture::reply(&mut post).await.text(), "ok");
        assert_eq!(*written.lock().unwrap(), ["ok", "4a"]);
    }
    // A poll that is ended by an upgrade must not deliver the reply too early, either.
    let polling = Polling::open(&fixture).await;
    let _probed = polling.probed().await;
    let mut post = fixture.send("POST", &polling.query(), "", b"4a").await;
    let mut delivered = polling.poll().await.text();
    while delivered == "6" {
        delivered = polling.poll().await.text();
    }
    assert_eq!(delivered, "4a");
    assert_eq!(Fixture::reply(&mut post).await.text(), "ok");
    let written = written.lock().unwrap().clone();
    let position = |what| written.iter().rposition(|body| body == what);
    assert!(position("ok") < position("4a"), "{written:?}");
    fixture.stop().await;
}

#[tokio::test]
async fn paused_post_is_answered_before_replies_to_it() {
    let behaviour = Behaviour {
        echoes: true,
        ..Behaviour::default()
    };
    let (mut fixture, written) = delayed_posts(behaviour, settings()).await;
    let query = Polling::open(&fixture).await.query();
    let session = fixture.opened().await;
    let mut poll = fixture.send("GET", &query, "", b"").await;
    wait_for_pending_poll(&fixture, &query).await;
    written.lock().unwrap().clear();
    // The reply to the first packet cannot wait until the rest is processed.
    assert_eq!(fixture.http("POST", &query, b"4pause\x1e4rest").await.text(), "ok");
    assert_eq!(Fixture::reply(&mut poll).await.text(), "4pause");
    assert_eq!(*written.lock().unwrap(), ["ok", "4pause"]);
    assert_eq!(fixture.message().await, "pause");
    fixture.assert_no_event();
    // The next POST waits, unread.
    let mut next = fixture.send("POST", &query, "", b"4next").await;
    session.send([Packet::text("meanwhile")]).unwrap();
    assert_eq!(fixture.http("GET", &query, b"").await.text(), "4meanwhile");
    session.resume();
    assert_eq!(Fixture::reply(&mut next).await.text(), "ok");
    assert_eq!(fixture.message().await, "rest");
    assert_eq!(fixture.message().await, "next");
    fixture.stop().await;
}

#[tokio::test]
async fn third_post_ends_session() {
    let mut fixture = Fixture::echo().await;
    let query = Polling::open(&fixture).await.query();
    fixture.opened().await;
    assert_eq!(fixture.http("POST", &query, b"4pause\x1e4rest").await.text(), "ok");
    let mut next = fixture.send("POST", &query, "", b"4next").await;
    // Either of them may arrive first.
    assert_eq!(fixture.http("POST", &query, b"4more").await.status, 400);
    assert_eq!(Fixture::reply(&mut next).await.status, 400);
    assert_eq!(fixture.closed().await, CloseReason::TransportError);
    fixture.stop().await;
}

#[tokio::test]
async fn polls_are_served_while_post_waits_for_them() {
    let settings = Settings {
        send_buffer: 10_000,
        ..settings()
    };
    let behaviour = Behaviour {
        echoes: true,
        ..Behaviour::default()
    };
    let fixture = Fixture::start(behaviour, settings).await;
    let polling = Polling::open(&fixture).await;
    let body = vec![format!("4{}", "x".repeat(3_000)); 30].join("\x1e");
    let mut post = fixture.send("POST", &polling.query(), "", body.as_bytes()).await;
    let mut received = 0;
    while received < 30 {
        let reply = polling.poll().await;
        assert_eq!(reply.status, 200);
        received += reply.text().split('\x1e').count();
    }
    assert_eq!(Fixture::reply(&mut post).await.text(), "ok");
    fixture.stop().await;
}

#[tokio::test]
async fn invalid_payload_ends_session() {
    let mut fixture = Fixture::quiet(settings()).await;
    for body in ["abc", "", "4a\x1e9", "2"] {
        let query = Polling::open(&fixture).await.query();
        fixture.opened().await;
        assert_eq!(
            fixture.http("POST", &query, body.as_bytes()).await.status,
            400,
            "{body}"
        );
        assert_eq!(fixture.closed().await, CloseReason::ParseError);
        assert_eq!(fixture.http("GET", &query, b"").await.status, 400);
    }
    let query = Polling::open(&fixture).await.query();
    let binary = "content-type: application/octet-stream\r\n";
    assert_eq!(fixture.http_with("POST", &query, binary, b"4a").await.status, 400);
    assert_eq!(fixture.closed().await, CloseReason::TransportError);
    fixture.stop().await;
}

#[tokio::test]
async fn abandoned_poll_ends_session() {
    let mut fixture = Fixture::quiet(settings()).await;
    let query = Polling::open(&fixture).await.query();
    fixture.opened().await;
    let poll = fixture.send("GET", &query, "", b"").await;
    wait_for_pending_poll(&fixture, &query).await;
    drop(poll);
    assert_eq!(fixture.closed().await, CloseReason::TransportError);
    fixture.stop().await;
}

#[tokio::test]
async fn cut_off_post_ends_session() {
    let mut fixture = Fixture::quiet(settings()).await;
    let query = Polling::open(&fixture).await.query();
    fixture.opened().await;
    let mut post = fixture.send("POST", &query, "x-a: b\r\n", b"").await;
    post.shutdown().await.unwrap();
    drop(post);
    // An empty body is not a valid payload.
    assert_eq!(fixture.closed().await, CloseReason::ParseError);
    let query = Polling::open(&fixture).await.query();
    fixture.opened().await;
    let mut tcp = tokio::net::TcpStream::connect(fixture.address).await.unwrap();
    let head = format!("POST /engine.io/?{query} HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n4abc");
    tcp.write_all(head.as_bytes()).await.unwrap();
    drop(tcp);
    assert_eq!(fixture.closed().await, CloseReason::TransportError);
    fixture.stop().await;
}

#[tokio::test]
async fn large_post_is_processed_at_pace_of_application() {
    let mut fixture = Fixture::quiet(settings()).await;
    let query = Polling::open(&fixture).await.query();
    let session = fixture.opened().await;
    let body: Vec<String> = (0..10_000).map(|number| format!("4{number}")).collect();
    session.pause();
    let mut post = fixture.send("POST", &query, "", body.join("\x1e").as_bytes()).await;
    // Meanwhile the session still sends.
    session.send([Packet::text("hi")]).unwrap();
    assert_eq!(fixture.http("GET", &query, b"").await.text(), "4hi");
    fixture.assert_no_event();
    session.resume();
    for number in 0..10_000 {
        assert_eq!(fixture.message().await, number.to_string());
    }
    assert_eq!(Fixture::reply(&mut post).await.status, 200);
    fixture.stop().await;
}

#[tokio::test]
async fn post_is_processed_whole_after_its_connection_ends() {
    let mut fixture = Fixture::quiet(settings()).await;
    let query = Polling::open(&fixture).await.query();
    let session = fixture.opened().await;
    let post = fixture.send("POST", &query, "", b"4pause\x1e4a\x1e4b").await;
    assert_eq!(fixture.message().await, "pause");
    drop(post);
    session.resume();
    assert_eq!(fixture.message().await, "a");
    assert_eq!(fixture.message().await, "b");
    fixture.stop().await;
}

#[tokio::test]
async fn large_queue_is_split_over_polls() {
    let fixture = Fixture::echo().await;
    let polling = Polling::open(&fixture).await;
    let bodies: Vec<Vec<String>> = (0..4)
        .map(|part| (0..2_048).map(|number| format!("4{}", part * 2_048 + number)).collect())
        .collect();
    for body in &bodies {
        assert_eq!(polling.post(body.join("\x1e")).await.status, 200);
    }
    assert_eq!(polling.poll_until("48191").await, bodies.concat());
    let large: Vec<String> = ["x", "y", "z"].iter().map(|text| text.repeat(60_000)).collect();
    for text in &large {
        polling.post(format!("4{text}")).await;
    }
    for text in &large {
        assert_eq!(polling.poll().await.text()[1..], *text);
    }
    fixture.stop().await;
}

#[tokio::test]
async fn body_over_max_payload_is_refused() {
    let fixture = Fixture::echo().await;
    let polling = Polling::open(&fixture).await;
    assert_eq!(polling.post("4".repeat(100_001)).await.status, 413);
    let chunked = format!(
        "POST /engine.io/?{} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n",
        polling.query()
    );
    let mut tcp = tokio::net::TcpStream::connect(fixture.address).await.unwrap();
    tcp.write_all(chunked.as_bytes()).await.unwrap();
    for _ in 0..2 {
        let _ = tcp
            .write_all(format!("ffff\r\n{}\r\n", "4".repeat(0xffff)).as_bytes())
            .await;
    }
    assert_eq!(Fixture::reply(&mut tcp).await.status, 413);
    // The session stays open, as with Node's server.
    assert_eq!(polling.post("4a").await.status, 200);
    assert_eq!(polling.poll().await.text(), "4a");
    fixture.stop().await;
}

#[tokio::test]
async fn stalled_body_times_out_and_steady_one_does_not() {
    let settings = Settings {
        body_timeout: Duration::from_millis(300),
        ..settings()
    };
    let fixture = Fixture::quiet(settings).await;
    let polling = Polling::open(&fixture).await;
    let query = polling.query();
    let begin = async |length: usize| {
        let mut tcp = tokio::net::TcpStream::connect(fixture.address).await.unwrap();
        let head = format!(
            "POST /engine.io/?{query} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        tcp.write_all(head.as_bytes()).await.unwrap();
        tcp
    };
    let mut steady = begin(40_000).await;
    for _ in 0..10 {
        steady.write_all(&[b'4'; 4_000]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(Fixture::reply(&mut steady).await.status, 200);
    let mut slow = begin(40_000).await;
    slow.write_all(b"4").await.unwrap();
    assert_eq!(Fixture::reply(&mut slow).await.status, 408);
    // The response tells the client that nothing was processed, so the session stays open.
    assert_eq!(polling.post("4a").await.status, 200);
    fixture.stop().await;
}

#[tokio::test]
async fn silent_client_times_out() {
    let settings = Settings {
        ping_interval: Duration::from_millis(200),
        ping_timeout: Duration::from_millis(200),
        ..settings()
    };
    let mut fixture = Fixture::quiet(settings).await;
    {
        let polling = Polling::open(&fixture).await;
        for _ in 0..3 {
            assert_eq!(polling.poll().await.text(), "2");
            assert_eq!(polling.post("3").await.text(), "ok");
        }
        assert_eq!(polling.poll().await.text(), "2");
        assert_eq!(polling.poll().await.text(), "1");
    }
    assert_eq!(fixture.closed().await, CloseReason::PingTimeout);
    fixture.stop().await;
}

#[tokio::test]
async fn shutdown_answers_pending_poll() {
    let mut fixture = Fixture::quiet(settings()).await;
    let query = Polling::open(&fixture).await.query();
    fixture.opened().await;
    let mut poll = fixture.send("GET", &query, "", b"").await;
    wait_for_pending_poll(&fixture, &query).await;
    timeout(SOON, fixture.engine.shutdown()).await.unwrap();
    assert_eq!(Fixture::reply(&mut poll).await.text(), "1");
    assert_eq!(fixture.closed().await, CloseReason::Shutdown);
    assert_eq!(fixture.http("GET", "EIO=4&transport=polling", b"").await.status, 403);
}

#[tokio::test]
async fn shutdown_answers_post_with_unfinished_body() {
    let mut fixture = Fixture::quiet(settings()).await;
    let query = Polling::open(&fixture).await.query();
    fixture.opened().await;
    let mut post = tokio::net::TcpStream::connect(fixture.address).await.unwrap();
    let head = format!("POST /engine.io/?{query} HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n4abc");
    post.write_all(head.as_bytes()).await.unwrap();
    // A second POST is refused once the first has begun.
    while fixture.http("POST", &query, b"").await.status != 400 {}
    timeout(SOON, fixture.engine.shutdown()).await.unwrap();
    assert_eq!(Fixture::reply(&mut post).await.status, 400);
    fixture.stop().await;
}

#[tokio::test]
async fn volatile_packets_need_pending_poll() {
    let mut fixture = Fixture::quiet(settings()).await;
    let query = Polling::open(&fixture).await.query();
    let session = fixture.opened().await;
    assert_eq!(session.send_volatile([Packet::text("lost")]), Ok(false));
    let mut poll = fixture.send("GET", &query, "", b"").await;
    wait_for_pending_poll(&fixture, &query).await;
    assert_eq!(session.send_volatile([Packet::text("heard")]), Ok(true));
    assert_eq!(Fixture::reply(&mut poll).await.text(), "4heard");
    fixture.stop().await;
}

#[tokio::test]
async fn opening_request_is_kept() {
    let mut fixture = Fixture::quiet(settings()).await;
    fixture
        .http_with("GET", "EIO=4&transport=polling&a=b", "cookie: c\r\n", b"")
        .await;
    let session = fixture.opened().await;
    let opening = session.opening();
    assert_eq!(opening.query(), "EIO=4&transport=polling&a=b");
    assert!(opening.headers().any(|header| header == ("cookie", "c")));
    assert!(opening.peer().unwrap().ip().is_loopback());
    fixture.stop().await;
}

#[tokio::test]
async fn base64_message_arrives_as_binary() {
    let mut fixture = Fixture::quiet(settings()).await;
    let query = Polling::open(&fixture).await.query();
    fixture.opened().await;
    fixture.http("POST", &query, b"bAQIDBA==").await;
    match fixture.next_event().await {
        AppEvent::Message(Message::Binary(data)) => assert_eq!(data, &[1, 2, 3, 4][..]),
        other => panic!("{other:?}"),
    }
    fixture.stop().await;
}
