//! plugnode's roles in a Rust program: for custom logic in an io-node, pages beside the program's own, and handlers in native Rust.
//!
//! An instance of a native handler has a thread of its own, so it may block. A handler that never blocks can be passed to
//! `Native::in_place`: it runs on the thread that dispatches its events, which saves thread switches that cost more than most
//! handlers.
//!
//! The program's nodes are ordinary nodes: with Redis they form a cluster with those of `plugnode run`, and an app may have native
//! handlers on some nodes and a component on others while it migrates from one to the other.

mod app_node;
mod frontend;
mod io_node;

pub use self::app_node::{AppNode, AppNodeBuilder, read_component};
pub use self::frontend::{frontend, keep_io_list};
pub use self::io_node::{IoNode, IoNodeBuilder};

pub use crate::config;
pub use crate::roles::frontend::Frontend;
pub use crate::roles::io_node::{
    AttributesError, ConnectedClient, ConnectingClient, CustomCommand, Inner, IoHandle, OwnEvent, SendError,
};
pub use plugnode_message::Refusal;
pub use plugnode_runtime::Native;

#[cfg(test)]
mod tests;
