//! Upgrades from polling to websocket.

use super::engine::{Polling, begin};
use super::*;
use plugnode_message::{Audience, Scope, Selection};

/// The frames of a probe, as a client sends them.
const PROBE: &[u8] = b"\x81\x86abcd\x53\x12\x11\x0b\x03\x07";
const UPGRADE: &[u8] = b"\x81\x81abcd\x54";

impl Polling<'_> {
    /// Opens a session that is connected to `/`.
    async fn connected<'a>(fixture: &'a Fixture, app: &mut App) -> Polling<'a> {
        let polling = Polling::open(fixture).await;
        polling.post("40").await;
        assert!(app.read().await[0].ends_with(" connection"));
        assert!(polling.poll().await.starts_with("40"));
        polling
    }

    /// Opens a websocket for the session.
    async fn websocket(&self) -> Client {
        let (address, sid) = (self.fixture.address, &self.sid);
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket&sid={sid}");
        // The end of an abandoned websocket may not be noticed yet.
        let connecting = async {
            loop {
                match connect_async(&url).await {
                    Ok((socket, _)) => return socket,
                    Err(_) => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let socket = timeout(SOON, connecting).await.expect("it connects");
        let id = String::new();
        Client { socket, id }
    }

    /// Opens a websocket whose probe has been answered.
    async fn probed(&self) -> Client {
        let mut client = self.websocket().await;
        client.say("2probe").await;
        assert_eq!(client.hear().await.unwrap(), "3probe");
        client
    }

    /// Checks that the session still polls.
    async fn goes_on(&self, app: &mut App) {
        let told = self.post("42[\"goes on\"]").await;
        assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
        app.echo().await;
        loop {
            match self.poll().await.as_str() {
                "6" => {}
                heard => return assert_eq!(heard, "42[\"goes on\"]"),
            }
        }
    }
}

impl App {
    /// Publishes the next events, and returns them.
    async fn echo(&mut self) -> Vec<String> {
        let publish = |event: &Event| match &event.kind {
            EventKind::Message { event: name, args, .. } => vec![Command::Publish {
                to: Audience {
                    namespace: event.namespace.clone(),
                    to: Scope::All,
                    except: Selection::default(),
                },
                event: name.clone(),
                args: args.clone(),
                volatile: false,
                local: false,
            }],
            _ => Vec::new(),
        };
        let events = self.handle(publish).await;
        events.iter().map(|event| in_words(event)).collect()
    }
}

#[tokio::test]
async fn upgrade_keeps_packets_sent_meanwhile() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let polling = Polling::connected(&fixture, &mut app).await;
    let (last, mut client) = tokio::join!(polling.poll(), async {
        sleep(MOMENT).await;
        polling.probed().await
    });
    assert_eq!(last, "6");
    polling.post("42[\"sent by polling\"]").await;
    app.echo().await;
    client.say("5").await;
    client.say("42[\"sent by websocket\"]").await;
    app.echo().await;
    for heard in ["42[\"sent by polling\"]", "42[\"sent by websocket\"]"] {
        assert_eq!(client.hear().await.unwrap(), heard);
    }
    // It stays upgraded: neither a poll nor another websocket changes that.
    assert!(polling.poll().await.starts_with("refused"));
    let url = format!(
        "ws://{}/socket.io/?EIO=4&transport=websocket&sid={}",
        fixture.address, polling.sid
    );
    assert!(connect_async(url).await.is_err());
    client.say("42[\"still\"]").await;
    assert!(app.echo().await[0].ends_with(" still"));
    assert_eq!(client.hear().await.unwrap(), "42[\"still\"]");
    drop(client);
    assert!(app.read().await[0].ends_with(" disconnect"));
    fixture.stop().await;
}

#[tokio::test]
async fn abandoned_upgrade_leaves_the_session_polling() {
    let fixture = Fixture::with(TransportSettings::default(), |setup| {
        setup.settings.engine.upgrade_timeout = Duration::from_millis(300);
    })
    .await;
    let mut app = fixture.app().await;
    let polling = Polling::connected(&fixture, &mut app).await;
    for _ in 0..3 {
        drop(polling.websocket().await);
        let probed = polling.probed().await;
        polling.goes_on(&mut app).await;
        drop(probed);
        polling.goes_on(&mut app).await;
    }
    let mut closing = polling.probed().await;
    closing.socket.close(None).await.unwrap();
    assert_eq!(closing.hear().await, None);
    for garbage in ["nonsense", "5", "2", "", "40"] {
        let mut wrong = polling.websocket().await;
        wrong.say(garbage).await;
        assert_eq!(wrong.hear().await, None, "{garbage}");
        polling.goes_on(&mut app).await;
    }
    let mut slow = polling.websocket().await;
    assert_eq!(slow.hear().await, None, "closed in time");
    let mut slow = polling.probed().await;
    assert_eq!(slow.hear().await, None, "closed in time");
    polling.goes_on(&mut app).await;
    let mut client = polling.probed().await;
    client.say("5").await;
    client.say("42[\"moved\"]").await;
    assert!(app.read().await[0].ends_with(" moved"));
    // From here on, the end of the websocket is that of the session.
    drop(client);
    assert!(app.read().await[0].ends_with(" disconnect"));
    fixture.stop().await;
}

#[tokio::test]
async fn end_of_session_closes_its_probe() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let polling = Polling::connected(&fixture, &mut app).await;
    let mut probed = polling.probed().await;
    polling.post("1").await;
    assert_eq!(probed.hear().await, None);
    assert!(app.read().await[0].ends_with(" disconnect"));
    let polling = Polling::connected(&fixture, &mut app).await;
    let _probed = polling.probed().await;
    fixture.stop().await;
}

