//! WebSockets as a peer sees them: on the first request of a connection, on later ones, and over TLS.

use futures_util::SinkExt;
use hyper::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::http::testing::{certificate, hears, trusting};

/// The request that opens a WebSocket, with `more` headers.
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

/// Echoes messages.
struct Echo {
    tasks: Shutdown,
    opened: mpsc::UnboundedSender<Arc<Connection>>,
}

impl WebSockets for Echo {
    fn accept(&self, request: &mut Request<()>) -> Option<Accepted> {
        request.extensions().get::<Arc<Connection>>()?;
        if request.uri().path() != "/echo" {
            return None;
        }
        let mut headers = HeaderMap::new();
        let key = derive_accept_key(request.headers().get("sec-websocket-key")?.as_bytes());
        headers.insert("connection", "Upgrade".parse().unwrap());
        headers.insert("upgrade", "websocket".parse().unwrap());
        headers.insert("sec-websocket-accept", key.parse().unwrap());
        let (opened, tasks) = (self.opened.clone(), self.tasks.clone());
        let open = move |stream: Stream| {
            let _ = opened.send(stream.connection().clone());
            tasks.spawn(async move {
                let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
                while let Some(message) = socket.next().await {
                    socket.send(message?).await?;
                }
                Ok::<_, tokio_tungstenite::tungstenite::Error>(())
            });
        };
        Some(Accepted {
            headers,
            open: Box::new(open),
        })
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

/// Reads the head of a response, and no byte after it.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(
            timeout(SOON, stream.read_u8())
                .await
                .expect("a response comes")
                .unwrap(),
        );
    }
    String::from_utf8(head).unwrap()
}

async fn expect_open(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let head = read_head(stream).await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains(&format!("sec-websocket-accept: {ACCEPT}\r\n")), "{head}");
}

#[tokio::test]
async fn keeps_bytes_right_after_handshake() {
    let server = Server::start(HttpSettings::default()).await;
    let mut client = server.connect().await;
    let bytes = [handshake("").as_bytes(), HELLO, &HELLO[..3]].concat();
    client.write_all(&bytes).await.unwrap();
    expect_open(&mut client).await;
    hears(&mut client, HELLO_BACK).await;
    client.write_all(&HELLO[3..]).await.unwrap();
    hears(&mut client, HELLO_BACK).await;
}

#[tokio::test]
async fn accepts_handshake_in_any_pieces() {
    let server = Server::start(HttpSettings::default()).await;
    let mut client = server.connect().await;
    client.set_nodelay(true).unwrap();
    let bytes = [handshake(&format!("x: {}\r\n", "y".repeat(2_000))).as_bytes(), HELLO].concat();
    for piece in bytes.chunks(7) {
        client.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    expect_open(&mut client).await;
    hears(&mut client, HELLO_BACK).await;
}

#[tokio::test]
async fn upgrades_connection_after_other_requests() {
    let mut server = Server::start(HttpSettings::default()).await;
    let mut client = server.connect().await;
    client.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_head(&mut client).await;
    hears(&mut client, b"page /a").await;
    // hyper has read the frame together with the handshake.
    let bytes = [handshake("").as_bytes(), HELLO].concat();
    client.write_all(&bytes).await.unwrap();
    expect_open(&mut client).await;
    hears(&mut client, HELLO_BACK).await;
    let connection = timeout(SOON, server.opened.recv()).await.unwrap().unwrap();
    assert_eq!(connection.peer(), client.local_addr().ok());
    assert!(connection.written() > 0);
    connection.close();
    assert_eq!(read_to_end(&mut client).await, "");
}

#[tokio::test]
async fn answers_pipelined_requests_in_order() {
    let server = Server::start(HttpSettings::default()).await;
    let mut client = server.connect().await;
    let pages = "GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n";
    let bytes = [pages.as_bytes(), handshake("").as_bytes(), HELLO].concat();
    client.write_all(&bytes).await.unwrap();
    for page in [b"page /a", b"page /b"] {
        read_head(&mut client).await;
        hears(&mut client, page).await;
    }
    expect_open(&mut client).await;
    hears(&mut client, HELLO_BACK).await;
}

#[tokio::test]
async fn handshake_not_accepted_is_an_ordinary_request() {
    let server = Server::start(HttpSettings::default()).await;
    let right = handshake("connection: close\r\n");
    for request in [
        right.replace("sec-websocket-key", "x-key"),
        right.replace("/echo", "/other"),
        right.replace("GET", "POST"),
    ] {
        for before in ["", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
            let answer = ask(server.address, &format!("{before}{request}")).await;
            let answer = &answer[answer.rfind("HTTP/1.1").unwrap()..];
            assert!(answer.starts_with("HTTP/1.1 200 "), "{request}\n{answer}");
        }
    }
}

#[tokio::test]
async fn limits_apply_to_first_request() {
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

    // A websocket counts as a connection until it ends.
    let mut first = server.connect().await;
    first.write_all(handshake("").as_bytes()).await.unwrap();
    expect_open(&mut first).await;
    let _second = server.connect().await;
    let mut third = server.connect().await;
    assert!(read_to_end(&mut third).await.starts_with("HTTP/1.1 503"));
    server.shutdown.begin();
    assert!(server.shutdown.drained(SOON).await, "silent connections end");
    first.write_all(HELLO).await.unwrap();
    hears(&mut first, HELLO_BACK).await;
}

#[tokio::test]
async fn serves_pages_and_websockets_over_tls_only() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(folder.path());
    let settings = HttpSettings {
        tls_cert: Some(certificate.clone()),
        tls_key: Some(key.clone()),
        header_timeout: Duration::from_millis(500),
        ..HttpSettings::default()
    };
    let mut server = Server::start(settings).await;
    let connect = async || {
        let connector = trusting(&certificate);
        let tcp = server.connect().await;
        let name = "localhost".try_into().unwrap();
        timeout(SOON, connector.connect(name, tcp)).await.unwrap().unwrap()
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
    expect_open(&mut websocket).await;
    hears(&mut websocket, HELLO_BACK).await;

    assert!(!ask(server.address, GET).await.contains("HTTP"), "plain HTTP");
    assert!(!ask(server.address, "").await.contains("HTTP"), "silence");

    // A closed connection ends at once, also if its peer does not read.
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
fn names_unusable_certificate_files() {
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
