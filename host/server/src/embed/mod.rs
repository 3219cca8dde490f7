//! plugnode within a Rust program: for custom logic in an io-node, for pages beside one's own, and for handlers in native
//! Rust.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use plugnode::embed::{AppNode, IoNode, Native};
//! use plugnode::http::{self, HttpSettings};
//! use plugnode::shutdown::Shutdown;
//! use plugnode::transport::{Memory, MemorySettings};
//! use plugnode_sdk::prelude::*;
//! use serde_json::json;
//!
//! #[derive(Default)]
//! struct Puzzle;
//!
//! impl Handler for Puzzle {
//!     fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
//!         client.broadcast(&message.event, &message.payload)?;
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> anyhow::Result<()> {
//! let shutdown = Shutdown::new();
//! // Or a `Redis`, for a cluster.
//! let transport = Arc::new(Memory::new(MemorySettings::default()));
//! AppNode::builder(transport.clone())
//!     .native("/", Native::of::<Puzzle>())
//!     .start(&shutdown)
//!     .await?;
//! let listener = http::bind("127.0.0.1:8080").await?;
//! let io_node = IoNode::builder(transport)
//!     .namespace("/")
//!     .client_info(|client| Ok(json!({ "puzzleId": client.query("puzzleId") })))
//!     .on_custom(|_, command| println!("a handler says {}", command.kind))
//!     .listens_at(listener.local_addr()?)
//!     .start(&shutdown)
//!     .await?;
//! io_node.serve(listener, &HttpSettings::default()).await;
//! # Ok(())
//! # }
//! ```
//!
//! An instance of a native handler has a thread of its own, so that it may block. `Native::in_place` takes one that never does:
//! it is called where its events are dealt out, with no switches between threads, which cost more than most handlers do.
//!
//! The nodes of a program are nodes like others: over Redis they work with those that `plugnode run` starts, and an app may
//! have native handlers on some nodes and a component on others while it moves from the one to the other.

mod app_node;
mod frontend;
mod io_node;

pub use app_node::read_component;
pub use app_node::{AppNode, AppNodeBuilder};
pub use frontend::frontend;
pub use frontend::keep_io_list;
pub use io_node::{IoNode, IoNodeBuilder};

pub use crate::config;
pub use crate::roles::frontend::Frontend;
pub use crate::roles::io_node::{
    AttributesError, ConnectedClient, CustomCommand, Inner, IoHandle, Newcomer, OwnEvent, SendError,
};
pub use plugnode_message::Refusal;
pub use plugnode_runtime::Native;

#[cfg(test)]
mod tests;
