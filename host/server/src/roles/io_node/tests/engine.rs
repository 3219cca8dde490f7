//! The engine as its clients see it: pings, polls, limits and wrong requests.

use super::*;

const OPEN: &str = "GET /socket.io/?EIO=4&transport=polling";

/// A client that polls.
pub(super) struct Polling<'a> {
    pub(super) fixture: &'a Fixture,
    pub(super) sid: String,
}

impl<'a> Polling<'a> {
    pub(super) async fn open(fixture: &'a Fixture) -> Self {
        let opened = fixture.http(OPEN, "").await;
        let (head, body) = opened.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{opened}");
        let open: serde_json::Value = serde_json::from_str(body.strip_prefix('0').unwrap()).unwrap();
        let sid = open["sid"].as_str().unwrap().to_owned();
        Self { fixture, sid }
    }

    pub(super) fn address(&self) -> String {
        format!("/socket.io/?EIO=4&transport=polling&sid={}", self.sid)
    }

    pub(super) async fn post(&self, body: &str) -> String {
        self.fixture.http(&format!("POST {}", self.address()), body).await
    }

    pub(super) async fn poll(&self) -> String {
        let answer = self.fixture.http(&format!("GET {}", self.address()), "").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        match head.starts_with("HTTP/1.1 200") {
            true => body.to_owned(),
            false => format!("refused {body}"),
        }
    }

    /// Waits until the session has ended.
    pub(super) async fn is_gone(&self) {
        let gone = async {
            while !self.post("3").await.starts_with("HTTP/1.1 400") {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, gone).await.expect("its session should end");
    }
}

/// Sends the beginning of a request.
pub(super) async fn begin(fixture: &Fixture, bytes: &str) -> TcpStream {
    let mut tcp = TcpStream::connect(fixture.address).await.unwrap();
    tcp.write_all(bytes.as_bytes()).await.unwrap();
    tcp
}

pub(super) async fn read_to_end(tcp: &mut TcpStream) -> String {
    let mut answer = String::new();
    timeout(SOON, tcp.read_to_string(&mut answer))
        .await
        .expect("it ends")
        .unwrap();
    answer
}

#[tokio::test]
async fn first_ping_comes_after_the_interval_on_both_transports() {
    let every = Duration::from_millis(600);
    let fixture = Fixture::pinging(every, TransportSettings::default()).await;
    let began = std::time::Instant::now();
    let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", fixture.address);
    let (mut socket, _) = connect_async(url).await.unwrap();
    let next = async |socket: &mut WebSocketStream<_>| {
        timeout(SOON, socket.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
            .into_text()
            .unwrap()
    };
    assert!(next(&mut socket).await.starts_with('0'));
    let polling = Polling::open(&fixture).await;
    for _ in 0..2 {
        assert_eq!(next(&mut socket).await, "2");
        assert!(began.elapsed() >= every, "it came after {:?}", began.elapsed());
        socket.send(Message::text("3")).await.unwrap();
        assert_eq!(polling.poll().await, "2");
        assert!(began.elapsed() >= every, "it came after {:?}", began.elapsed());
        polling.post("3").await;
    }
    assert!(began.elapsed() < every * 5);
    fixture.stop().await;
}

#[tokio::test]
async fn session_ends_when_its_poll_is_abandoned() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let polling = Polling::open(&fixture).await;
    polling.post("40").await;
    let connected = app.read().await;
    assert!(polling.poll().await.starts_with("40"));
    let poll = format!("GET {} HTTP/1.1\r\nhost: a\r\n\r\n", polling.address());
    let waiting = begin(&fixture, &poll).await;
    sleep(MOMENT).await;
    drop(waiting);
    polling.is_gone().await;
    let client = connected[0].split(' ').next().unwrap();
    assert_eq!(app.read().await, [format!("{client} disconnect")]);
    fixture.stop().await;
}

#[tokio::test]
async fn second_concurrent_poll_ends_the_session() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let polling = Polling::open(&fixture).await;
    let (first, second) = tokio::join!(polling.poll(), async {
        sleep(MOMENT).await;
        polling.poll().await
    });
    assert!(!first.starts_with("refused"), "{first}");
    assert!(second.starts_with("refused"), "{second}");
    polling.is_gone().await;
    fixture.stop().await;
}

