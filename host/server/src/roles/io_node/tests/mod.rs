//! An io-node between real connections and a memory transport that tests can block.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;
use crate::http::{self as server, HttpSettings, Ready};
use plugnode_message::{Command, DisconnectReason, Effects, Event, EventKind, NodeId, SessionId};
use plugnode_process::MemoryPressure;
use plugnode_socket_io::Socket;
use plugnode_transport::{
    Backlog, Events, Inbox, IoNode, IoSession, Leases, Memory, Outcome, Result as Answer, Transport, TransportSettings,
    Verdict,
};

mod access_check;
mod admission;
mod engine;
mod faults;
mod packets;
mod upgrade;

const SOON: Duration = Duration::from_secs(20);
/// Time after which a test assumes that nothing more happens.
const MOMENT: Duration = Duration::from_millis(200);

/// The memory transport behind two valves: one for joining, one for accepting events.
struct Valves {
    memory: Memory,
    join: watch::Sender<bool>,
    ingest: watch::Sender<bool>,
}

#[async_trait]
impl Events for Valves {
    async fn join_io(&self, node: IoNode) -> Answer<IoSession> {
        opened(self.join.subscribe()).await;
        let session = self.memory.join_io(node).await?;
        Ok(IoSession {
            inbox: Arc::new(Valve {
                inbox: session.inbox,
                open: self.ingest.subscribe(),
                busy: AtomicBool::new(false),
            }),
            outbox: session.outbox,
        })
    }

    async fn join_app(&self, node: NodeId) -> Answer<Box<dyn Leases>> {
        self.memory.join_app(node).await
    }
}

struct Valve {
    inbox: Arc<dyn Inbox>,
    open: watch::Receiver<bool>,
    busy: AtomicBool,
}

#[async_trait]
impl Inbox for Valve {
    async fn ingest(&self, events: Vec<Event>) -> Answer<Vec<Event>> {
        assert!(
            !self.busy.swap(true, Ordering::SeqCst),
            "one call at a time, none given up"
        );
        opened(self.open.clone()).await;
        let refused = self.inbox.ingest(events).await;
        self.busy.store(false, Ordering::SeqCst);
        refused
    }

    async fn tell(&self, node: &NodeId, command: Command) -> Answer<()> {
        self.inbox.tell(node, command).await
    }
}

async fn opened(mut valve: watch::Receiver<bool>) {
    valve.wait_for(|open| *open).await.expect("the test outlives it");
}

struct Fixture {
    transport: Arc<Valves>,
    address: SocketAddr,
    joined: Ready,
    namespaces: Arc<NamespaceRegistry<Socket>>,
    shutdown: Shutdown,
}

impl Fixture {
    async fn start(memory: TransportSettings) -> Self {
        Self::with(memory, |_| {}).await
    }

    /// Pings so often, and waits as long for the answer.
    async fn pinging(every: Duration, memory: TransportSettings) -> Self {
        let ping = |setup: &mut IoNodeSetup| {
            setup.settings.engine.ping_interval = every;
            setup.settings.engine.ping_timeout = every;
        };
        Self::with(memory, ping).await
    }

    /// Starts with changed settings.
    async fn with(memory: TransportSettings, change: impl FnOnce(&mut IoNodeSetup)) -> Self {
        let partitions = 1;
        let memory = Memory::new(TransportSettings { partitions, ..memory });
        let transport = Arc::new(Valves {
            memory,
            join: watch::Sender::new(true),
            ingest: watch::Sender::new(true),
        });
        let seams = Transport {
            events: transport.clone(),
            ..transport.memory.clone().into()
        };
        let mut setup = IoNodeSetup {
            settings: IoNodeSettings {
                engine: engine_io::Settings {
                    ping_interval: SOON,
                    ping_timeout: SOON,
                    upgrade_timeout: SOON,
                    max_payload: 100_000,
                    send_buffer: 1_000_000,
                    send_timeout: SOON,
                    close_timeout: Duration::from_secs(1),
                    unfinished_bytes: 100_000_000,
                    body_timeout: Duration::from_millis(500),
                    ..engine_io::Settings::default()
                },
                connect_timeout: SOON,
                refuse_after: Duration::from_millis(150),
                drain: Duration::ZERO,
                cut_off: SOON,
                channels_per_client: 100,
                ..IoNodeSettings::default()
            },
            node: IoNode::without_address("io"),
            apps: vec![AppNamespace {
                namespace: "/".into(),
                admission: None,
                presence: Default::default(),
            }],
            allowed_hosts: None,
            trusted_proxies: Default::default(),
            pressure: MemoryPressure::default(),
            answering: Duration::from_secs(2),
        };
        change(&mut setup);
        let http = HttpSettings::default();
        let shutdown = Shutdown::new();
        let inner = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())));
        let service = start(setup, seams, inner, &shutdown).await.unwrap();
        let (joined, namespaces) = (service.joined(), service.namespaces());
        let listener = server::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ending = shutdown.clone();
        let websockets: Arc<dyn server::WebSockets> = Arc::new(service.clone());
        shutdown.spawn(async move {
            server::serve_with_websockets(listener, service, websockets, &http, ending).await;
        });
        Self {
            transport,
            address,
            joined,
            namespaces,
            shutdown,
        }
    }

    /// Joins under the io-node's own name, which fences it, and leaves.
    async fn fence(&self) {
        drop(
            self.transport
                .memory
                .join_io(IoNode::without_address("io"))
                .await
                .unwrap(),
        );
    }

    async fn app(&self) -> App {
        let mut leases = self.transport.join_app("app".into()).await.unwrap();
        let lease = leases.next().await.unwrap();
        App { _leases: leases, lease }
    }

    async fn stop(self) {
        self.shutdown.begin();
        assert!(self.shutdown.drained(SOON).await, "everything ends");
    }

    /// Sends a request, and returns the answer.
    async fn http(&self, request: &str, body: &str) -> String {
        self.http_with(request, "", body).await
    }

    /// The same with more headers, each ending in CRLF.
    async fn http_with(&self, request: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        let request = format!(
            "{request} HTTP/1.1\r\nhost: a\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let mut tcp = TcpStream::connect(self.address).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = timeout(SOON, tcp.read_to_string(&mut answer)).await;
        read.expect("an answer in time").unwrap();
        answer
    }
}

