//! WebSockets as a peer sees them, from the first byte of a connection and later on it, and over TLS.

use std::path::Path;
use std::process::Command;

use futures_util::SinkExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::*;

/// What a client sends to open a WebSocket; `more` is headers.
fn handshake(more: &str) -> String {
    format!(
        "GET /echo HTTP/1.1\r\nhost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// The answer to that key, from RFC 6455.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const HELLO: &[u8] = b"\x81\x85\0\0\0\0hello";
const HELLO_BACK: &[u8] = b"\x81\x05hello";

const PING: &[u8] = b"\x81\x012";
const PONG: &[u8] = b"\x81\x81\0\0\0\x003";

/// Says back what it hears. At `/ping`, what it hears first makes it send some messages before, pings among them. At
/// `/ahead`, it has little room to read into, and pauses after the first.
struct Echo {
    tasks: Shutdown,
    opened: mpsc::UnboundedSender<Arc<Connection>>,
}

impl WebSockets for Echo {
    fn takes(&self, request: &Request<()>) -> bool {
        request.extensions().get::<Arc<Connection>>().is_some()
            && ["/echo", "/ping", "/ahead"].contains(&request.uri().path())
    }

    fn open(&self, mut stream: Stream, request: Request<()>) {
        let pings = request.uri().path() == "/ping";
        let ahead = request.uri().path() == "/ahead";
        let config = ahead.then(|| WebSocketConfig::default().read_buffer_size(64));
        stream.becomes_websocket(Arc::new(Heartbeat {
            sign_of_life: PONG,
            every: Duration::from_millis(50),
            first: 0,
            spared: pings.then_some(Spared {
                frame: PING,
                is_answered: true,
            }),
        }));
        let connection = stream.connection().clone();
        let _ = self.opened.send(connection.clone());
        self.tasks.spawn(async move {
            let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, config).await;
            if ahead && let Some(first) = socket.next().await {
                connection.pause();
                socket.send(first?).await?;
            }
            if pings {
                socket.next().await;
                for message in ["before", "2", "2", "after"] {
                    socket.feed(Message::text(message)).await?;
                }
                socket.flush().await?;
            }
            while let Some(message) = socket.next().await {
                socket.send(message?).await?;
            }
            Ok::<_, tokio_tungstenite::tungstenite::Error>(())
        });
    }
}

struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    opened: mpsc::UnboundedReceiver<Arc<Connection>>,
}

