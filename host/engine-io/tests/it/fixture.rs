//! A server whose application reports to the test, and clients of it.

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

/// Time limit for an expected event; much longer than any takes.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Behaviour of the application.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Behaviour {
    /// Sends each message back.
    pub(crate) echoes: bool,
    /// Does not report messages to the test.
    pub(crate) is_silent: bool,
    /// How many numbers it sends when a session opens.
    pub(crate) greetings: usize,
    /// Refuses all sessions.
    pub(crate) refuses: bool,
}

pub(crate) struct App {
    behaviour: Behaviour,
    events: mpsc::UnboundedSender<AppEvent>,
}

/// A call that the application got from the engine.
#[derive(Debug)]
pub(crate) enum AppEvent {
    Opened(Session),
    Message(Message),
    Closed(CloseReason),
}

pub(crate) struct AppSession {
    session: Session,
    behaviour: Behaviour,
    events: mpsc::UnboundedSender<AppEvent>,
}

impl Application for App {
    type Handler = AppSession;

    fn open(&self, session: Session, _: &Extensions) -> Result<AppSession, Refusal> {
        if self.behaviour.refuses {
            return Err(Refusal::Forbidden("not you".into()));
        }
        for number in 0..self.behaviour.greetings {
            session.send([Packet::text(&number.to_string())]).unwrap();
        }
        self.events.send(AppEvent::Opened(session.clone())).unwrap();
        Ok(AppSession {
            session,
            behaviour: self.behaviour,
            events: self.events.clone(),
        })
    }
}

impl Handler for AppSession {
    fn message(&mut self, message: Message) {
        if self.behaviour.echoes {
            let packet = match &message {
                Message::Text(text) => Packet::text(text),
                Message::Binary(data) => Packet::binary(data.clone()),
            };
            let _ = self.session.send([packet]);
        }
        if message == Message::Text("pause".into()) {
            self.session.pause();
        }
        if !self.behaviour.is_silent {
            let _ = self.events.send(AppEvent::Message(message));
        }
    }

    fn close(self, reason: CloseReason) {
        let _ = self.events.send(AppEvent::Closed(reason));
    }
}

pub(crate) struct Fixture {
    pub(crate) engine: Engine<App>,
    pub(crate) address: SocketAddr,
    events: mpsc::UnboundedReceiver<AppEvent>,
}

/// An HTTP response.
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
        protocol_3: true,
        ..Settings::default()
    }
}

impl Fixture {
    pub(crate) async fn start(behaviour: Behaviour, settings: Settings) -> Self {
        Self::start_wrapped(behaviour, settings, |tcp| tcp).await
    }

