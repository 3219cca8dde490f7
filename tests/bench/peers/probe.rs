//! A simple client that checks the answers of a server. It is too slow for measurements.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use plugnode_tests::within;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::server::Server;

/// How long to wait for the first reply before the message is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// A client in namespace `/`.
pub(super) struct Probe(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// Waits until a server echoes on each of its ports: a server may listen before it can answer.
pub(super) async fn answering(server: Server) -> Server {
    for port in &server.ports {
        within(&format!("{} answers", server.name), async {
            let mut probe = Probe::connect(*port).await;
            loop {
                probe.send(r#"42["echo","ready"]"#).await;
                if tokio::time::timeout(RETRY_AFTER, probe.receive()).await.is_ok() {
                    return;
                }
            }
        })
        .await;
    }
    server
}

impl Probe {
    pub(super) async fn connect(port: u16) -> Self {
        let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
        let (socket, _) = connect_async(url).await.expect("cannot connect to the server");
        let mut probe = Self(socket);
        probe.send("40").await;
        while !probe.receive().await.starts_with("40") {}
        probe
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.expect("the connection is open");
    }

    /// The next Socket.IO packet.
    pub(super) async fn receive(&mut self) -> String {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) if text.as_str() == "2" => self.send("3").await,
                Some(Ok(Message::Text(text))) if text.starts_with('4') => return text.as_str().to_owned(),
                Some(Ok(_)) => {}
                end => panic!("the server closed the connection: {end:?}"),
            }
        }
    }
}
