//! Tests of the engine over real sockets, from the side of clients and of the application.

mod fixture;
mod limits;
mod node;
mod polling;
mod protocol_3;
mod upgrade;
mod websocket;
