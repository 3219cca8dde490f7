//! plugnode's roles in a program with a server of its own, here axum behind hyper.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::{SinkExt, StreamExt};
use http::Request;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use plugnode_sdk::prelude::*;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;
use crate::http::{self as server, HttpSettings};

use plugnode_process::shutdown::Shutdown;
use plugnode_transport::{Memory, Transport, TransportSettings};

const SOON: Duration = Duration::from_secs(20);

/// Echoes messages with the client's attributes, and sends custom commands.
#[derive(Default)]
struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        match message.event.as_str() {
            "custom" => plugnode_sdk::send_custom(None, "test.custom/1", client.id().as_bytes())?,
            event => client.emit(event, client.attributes::<serde_json::Value>()?)?,
        }
        Ok(())
    }

    fn on_custom(&mut self, custom: &Custom) -> Result {
        let data = String::from_utf8_lossy(&custom.data);
        let from = custom.client.as_ref().map(|client| client.attributes.clone());
        plugnode_sdk::all().emit(&custom.kind, (data, from))?;
        Ok(())
    }
}

struct Fixture {
    transport: Transport,
    shutdown: Shutdown,
}

impl Fixture {
    async fn new() -> Self {
        let fixture = Self {
            transport: Transport::from(Memory::new(TransportSettings::default())),
            shutdown: Shutdown::new(),
        };
        let app_node = AppNode::builder(fixture.transport.clone()).native("/", Native::of::<Echo>());
        app_node.start(&fixture.shutdown).await.expect("it starts");
        fixture
    }

    fn io_node(&self) -> IoNodeBuilder {
        IoNode::builder(self.transport.clone())
    }
}

/// A server that is not plugnode's.
async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(router.clone());
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(serving.with_upgrades());
        }
    });
    address
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    let read = timeout(SOON, stream.read_to_string(&mut answer)).await;
    read.expect("it answers").expect("it answers in text");
    answer
}

async fn get_page(address: SocketAddr, path: &str) -> String {
    ask(
        address,
        &format!("GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n"),
    )
    .await
}

struct TestSocket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl TestSocket {
    async fn open(address: SocketAddr, query: &str) -> Self {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket&{query}");
        let (socket, _) = connect_async(url).await.expect("it takes websockets");
        let mut socket = Self(socket);
        assert!(socket.receive().await.starts_with('0'));
        socket.send("40").await;
        socket
    }

    async fn connect(address: SocketAddr, query: &str) -> Self {
        let mut socket = Self::open(address, query).await;
        assert!(socket.receive().await.starts_with("40"));
        socket
    }

    async fn send(&mut self, packet: &str) {
        self.0.send(Message::text(packet)).await.expect("it is open");
    }

    /// The next packet other than a ping, which is answered.
    async fn receive(&mut self) -> String {
        loop {
            let message = timeout(SOON, self.0.next()).await.expect("a packet comes");
            let packet = message.expect("it is open").expect("it is no error").to_string();
            if packet != "2" {
                return packet;
            }
            self.send("3").await;
        }
    }
}

