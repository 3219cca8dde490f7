//! plugnode within a Rust program: what socket.io-cluster's README called custom logic in your io-node.
//!
//! `embedded [ADDRESS] [COMPONENT.wasm]` is a process with all that `plugnode run` has, and a say in it. Whoever connects
//! names a puzzle in the query, as in `io({ query: { puzzleId: 7 } })`, which becomes an attribute of the client by the
//! io-node's hook; without one it is refused. Its handler is native Rust (`puzzle`), in namespace `/`. Namespace `/plugin` has
//! the component, if one is named: the two live side by side.

mod puzzle;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use plugnode::embed::{AppNode, CustomCommand, IoHandle, IoNode, Native, Newcomer, Refusal, config, frontend};
use plugnode::http::{self, HttpSettings};
use plugnode::shutdown::Shutdown;
use plugnode::transport::{Memory, MemorySettings};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{info, warn};

use puzzle::{Puzzle, SOLVED, USER};

/// How long everything may take to end.
const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().init();
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let component = arguments.next().map(PathBuf::from);

    let shutdown = Shutdown::new();
    let transport = Arc::new(Memory::new(MemorySettings::default()));
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
    io_node.serve(listener, &HttpSettings::default()).await;
    shutdown.drained(DEADLINE).await;
    Ok(())
}

/// What is known of a client from the beginning: the original's `getClientInfo`.
fn client_info(client: &Newcomer<'_>) -> Result<Value, Refusal> {
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

/// What the handler wants of its io-node: the original's custom messages.
fn on_custom(io_node: &IoHandle, command: CustomCommand) {
    let answered = match &*command.kind {
        USER => set_user_id(io_node, &command),
        // Everybody hears of it, by an event that comes from no client.
        SOLVED => io_node
            .event("puzzle.applause/1")
            .data(command.data, Some("application/json"))
            .send()
            .map_err(Into::into),
        kind => {
            warn!(kind, "a command that this program does not know");
            return;
        }
    };
    if let Err(error) = answered {
        warn!(kind = &*command.kind, %error, "a command came to nothing");
    }
}

/// From now on the client's events come with its user, and the first of them says so.
fn set_user_id(io_node: &IoHandle, command: &CustomCommand) -> Result<()> {
    #[derive(Deserialize)]
    struct SetUser {
        client: String,
        user: String,
    }
    let SetUser { client, user } = serde_json::from_slice(&command.data)?;
    // It may be gone by now.
    let Some(client) = io_node.client("/", &client) else {
        return Ok(());
    };
    client.set_user_id(user)?;
    Ok(client.event("puzzle.user-is-set/1").send()?)
}
