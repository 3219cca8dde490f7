//! The roles of a process, one module each. Roles do not depend on each other; they communicate through the transport only.

pub mod app_node;
pub mod frontend;
pub mod io_node;
mod node_name;

pub use self::node_name::{host_name, node_name};
