//! The io-node: holds the Socket.IO connections, turns what clients do into events, and applies commands to them.
//!
//! `service` gives requests to the engine (the crate `engine-io`), which holds the sessions; `application` takes these in. What
//! clients send is taken in by `protocol`, by way of the crate `plugnode-socket-io`, which encodes what they are sent. Who may come
//! in is asked by `entrance` (`hosts`, `origin`, `limits`) and `token`, and `attributes` says what is known of a client from the
//! beginning. Between them and the transport stands what is known of each connection (`session` and its `flow`), of each client
//! (`member`), and of each namespace (`directory`, `clients`). An event goes out by `intake`, and may have to be in `waiting`; a
//! command comes in by `delivery`, a question to all io-nodes by `questions`. `membership` keeps the io-node in the cluster, one
//! `incarnation` after the other, until it is `cut_off`. A program that embeds the io-node reaches in by its `handle`, and is
//! called by its `hooks`.

mod application;
mod attributes;
mod clients;
#[cfg(test)]
mod counted;
mod cut_off;
mod delivery;
mod directory;
mod entrance;
mod flow;
mod handle;
mod hooks;
mod hosts;
mod incarnation;
mod intake;
mod limits;
mod member;
mod membership;
mod mounted;
mod origin;
mod protocol;
mod questions;
mod renewal;
mod requests;
mod service;
mod session;
mod summary;
#[cfg(test)]
mod tests;
mod token;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use engine_io::Engine;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::application::Application;
use self::clients::Common;
use self::directory::Directory;
use self::entrance::Entrance;
use self::flow::Bounds;
use self::handle::Parts;
use self::incarnation::Gate;
use self::membership::{Joined, Membership};
use self::protocol::Protocol;
use self::session::Sessions;
use self::token::Tokens;
use crate::http::TrustedProxies;
use plugnode_message::{Namespace, NodeId};
use plugnode_process::pressure::Pressure;
use plugnode_process::shutdown::Shutdown;
use plugnode_socket_io::Codec;
use plugnode_transport::Transport;

pub use self::attributes::Field;
pub use self::handle::{AttributesError, ConnectedClient, IoHandle, OwnEvent, SendError};
pub use self::hooks::undecided;
pub use self::hooks::{CustomCommand, Hooks, Newcomer};
pub use self::limits::PerAddress;
pub use self::renewal::Renewal;
pub use self::service::{AnswerBody, Inner, IoService, RequestBody};
pub use self::token::{Algorithm, JwksPlace, KeySource, Secret, TokenSettings, check_keys};
pub use plugnode_socket_io::Encoding;

/// How many times `max-payload` all attachments of one packet may have.
const ATTACHED: usize = 4;

/// What an io-node is told.
#[derive(Debug, Clone)]
pub struct IoNodeSettings {
    /// Its name and where clients reach it.
    pub node: plugnode_transport::IoNode,
    /// Where clients find apps; any other namespace is refused.
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
    /// Bytes that may wait to be sent to a client. Above it what the client sends waits, and it is disconnected when it reads
    /// nothing for [`engine_io::STALL`]; above [`engine_io::BURST`] times as much it is disconnected in any case.
    pub send_buffer: usize,
    /// How long a client may take to read a byte of what is sent to it.
    pub send_timeout: Duration,
    /// How long a client may take to send the body of a request. Each [`engine_io::BODY_RATE`] bytes buy it a second more.
    pub body_timeout: Duration,
    /// How long a client may take to read the last that it is sent and the close.
    pub close_timeout: Duration,
    /// Packets and frames a second of one client that are no messages, such as pings and small fragments.
    pub control_packets_per_second: u32,
    /// Bytes of unfinished messages and request bodies that all clients together may have here, those of one address half of
    /// it at most.
    pub unfinished_bytes: usize,
    /// How long an event may wait to be accepted before it is refused to its client.
    pub refuse_after: Duration,
    /// Whether clients may connect by long polling.
    pub polling: bool,
    /// Whether they may connect by websocket.
    pub websocket: bool,
    /// How packets are encoded.
    pub encoding: Encoding,
    /// Whether clients of Socket.IO 2 are taken.
    pub socket_io_2: bool,
    /// How many channels a client may be subscribed to.
    pub channels_per_client: usize,
    /// How many namespaces a connection may be in.
    pub namespaces_per_connection: usize,
    /// Origins whose pages may connect, besides those of the host that the request goes to: `*`, or such as
    /// `https://example.com`.
    pub allowed_origins: Vec<String>,
    /// Hosts that requests may be for besides addresses and names of one word; none is any.
    pub allowed_hosts: Option<Vec<String>>,
    /// Proxies whose word counts about the address of who is behind them.
    pub trusted_proxies: TrustedProxies,
    /// What one address may have.
    pub per_address: PerAddress,
    /// Packets of any kind a second of one connection.
    pub packets_per_second: u32,
    /// Events a second of one client; none is any number.
    pub events_per_second: Option<u32>,
    /// How this process stands with its memory: without any left, new sessions are refused.
    pub pressure: Pressure,
    /// Names of the attributes that clients have from the beginning, and where in the handshake each is found.
    pub attributes: Vec<(String, Field)>,
    /// Time that the answer to a new session is held back.
    pub handshake_delay: Duration,
    /// The tokens that clients have to show, if they have to.
    pub token: Option<TokenSettings>,
    /// Over how long connections are ended when the process ends.
    pub drain: Duration,
    /// How long it may take after that to answer what was read of a client.
    pub answering: Duration,
    /// How long the transport may be out of reach, with no evidence of the reason, before connections are ended.
    pub cut_off: Duration,
}

