//! Checks of hosts, origins, addresses, tokens and rates.

use std::time::Instant;

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::*;
use plugnode_message::{Departure, Handshake, now_ms};
use plugnode_socket_io::Flood;

const SECRET: &str = "for tests alone: 0123456789abcdef";
const OPEN: &str = "GET /socket.io/?EIO=4&transport=polling";

async fn fixture(change: impl FnOnce(&mut IoNodeSetup)) -> Fixture {
    Fixture::with(TransportSettings::default(), change).await
}

fn with_tokens(setup: &mut IoNodeSetup) {
    setup.apps.push(AppNamespace {
        namespace: "/chat".into(),
        admission: None,
        presence: Default::default(),
    });
    setup.settings.engine.protocol_3 = true;
    setup.settings.attributes = [
        ("page".into(), Field::Query("page".into())),
        ("nick".into(), Field::Auth(vec!["nick".into()])),
    ]
    .into();
    setup.settings.token = TokenSettings {
        secret: Some(SECRET.into()),
        algorithms: vec![Algorithm::HS256],
        leeway: Duration::ZERO,
        ..TokenSettings::default()
    };
}

fn token(seconds: i64, secret: &str) -> String {
    let claims = json!({ "sub": "ann", "exp": now_ms() as i64 / 1_000 + seconds });
    encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .unwrap()
}

/// An open websocket that has joined no namespace.
async fn opened_by(address: SocketAddr, query: &str) -> Client {
    let url = format!("ws://{address}/socket.io/?transport=websocket&{query}");
    let (socket, _) = connect_async(url).await.unwrap();
    let id = String::new();
    let mut client = Client { socket, id };
    assert!(client.hear().await.unwrap().starts_with('0'));
    client
}

