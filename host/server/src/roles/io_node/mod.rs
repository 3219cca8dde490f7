//! The io-node: holds the Socket.IO connections, turns what clients do into events, and applies commands to them.
//!
//! It wires the crates `engine-io` (sessions) and `plugnode-socket-io` (packets, connections, namespaces, sockets) to the transport:
//!
//! - `service` checks requests by `access_check` (`hosts`, `origin`, `address_limits`) and gives them to the engine.
//! - `application` opens a connection for each session. `protocol` turns its packets into sockets and their events, checks `token`, and
//!   gives sockets their first `attributes`.
//! - `intake` offers events to the transport; `pending_events` holds those that are not accepted yet.
//! - `command_applier` applies commands, with `client_commands` for those to an audience; `emitter` applies what other programs publish;
//!   `questions` answers those to all io-nodes, and `summary` puts the answers together.
//! - `membership` keeps the io-node in the cluster. `cut_off` decides when it has lost the cluster, `drain` closes connections at the end.
//! - A program that embeds the io-node uses its `handle` and is called by its `hooks`; `mounted` is the service for HTTP servers such as axum.
//! - `settings_updater` changes `settings` while the io-node runs.

mod access_check;
mod address_limits;
mod application;
mod attributes;
mod client_commands;
mod command_applier;
#[cfg(test)]
mod counted;
mod cut_off;
mod drain;
mod emitter;
mod field;
mod handle;
mod hooks;
mod hosts;
mod intake;
mod membership;
mod mounted;
mod origin;
mod pending_events;
mod program_backlog;
mod protocol;
mod questions;
mod service;
mod settings;
mod settings_updater;
mod setup;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;

use anyhow::{Context, Result};
use engine_io::Engine;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::access_check::AccessCheck;
use self::application::Application;
use self::handle::Parts;
use self::membership::{Joined, Membership, preference_of};
use self::program_backlog::ProgramBacklog;
use self::protocol::Protocol;
use self::token::Tokens;
use plugnode_message::NodeId;
use plugnode_process::shutdown::Shutdown;
use plugnode_socket_io::{Codec, ConnectionLimits, Connections, CurrentIncarnation, NamespaceRegistry, SocketContext};
use plugnode_transport::Transport;

pub use self::address_limits::PerAddress;
pub use self::emitter::EmitterBridge;
pub use self::field::Field;
pub use self::handle::{AttributesError, ConnectedClient, IoHandle, OwnEvent, SendError};
pub use self::hooks::undecided;
pub use self::hooks::{ConnectingClient, CustomCommand, Hooks};
pub use self::service::{AnswerBody, Inner, IoService, RequestBody};
pub use self::settings::IoNodeSettings;
pub use self::settings_updater::SettingsUpdater;
pub use self::setup::IoNodeSetup;
pub use self::token::{Algorithm, JwksLocation, NewKeys, TokenSettings, check_keys};
pub use plugnode_socket_io::{AppNamespace, Encoding};

/// Limit of the attachments of one packet together, as a multiple of `max-payload`.
const ATTACHMENTS_FACTOR: usize = 4;

/// Joins the transport and returns the service that answers Engine.IO requests; it gives all other requests to `inner`. An io-node that
/// loses its membership in the cluster closes its connections and joins again. When `shutdown` begins, clients are disconnected with
/// `server-shutdown`, and their last events are handed to the transport.
///
/// # Errors
/// If the transport cannot be joined, or a key of tokens cannot be used.
pub async fn start<S: Inner>(
    setup: IoNodeSetup,
    transport: Transport,
    inner: S,
    shutdown: &Shutdown,
) -> Result<IoService<S>> {
    let (service, _) = start_embedded(setup, Hooks::default(), transport, inner, shutdown).await?;
    Ok(service)
}

