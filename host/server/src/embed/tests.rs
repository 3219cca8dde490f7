//! The parts of plugnode within a program's own server, here one of axum behind hyper.

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
use plugnode_transport::{Memory, MemorySettings, Transport};

const SOON: Duration = Duration::from_secs(20);

/// Says back what it hears, with what it knows of who says it, and tells its io-node.
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

struct Stage {
    transport: Transport,
    shutdown: Shutdown,
}

impl Stage {
    async fn new() -> Self {
        let stage = Self {
            transport: Transport::from(Memory::new(MemorySettings::default())),
            shutdown: Shutdown::new(),
        };
        let app_node = AppNode::builder(stage.transport.clone()).native("/", Native::of::<Echo>());
        app_node.start(&stage.shutdown).await.expect("it starts");
        stage
    }

    fn io_node(&self) -> IoNodeBuilder {
        IoNode::builder(self.transport.clone())
    }
}

/// A server that knows nothing of plugnode.
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

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(address: SocketAddr, query: &str) -> Self {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket&{query}");
        let (socket, _) = connect_async(url).await.expect("it takes websockets");
        let mut socket = Self(socket);
        assert!(socket.hear().await.starts_with('0'));
        socket.say("40").await;
        socket
    }

    async fn connect(address: SocketAddr, query: &str) -> Self {
        let mut socket = Self::open(address, query).await;
        assert!(socket.hear().await.starts_with("40"));
        socket
    }

    async fn say(&mut self, packet: &str) {
        self.0.send(Message::text(packet)).await.expect("it is open");
    }

    /// The next packet that is no ping.
    async fn hear(&mut self) -> String {
        loop {
            let heard = timeout(SOON, self.0.next()).await.expect("something comes");
            let packet = heard.expect("it is open").expect("it is no error").to_string();
            if packet != "2" {
                return packet;
            }
            self.say("3").await;
        }
    }
}

#[tokio::test]
async fn a_router_of_axum_takes_frontend_and_io_node_in() {
    let stage = Stage::new().await;
    let io_node = stage.io_node().start(&stage.shutdown).await.expect("it starts");
    let pages = frontend(&config::Frontend::default(), stage.transport.clone(), &stage.shutdown);
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

    let mut socket = Socket::connect(address, "").await;
    socket.say(r#"42["hello"]"#).await;
    assert_eq!(socket.hear().await, r#"42["hello",{}]"#);
    polls(address).await;
    assert!(get_page(address, "/nothing").await.starts_with("HTTP/1.1 404"));
}

/// Connects and says something by polling.
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
async fn a_router_of_axum_can_be_within_an_io_node() {
    let stage = Stage::new().await;
    let listener = server::bind("127.0.0.1:0").await.expect("there are free ports");
    let address = listener.local_addr().expect("it is bound");
    let own = |_: Request<axum::body::Body>| async { "my own page".into_response() };
    let router = Router::new().fallback(own);
    let io_node = stage.io_node().listens_at(address);
    let io_node = io_node
        .start_around(TowerToHyperService::new(router), &stage.shutdown)
        .await;
    let io_node = io_node.expect("it starts");
    tokio::spawn(async move { io_node.serve(listener, &HttpSettings::default()).await });
    assert!(get_page(address, "/any").await.ends_with("my own page"));
    assert!(get_page(address, "/readyz").await.contains("200 OK"));
    let mut socket = Socket::connect(address, "").await;
    socket.say(r#"42["hello"]"#).await;
    assert_eq!(socket.hear().await, r#"42["hello",{}]"#);
}

#[tokio::test]
async fn a_program_has_its_say_in_its_io_node() {
    let stage = Stage::new().await;
    let (heard, mut hears) = mpsc::unbounded_channel();
    let listener = server::bind("127.0.0.1:0").await.expect("there are free ports");
    let address = listener.local_addr().expect("it is bound");
    let events = heard.clone();
    let builder = stage
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
    let io_node = builder.start(&stage.shutdown).await.expect("it starts");
    let handle = io_node.handle().clone();
    tokio::spawn(async move { io_node.serve(listener, &HttpSettings::default()).await });

    for (user, refusal) in [
        ("nobody", r#"44{"message":"go away","data":{"code":7}}"#),
        ("list", r#"44{"message":"the server could not decide"}"#),
        ("bug", r#"44{"message":"the server could not decide"}"#),
    ] {
        let mut socket = Socket::open(address, &format!("user={user}")).await;
        assert_eq!(socket.hear().await, refusal);
    }
    let mut socket = Socket::connect(address, "user=ada%20l").await;
    socket.say(r#"42["hello"]"#).await;
    assert_eq!(socket.hear().await, r#"42["hello",{"agent":null,"user":"ada l"}]"#);
    socket.say(r#"42["custom"]"#).await;
    let mut own = [socket.hear().await, socket.hear().await];
    own.sort();
    assert_eq!(own[0], r#"42["test.nobody/1","nobody's",null]"#);
    let attributes = json!(json!({ "agent": null, "user": "ada l", "userId": 7 }).to_string());
    assert_eq!(own[1], format!(r#"42["test.own/1","mine",{attributes}]"#));
    for kind in ["connection", "message", "message", "custom", "custom"] {
        assert_eq!(
            timeout(SOON, hears.recv()).await.expect("it is heard").as_deref(),
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
    while hears.recv().await.expect("it goes on") != "disconnect" {}
}

/// Counts the clients that it was told are gone.
#[derive(Default)]
struct Farewell(Arc<AtomicUsize>);

impl Handler for Farewell {
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
async fn shutdown_tells_handler_of_every_client() {
    let (transport, shutdown) = (Transport::from(Memory::new(MemorySettings::default())), Shutdown::new());
    let gone = Arc::<AtomicUsize>::default();
    let counted = gone.clone();
    let app_node = AppNode::builder(transport.clone()).native("/", Native::made_by(move || Farewell(counted.clone())));
    app_node.start(&shutdown).await.expect("it starts");
    let io_node = IoNode::builder(transport.clone())
        .start(&shutdown)
        .await
        .expect("it starts");
    let address = serve(Router::new().fallback_service(io_node.service())).await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(Socket::connect(address, "").await);
    }
    // Their last words, of which nobody waits for the answer.
    for socket in &mut sockets {
        socket.say(r#"42["last"]"#).await;
    }
    shutdown.begin();
    assert!(shutdown.drained(SOON).await, "it ends by the deadline");
    assert_eq!(gone.load(Ordering::SeqCst), 20);
    assert_eq!(transport.nodes.backlog().await.expect("it is here"), 0);
}
