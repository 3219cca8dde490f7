//! For tests: streams without a server.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use super::connection::Connection;
use super::stream::Stream;
use super::wire::Io;

/// The handle of a connection that is none.
pub(crate) fn connection() -> Arc<Connection> {
    Connection::new(None)
}

/// A stream, and its peer.
pub(crate) async fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (tcp, address) = listener.accept().await.unwrap();
    (Stream::new(Io::Plain(tcp), Connection::new(Some(address)), None), peer)
}