#[tokio::test]
async fn axum_router_mounts_frontend_and_io_node() {
    let fixture = Fixture::new().await;
    let io_node = fixture.io_node().start(&fixture.shutdown).await.expect("it starts");
    let pages = frontend(
        &config::Frontend::default(),
        fixture.transport.clone(),
        &fixture.shutdown,
    );
    let router = Router::new()
        .route("/own", get(|| async { "my own page" }))
        .route_service("/config.js", pages)
        .fallback_service(io_node.service());
    let address = serve(router).await;

    assert!(get_page(address, "/own").await.ends_with("my own page"));
    let list = timeout(SOON, async {
        loop {
            let list = get_page(address, "/config.js").await;
            if list.contains("\"port\":8080") {
                return list;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(list.await.expect("it is told of").contains("SOCKET_SERVERS"));

    let mut socket = TestSocket::connect(address, "").await;
    socket.send(r#"42["hello"]"#).await;
    assert_eq!(socket.receive().await, r#"42["hello",{}]"#);
    polls(address).await;
    assert!(get_page(address, "/nothing").await.starts_with("HTTP/1.1 404"));
}

/// Connects by polling, and gets an echo.
async fn polls(address: SocketAddr) {
    let opened = get_page(address, "/socket.io/?EIO=4&transport=polling").await;
    let sid = opened
        .split("\"sid\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let path = format!(
        "/socket.io/?EIO=4&transport=polling&sid={}",
        sid.expect("a session is opened")
    );
    for packet in ["40", r#"42["hello"]"#] {
        let length = packet.len();
        let post = format!(
            "POST {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{packet}"
        );
        assert!(ask(address, &post).await.ends_with("ok"));
        let wanted = if packet == "40" { "40{" } else { r#"42["hello",{}]"# };
        while !get_page(address, &path).await.contains(wanted) {}
    }
}

#[tokio::test]
async fn io_node_serves_axum_router_as_inner_service() {
    let fixture = Fixture::new().await;
    let listener = server::bind("127.0.0.1:0").await.expect("there are free ports");
    let address = listener.local_addr().expect("it is bound");
    let own = |_: Request<axum::body::Body>| async { "my own page".into_response() };
    let router = Router::new().fallback(own);
    let io_node = fixture.io_node().listens_at(address);
    let io_node = io_node
        .start_around(TowerToHyperService::new(router), &fixture.shutdown)
        .await;
    let io_node = io_node.expect("it starts");
    tokio::spawn(async move { io_node.serve(listener, &HttpSettings::default()).await });
    assert!(get_page(address, "/any").await.ends_with("my own page"));
    assert!(get_page(address, "/readyz").await.contains("200 OK"));
    let mut socket = TestSocket::connect(address, "").await;
    socket.send(r#"42["hello"]"#).await;
    assert_eq!(socket.receive().await, r#"42["hello",{}]"#);
}

#[tokio::test]
async fn hooks_and_handle_of_io_node() {
    let fixture = Fixture::new().await;
    let (sender, mut kinds) = mpsc::unbounded_channel();
    let listener = server::bind("127.0.0.1:0").await.expect("there are free ports");
    let address = listener.local_addr().expect("it is bound");
    let events = sender.clone();
    let builder = fixture
        .io_node()
        .client_info(|client| match client.query("user").as_deref() {
            Some("nobody") => Err(Refusal {
                message: "go away".into(),
                data: Some("{\"code\":7}".into()),
            }),
            Some("list") => Ok(json!([1])),
            Some("bug") => panic!("a hook can"),
            user => Ok(json!({ "user": user, "agent": client.header("user-agent") })),
        })
        .on_event(move |_, event| {
            let _ = events.send(event.kind.word().to_owned());
        })
        .on_custom(|io_node, command| {
            let id = std::str::from_utf8(&command.data).expect("it is an id");
            let client = io_node.client("/", id).expect("it is connected");
            client.set_user_id(7).expect("it fits");
            client.event("test.own/1").data("mine", None).send().expect("it goes");
            io_node
                .event("test.nobody/1")
                .data("nobody's", None)
                .send()
                .expect("it goes");
        });
    let io_node = builder.start(&fixture.shutdown).await.expect("it starts");
    let handle = io_node.handle().clone();
    tokio::spawn(async move { io_node.serve(listener, &HttpSettings::default()).await });

    for (user, refusal) in [
        ("nobody", r#"44{"message":"go away","data":{"code":7}}"#),
        ("list", r#"44{"message":"the server could not decide"}"#),
        ("bug", r#"44{"message":"the server could not decide"}"#),
    ] {
        let mut socket = TestSocket::open(address, &format!("user={user}")).await;
        assert_eq!(socket.receive().await, refusal);
    }
    let mut socket = TestSocket::connect(address, "user=ada%20l").await;
    socket.send(r#"42["hello"]"#).await;
    assert_eq!(socket.receive().await, r#"42["hello",{"agent":null,"user":"ada l"}]"#);
    socket.send(r#"42["custom"]"#).await;
    let mut own = [socket.receive().await, socket.receive().await];
    own.sort();
    assert_eq!(own[0], r#"42["test.nobody/1","nobody's",null]"#);
    let attributes = json!(json!({ "agent": null, "user": "ada l", "userId": 7 }).to_string());
    assert_eq!(own[1], format!(r#"42["test.own/1","mine",{attributes}]"#));
    for kind in ["connection", "message", "message", "custom", "custom"] {
        assert_eq!(
            timeout(SOON, kinds.recv())
                .await
                .expect("the hook is called")
                .as_deref(),
            Some(kind)
        );
    }

    let clients = handle.clients("/");
    let [client] = &clients[..] else { panic!("one is there") };
    assert_eq!(client.attributes()["userId"], 7);
    assert!(client.patch_attributes(&"no object").is_err());
    assert!(client.patch_attributes(&json!({ "big": "x".repeat(17_000) })).is_err());
    assert!(matches!(
        handle.event("plugnode.x/1").send(),
        Err(SendError::Reserved(_))
    ));
    assert!(matches!(
        handle.event("x/1").namespace("/none").send(),
        Err(SendError::NoApp(_))
    ));
    let large = vec![0; 2_000_000];
    assert!(matches!(
        handle.event("x/1").data(large, None).send(),
        Err(SendError::TooLarge { .. })
    ));
    drop(socket);
    let gone = timeout(SOON, async {
        while client.event("x/1").send().is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    gone.await.expect("the connection's end is noticed");
    assert!(matches!(client.event("x/1").send(), Err(SendError::Gone(_))));
    while kinds.recv().await.expect("more events come") != "disconnect" {}
}

/// Counts disconnect events.
#[derive(Default)]
struct DisconnectCounter(Arc<AtomicUsize>);

impl Handler for DisconnectCounter {
    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        client.emit(&message.event, ())?;
        Ok(())
    }

    fn on_disconnect(&mut self, _: &Client, _: &DisconnectReason) -> Result {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test]
async fn shutdown_delivers_disconnect_of_every_client() {
    let (transport, shutdown) = (
        Transport::from(Memory::new(TransportSettings::default())),
        Shutdown::new(),
    );
    let gone = Arc::<AtomicUsize>::default();
    let counted = gone.clone();
    let app_node =
        AppNode::builder(transport.clone()).native("/", Native::made_by(move || DisconnectCounter(counted.clone())));
    app_node.start(&shutdown).await.expect("it starts");
    let io_node = IoNode::builder(transport.clone())
        .start(&shutdown)
        .await
        .expect("it starts");
    let address = serve(Router::new().fallback_service(io_node.service())).await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(TestSocket::connect(address, "").await);
    }
    // Messages right before the shutdown. The test does not wait for their echo.
    for socket in &mut sockets {
        socket.send(r#"42["last"]"#).await;
    }
    shutdown.begin();
    assert!(shutdown.drained(SOON).await, "it ends by the deadline");
    assert_eq!(gone.load(Ordering::SeqCst), 20);
    assert_eq!(transport.nodes.backlog().await.expect("it is here"), 0);
}
