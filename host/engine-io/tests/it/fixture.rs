//! A server with an application that tests look into, and clients of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use engine_io::{Application, CloseReason, Engine, Handler, Message, Packet, Peer, Refusal, Session, Settings};
use futures_util::{SinkExt, StreamExt};
use http::Extensions;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message as Frame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Longer than anything takes that happens.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// What the application of a test does by itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ways {
    /// It answers each message with the same.
    pub(crate) echoes: bool,
    /// It tells the test nothing.
    pub(crate) is_silent: bool,
    /// It sends so many numbers when a session opens.
    pub(crate) greets: usize,
    pub(crate) refuses: bool,
}

pub(crate) struct App {
    ways: Ways,
    heard: mpsc::UnboundedSender<Heard>,
}

/// What an application hears.
#[derive(Debug)]
pub(crate) enum Heard {
    Opened(Session),
    Message(Message),
    Closed(CloseReason),
}

pub(crate) struct AppSession {
    session: Session,
    ways: Ways,
    heard: mpsc::UnboundedSender<Heard>,
}

impl Application for App {
    type Handler = AppSession;

    fn open(&self, session: Session, _: &Extensions) -> Result<AppSession, Refusal> {
        if self.ways.refuses {
            return Err(Refusal::Forbidden("not you".into()));
        }
        for number in 0..self.ways.greets {
            session.send([Packet::text(&number.to_string())]).unwrap();
        }
        self.heard.send(Heard::Opened(session.clone())).unwrap();
        Ok(AppSession {
            session,
            ways: self.ways,
            heard: self.heard.clone(),
        })
    }
}

impl Handler for AppSession {
    fn message(&mut self, message: Message) {
        if self.ways.echoes {
            let packet = match &message {
                Message::Text(text) => Packet::text(text),
                Message::Binary(data) => Packet::binary(data.clone()),
            };
            let _ = self.session.send([packet]);
        }
        if message == Message::Text("pause".into()) {
            self.session.pause();
        }
        if !self.ways.is_silent {
            let _ = self.heard.send(Heard::Message(message));
        }
    }

    fn close(self, reason: CloseReason) {
        let _ = self.heard.send(Heard::Closed(reason));
    }
}

pub(crate) struct Fixture {
    pub(crate) engine: Engine<App>,
    pub(crate) address: SocketAddr,
    heard: mpsc::UnboundedReceiver<Heard>,
}

/// An answer in HTTP.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        ping_interval: SOON,
        ping_timeout: SOON,
        upgrade_timeout: SOON,
        close_timeout: Duration::from_secs(1),
        max_payload: 100_000,
        send_buffer: 1_000_000,
        ..Settings::default()
    }
}

impl Fixture {
    pub(crate) async fn start(ways: Ways, settings: Settings) -> Self {
        Self::start_over(ways, settings, |tcp| tcp).await
    }

