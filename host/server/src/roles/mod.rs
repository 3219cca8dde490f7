//! What a process can be: one module a role. Roles never know each other; they meet in the transport.

pub mod app_node;
pub mod frontend;
pub mod io_node;
