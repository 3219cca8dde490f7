//! plugnode's roles in a Rust program: for custom logic in an io-node, pages beside the program's own, and handlers in native Rust.
//!
//! ```no_run
//! use plugnode::embed::{AppNode, IoNode, Native};
//! use plugnode::http::{self, HttpSettings};
//! use plugnode::shutdown::Shutdown;
//! use plugnode::transport::{Memory, TransportSettings, Transport};
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
//! let transport = Transport::from(Memory::new(TransportSettings::default()));
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
//! io_node.serve(listener, &HttpSettings::default()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! An instance of a native handler has a thread of its own, so it may block. A handler that never blocks can be passed to
//! `Native::in_place`: it runs on the thread that dispatches its events, which saves thread switches that cost more than most
//! handlers.
//!
//! The program's nodes are ordinary nodes: with Redis they form a cluster with those of `plugnode run`, and an app may have native
//! handlers on some nodes and a component on others while it migrates from one to the other.

pub use plugnode_server::embed::*;