impl Server {
    async fn start(settings: HttpSettings) -> Self {
        let service = service_fn(async |request: Request<Incoming>| {
            let path = request.uri().path().to_owned();
            Ok::<_, Infallible>(text(&format!("page {path}")))
        });
        let tasks = Shutdown::new();
        let (sender, opened) = mpsc::unbounded_channel();
        let echo = Arc::new(Echo { tasks, opened: sender });
        let (address, shutdown) = start_with(service, Some(echo), settings).await;
        Self {
            address,
            shutdown,
            opened,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Reads a head, and nothing after it.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(SOON, stream.read_u8()).await.expect("it answers").unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn hears(stream: &mut (impl AsyncRead + Unpin), expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    timeout(SOON, stream.read_exact(&mut heard))
        .await
        .expect("it speaks")
        .unwrap();
    assert_eq!(heard, expected);
}

async fn is_open(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let head = read_head(stream).await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains(&format!("sec-websocket-accept: {ACCEPT}\r\n")), "{head}");
}

#[tokio::test]
async fn what_comes_right_after_a_handshake_is_not_lost() {
    let server = Server::start(HttpSettings::default()).await;
    let mut client = server.connect().await;
    let bytes = [handshake("").as_bytes(), HELLO, &HELLO[..3]].concat();
    client.write_all(&bytes).await.unwrap();
    is_open(&mut client).await;
    hears(&mut client, HELLO_BACK).await;
    client.write_all(&HELLO[3..]).await.unwrap();
    hears(&mut client, HELLO_BACK).await;
}

#[tokio::test]
async fn a_handshake_may_come_in_any_pieces() {
    let server = Server::start(HttpSettings::default()).await;
    let mut client = server.connect().await;
    client.set_nodelay(true).unwrap();
    let bytes = [handshake(&format!("x: {}\r\n", "y".repeat(2_000))).as_bytes(), HELLO].concat();
    for piece in bytes.chunks(7) {
        client.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    is_open(&mut client).await;
    hears(&mut client, HELLO_BACK).await;
}

#[tokio::test]
async fn a_connection_that_was_kept_alive_becomes_a_websocket_too() {
    let mut server = Server::start(HttpSettings::default()).await;
    let mut client = server.connect().await;
    client.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_head(&mut client).await;
    hears(&mut client, b"page /a").await;
    // What follows at once has hyper read already.
    let bytes = [handshake("").as_bytes(), HELLO].concat();
    client.write_all(&bytes).await.unwrap();
    is_open(&mut client).await;
    hears(&mut client, HELLO_BACK).await;
    let connection = timeout(SOON, server.opened.recv()).await.unwrap().unwrap();
    assert_eq!(connection.peer(), client.local_addr().unwrap());
    assert!(connection.written() > 0);
    connection.close();
    assert_eq!(read_to_end(&mut client).await, "");
}

#[tokio::test]
async fn requests_that_come_at_once_are_answered_in_turn() {
    let server = Server::start(HttpSettings::default()).await;
    let mut client = server.connect().await;
    let pages = "GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n";
    let bytes = [pages.as_bytes(), handshake("").as_bytes(), HELLO].concat();
    client.write_all(&bytes).await.unwrap();
    for page in [b"page /a", b"page /b"] {
        read_head(&mut client).await;
        hears(&mut client, page).await;
    }
    is_open(&mut client).await;
    hears(&mut client, HELLO_BACK).await;
}

#[tokio::test]
async fn a_handshake_that_is_wrong_or_not_taken_is_an_ordinary_request() {
    let server = Server::start(HttpSettings::default()).await;
    let right = handshake("connection: close\r\n");
    for (request, status) in [
        (right.replace("version: 13", "version: 8"), 426),
        (right.replace("sec-websocket-version: 13\r\n", ""), 426),
        (right.replace("Upgrade: WebSocket", "Upgrade: h2c"), 426),
        (right.replace("keep-alive, Upgrade", "keep-alive"), 426),
        (right.replace("ZQ==\r\n", "\r\n"), 400),
        (right.replace("dGhl", "d Gh"), 400),
        (right.replace("host: a", "host: a\r\ncontent-length: 1"), 400),
        (right.replace("/echo", "/other"), 200),
    ] {
        for before in ["", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
            let answer = ask(server.address, &format!("{before}{request}")).await;
            let answer = &answer[answer.rfind("HTTP/1.1").unwrap()..];
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{request}\n{answer}"
            );
            if status == 426 {
                assert!(answer.contains("sec-websocket-version: 13\r\n"), "{answer}");
                assert!(answer.contains("upgrade: websocket\r\n"), "{answer}");
            }
        }
    }
    let post = right.replace("GET", "POST");
    assert!(ask(server.address, &post).await.ends_with("page /echo"));
}

#[tokio::test]
async fn limits_hold_for_the_first_request_too() {
    let server = Server::start(HttpSettings {
        header_timeout: Duration::from_millis(200),
        max_connections: 2,
        ..HttpSettings::default()
    })
    .await;
    let long = handshake(&format!("x: {}\r\n", "y".repeat(MAX_HEADER_SIZE)));
    assert!(ask(server.address, &long).await.starts_with("HTTP/1.1 431"));
    let many = handshake(&"x: y\r\n".repeat(200));
    assert!(ask(server.address, &many).await.starts_with("HTTP/1.1 431"));
    assert!(
        ask(server.address, "\r\n\r\nnonsense\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400")
    );
    for slow in ["", "GET /echo HTTP/1.1\r\nhost: a\r\n"] {
        assert_eq!(ask(server.address, slow).await, "");
    }

    // A websocket has its place for as long as it lives.
    let mut first = server.connect().await;
    first.write_all(handshake("").as_bytes()).await.unwrap();
    is_open(&mut first).await;
    let _second = server.connect().await;
    let mut third = server.connect().await;
    assert!(read_to_end(&mut third).await.starts_with("HTTP/1.1 503"));
    server.shutdown.begin();
    assert!(server.shutdown.drained(SOON).await, "silent connections end");
    first.write_all(HELLO).await.unwrap();
    hears(&mut first, HELLO_BACK).await;
}

#[tokio::test]
async fn the_first_ping_is_spared_and_answered_in_the_peers_place() {
    let server = Server::start(HttpSettings::default()).await;
    let mut client = server.connect().await;
    // In the middle of a message no answer can be put in.
    let bytes = [handshake("").replace("/echo", "/ping").as_bytes(), HELLO, &HELLO[..8]].concat();
    client.write_all(&bytes).await.unwrap();
    is_open(&mut client).await;
    hears(&mut client, b"\x81\x06before\x81\x012\x81\x05after").await;
    client.write_all(&HELLO[8..]).await.unwrap();
    // What it says back it has heard from us.
    hears(&mut client, HELLO_BACK).await;
    hears(&mut client, b"\x81\x013").await;
    client.write_all(HELLO).await.unwrap();
    hears(&mut client, HELLO_BACK).await;
}

#[tokio::test]
async fn a_websocket_is_paused_between_messages_and_gets_signs_of_life() {
    let mut server = Server::start(HttpSettings::default()).await;
    let mut client = server.connect().await;
    client.write_all(handshake("").as_bytes()).await.unwrap();
    is_open(&mut client).await;
    let connection = timeout(SOON, server.opened.recv()).await.unwrap().unwrap();
    client.write_all(&HELLO[..4]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    connection.pause();
    client.write_all(&[&HELLO[4..], HELLO].concat()).await.unwrap();
    hears(&mut client, HELLO_BACK).await;
    for _ in 0..3 {
        hears(&mut client, b"\x81\x013").await;
    }
    connection.resume();
    let mut heard = Vec::new();
    while !heard.ends_with(HELLO_BACK) {
        heard.push(timeout(SOON, client.read_u8()).await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn what_was_read_ahead_waits_out_a_pause_and_comes_in_order() {
    let mut server = Server::start(HttpSettings::default()).await;
    let mut client = server.connect().await;
    let handshake = handshake("").replace("/echo", "/ahead");
    client.write_all(handshake.as_bytes()).await.unwrap();
    is_open(&mut client).await;
    let connection = timeout(SOON, server.opened.recv()).await.unwrap().unwrap();
    // More than the reader has room for, and more than is read at once.
    let said: Vec<String> = (1000..3000).map(|number| number.to_string()).collect();
    let masked = said.iter().map(|word| format!("\u{81}\u{84}\0\0\0\0{word}"));
    let frames: Vec<u8> = masked
        .flat_map(|frame| frame.chars().map(|c| c as u8).collect::<Vec<_>>())
        .collect();
    client.write_all(&frames).await.unwrap();
    hears(&mut client, b"\x81\x041000").await;
    let mut next = 1;
    let mut signs_of_life = 0;
    let mut is_paused = true;
    while next < said.len() {
        let mut head = [0; 2];
        timeout(SOON, client.read_exact(&mut head))
            .await
            .expect("it speaks")
            .unwrap();
        let mut word = vec![0; usize::from(head[1])];
        timeout(SOON, client.read_exact(&mut word))
            .await
            .expect("it speaks")
            .unwrap();
        if word == b"3" {
            signs_of_life += 1;
            if is_paused && signs_of_life == 3 {
                assert!(next < said.len() / 2, "{next} came through a pause");
                is_paused = false;
                connection.resume();
            }
            continue;
        }
        assert_eq!(word, said[next].as_bytes());
        next += 1;
    }
    assert!(!is_paused, "the pause took no hold");
}

#[tokio::test]
async fn pages_and_websockets_are_there_over_tls_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(folder.path());
    let settings = HttpSettings {
        tls: Some(Tls::read(&certificate, &key).unwrap()),
        header_timeout: Duration::from_millis(500),
        ..HttpSettings::default()
    };
    let mut server = Server::start(settings).await;
    let connect = async || {
        let mut roots = rustls::RootCertStore::empty();
        let trusted = rustls::pki_types::pem::PemObject::from_pem_file(&certificate).unwrap();
        roots.add(trusted).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = server.connect().await;
        let name = "localhost".try_into().unwrap();
        timeout(SOON, TlsConnector::from(Arc::new(config)).connect(name, tcp))
            .await
            .unwrap()
            .unwrap()
    };
    let mut page = connect().await;
    page.write_all(GET.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(SOON, page.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.ends_with("page /"), "{answer}");

    let mut websocket = connect().await;
    websocket
        .write_all(&[handshake("").as_bytes(), HELLO].concat())
        .await
        .unwrap();
    is_open(&mut websocket).await;
    hears(&mut websocket, HELLO_BACK).await;
    let mut spared = connect().await;
    spared
        .write_all(&[handshake("").replace("/echo", "/ping").as_bytes(), HELLO].concat())
        .await
        .unwrap();
    is_open(&mut spared).await;
    hears(&mut spared, b"\x81\x06before\x81\x012\x81\x05after\x81\x013").await;

    assert!(!ask(server.address, GET).await.contains("HTTP"), "plain HTTP");
    assert!(!ask(server.address, "").await.contains("HTTP"), "silence");

    // One that is closed while its peer does not read goes at once.
    let connection = timeout(SOON, server.opened.recv()).await.unwrap().unwrap();
    connection.close();
    let mut rest = Vec::new();
    timeout(SOON, websocket.read_to_end(&mut rest))
        .await
        .expect("it ends")
        .ok();
    server.shutdown.begin();
    assert!(server.shutdown.drained(SOON).await);
}

#[test]
fn what_is_no_certificate_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(folder.path());
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (certificate, key, said) in [
        (&empty, &key, "holds no certificate"),
        (&certificate, &empty, "cannot read the private key"),
        (&folder.path().join("none"), &key, "cannot read the certificate"),
    ] {
        let error = Tls::read(certificate, key).unwrap_err();
        assert!(error.to_string().contains(said), "{error:#}");
    }
}

/// A certificate for this machine and its key.
fn certificate(folder: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
                     -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
                     -keyout server.key -out server.crt";
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("there is no openssl: install openssl, or run .ci/setup-tests");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl failed:\n{said}");
    (folder.join("server.crt"), folder.join("server.key"))
}