/// Like [`start`], with hooks of the embedding program and a handle for it.
///
/// # Errors
/// The same as for [`start`].
pub async fn start_embedded<S: Inner>(
    setup: IoNodeSetup,
    hooks: Hooks,
    transport: Transport,
    inner: S,
    shutdown: &Shutdown,
) -> Result<(IoService<S>, IoHandle)> {
    let settings = &setup.settings;
    let access_check = Arc::new(AccessCheck::new(&setup)?);
    let tokens = match settings.token.has_key() {
        true => Some(Tokens::start(settings.token.clone(), shutdown).await?),
        false => None,
    };
    let current_incarnation = CurrentIncarnation::none();
    let context = Arc::new(SocketContext {
        io_node: setup.node.id.clone(),
        // The engine limits each attachment, which is a message of its own, to `max-payload`.
        codec: Codec::new(
            settings.parser,
            settings.engine.max_payload.saturating_mul(ATTACHMENTS_FACTOR),
        ),
        incarnation: current_incarnation.clone(),
        max_rooms: settings.channels_per_client.into(),
    });
    let connections = Connections::new(ConnectionLimits {
        waiting_bytes: settings.engine.max_payload,
        packets_per_second: settings.packets_per_second,
        events_per_second: settings.events_per_second,
        pressure: setup.pressure.clone(),
    });
    let namespaces = NamespaceRegistry::new(setup.apps.clone(), context.clone()).map_err(anyhow::Error::msg)?;
    let protocol = Arc::new(Protocol {
        context,
        connections: connections.clone(),
        namespaces: namespaces.clone(),
        hooks: hooks.clone(),
        connect_timeout: settings.connect_timeout,
        namespaces_per_connection: settings.namespaces_per_connection.into(),
        tokens,
        attributes: settings.attributes.clone().into_iter().collect(),
    });
    let session = transport
        .events
        .join_io(setup.node.clone())
        .await
        .context("cannot join the transport")?;
    let application = Application {
        protocol,
        access_check,
        incarnation: current_incarnation.clone(),
        lease_health: transport.nodes.lease_health(),
        shutdown: shutdown.clone(),
    };
    let engine = Engine::new(settings.engine.clone(), application);
    let service = IoService::new(engine.clone(), inner, &setup);

    info!(io_node = %setup.node.id, path = settings.path, "io-node started");
    let handle = IoHandle {
        parts: Arc::new(Parts {
            io_node: setup.node.id.clone(),
            namespaces: namespaces.clone(),
            incarnation: current_incarnation.clone(),
            max_payload: settings.engine.max_payload,
            backlog: ProgramBacklog::default(),
        }),
    };
    let (incarnation, arrivals) = current_incarnation.begin(preference_of(&session));
    shutdown.spawn(unlist(setup.node.id.clone(), transport.clone(), shutdown.clone()));
    let membership = Membership {
        node: setup.node.clone(),
        transport,
        connections,
        namespaces,
        incarnation: current_incarnation,
        hooks,
        handle: handle.clone(),
        drain: settings.drain,
        answering: setup.answering,
        cut_off: settings.cut_off,
        refuse_after: settings.refuse_after,
        shutdown: shutdown.clone(),
    };
    let is_over = CancellationToken::new();
    let ending = is_over.clone().drop_guard();
    let serving = membership.run(Joined {
        session,
        incarnation,
        arrivals,
    });
    shutdown.spawn_intake(async move {
        serving.await;
        drop(ending);
    });
    // By then nothing that clients send is read; they may take a while to read what they were sent.
    let ended = service.ended.clone();
    shutdown.spawn(async move {
        is_over.cancelled().await;
        engine.shutdown().await;
        ended.cancel();
    });
    Ok((service, handle))
}

/// Removes this io-node from the list of io-nodes once the end of the process is announced.
async fn unlist(node: NodeId, transport: Transport, shutdown: Shutdown) {
    shutdown.announced().await;
    let unlisted = tokio::select! {
        unlisted = transport.nodes.unlist_io(&node) => unlisted,
        () = shutdown.begun() => return,
    };
    if let Err(error) = unlisted {
        warn!(io_node = %node, %error, "cannot remove this io-node from the list of io-nodes; it stays there until it ends");
    }
}