#[tokio::test]
async fn polls_end_soon_during_a_probe() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let polling = Polling::connected(&fixture, &mut app).await;
    let probed = polling.probed().await;
    for _ in 0..3 {
        let answer = timeout(Duration::from_secs(2), polling.poll()).await;
        assert_eq!(answer.expect("it ends soon"), "6");
    }
    polling.goes_on(&mut app).await;
    drop(probed);
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_second_concurrent_probe() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let polling = Polling::connected(&fixture, &mut app).await;
    let mut first = polling.probed().await;
    let url = format!(
        "ws://{}/socket.io/?EIO=4&transport=websocket&sid={}",
        fixture.address, polling.sid
    );
    let refused = connect_async(&url).await.unwrap_err();
    assert!(refused.to_string().contains("400"), "{refused}");
    first.say("5").await;
    first.say("42[\"first\"]").await;
    assert!(app.echo().await[0].ends_with(" first"));
    assert_eq!(first.hear().await.unwrap(), "42[\"first\"]");
    assert!(connect_async(&url).await.is_err(), "already upgraded");
    first.say("42[\"still\"]").await;
    assert!(app.echo().await[0].ends_with(" still"));
    assert_eq!(first.hear().await.unwrap(), "42[\"still\"]");
    fixture.stop().await;
}

/// A POST of 500 messages, answered while no poll waits: all answers wait for the websocket.
#[tokio::test]
async fn upgrade_delivers_five_hundred_packets() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let polling = Polling::connected(&fixture, &mut app).await;
    let packets: Vec<String> = (0..500).map(|number| format!("42[\"n\",{number}]")).collect();
    let body = packets.join("\x1e");
    let (posted, ()) = tokio::join!(polling.post(&body), async {
        let mut taken = 0;
        while taken < 500 {
            taken += app.echo().await.len();
        }
    });
    assert!(posted.starts_with("HTTP/1.1 200 "), "{posted}");
    let mut client = polling.probed().await;
    client.say("5").await;
    for packet in &packets {
        assert_eq!(client.hear().await.as_ref(), Some(packet));
    }
    fixture.stop().await;
}

#[tokio::test]
async fn answers_with_the_first_subprotocol() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n\
                   upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   sec-websocket-protocol: one, two\r\n\r\n";
    let mut tcp = begin(&fixture, request).await;
    let head = read_past(&mut tcp, b"\r\n\r\n").await;
    let head = String::from_utf8(head).unwrap();
    assert!(head.contains("sec-websocket-protocol: one\r\n"), "{head}");
    fixture.stop().await;
}

