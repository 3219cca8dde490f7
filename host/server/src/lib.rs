//! The roles of plugnode: they connect sockets, transport and handlers. The work itself is in the other crates.
//!
//! 1. A connection comes in through [`http`].
//! 2. The [io-node](roles::io_node) answers its Socket.IO side and offers events to the transport.
//! 3. The [app-node](roles::app_node) leases partitions, runs the handlers and commits their effects.
//! 4. The io-node applies the commands of these effects to its sockets.
//!
//! The [frontend](roles::frontend) serves pages, and the [`api`] is the way in for other systems. [`admin`] answers the verbs of the
//! command line. [`config`] is the configuration file, which nests the settings of all parts. A Rust program that runs roles within
//! itself begins at [`embed`].

pub mod admin;
pub mod api;
mod browser_client;
pub mod config;
pub mod embed;
mod endpoint;
pub mod http;
pub mod roles;
mod summary;
