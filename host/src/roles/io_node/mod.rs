//! The io-node: holds the Socket.IO connections, turns what clients do into events, and applies commands to them.
//!
//! A message comes in by `intake`, may have to be in `waiting`, and leaves to the transport; a command comes from the
//! transport and goes out by `delivery`. `membership` keeps the io-node in the cluster, one `incarnation` after the other. `clients` and `session` keep what is known of each client and each connection, `args` checks what
//! crosses, and `door` is the one place where socketioxide is reached behind its front.

mod args;
#[allow(dead_code, reason = "the way in does not ask it yet")]
mod attributes;
mod clients;
mod delivery;
mod door;
mod incarnation;
mod intake;
#[allow(dead_code, reason = "the way in does not ask it yet")]
mod limits;
mod membership;
#[allow(dead_code, reason = "the way in does not ask it yet")]
mod origin;
mod requests;
mod service;
mod session;
#[cfg(test)]
mod tests;
#[allow(dead_code, reason = "the way in does not ask it yet")]
mod token;
mod waiting;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http::{Request, Response};
use http_body::Body;
use hyper::service::Service;
use socketioxide::{ParserConfig, SocketIo, SocketIoBuilder, TransportType};
use tracing::info;

use self::clients::Clients;
use self::door::{Door, Doors};
use self::incarnation::Gate;
use self::intake::Connect;
use self::membership::{Joined, Membership};
use self::service::SignsOfLife;
use self::session::{Bounds, Sessions};
use crate::message::Namespace;
use crate::shutdown::Shutdown;
use crate::transport::{self, Transport};

pub use self::attributes::Field;
pub use self::limits::PerAddress;
pub use self::service::{IoService, RequestBody};
pub use self::token::{Algorithm, JwksPlace, KeySource, Secret, TokenSettings};

/// Bytes read from a websocket at once. Small, because each connection keeps as much.
const READ_BUFFER: usize = 4 * 1_024;
/// Packets in a socket's send queue. Never the limit that counts: that is in bytes, and kept by the session.
const SEND_QUEUE: usize = 1 << 20;

/// What an io-node is told.
#[derive(Debug, Clone)]
pub struct IoNodeSettings {
    /// Its name and where clients reach it.
    pub node: transport::IoNode,
    /// What apps there are to connect to; any other namespace is refused.
    pub apps: Vec<AppDoor>,
    /// The path of Engine.IO, such as `/socket.io`.
    pub path: String,
    /// How often clients are pinged.
    pub ping_interval: Duration,
    /// How long they may take to answer.
    pub ping_timeout: Duration,
    /// How long a connection may take to join a namespace.
    pub connect_timeout: Duration,
    /// How long an upgrade from polling to websocket may take.
    pub upgrade_timeout: Duration,
    /// The largest message a client may send, in bytes.
    pub max_payload: usize,
    /// How many bytes may wait to be sent to a client before it is disconnected.
    pub send_buffer: u64,
    /// How long an event may wait to be accepted before it is refused to its client.
    pub refuse_after: Duration,
    /// Whether clients may connect by long polling.
    pub polling: bool,
    /// Whether they may connect by websocket.
    pub websocket: bool,
    /// Time over which connections are closed when the process ends.
    pub drain: Duration,
    /// How packets are written.
    pub parser: Parser,
    /// Whether clients of Socket.IO 2 may connect.
    pub socket_io_2: bool,
    /// Origins whose pages may connect, besides those of the host that the request goes to: `*`, or such as
    /// `https://example.com`.
    pub allowed_origins: Vec<String>,
    /// What one address may have.
    pub per_address: PerAddress,
    /// Events a second of one client; none is any number.
    pub events_per_second: Option<u32>,
    /// Channels that one client may be in.
    pub channels_per_client: usize,
    /// Names of the attributes that clients have from the beginning, and where in the handshake each is found.
    pub attributes: Vec<(String, Field)>,
    /// Time that the answer to a new session is held back.
    pub handshake_delay: Duration,
    /// The tokens that clients have to show, if they have to.
    pub token: Option<TokenSettings>,
}

/// The way into one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppDoor {
    /// Its namespace, or a pattern of namespaces.
    pub namespace: Namespace,
    /// When its handler decides who may connect: how long it may take.
    pub admission: Option<Duration>,
}

/// How packets are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parser {
    /// As JSON, with attachments.
    Json,
    /// As MessagePack.
    Msgpack,
}

/// Joins the transport and gives the service that answers Engine.IO requests; all other requests go to `inner`. An
/// io-node that loses its place in the cluster ends its connections and joins anew. When `shutdown` begins, clients are
/// disconnected with `server-shutdown`, and their last events are handed in.
///
/// # Errors
/// When the transport cannot be joined.
pub async fn start<S, B>(
    settings: IoNodeSettings,
    transport: Arc<dyn Transport>,
    inner: S,
    shutdown: &Shutdown,
) -> Result<IoService<S>>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body + Send + 'static,
{
    let doors = Doors::default();
    let (engine, io) = builder(&settings)
        .with_adapter::<Door>(doors.clone())
        .build_with_inner_svc(inner);
    let session = transport
        .join_io(settings.node.clone())
        .await
        .context("cannot join the transport")?;

    let sessions = Sessions::new(Bounds {
        waiting: settings.max_payload,
        unsent: settings.send_buffer,
    });
    let gate = Gate::new();
    let signs_of_life = SignsOfLife {
        every: settings.ping_timeout / 3,
    };
    let service = IoService::new(
        engine,
        settings.path.clone(),
        sessions.clone(),
        gate.clone(),
        signs_of_life,
    );
    let end_polling = service.end_polling(shutdown.clone());
    let mut namespaces = HashMap::new();
    for AppDoor { namespace, .. } in settings.apps {
        let clients = Clients::new(
            namespace.clone(),
            settings.node.id.clone(),
            gate.clone(),
            end_polling.clone(),
        );
        io.ns(
            namespace.to_string(),
            Connect {
                clients: clients.clone(),
                sessions: sessions.clone(),
            },
        );
        let door = doors
            .lock()
            .expect("nothing panics while it holds this lock")
            .remove(namespace.as_str());
        clients.attach(door.expect("socketioxide makes the door with the namespace"));
        namespaces.insert(namespace, clients);
    }

    info!(io_node = %settings.node.id, path = settings.path, "io-node started");
    let (incarnation, events) = gate.open();
    let membership = Membership {
        node: settings.node,
        transport,
        io,
        namespaces,
        gate,
        refuse_after: settings.refuse_after,
        shutdown: shutdown.clone(),
    };
    shutdown.spawn(membership.run(Joined {
        session,
        incarnation,
        events,
    }));
    Ok(service)
}

fn builder(settings: &IoNodeSettings) -> SocketIoBuilder {
    let parser = ParserConfig::common().max_incoming_binary_buf_size(settings.max_payload);
    let builder = SocketIo::builder()
        .req_path(settings.path.clone())
        .ping_interval(settings.ping_interval)
        .ping_timeout(settings.ping_timeout)
        .connect_timeout(settings.connect_timeout)
        .upgrade_timeout(settings.upgrade_timeout)
        .max_payload(settings.max_payload as u64)
        .ws_max_message_size(settings.max_payload)
        .ws_max_frame_size(settings.max_payload)
        .ws_read_buffer_size(READ_BUFFER)
        .max_buffer_size(SEND_QUEUE)
        .with_parser(parser);
    match (settings.polling, settings.websocket) {
        (true, false) => builder.transports([TransportType::Polling]),
        (false, true) => builder.transports([TransportType::Websocket]),
        _ => builder,
    }
}