#[tokio::test]
async fn upgrade_works_in_pieces_and_on_a_polling_connection() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    for polls_first in [false, true] {
        let polling = Polling::connected(&fixture, &mut app).await;
        let sid = &polling.sid;
        let mut tcp = begin(&fixture, "").await;
        if polls_first {
            let post = format!(
                "POST {} HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n3",
                polling.address()
            );
            tcp.write_all(post.as_bytes()).await.unwrap();
            let answer = read_past(&mut tcp, b"ok").await;
            assert!(answer.starts_with(b"HTTP/1.1 200 "));
        }
        let handshake = format!(
            "GET /socket.io/?EIO=4&transport=websocket&sid={sid} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        tcp.write_all(handshake.as_bytes()).await.unwrap();
        read_past(&mut tcp, b"\r\n\r\n").await;
        let message = [b"\x81\x8b\0\0\0\0", &b"42[\"moved\"]"[..]].concat();
        for byte in [PROBE, UPGRADE, &message].concat() {
            tcp.write_all(&[byte]).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        assert!(app.echo().await[0].ends_with(" moved"));
        let heard = read_past(&mut tcp, b"[\"moved\"]").await;
        assert_eq!(heard, b"\x81\x063probe\x81\x0b42[\"moved\"]");
        // From now on, excess packets wait on the websocket, and all of them arrive.
        fixture.transport.ingest.send_replace(false);
        tcp.write_all(&message.repeat(100)).await.unwrap();
        sleep(MOMENT).await;
        fixture.transport.ingest.send_replace(true);
        assert_eq!(app.read_some(100).await.len(), 100);
        drop(tcp);
        assert!(app.read().await[0].ends_with(" disconnect"));
    }
    fixture.stop().await;
}

/// Reads up to the end of these bytes.
async fn read_past(tcp: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        let byte = timeout(SOON, tcp.read_u8()).await.expect("a byte in time");
        read.push(byte.unwrap());
    }
    read
}

#[tokio::test]
async fn limits_each_attachment_to_max_payload() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    app.read().await;
    let head = "452-[\"bytes\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]";
    client.say(head).await;
    // Together they exceed the fixture's `max-payload`.
    for byte in [1, 2] {
        client.socket.send(Message::binary(vec![byte; 60_000])).await.unwrap();
    }
    app.echo().await;
    assert_eq!(client.hear().await.unwrap(), head);
    for byte in [1, 2] {
        let bytes = timeout(SOON, client.socket.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(bytes, Message::binary(vec![byte; 60_000]));
    }
    fixture.stop().await;
}

#[tokio::test]
async fn websocket_delivers_what_the_last_poll_could_not() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let polling = Polling::connected(&fixture, &mut app).await;
    let packet = |number: usize| format!("42[\"large\",{number},\"{}\"]", "x".repeat(60_000));
    for number in 0..4 {
        polling.post(&packet(number)).await;
        app.echo().await;
    }
    polling
        .post("451-[\"bytes\",{\"_placeholder\":true,\"num\":0}]\x1ebAQID")
        .await;
    app.echo().await;
    sleep(MOMENT).await;
    assert_eq!(polling.poll().await, packet(0));
    let mut client = polling.probed().await;
    client.say("5").await;
    for number in 1..4 {
        assert_eq!(client.hear().await.unwrap(), packet(number));
    }
    assert_eq!(
        client.hear().await.unwrap(),
        "451-[\"bytes\",{\"_placeholder\":true,\"num\":0}]"
    );
    let bytes = timeout(SOON, client.socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(bytes, Message::binary(vec![1, 2, 3]));
    fixture.stop().await;
}

