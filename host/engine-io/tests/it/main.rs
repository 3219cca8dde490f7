//! The engine over real sockets, as clients and an application see it.

mod fixture;
mod limits;
mod node;
mod polling;
mod protocol_3;
mod upgrade;
mod websocket;