/// Where clients come to an app.
#[derive(Debug, Clone)]
pub struct AppDoor {
    /// Its namespace, or a pattern of namespaces.
    pub namespace: Namespace,
    /// How long its handler may take to admit a client; none when it is not asked.
    pub admission: Option<Duration>,
}

/// Joins the transport and gives the service that answers Engine.IO requests; all other requests go to `inner`. An
/// io-node that loses its place in the cluster ends its connections and joins anew. When `shutdown` begins, clients are
/// disconnected with `server-shutdown`, and their last events are handed in.
///
/// # Errors
/// When the transport cannot be joined, or a key of tokens cannot be used.
pub async fn start<S: Inner>(
    settings: IoNodeSettings,
    transport: Transport,
    inner: S,
    shutdown: &Shutdown,
) -> Result<IoService<S>> {
    let (service, _) = start_embedded(settings, Hooks::default(), transport, inner, shutdown).await?;
    Ok(service)
}

/// The same for a program that has something to say in it.
///
/// # Errors
/// As with [`start`].
pub async fn start_embedded<S: Inner>(
    settings: IoNodeSettings,
    hooks: Hooks,
    transport: Transport,
    inner: S,
    shutdown: &Shutdown,
) -> Result<(IoService<S>, IoHandle)> {
    let entrance = Arc::new(Entrance::new(&settings)?);
    let tokens = match settings.token.clone() {
        Some(token) => Some(Tokens::start(token, shutdown).await?),
        None => None,
    };
    let gate = Gate::new();
    let common = Arc::new(Common {
        io_node: settings.node.id.clone(),
        // Each attachment is a message of its own, and held to that by the engine.
        codec: Codec::new(settings.encoding, settings.max_payload.saturating_mul(ATTACHED)),
        gate: gate.clone(),
        max_channels: settings.channels_per_client.into(),
        hooks: hooks.clone(),
    });
    let sessions = Sessions::new(Bounds {
        waiting: settings.max_payload,
        packets_per_second: settings.packets_per_second,
        events_per_second: settings.events_per_second,
        pressure: settings.pressure.clone(),
    });
    let directory = Directory::new(settings.apps.clone(), common.clone()).map_err(anyhow::Error::msg)?;
    let protocol = Arc::new(Protocol {
        common,
        sessions: sessions.clone(),
        directory: directory.clone(),
        connect_timeout: settings.connect_timeout,
        namespaces_per_connection: settings.namespaces_per_connection.into(),
        tokens,
        attributes: settings.attributes.clone(),
    });
    let session = transport
        .events
        .join_io(settings.node.clone())
        .await
        .context("cannot join the transport")?;
    let application = Application {
        protocol,
        entrance,
        gate: gate.clone(),
        standing: transport.nodes.standing(),
        shutdown: shutdown.clone(),
    };
    let engine = Engine::new(engine_settings(&settings), application);
    let service = IoService::new(engine.clone(), inner, &settings);

    info!(io_node = %settings.node.id, path = settings.path, "io-node started");
    let handle = IoHandle {
        parts: Arc::new(Parts {
            io_node: settings.node.id.clone(),
            directory: directory.clone(),
            gate: gate.clone(),
            max_payload: settings.max_payload,
            waiting: Arc::default(),
        }),
    };
    let (incarnation, events) = gate.open();
    shutdown.spawn(unlist(settings.node.id.clone(), transport.clone(), shutdown.clone()));
    let membership = Membership {
        node: settings.node,
        transport,
        sessions,
        directory,
        gate,
        hooks,
        handle: handle.clone(),
        drain: settings.drain,
        answering: settings.answering,
        cut_off: settings.cut_off,
        refuse_after: settings.refuse_after,
        shutdown: shutdown.clone(),
    };
    let is_over = CancellationToken::new();
    let ending = is_over.clone().drop_guard();
    let serving = membership.run(Joined {
        session,
        incarnation,
        events,
    });
    shutdown.spawn_intake(async move {
        serving.await;
        drop(ending);
    });
    // Nothing of the clients is taken in any more by then, and they may take a while to read the last that they are sent.
    let ended = service.ended.clone();
    shutdown.spawn(async move {
        is_over.cancelled().await;
        engine.shutdown().await;
        ended.cancel();
    });
    Ok((service, handle))
}

/// Tells nobody of this io-node any more once the end of the process is announced.
async fn unlist(node: NodeId, transport: Transport, shutdown: Shutdown) {
    shutdown.announced().await;
    let unlisted = tokio::select! {
        unlisted = transport.nodes.unlist_io(&node) => unlisted,
        () = shutdown.begun() => return,
    };
    if let Err(error) = unlisted {
        warn!(io_node = %node, %error, "it stays in the list of io-nodes until it ends");
    }
}

fn engine_settings(settings: &IoNodeSettings) -> engine_io::Settings {
    engine_io::Settings {
        polling: settings.polling,
        websocket: settings.websocket,
        protocol_3: settings.socket_io_2,
        ping_interval: settings.ping_interval,
        ping_timeout: settings.ping_timeout,
        upgrade_timeout: settings.upgrade_timeout,
        max_payload: settings.max_payload,
        send_buffer: settings.send_buffer,
        send_timeout: settings.send_timeout,
        body_timeout: settings.body_timeout,
        close_timeout: settings.close_timeout,
        control_packets_per_second: settings.control_packets_per_second,
        unfinished_bytes: settings.unfinished_bytes,
    }
}