/// Opens a websocket from this origin.
async fn websocket_from(address: SocketAddr, origin: &str) -> Result<(), u16> {
    let url = format!("ws://localhost:{}/socket.io/?EIO=4&transport=websocket", address.port());
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("origin", origin.parse().unwrap());
    match connect_async(request).await {
        Ok(_) => Ok(()),
        Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

fn attributes(event: &Event) -> Value {
    serde_json::from_str(&event.client.as_ref().unwrap().attributes).unwrap()
}

#[tokio::test]
async fn valid_token_admits_client_and_sets_attributes() {
    let fixture = fixture(with_tokens).await;
    let mut app = fixture.app().await;
    let mut client = opened_by(fixture.address, "EIO=4&page=home").await;
    let good = token(60, SECRET);
    client.say(&format!(r#"40{{"token":"{good}","nick":"anna"}}"#)).await;
    assert!(client.hear().await.unwrap().starts_with("40{\"sid\":"));
    client.say("42[\"hello\"]").await;
    let mut heard = Vec::new();
    while heard.len() < 2 {
        heard.extend(app.handle(|_| Vec::new()).await);
    }
    for event in &heard {
        assert_eq!(
            attributes(event),
            json!({ "sub": "ann", "page": "home", "nick": "anna" })
        );
    }
    fixture.stop().await;
}

#[tokio::test]
async fn connection_closes_when_its_token_expires_if_enforced() {
    let enforced = fixture(|setup| {
        with_tokens(setup);
        setup.settings.token.enforce_expiry = true;
    })
    .await;
    let lenient = fixture(with_tokens).await;
    let mut clients = Vec::new();
    for fixture in [&enforced, &lenient] {
        let mut client = opened_by(fixture.address, "EIO=4").await;
        client.say(&format!(r#"40{{"token":"{}"}}"#, token(2, SECRET))).await;
        assert!(client.hear().await.unwrap().starts_with("40{\"sid\":"));
        clients.push(client);
    }
    let began = Instant::now();
    while clients[0].hear().await.is_some() {}
    assert!(began.elapsed() >= Duration::from_millis(800), "{:?}", began.elapsed());
    let stays = timeout(MOMENT, clients[1].hear()).await;
    assert!(stays.is_err(), "{stays:?}");
    enforced.stop().await;
    lenient.stop().await;
}

#[tokio::test]
async fn invalid_token_gets_refusal_and_nothing_else() {
    let fixture = fixture(with_tokens).await;
    let mut app = fixture.app().await;
    let mut client = opened_by(fixture.address, "EIO=4").await;
    for (packet, answer) in [
        (
            format!(r#"40{{"token":"{}"}}"#, token(-10, SECRET)),
            r#"44{"message":"invalid token"}"#,
        ),
        (
            format!(
                r#"40{{"token":"{}"}}"#,
                token(60, "another secret that is long enough too")
            ),
            r#"44{"message":"invalid token"}"#,
        ),
        (r#"40{"token":7}"#.into(), r#"44{"message":"invalid token"}"#),
        ("40".into(), r#"44{"message":"a token is required"}"#),
        (
            r#"40/chat,{"token":"x"}"#.into(),
            r#"44/chat,{"message":"invalid token"}"#,
        ),
    ] {
        client.say(&packet).await;
        assert_eq!(client.hear().await.unwrap(), answer, "{packet}");
    }
    // No app got any event, and the client may try again.
    client.say(&format!(r#"40{{"token":"{}"}}"#, token(60, SECRET))).await;
    assert!(client.hear().await.unwrap().starts_with("40{\"sid\":"));
    let heard = app.read().await;
    assert_eq!(heard.len(), 1, "{heard:?}");
    fixture.stop().await;
}

#[tokio::test]
async fn disconnects_client_without_valid_token_in_time() {
    for version in ["EIO=4", "EIO=3"] {
        let fixture = fixture(|setup| {
            with_tokens(setup);
            setup.settings.connect_timeout = MOMENT;
        })
        .await;
        let mut client = opened_by(fixture.address, version).await;
        if version == "EIO=4" {
            client.say("40").await;
        }
        let refusal = client.hear().await.unwrap();
        assert!(refusal.contains("a token is required"), "{refusal}");
        assert_eq!(client.hear().await, None, "{version}");
        fixture.stop().await;
    }
}

#[tokio::test]
async fn socket_io_2_client_sends_its_token_in_the_query() {
    let fixture = fixture(|setup| {
        with_tokens(setup);
        setup.settings.token.from = Field::Query("token".into());
    })
    .await;
    let mut app = fixture.app().await;
    let mut client = opened_by(fixture.address, &format!("EIO=3&token={}", token(60, SECRET))).await;
    assert_eq!(client.hear().await.unwrap(), "40");
    let heard = app.handle(|_| Vec::new()).await;
    assert_eq!(attributes(&heard[0]), json!({ "sub": "ann" }));
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_client_with_too_large_attributes() {
    let fixture =
        fixture(|setup| setup.settings.attributes = [("a".into(), Field::Auth(vec!["a".into()]))].into()).await;
    let mut client = opened_by(fixture.address, "EIO=4").await;
    client.say(&format!("40{}", json!({ "a": "x".repeat(17_000) }))).await;
    let refusal = client.hear().await.unwrap();
    assert_eq!(
        refusal,
        r#"44{"message":"the attributes in the handshake are too large"}"#
    );
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_pages_of_other_sites() {
    let fixture = fixture(|setup| setup.settings.allowed_origins = vec!["https://good.example".into()]).await;
    let ask = async |request: &str, headers: &str| fixture.http_with(request, headers, "").await;
    for origin in ["http://a", "http://a:3000", "https://good.example"] {
        let answer = ask(OPEN, &format!("origin: {origin}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(
            answer.contains(&format!("access-control-allow-origin: {origin}\r\n")),
            "{answer}"
        );
        assert!(
            answer.contains("access-control-allow-credentials: true\r\n"),
            "{answer}"
        );
    }
    let answer = ask(OPEN, "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        !answer.contains("access-control") && answer.contains("vary: origin"),
        "{answer}"
    );
    let preflight = "origin: https://good.example\r\naccess-control-request-method: POST\r\n";
    let answer = ask("OPTIONS /socket.io/?EIO=4&transport=polling", preflight).await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert!(
        answer.contains("access-control-allow-methods: GET, POST\r\n"),
        "{answer}"
    );

    for request in [OPEN, "POST /socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA"] {
        let answer = ask(request, "origin: https://evil.example\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(!answer.contains("access-control"), "{answer}");
    }
    // Requests outside Socket.IO are not checked.
    let answer = ask("GET /page.html", "origin: https://evil.example\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    assert_eq!(websocket_from(fixture.address, "http://localhost").await, Ok(()));
    assert_eq!(websocket_from(fixture.address, "https://good.example").await, Ok(()));
    assert_eq!(websocket_from(fixture.address, "https://evil.example").await, Err(403));
    fixture.stop().await;
}

#[tokio::test]
async fn limits_sessions_of_an_address() {
    let fixture = fixture(|setup| setup.settings.per_address.clients = Some(2)).await;
    let first = Client::connect(fixture.address).await;
    let polling = fixture.http(OPEN, "").await;
    assert!(polling.starts_with("HTTP/1.1 200"), "{polling}");
    let refused = fixture.http(OPEN, "").await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert_eq!(websocket_from(fixture.address, "http://localhost").await, Err(429));
    drop(first);
    let again = async {
        while Client::try_connect(fixture.address).await.is_none() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, again).await.expect("a session when another has ended");
    fixture.stop().await;
}

#[tokio::test]
async fn limits_rate_of_new_sessions_of_an_address() {
    let fixture = fixture(|setup| setup.settings.per_address.connects_per_second = Some(1)).await;
    let mut answers = Vec::new();
    for _ in 0..15 {
        answers.push(fixture.http(OPEN, "").await);
    }
    let taken = answers
        .iter()
        .filter(|answer| answer.starts_with("HTTP/1.1 200"))
        .count();
    // A burst of ten seconds, and one for each second that this takes.
    assert!((10..15).contains(&taken), "{taken}");
    let last = answers.last().unwrap();
    assert!(
        last.starts_with("HTTP/1.1 429") && last.contains("retry-after: 1\r\n"),
        "{last}"
    );
    fixture.stop().await;
}

#[tokio::test]
async fn delays_answer_to_a_new_session() {
    let fixture = fixture(|setup| setup.settings.handshake_delay = MOMENT).await;
    let began = Instant::now();
    assert!(fixture.http(OPEN, "").await.starts_with("HTTP/1.1 200"));
    assert!(began.elapsed() >= MOMENT);
    let began = Instant::now();
    Client::connect(fixture.address).await;
    assert!(began.elapsed() >= MOMENT);
    fixture.stop().await;
}

#[tokio::test]
async fn reads_fast_client_at_its_rate() {
    let fixture = fixture(|setup| setup.settings.events_per_second = Some(50)).await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    let began = Instant::now();
    // A burst of a hundred, and what was read together with the last of them.
    for i in 0..160 {
        client.say(&format!("42[\"m{i}\"]")).await;
    }
    let heard = app.read_some(161).await;
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
    let order: Vec<_> = heard[1..]
        .iter()
        .map(|words| words.split(' ').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(order, (0..160).map(|i| format!("m{i}")).collect::<Vec<_>>());
    // Then it is as before.
    client.say("42[\"more\"]").await;
    assert!(app.read().await[0].ends_with(" more"));
    fixture.stop().await;
}

#[tokio::test]
async fn disconnects_flooding_client_with_a_reason() {
    let fixture = fixture(|setup| setup.settings.events_per_second = Some(5)).await;
    let mut app = fixture.app().await;
    // All in one request, so no pause holds it back.
    let opened = fixture.http(OPEN, "").await;
    let sid = opened.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap();
    let session = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    fixture.http(&format!("POST {session}"), "40").await;
    let flood = vec!["42[\"a\"]"; 1_000].join("\u{1e}");
    fixture.http(&format!("POST {session}"), &flood).await;
    let reason = async {
        loop {
            for event in app.handle(|_| Vec::new()).await {
                if let EventKind::Disconnect(Departure { reason, .. }) = &event.kind {
                    return reason.clone();
                }
            }
        }
    };
    let reason = timeout(SOON, reason).await.unwrap();
    assert_eq!(reason, DisconnectReason::Other(Flood::Events.to_string()));
    fixture.stop().await;
}

#[tokio::test]
async fn app_gets_the_handshake() {
    let fixture = fixture(with_tokens).await;
    let mut app = fixture.app().await;
    let mut client = opened_by(fixture.address, "EIO=4&page=home").await;
    client.say(&format!(r#"40{{"token":"{}"}}"#, token(60, SECRET))).await;
    let heard = app.handle(|_| Vec::new()).await;
    let EventKind::Connection(handshake) = &heard[0].kind else {
        panic!("{heard:?}");
    };
    let Handshake { query, auth, .. } = &**handshake;
    assert!(query.contains("page=home") && auth.as_ref().unwrap().contains("token"));
    fixture.stop().await;
}

/// Sends a packet `count` times from one client, and returns the reason of its disconnect.
async fn reason_after(fixture: &Fixture, packet: &str, count: usize) -> DisconnectReason {
    let mut app = fixture.app().await;
    let opened = fixture.http(OPEN, "").await;
    let sid = opened.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap();
    let session = format!("POST /socket.io/?EIO=4&transport=polling&sid={sid}");
    fixture.http(&session, "40").await;
    fixture.http(&session, &vec![packet; count].join("\u{1e}")).await;
    let reason = async {
        loop {
            for event in app.handle(|_| Vec::new()).await {
                if let EventKind::Disconnect(Departure { reason, .. }) = &event.kind {
                    return reason.clone();
                }
            }
        }
    };
    timeout(SOON, reason).await.unwrap()
}

#[tokio::test]
async fn counts_packets_of_any_kind() {
    // An acknowledgement that was not asked for, and the disconnect from a namespace that it has not joined.
    for packet in ["431[]", "41/x,"] {
        let fixture = fixture(|setup| setup.settings.packets_per_second = 10).await;
        let reason = reason_after(&fixture, packet, 1_000).await;
        let flood = DisconnectReason::Other(Flood::Packets.to_string());
        assert_eq!(reason, flood, "{packet}");
        fixture.stop().await;
    }
}

#[tokio::test]
async fn slows_reading_of_too_fast_packets() {
    let fixture = fixture(|setup| setup.settings.packets_per_second = 50).await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    let began = Instant::now();
    for _ in 0..160 {
        client.say("431[]").await;
    }
    client.say("42[\"last\"]").await;
    let heard = app.read_some(2).await;
    assert!(heard[1].ends_with(" last"), "{heard:?}");
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_new_sessions_while_memory_is_full() {
    let pressure = MemoryPressure::default();
    let given = pressure.clone();
    let fixture = fixture(|setup| setup.pressure = given).await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    let polling = fixture.http(OPEN, "").await;
    let sid = polling.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap();
    assert!((fixture.joined)().is_ready());

    pressure.set(100);
    let refused = fixture.http(OPEN, "").await;
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("memory budget"),
        "{refused}"
    );
    assert_eq!(websocket_from(fixture.address, "http://localhost").await, Err(503));
    assert!(fixture.http("GET /page", "").await.starts_with("HTTP/1.1 503"));
    let problem = (fixture.joined)().problem.unwrap();
    assert!(problem.contains("memory budget"), "{problem}");
    // Present clients stay.
    client.say("42[\"here\"]").await;
    let session = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    assert!(
        fixture
            .http(&format!("POST {session}"), "40")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let heard = app.read_some(3).await;
    assert!(heard.iter().any(|words| words.ends_with(" here")), "{heard:?}");

    pressure.set(50);
    assert!((fixture.joined)().is_ready());
    Client::connect(fixture.address).await;
    fixture.stop().await;
}

#[tokio::test]
async fn slows_reading_while_memory_is_short() {
    let fixture = fixture(|setup| setup.pressure = MemoryPressure::fixed(90)).await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    let began = Instant::now();
    for _ in 0..10 {
        client.say("42[\"m\"]").await;
    }
    assert_eq!(app.read_some(11).await.len(), 11);
    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_requests_for_other_hosts() {
    let fixture = fixture(|setup| setup.allowed_hosts = Some(vec!["good.example".into()])).await;
    for (host, status) in [
        ("good.example", "200"),
        ("127.0.0.1:80", "200"),
        ("evil.example", "403"),
    ] {
        // A page whose host name resolves to this node has the same origin.
        let request = format!("{OPEN} HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\nconnection: close\r\n\r\n");
        let mut tcp = TcpStream::connect(fixture.address).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, tcp.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
        assert_eq!(answer.contains("access-control-allow-origin"), status == "200");
    }
    fixture.stop().await;
}