#[tokio::test]
async fn second_concurrent_post_ends_the_session() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let polling = Polling::open(&fixture).await;
    let slow = format!(
        "POST {} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n4",
        polling.address()
    );
    let slow = begin(&fixture, &slow).await;
    sleep(MOMENT).await;
    let second = polling.post("40").await;
    assert!(second.starts_with("HTTP/1.1 400 "), "{second}");
    assert!(polling.poll().await.starts_with("refused"), "the session is over");
    drop(slow);

    let polling = Polling::open(&fixture).await;
    for _ in 0..3 {
        assert!(
            polling.post("3").await.starts_with("HTTP/1.1 200 "),
            "one after the other"
        );
    }
    // A POST that waits for the end of a pause is still being read.
    polling.post("40").await;
    polling.poll().await;
    fixture.transport.ingest.send_replace(false);
    let many = vec!["42[\"many\"]"; 100].join("\x1e");
    let held = polling.post(&many);
    let (held, second) = tokio::join!(held, async {
        sleep(MOMENT).await;
        polling.post("42[\"second\"]").await
    });
    assert!(second.starts_with("HTTP/1.1 400 "), "{second}");
    assert!(held.starts_with("HTTP/1.1 400 "), "{held}");
    fixture.transport.ingest.send_replace(true);
    fixture.stop().await;
}

#[tokio::test]
async fn limits_size_and_time_of_bodies() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let polling = Polling::open(&fixture).await;
    let post = format!("POST {} HTTP/1.1\r\nhost: a\r\n", polling.address());
    let long = "4".repeat(100_001);
    let declared = format!("{post}content-length: {}\r\n\r\n", long.len());
    let answer = read_to_end(&mut begin(&fixture, &declared).await).await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close"),
        "{answer}"
    );
    let mut chunked = begin(&fixture, &format!("{post}transfer-encoding: chunked\r\n\r\n")).await;
    let chunk = format!("{:x}\r\n{long}\r\n", long.len());
    chunked.write_all(chunk.as_bytes()).await.unwrap();
    let mut answer = [0; 13];
    timeout(SOON, chunked.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413 ");

    let mut slow = begin(&fixture, &format!("{post}content-length: 2\r\n\r\n4")).await;
    let answer = read_to_end(&mut slow).await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close"),
        "{answer}"
    );
    assert!(
        polling.post("3").await.starts_with("HTTP/1.1 200"),
        "the session is still there"
    );
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_wrong_requests_with_messages_of_engine_io() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let upgrade = "connection: close, upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (query, code) in [
        ("EIO=3&transport=polling", 5),
        ("EIO=3&transport=websocket", 5),
        ("EIO=9&transport=websocket", 5),
        ("EIO=4&transport=pigeon", 0),
        ("EIO=4&transport=polling&sid=AAAAAAAAAAAAAAHs", 1),
        ("EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAHs", 1),
        ("EIO=4&transport=websocket&sid=none", 1),
    ] {
        let request = format!("GET /socket.io/?{query} HTTP/1.1\r\nhost: a\r\n{upgrade}\r\n");
        let answer = read_to_end(&mut begin(&fixture, &request).await).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{query}: {answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let told: serde_json::Value = serde_json::from_str(body).unwrap();
        let told = told["code"]
            .as_str()
            .map_or_else(|| told["code"].to_string(), str::to_owned);
        assert_eq!(told, code.to_string(), "{query}: {answer}");
    }
    fixture.stop().await;
}

/// Connects to and disconnects from a namespace many times, in one body.
fn flood_of_connects() -> String {
    vec!["40\x1e41"; 16_000].join("\x1e")
}

#[tokio::test]
async fn burst_of_connects_waits_without_delaying_others() {
    let fixture = Fixture::with(TransportSettings::default(), |setup| {
        setup.settings.refuse_after = SOON;
        // No app reads them.
        setup.answering = Duration::ZERO;
    })
    .await;
    let polling = Polling::open(&fixture).await;
    fixture.transport.ingest.send_replace(false);
    let (body, address) = (flood_of_connects(), format!("POST {}", polling.address()));
    // Behind its answer, polls bring the answers to the first of them; the rest waits, and so does the next request.
    let answer = fixture.http(&address, &body).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut flood = Box::pin(fixture.http(&address, &body));
    let connecting = async {
        for _ in 0..3 {
            Client::connect(fixture.address).await;
        }
    };
    tokio::select! {
        answer = &mut flood => panic!("it is taken in though nothing is accepted: {answer}"),
        () = connecting => {}
    }
    // The rest does not keep the process from ending.
    drop(flood);
    fixture.transport.ingest.send_replace(true);
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_burst_of_connects_over_the_rate() {
    let fixture = Fixture::with(TransportSettings::default(), |setup| {
        setup.settings.events_per_second = Some(50);
    })
    .await;
    let mut app = fixture.app().await;
    let polling = Polling::open(&fixture).await;
    polling.post(&flood_of_connects()).await;
    polling.is_gone().await;
    app.reads_nothing().await;
    fixture.stop().await;
}

#[tokio::test]
async fn refusals_are_bounded_for_a_client_that_does_not_poll() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let polling = Polling::open(&fixture).await;
    // Each refusal is as long as its packet.
    let body = format!("40/{},", "x".repeat(90_000));
    let mut taken = 0;
    while let Ok(answer) = timeout(Duration::from_secs(1), polling.post(&body)).await {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        taken += 1;
        assert!(taken <= 12, "more than send-buffer waits");
    }
    assert!(taken > 0);
    fixture.stop().await;
}
