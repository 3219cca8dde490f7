//! Handlers: WebAssembly components, or native Rust in the place of one, loaded, multiplied and fed with events.
//!
//! An [`Engine`] makes a [`Component`] of a file, has it compiled by another process, and refuses what could not run here with words on what to do. A
//! [`Pool`] runs instances of one component for one app: it takes [`Job`]s and gives back the [`Effects`] of each
//! event, or why there are none. What a handler does wrong costs the event it was handling, and nobody else's.
//!
//! This module knows no transport, no Socket.IO and no HTTP server; what effects lead to is not decided here.
//!
//! [`Effects`]: plugnode_message::Effects

mod artifacts;
mod bindings;
mod body;
mod capability;
mod compiler;
#[cfg(test)]
mod counted;
mod engine;
mod exports;
mod failure;
#[cfg(test)]
mod hand_over_tests;
mod inspect;
mod instance;
mod job;
mod json;
mod kept;
mod legacy;
mod load_error;
mod lower;
mod memory;
mod native;
mod output;
mod owner;
mod place;
mod pool;
mod queue;
mod script;
mod seen;
mod settings;
mod state;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use artifacts::check_cache;
pub use compiler::{Compiled, Compiler, compile};
pub use engine::{Component, Engine};
pub use failure::{Failure, Report};
pub use inspect::Outline;
pub use job::{Handled, Job};
pub use load_error::LoadError;
pub use native::Native;
pub use pool::Pool;
pub use script::Script;
pub use settings::{AppSettings, Dispatch, EngineSettings, Grants, Limits};
