//! plugnode runs Socket.IO applications as WebAssembly components.

pub mod config;
pub mod message;
pub mod shutdown;
