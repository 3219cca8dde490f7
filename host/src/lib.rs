//! plugnode runs Socket.IO applications as WebAssembly components.
//!
//! The guided tour, along the way of a message. What travels is in [`message`], the centre that everything else speaks
//! in and that knows nothing of ours.
//!
//! 1. A connection comes in by [`http`], which can pause and end it from outside.
//! 2. The [io-node](roles::io_node) answers its Socket.IO side, and makes an event of what the client did.
//! 3. The [`transport`] takes the event in, and hands it to the app-node that owns the client's partition.
//! 4. The [app-node](roles::app_node) gives it to the pool of its namespace's app, one event of a client at a time.
//! 5. An instance in the [pool](wasm::Pool) runs the handler, and notes what it asks for.
//! 6. The app-node commits that, and the transport puts the commands into the outboxes of io-nodes.
//! 7. The io-node applies them, in order, and the clients hear.
//!
//! The [frontend](roles::frontend) serves pages beside all this. [`cli`] is what a person types: it reads the [`config`],
//! starts roles, and waits for the end, which [`shutdown`] brings about. By [`admin`], its verbs reach a process that runs. What is refused anywhere is in the
//! [`counts`], which `metrics` writes for Prometheus; [`pressure`] says how the process stands with its memory. Which app a
//! namespace means, its own or one of a pattern, is looked up in [`namespaces`].
//!
//! A Rust program that wants all of this, or a part, within itself begins at [`embed`].
//!
//! Arrows point down: `cli` and `embed` → `roles` → `transport`, `wasm`, `http` → `message`. To add a transport, a capability, a
//! command or a role is to add one file and to name it in one place.

pub mod admin;
#[cfg(test)]
mod arbitrary;
mod browser_client;
pub mod cli;
pub mod config;
#[cfg(test)]
mod counted;
pub mod counts;
pub mod embed;
pub mod http;
mod ids;
mod json;
pub mod message;
mod metrics;
pub mod namespaces;
pub mod pause;
pub mod pressure;
pub mod release;
mod repeats;
pub mod roles;
mod settings;
pub mod shutdown;
mod timings;
pub mod transport;
pub mod wasm;
