//! A socketioxide server with the handler that `plugnode-hostile` expects, to compare plugnode with.
//!
//! It has the library's default settings, except that messages may have 1 MB. Prints the port that it listens on.

use std::fmt;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::ser::{SerializeTuple, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let (service, io) = SocketIo::builder().max_payload(1_000_000).build_svc();
    io.ns("/", async |socket: SocketRef| answer(&socket));
    io.dyn_ns("/hostile-{number}", async |socket: SocketRef| answer(&socket))
        .expect("the pattern is one");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("http://{}", listener.local_addr()?);
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(tcp), service.clone())
            .with_upgrades();
        tokio::spawn(connection);
    }
}

/// Echoes every message. Errors of sending are ignored: the client has disconnected.
fn answer(socket: &SocketRef) {
    socket.on("message", async |socket: SocketRef, Data(args): Data<Arguments>| {
        let _ = socket.emit("message-back", &args);
    });
    socket.on(
        "message-with-ack",
        async |Data(args): Data<Arguments>, ack: AckSender| {
            let _ = ack.send(&args);
        },
    );
    socket.on("shout", async |socket: SocketRef, Data(args): Data<Arguments>| {
        let _ = socket.broadcast().emit("shouted", &args).await;
    });
    socket.on(
        "join",
        async |socket: SocketRef, Data(room): Data<String>, ack: AckSender| {
            socket.join(room);
            let _ = ack.send(&true);
        },
    );
}

/// Arguments of any number, none of them parsed: socketioxide gives all of them to a tuple alone.
struct Arguments(Vec<Box<RawValue>>);

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Arguments;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("arguments")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Arguments, A::Error> {
                let mut args = Vec::new();
                while let Some(arg) = items.next_element()? {
                    args.push(arg);
                }
                Ok(Arguments(args))
            }
        }
        deserializer.deserialize_tuple(2, Each)
    }
}

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|arg| tuple.serialize_element(arg))?;
        tuple.end()
    }
}
