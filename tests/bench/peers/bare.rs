//! The floor: socketioxide alone, without a queue, without wasm, with handlers in the program that holds the connections.
//!
//! Its best settings:
//! - Handlers run where a message is read: none is overtaken and no task is spawned, as [`Word`] says.
//! - Arguments that are only passed on stay text, and are not parsed into values.
//! - `max_buffer_size`: a broadcast drops nothing while a client reads slowly. It costs memory only when it is used.
//! - TCP_NODELAY, and plugnode's queue of connections to be accepted.
//!
//! Tried, and left as they are: `ws_read_buffer_size` of 16 and 64 KB instead of the default of 4 KB, which differ by less than
//! the rounds do and would be held by each idle connection; glibc's allocator instead of plugnode's, the same.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use benchmark::Order;
use futures_util::FutureExt;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::{DeserializeOwned, Deserializer, SeqAccess, Visitor};
use serde::ser::{SerializeTuple, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use socketioxide::SocketIo;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::{AckSender, Data, SocketRef};
use socketioxide::handler::{FromMessageParts, MessageHandler, Value};
use socketioxide::socket::{Sid, Socket};
use tokio::net::TcpSocket;

use super::probe::answering;
use super::{block_on, own_mode};
use crate::server::Server;

/// Packets that may wait for one client.
const PACKETS: usize = 100_000;
/// Connections that the kernel may hold until they are accepted, as in plugnode.
const ACCEPT_QUEUE: u32 = 4_096;

/// Arguments of any number, none of them parsed.
struct Unparsed(Vec<Box<RawValue>>);

/// Starts it in a process of its own.
pub(crate) async fn bare(folder: &Path) -> Server {
    let mut process = own_mode("bare", "--bare", folder);
    answering(Server {
        name: "bare socketioxide",
        ports: vec![process.port().await],
        in_order: true,
        processes: vec![process],
    })
    .await
}

/// Is the server.
pub(super) fn serve() {
    block_on(async {
        let (service, io) = SocketIo::builder().max_buffer_size(PACKETS).build_svc();
        let counters = Arc::<Mutex<HashMap<Sid, u64>>>::default();
        let own = io.clone();
        io.ns("/", move |socket: SocketRef| {
            answer(&socket, own.clone(), counters.clone());
            // What is in an async closure runs later: a quick client's first events would find no handler and be dropped.
            async {}
        });
        let socket = TcpSocket::new_v4().expect("there are sockets");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port is free");
        let listener = socket.listen(ACCEPT_QUEUE).expect("the port is ours");
        eprintln!("listening on http://{}", listener.local_addr().expect("it listens"));
        loop {
            let (tcp, _) = listener.accept().await.expect("connections can be taken");
            tcp.set_nodelay(true).expect("it is TCP");
            let connection = http1::Builder::new()
                .serve_connection(TokioIo::new(tcp), service.clone())
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
}

/// The words. What cannot be sent because its client is gone is nobody's loss.
fn answer(socket: &SocketRef, io: SocketIo, counters: Arc<Mutex<HashMap<Sid, u64>>>) {
    socket.on(
        "echo",
        word(|socket, args: Unparsed, _| {
            let _ = socket.emit("echo", &args);
        }),
    );
    socket.on(
        "join",
        word(|socket, room: String, ack| {
            socket.join(room);
            let _ = ack.send("ok");
        }),
    );
    socket.on(
        "all",
        word(move |_, args: Unparsed, _| {
            // Nothing is waited for where all clients are here.
            io.emit("all", &args).now_or_never();
        }),
    );
    socket.on(
        "room",
        word(|socket, args: Unparsed, _| {
            let Some(Ok(room)) = args.0.first().map(|room| serde_json::from_str::<String>(room.get())) else {
                return;
            };
            socket.within(room).emit("room", &args).now_or_never();
        }),
    );
    socket.on(
        "json",
        word(|socket, mut order: Order, _| {
            order.count += 1;
            let _ = socket.emit("json", &order);
        }),
    );
    socket.on(
        "count",
        word(move |socket, number: u64, _| {
            let count = {
                let mut counters = counters.lock().expect("nobody panics with it");
                let counter = counters.entry(socket.id).or_default();
                *counter += 1;
                *counter
            };
            let _ = socket.emit("count", &(count, number));
        }),
    );
}

/// A handler that runs where the message is read. An async one, as is usual, runs in a task of its own, and so may be
/// overtaken.
struct Word<F, T>(F, PhantomData<fn() -> T>);

fn word<T, F: Fn(SocketRef, T, AckSender)>(work: F) -> Word<F, T> {
    Word(work, PhantomData)
}

impl<F, T> MessageHandler<LocalAdapter, Word<F, T>> for Word<F, T>
where
    F: Fn(SocketRef, T, AckSender) + Send + Sync + 'static,
    T: DeserializeOwned + 'static,
{
    fn call(&self, socket: Arc<Socket>, mut value: Value, ack: Option<i64>) {
        // What is not as it should be is not answered.
        let Ok(Data(args)) = Data::from_message_parts(&socket, &mut value, &ack) else {
            return;
        };
        let (Ok(sender), Ok(ack)) = (
            SocketRef::from_message_parts(&socket, &mut value, &ack),
            AckSender::from_message_parts(&socket, &mut value, &ack),
        );
        (self.0)(sender, args, ack);
    }
}

impl<'de> Deserialize<'de> for Unparsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Unparsed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("arguments")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unparsed, A::Error> {
                let mut args = Vec::with_capacity(2);
                while let Some(arg) = items.next_element()? {
                    args.push(arg);
                }
                Ok(Unparsed(args))
            }
        }
        // To socketioxide, a tuple is all arguments and everything else is the first. Of JSON, any number comes.
        deserializer.deserialize_tuple(2, Each)
    }
}

impl Serialize for Unparsed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|arg| tuple.serialize_element(arg))?;
        tuple.end()
    }
}
