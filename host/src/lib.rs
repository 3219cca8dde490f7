//! plugnode runs Socket.IO applications as WebAssembly components.

pub mod message;
pub mod shutdown;
pub mod wasm;
