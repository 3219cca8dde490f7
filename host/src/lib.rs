//! plugnode runs Socket.IO applications as WebAssembly components.

pub mod cli;
pub mod config;
pub mod http;
pub mod message;
pub mod roles;
pub mod shutdown;
pub mod transport;
pub mod wasm;