#[tokio::test]
async fn upgrade_loses_doubles_and_reorders_nothing() {
    const ROUNDS: usize = 15;
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let mut noisy = Client::connect(fixture.address).await;
    app.read().await;
    let quiet = Arc::new(AtomicBool::new(false));
    let done = quiet.clone();
    // Broadcasts throughout, some so large that one poll cannot carry two.
    let noise = tokio::spawn(async move {
        let mut number = 0;
        while !done.load(Ordering::SeqCst) {
            let size = if number % 3 == 0 { 60_000 } else { 10 };
            noisy
                .say(&format!("42[\"noise\",{number},\"{}\"]", "x".repeat(size)))
                .await;
            while !noisy
                .hear()
                .await
                .unwrap()
                .starts_with(&format!("42[\"noise\",{number},"))
            {}
            number += 1;
        }
        noisy
    });
    let (told, mut heard_of) = tokio::sync::mpsc::unbounded_channel();
    let handling = tokio::spawn(async move {
        loop {
            for word in app.echo().await {
                if told.send(word).is_err() {
                    return;
                }
            }
        }
    });
    for round in 0..ROUNDS {
        let polling = Polling::open(&fixture).await;
        let mut heard = Vec::new();
        let mut sent = 0;
        let mut next = || {
            sent += 1;
            format!("42[\"mine\",{}]", sent - 1)
        };
        polling.post("40").await;
        heard.push(polling.poll().await);
        polling.post(&next()).await;
        if round % 2 == 0 {
            drop(polling.probed().await);
            heard.push(polling.poll().await);
        }
        let mut client = polling.websocket().await;
        // As clients do: they poll until the websocket is known to work, send meanwhile, and wait for both.
        let (last, ()) = tokio::join!(polling.poll(), async {
            client.say("2probe").await;
            assert_eq!(client.hear().await.unwrap(), "3probe");
            polling.post(&format!("{}\x1e{}", next(), next())).await;
        });
        heard.push(last);
        client.say("5").await;
        for _ in 0..3 {
            client.say(&next()).await;
        }
        let last = format!("42[\"mine\",{}]", sent - 1);
        while !heard.last().unwrap().starts_with(&last) {
            heard.push(client.hear().await.unwrap());
        }
        let heard: Vec<&str> = heard.iter().flat_map(|packets| packets.split('\x1e')).collect();
        let numbers = |kind: &str| -> Vec<usize> {
            let kind = format!("42[\"{kind}\",");
            let packets = heard.iter().filter_map(|packet| packet.strip_prefix(&kind));
            let numbers = packets.map(|rest| rest.split([',', ']']).next().unwrap().parse().unwrap());
            numbers.collect()
        };
        assert_eq!(numbers("mine"), (0..sent).collect::<Vec<_>>(), "round {round}");
        let noise = numbers("noise");
        assert!(
            noise.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "round {round}: {noise:?}"
        );
        drop(client);
    }
    quiet.store(true, Ordering::SeqCst);
    drop(timeout(SOON, noise).await.expect("it ends").unwrap());
    let mut mine = 0;
    while mine < ROUNDS * 6 {
        let word = timeout(SOON, heard_of.recv()).await.expect("all is handled").unwrap();
        mine += usize::from(word.ends_with(" mine"));
    }
    handling.abort();
    fixture.stop().await;
}

#[tokio::test]
async fn upgrades_socket_io_2_client() {
    let fixture = Fixture::with(TransportSettings::default(), |setup| {
        setup.settings.engine.protocol_3 = true
    })
    .await;
    let mut app = fixture.app().await;
    let opened = fixture.http("GET /socket.io/?EIO=3&transport=polling", "").await;
    let sid = opened.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(app.read().await[0].ends_with(" connection"));
    let poll = format!("GET /socket.io/?EIO=3&transport=polling&sid={sid}");
    let connected = fixture.http(&poll, "").await;
    assert!(connected.contains("2:40"), "{connected}");
    let url = format!(
        "ws://{}/socket.io/?EIO=3&transport=websocket&sid={sid}",
        fixture.address
    );
    let (last, mut client) = tokio::join!(fixture.http(&poll, ""), async {
        sleep(MOMENT).await;
        let (socket, _) = connect_async(url).await.unwrap();
        let id = String::new();
        let mut client = Client { socket, id };
        client.say("2probe").await;
        assert_eq!(client.hear().await.unwrap(), "3probe");
        client
    });
    assert!(last.ends_with("\r\n\r\n1:6"), "{last}");
    client.say("5").await;
    client.say("42[\"moved\"]").await;
    assert!(app.echo().await[0].ends_with(" moved"));
    assert_eq!(client.hear().await.unwrap(), "42[\"moved\"]");
    fixture.stop().await;
}