/// Commits the events that it reads.
struct App {
    _leases: Box<dyn Leases>,
    lease: plugnode_transport::Lease,
}

impl App {
    /// Reads the next events, each as `client word`.
    async fn read(&mut self) -> Vec<String> {
        let events = self.handle(|_| Vec::new()).await;
        events.iter().map(|event| in_words(event)).collect()
    }

    /// Reads the next events and commits these commands.
    async fn handle(&mut self, mut commands: impl FnMut(&Event) -> Vec<Command>) -> Vec<Arc<Event>> {
        let deliveries = timeout(SOON, self.lease.log.next()).await.expect("events in time");
        let deliveries = deliveries.unwrap().unwrap();
        let outcomes = deliveries.iter().map(|delivery| {
            let effects = Effects {
                commands: commands(&delivery.event),
                ..Effects::default()
            };
            Outcome::new(delivery.id, Verdict::Done(effects))
        });
        self.lease.commits.commit(outcomes.collect()).await.unwrap();
        deliveries.into_iter().map(|delivery| delivery.event).collect()
    }

    async fn read_some(&mut self, count: usize) -> Vec<String> {
        let mut words = Vec::new();
        while words.len() < count {
            words.append(&mut self.read().await);
        }
        words
    }

    async fn reads_nothing(&mut self) {
        let read = timeout(MOMENT, self.lease.log.next()).await;
        assert!(read.is_err(), "{read:?}");
    }
}

fn in_words(event: &Event) -> String {
    let client: &SessionId = &event.client.as_ref().unwrap().id;
    match &event.kind {
        EventKind::Connection(_) => format!("{client} connection"),
        EventKind::Message { event, .. } => format!("{client} {event}"),
        EventKind::Disconnect(gone) if gone.reason == DisconnectReason::NodeLost => format!("{client} lost"),
        EventKind::Disconnect(_) => format!("{client} disconnect"),
        EventKind::Reply { .. } => format!("{client} reply"),
        other => panic!("{other:?}"),
    }
}

/// A client with a websocket.
struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    id: String,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.expect("a connection")
    }

    async fn try_connect(address: SocketAddr) -> Option<Self> {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let (socket, _) = connect_async(url).await.ok()?;
        let id = String::new();
        let mut client = Self { socket, id };
        assert!(client.hear().await?.starts_with('0'));
        client.say("40").await;
        let connected = client.hear().await?;
        let connected = connected.strip_prefix("40")?;
        let connected: serde_json::Value = serde_json::from_str(connected).unwrap();
        client.id = connected["sid"].as_str().unwrap().to_owned();
        Some(client)
    }

    async fn say(&mut self, packet: &str) {
        // A closed connection shows at the next read.
        let _ = self.socket.send(Message::text(packet.to_owned())).await;
    }

    /// The next packet that is not a ping. None if the connection is closed.
    async fn hear(&mut self) -> Option<String> {
        loop {
            match timeout(SOON, self.socket.next())
                .await
                .expect("a packet in time")?
                .ok()?
            {
                Message::Text(ping) if ping.as_str() == "2" => self.say("3").await,
                Message::Text(packet) => return Some(packet.to_string()),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }
}
