//! plugnode embedded in a Rust program: what socket.io-cluster's README calls custom logic in your io-node.
//!
//! `embedded [ADDRESS] [COMPONENT.wasm]` runs all roles of `plugnode run` in one process, with hooks. A client names a puzzle in
//! its query, as in `io({ query: { puzzleId: 7 } })`; the io-node's hook stores it in the client's attributes, and refuses clients
//! without one. Namespace `/` has a handler in native Rust (`puzzle`). Namespace `/plugin` has the component, if one is given.

mod puzzle;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use plugnode::embed::{AppNode, ConnectingClient, CustomCommand, IoHandle, IoNode, Native, Refusal, config, frontend};
use plugnode::http::{self, HttpSettings};
use plugnode::shutdown::Shutdown;
use plugnode::transport::{Memory, Transport, TransportSettings};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{info, warn};

use puzzle::{Puzzle, SOLVED, USER};

/// Time limit for the shutdown.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().init();
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let component = arguments.next().map(PathBuf::from);

    let shutdown = Shutdown::new();
    let transport = Transport::from(Memory::new(TransportSettings::default()));
    let mut app_node = AppNode::builder(transport.clone()).native("/", Native::of::<Puzzle>());
    let mut io_node = IoNode::builder(transport.clone()).namespace("/");
    if let Some(component) = component {
        app_node = app_node.component(config::App {
            namespace: "/plugin".into(),
            component,
            ..config::App::default()
        });
        io_node = io_node.namespace("/plugin");
    }
    app_node.start(&shutdown).await?;

    let listener = http::bind(&listen).await?;
    let address = listener.local_addr()?;
    let pages = frontend(&config::Frontend::default(), transport, &shutdown);
    let io_node = io_node
        .listens_at(address)
        .client_info(client_info)
        .on_custom(on_custom)
        .start_around(pages, &shutdown)
        .await?;
    info!("listening on http://{address}");

    let ending = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        ending.begin();
    });
    io_node.serve(listener, &HttpSettings::default()).await?;
    shutdown.drained(SHUTDOWN_LIMIT).await;
    Ok(())
}

/// The initial attributes of a client, or its refusal: `getClientInfo` of socket.io-cluster.
fn client_info(client: &ConnectingClient<'_>) -> Result<Value, Refusal> {
    if client.namespace != "/" {
        return Ok(json!({}));
    }
    match client.query("puzzleId") {
        Some(puzzle) => Ok(json!({ "puzzleId": puzzle })),
        None => Err(Refusal {
            message: "which puzzle? connect with a puzzleId in the query".into(),
            data: None,
        }),
    }
}

/// Carries out a custom command of the handler: a custom message of socket.io-cluster.
fn on_custom(io_node: &IoHandle, command: CustomCommand) {
    let result = match &*command.kind {
        USER => set_user_id(io_node, &command),
        // Raises an event without a client, which the handler announces to all clients.
        SOLVED => io_node
            .event("puzzle.applause/1")
            .data(command.data, Some("application/json"))
            .send()
            .map_err(Into::into),
        kind => {
            warn!(kind, "ignored an unknown command");
            return;
        }
    };
    if let Err(error) = result {
        warn!(kind = &*command.kind, %error, "command failed");
    }
}

/// Adds the user to the client's attributes, and raises an event that carries them.
fn set_user_id(io_node: &IoHandle, command: &CustomCommand) -> Result<()> {
    #[derive(Deserialize)]
    struct SetUser {
        client: String,
        user: String,
    }
    let SetUser { client, user } = serde_json::from_slice(&command.data)?;
    // The client may have disconnected.
    let Some(client) = io_node.client("/", &client) else {
        return Ok(());
    };
    client.set_user_id(user)?;
    Ok(client.event("puzzle.user-is-set/1").send()?)
}
