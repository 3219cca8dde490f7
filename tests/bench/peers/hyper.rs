//! The baseline of HTTP: hyper alone, which echoes the body of a request in the process that holds the connections.
//! `wasmtime serve` is built on hyper, and uses the same settings.

use std::convert::Infallible;
use std::path::Path;

use ::hyper::body::Incoming;
use ::hyper::server::conn::http1;
use ::hyper::service::service_fn;
use ::hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{block_on, own_mode};
use crate::server::Server;

/// Starts the server in its own process.
pub(crate) async fn hyper(folder: &Path) -> Server {
    let mut process = own_mode("hyper", "--hyper", folder);
    Server {
        name: "bare hyper, HTTP",
        ports: vec![process.port().await],
        in_order: true,
        processes: vec![process],
    }
}

/// Runs the server in this process.
pub(super) fn serve() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("cannot bind a port");
        eprintln!(
            "listening on http://{}",
            listener.local_addr().expect("the socket has an address")
        );
        loop {
            let (tcp, _) = listener.accept().await.expect("cannot accept a connection");
            tcp.set_nodelay(true).expect("cannot set TCP_NODELAY");
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service_fn(echo)));
        }
    });
}

async fn echo(request: Request<Incoming>) -> Result<Response<Incoming>, Infallible> {
    Ok(Response::new(request.into_body()))
}