    /// The same, whose server speaks over what is made of each connection.
    pub(crate) async fn start_over<Io>(
        ways: Ways,
        settings: Settings,
        over: impl Fn(TcpStream) -> Io + Send + 'static,
    ) -> Self
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (told, heard) = mpsc::unbounded_channel();
        let engine = Engine::new(settings, App { ways, heard: told });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = engine.clone();
        tokio::spawn(async move {
            loop {
                let (tcp, peer) = listener.accept().await.unwrap();
                let (engine, io) = (serving.clone(), over(tcp));
                tokio::spawn(async move {
                    let service = service_fn(|mut request| {
                        let engine = engine.clone();
                        async move {
                            request.extensions_mut().insert(Peer(peer));
                            Ok::<_, Infallible>(engine.answer(request).await)
                        }
                    });
                    let serving = http1::Builder::new().serve_connection(TokioIo::new(io), service);
                    let _ = serving.with_upgrades().await;
                });
            }
        });
        Self { engine, address, heard }
    }

    pub(crate) async fn echo() -> Self {
        let ways = Ways {
            echoes: true,
            ..Ways::default()
        };
        Self::start(ways, settings()).await
    }

    /// One that tells the test what it hears.
    pub(crate) async fn quiet(settings: Settings) -> Self {
        Self::start(Ways::default(), settings).await
    }

    pub(crate) async fn hear(&mut self) -> Heard {
        timeout(SOON, self.heard.recv())
            .await
            .expect("the application hears something")
            .unwrap()
    }

    pub(crate) async fn opened(&mut self) -> Session {
        match self.hear().await {
            Heard::Opened(session) => session,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn message(&mut self) -> String {
        match self.hear().await {
            Heard::Message(Message::Text(text)) => text.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// The reason of the end, whatever comes before it.
    pub(crate) async fn closed(&mut self) -> CloseReason {
        loop {
            if let Heard::Closed(reason) = self.hear().await {
                return reason;
            }
        }
    }

    /// Nothing has been told that was not asked for.
    pub(crate) fn heard_nothing(&mut self) {
        let heard = self.heard.try_recv();
        assert!(heard.is_err(), "{heard:?}");
    }

    pub(crate) async fn stop(self) {
        timeout(SOON, self.engine.shutdown()).await.expect("all tasks end");
        assert!(self.engine.sessions().is_empty());
    }

    pub(crate) async fn http(&self, method: &str, query: &str, body: &[u8]) -> Reply {
        self.http_with(method, query, "", body).await
    }

    pub(crate) async fn http_with(&self, method: &str, query: &str, headers: &str, body: &[u8]) -> Reply {
        let mut tcp = self.begin(method, query, headers, body).await;
        Self::reply(&mut tcp).await
    }

    /// Sends a request, and leaves the answer to the caller.
    pub(crate) async fn begin(&self, method: &str, query: &str, headers: &str, body: &[u8]) -> TcpStream {
        let head = format!(
            "{method} /engine.io/?{query} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        let mut tcp = TcpStream::connect(self.address).await.unwrap();
        tcp.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        tcp
    }

    pub(crate) async fn reply(tcp: &mut TcpStream) -> Reply {
        let mut bytes = Vec::new();
        timeout(SOON, tcp.read_to_end(&mut bytes))
            .await
            .expect("an answer comes")
            .unwrap();
        let end = bytes
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .expect("the head has an end");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply {
            status,
            head,
            body: Bytes::from(bytes).slice(end + 4..),
        }
    }
}

/// A client that polls.
pub(crate) struct Polling<'a> {
    pub(crate) fixture: &'a Fixture,
    pub(crate) sid: String,
    pub(crate) version: u8,
}

impl<'a> Polling<'a> {
    pub(crate) async fn open(fixture: &'a Fixture) -> Self {
        let reply = fixture.http("GET", "EIO=4&transport=polling", b"").await;
        assert_eq!(reply.status, 200);
        Self {
            fixture,
            sid: sid(reply.text().strip_prefix('0').unwrap()),
            version: 4,
        }
    }

    pub(crate) fn query(&self) -> String {
        format!("EIO={}&transport=polling&sid={}", self.version, self.sid)
    }

    pub(crate) async fn poll(&self) -> Reply {
        self.fixture.http("GET", &self.query(), b"").await
    }

    pub(crate) async fn post(&self, body: impl AsRef<[u8]>) -> Reply {
        self.fixture.http("POST", &self.query(), body.as_ref()).await
    }

    /// Polls until a packet comes, and gives all that came.
    pub(crate) async fn poll_until(&self, last: &str) -> Vec<String> {
        let mut packets = Vec::new();
        while packets.last().is_none_or(|packet| packet != last) {
            let reply = self.poll().await;
            assert_eq!(reply.status, 200, "{packets:?}");
            packets.extend(reply.text().split('\x1e').map(str::to_owned));
        }
        packets
    }

    /// Opens the websocket that the session may move to.
    pub(crate) async fn websocket(&self) -> Client {
        Client::connect(
            self.fixture,
            &format!("EIO={}&transport=websocket&sid={}", self.version, self.sid),
        )
        .await
    }

    /// The same, and hears that it may move.
    pub(crate) async fn probed(&self) -> Client {
        let mut client = self.websocket().await;
        client.say("2probe").await;
        assert_eq!(client.hear().await, "3probe");
        client
    }
}

/// The id in the packet that opens a session.
pub(crate) fn sid(open: &str) -> String {
    let open: serde_json::Value = serde_json::from_str(open).unwrap();
    open["sid"].as_str().unwrap().to_owned()
}

/// A client by websocket.
pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    /// Opens a session.
    pub(crate) async fn open(fixture: &Fixture) -> Self {
        let mut client = Self::connect(fixture, "EIO=4&transport=websocket").await;
        let open = client.hear().await;
        assert!(open.starts_with("0{"), "{open}");
        client
    }

    pub(crate) async fn connect(fixture: &Fixture, query: &str) -> Self {
        Self::try_connect(fixture, query).await.expect("it connects")
    }

    /// The status of the answer when it does not connect.
    pub(crate) async fn try_connect(fixture: &Fixture, query: &str) -> Result<Self, u16> {
        let url = format!("ws://{}/engine.io/?{query}", fixture.address);
        match timeout(SOON, connect_async(url)).await.expect("it is answered") {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn say(&mut self, packet: &str) {
        self.send(Frame::text(packet.to_owned())).await;
    }

    pub(crate) async fn send(&mut self, frame: Frame) {
        // A connection that is gone shows when it is next listened to.
        let _ = self.socket.send(frame).await;
    }

    /// The next frame; none when the connection has ended without a close.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        timeout(SOON, self.socket.next()).await.expect("something comes")?.ok()
    }

    pub(crate) async fn hear(&mut self) -> String {
        match self.next().await {
            Some(Frame::Text(text)) => text.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// The status of the close that comes, 1005 for none and 1006 when none comes, whatever is before it.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            match self.next().await {
                Some(Frame::Close(Some(close))) => return close.code.into(),
                Some(Frame::Close(None)) => return CloseCode::Status.into(),
                Some(_) => {}
                None => return CloseCode::Abnormal.into(),
            }
        }
    }
}
