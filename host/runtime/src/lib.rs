//! The WebAssembly runtime: loads handlers, runs pools of their instances, and contains their faults.
//!
//! From a file to effects:
//!
//! 1. [`Engine`] is the one wasmtime engine of a process. [`Engine::load`] checks the bytes of a component (`inspect`), finds
//!    its machine code in the compile cache or compiles it in a child process ([`Compiler`]), and links the host functions
//!    that the app's [`Grants`] allow (`capability`, one file each).
//! 2. The result is a [`Component`]. [`Component::native`] makes one of native Rust instead ([`Native`]).
//! 3. [`Pool`] runs instances of one component for one app ([`AppSettings`]). It takes [`Job`]s, dispatches each to an
//!    instance, and sends a [`JobOutcome`]: the event's [`Effects`], or a [`Failure`].
//! 4. An instance handles one event at a time, within [`Limits`] on time, memory and effects. A trap costs that event and
//!    that instance; the pool makes a new one.
//! 5. [`Pool::hand_over`] replaces a pool by one of another release, instance by instance, with the state of each.
//!
//! This crate knows no transport, no Socket.IO and no HTTP server, and applies no effects.
//!
//! [`Effects`]: plugnode_message::Effects

mod app;
mod bindings;
mod capability;
mod compile_cache;
mod compiler;
mod component;
mod contract;
#[cfg(test)]
mod counted;
mod engine;
mod exports;
mod failure;
mod file_security;
mod guest;
mod inspect;
mod instance;
mod instance_limit;
mod job;
mod keyvalue_resources;
mod keyvalue_view;
mod load_error;
mod lower;
mod lru_dir;
mod memory;
mod native;
mod outgoing_http;
mod output;
mod pool;
mod script;
mod settings;
mod state;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod wasmtime_config;

pub use compile_cache::{CompileLock, check_cache};
pub use compiler::{CompiledComponent, Compiler, compile};
pub use component::Component;
pub use engine::Engine;
pub use failure::{Failure, TrapReport};
pub use inspect::ComponentInfo;
pub use job::{Job, JobOutcome};
pub use load_error::LoadError;
pub use native::Native;
pub use outgoing_http::check_http_grant;
pub use pool::Pool;
pub use script::Script;
pub use settings::{AppSettings, Dispatch, EngineSettings, Grants, HandlerSettings, Limits};
