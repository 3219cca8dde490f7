//! The baseline: socketioxide alone, without a queue and without wasm, with handlers in the process that holds the connections.
//!
//! Best settings:
//! - Handlers run inline where a message is read ([`InlineHandler`]): messages stay in order, and no task is spawned.
//! - Arguments that are only passed on stay text, and are not parsed.
//! - `max_buffer_size`: a broadcast drops nothing while a client reads slowly. It costs memory only when it is used.
//! - TCP_NODELAY, and the same accept queue as plugnode.
//!
//! Tried without a difference above the noise: `ws_read_buffer_size` of 16 and 64 KB instead of the default of 4 KB, which would
//! also cost memory for each idle connection; glibc's allocator instead of plugnode's.

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
const MAX_BUFFERED: usize = 100_000;
/// Length of the accept queue, as in plugnode.
const ACCEPT_QUEUE: u32 = 4_096;

/// Any number of arguments, unparsed.
struct Unparsed(Vec<Box<RawValue>>);

/// Starts the server in its own process.
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

/// Runs the server in this process.
pub(super) fn serve() {
    block_on(async {
        let (service, io) = SocketIo::builder().max_buffer_size(MAX_BUFFERED).build_svc();
        let counters = Arc::<Mutex<HashMap<Sid, u64>>>::default();
        let own = io.clone();
        io.ns("/", move |socket: SocketRef| {
            register_handlers(&socket, own.clone(), counters.clone());
            // Handlers are registered before the async block, which runs later: early events would be dropped.
            async {}
        });
        let socket = TcpSocket::new_v4().expect("cannot create a socket");
        socket
            .bind((Ipv4Addr::LOCALHOST, 0).into())
            .expect("cannot bind a port");
        let listener = socket.listen(ACCEPT_QUEUE).expect("cannot listen");
        eprintln!(
            "listening on http://{}",
            listener.local_addr().expect("the socket has an address")
        );
        loop {
            let (tcp, _) = listener.accept().await.expect("cannot accept a connection");
            tcp.set_nodelay(true).expect("cannot set TCP_NODELAY");
            let connection = http1::Builder::new()
                .serve_connection(TokioIo::new(tcp), service.clone())
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
}

/// Registers the handlers. Errors of sending are ignored: the client is gone.
fn register_handlers(socket: &SocketRef, io: SocketIo, counters: Arc<Mutex<HashMap<Sid, u64>>>) {
    socket.on(
        "echo",
        inline(|socket, args: Unparsed, _| {
            let _ = socket.emit("echo", &args);
        }),
    );
    socket.on(
        "join",
        inline(|socket, room: String, ack| {
            socket.join(room);
            let _ = ack.send("ok");
        }),
    );
    socket.on(
        "all",
        inline(move |_, args: Unparsed, _| {
            // Completes at once, because all clients are local.
            io.emit("all", &args).now_or_never();
        }),
    );
    socket.on(
        "room",
        inline(|socket, args: Unparsed, _| {
            let Some(Ok(room)) = args.0.first().map(|room| serde_json::from_str::<String>(room.get())) else {
                return;
            };
            socket.within(room).emit("room", &args).now_or_never();
        }),
    );
    socket.on(
        "json",
        inline(|socket, mut order: Order, _| {
            order.count += 1;
            let _ = socket.emit("json", &order);
        }),
    );
    socket.on(
        "count",
        inline(move |socket, number: u64, _| {
            let count = {
                let mut counters = counters.lock().expect("the lock is not poisoned");
                let counter = counters.entry(socket.id).or_default();
                *counter += 1;
                *counter
            };
            let _ = socket.emit("count", &(count, number));
        }),
    );
}

/// A handler that runs where the message is read. The usual async handlers run in tasks, so they may overtake each other.
struct InlineHandler<F, T>(F, PhantomData<fn() -> T>);

fn inline<T, F: Fn(SocketRef, T, AckSender)>(work: F) -> InlineHandler<F, T> {
    InlineHandler(work, PhantomData)
}

impl<F, T> MessageHandler<LocalAdapter, InlineHandler<F, T>> for InlineHandler<F, T>
where
    F: Fn(SocketRef, T, AckSender) + Send + Sync + 'static,
    T: DeserializeOwned + 'static,
{
    fn call(&self, socket: Arc<Socket>, mut value: Value, ack: Option<i64>) {
        // Invalid messages are ignored.
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
        // socketioxide passes all arguments to a tuple, and the first argument to any other type. JSON has any number of them,
        // whatever the length given here.
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
