//! The floor of HTTP: hyper alone, which answers a request with its body in the program that holds the connections. It is what
//! `wasmtime serve` is made of, and set as it is there.

use std::convert::Infallible;
use std::path::Path;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{block_on, own_mode};
use crate::server::Server;

/// Starts it in a process of its own.
pub(crate) async fn http(folder: &Path) -> Server {
    let mut process = own_mode("http", "--http", folder);
    Server {
        name: "bare hyper, HTTP",
        ports: vec![process.port().await],
        in_order: true,
        processes: vec![process],
    }
}

/// Is the server.
pub(super) fn serve() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        eprintln!("listening on http://{}", listener.local_addr().expect("it listens"));
        loop {
            let (tcp, _) = listener.accept().await.expect("connections can be taken");
            tcp.set_nodelay(true).expect("it is TCP");
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service_fn(echo)));
        }
    });
}

async fn echo(request: Request<Incoming>) -> Result<Response<Incoming>, Infallible> {
    Ok(Response::new(request.into_body()))
}
