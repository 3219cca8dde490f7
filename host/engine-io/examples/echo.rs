//! An echo server for Engine.IO protocol test suites: `cargo run -p engine-io --example echo -- --port 3000`. It answers on
//! every path, and prints its address; port 0 picks a free port.

use std::convert::Infallible;
use std::time::Duration;

use engine_io::{Application, CloseReason, Engine, Handler, Message, Packet, Peer, Refusal, Session, Settings};
use http::Extensions;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

struct Echo;

struct EchoHandler(Session);

impl Application for Echo {
    type Handler = EchoHandler;

    fn open(&self, session: Session, _: &Extensions) -> Result<EchoHandler, Refusal> {
        Ok(EchoHandler(session))
    }
}

impl Handler for EchoHandler {
    fn message(&mut self, message: Message) {
        let packet = match message {
            Message::Text(text) => Packet::text(&text),
            Message::Binary(data) => Packet::binary(data),
        };
        // Fails only when the session has ended, which `close` reports.
        let _ = self.0.send([packet]);
    }

    fn close(self, reason: CloseReason) {
        eprintln!("{}: {reason}", self.0.id());
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut port = 3000;
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next().map(|value| value.parse())) {
            ("--port", Some(Ok(value))) => port = value,
            _ => {
                eprintln!("usage: echo [--port N]");
                std::process::exit(2);
            }
        }
    }
    let settings = Settings {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        max_payload: 1_000_000,
        ..Settings::default()
    };
    let engine = Engine::new(settings, Echo);
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (tcp, peer) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let engine = engine.clone();
        tokio::spawn(async move {
            let service = service_fn(|mut request| {
                let engine = engine.clone();
                async move {
                    request.extensions_mut().insert(Peer(peer));
                    Ok::<_, Infallible>(engine.answer(request).await)
                }
            });
            let serving = http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
            // Fails when the client goes away, which ends the session by itself.
            let _ = serving.with_upgrades().await;
        });
    }
}