    /// Like [`start`](Self::start), but wraps each connection of the server.
    pub(crate) async fn start_wrapped<Io>(
        behaviour: Behaviour,
        settings: Settings,
        wrap: impl Fn(TcpStream) -> Io + Send + 'static,
    ) -> Self
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, events) = mpsc::unbounded_channel();
        let engine = Engine::new(
            settings,
            App {
                behaviour,
                events: sender,
            },
        );
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = engine.clone();
        tokio::spawn(async move {
            loop {
                let (tcp, peer) = listener.accept().await.unwrap();
                let (engine, io) = (serving.clone(), wrap(tcp));
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
        Self {
            engine,
            address,
            events,
        }
    }

    pub(crate) async fn echo() -> Self {
        let behaviour = Behaviour {
            echoes: true,
            ..Behaviour::default()
        };
        Self::start(behaviour, settings()).await
    }

    /// An application that sends nothing and reports all messages.
    pub(crate) async fn quiet(settings: Settings) -> Self {
        Self::start(Behaviour::default(), settings).await
    }

    pub(crate) async fn next_event(&mut self) -> AppEvent {
        timeout(SOON, self.events.recv())
            .await
            .expect("the application is called")
            .unwrap()
    }

    pub(crate) async fn opened(&mut self) -> Session {
        match self.next_event().await {
            AppEvent::Opened(session) => session,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn message(&mut self) -> String {
        match self.next_event().await {
            AppEvent::Message(Message::Text(text)) => text.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// The reason of the next end of a session; skips other events.
    pub(crate) async fn closed(&mut self) -> CloseReason {
        loop {
            if let AppEvent::Closed(reason) = self.next_event().await {
                return reason;
            }
        }
    }

    /// Asserts that the application has reported nothing more.
    pub(crate) fn assert_no_event(&mut self) {
        let event = self.events.try_recv();
        assert!(event.is_err(), "{event:?}");
    }

    pub(crate) async fn stop(self) {
        timeout(SOON, self.engine.shutdown()).await.expect("all tasks end");
        assert!(self.engine.sessions().is_empty());
    }

    pub(crate) async fn http(&self, method: &str, query: &str, body: &[u8]) -> Reply {
        self.http_with(method, query, "", body).await
    }

    pub(crate) async fn http_with(&self, method: &str, query: &str, headers: &str, body: &[u8]) -> Reply {
        let mut tcp = self.send(method, query, headers, body).await;
        Self::reply(&mut tcp).await
    }

    /// Sends a request, without waiting for the response.
    pub(crate) async fn send(&self, method: &str, query: &str, headers: &str, body: &[u8]) -> TcpStream {
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
            .expect("a response arrives")
            .unwrap();
        let end = bytes
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .expect("the response has a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply {
            status,
            head,
            body: Bytes::from(bytes).slice(end + 4..),
        }
    }
}

/// A polling client.
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

    /// Polls until a packet arrives, and returns all packets.
    pub(crate) async fn poll_until(&self, last: &str) -> Vec<String> {
        let mut packets = Vec::new();
        while packets.last().is_none_or(|packet| packet != last) {
            let reply = self.poll().await;
            assert_eq!(reply.status, 200, "{packets:?}");
            packets.extend(reply.text().split('\x1e').map(str::to_owned));
        }
        packets
    }

    /// Opens a websocket for an upgrade.
    pub(crate) async fn websocket(&self) -> Client {
        Client::connect(
            self.fixture,
            &format!("EIO={}&transport=websocket&sid={}", self.version, self.sid),
        )
        .await
    }

    /// Opens a websocket for an upgrade, and completes the probe.
    pub(crate) async fn probed(&self) -> Client {
        let mut client = self.websocket().await;
        client.send_text("2probe").await;
        assert_eq!(client.next_text().await, "3probe");
        client
    }
}

/// The session id in an open packet.
pub(crate) fn sid(open: &str) -> String {
    let open: serde_json::Value = serde_json::from_str(open).unwrap();
    open["sid"].as_str().unwrap().to_owned()
}

/// A websocket client.
pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    /// Opens a session.
    pub(crate) async fn open(fixture: &Fixture) -> Self {
        let mut client = Self::connect(fixture, "EIO=4&transport=websocket").await;
        let open = client.next_text().await;
        assert!(open.starts_with("0{"), "{open}");
        client
    }

    pub(crate) async fn connect(fixture: &Fixture, query: &str) -> Self {
        Self::try_connect(fixture, query).await.expect("the handshake succeeds")
    }

    /// Connects, or returns the HTTP status of the refusal.
    pub(crate) async fn try_connect(fixture: &Fixture, query: &str) -> Result<Self, u16> {
        let url = format!("ws://{}/engine.io/?{query}", fixture.address);
        match timeout(SOON, connect_async(url))
            .await
            .expect("the handshake is answered")
        {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn send_text(&mut self, packet: &str) {
        self.send(Frame::text(packet.to_owned())).await;
    }

    pub(crate) async fn send(&mut self, frame: Frame) {
        // A connection that is gone shows at the next read.
        let _ = self.socket.send(frame).await;
    }

    /// The next frame. None when the connection has ended without a close.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        timeout(SOON, self.socket.next()).await.expect("a frame arrives")?.ok()
    }

    pub(crate) async fn next_text(&mut self) -> String {
        match self.next().await {
            Some(Frame::Text(text)) => text.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// The status code of the close frame: 1005 when it has none, 1006 when the connection ends without one. Skips other frames.
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
