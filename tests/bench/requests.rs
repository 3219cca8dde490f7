//! HTTP clients: each keeps a connection open, with one request in flight, and gets the body of the request back.
//!
//! There is only one request in flight, because HTTP/1.1 clients do not pipeline. They use hyper, like most of the servers, so
//! that both sides cost about as much.

use std::io;
use std::time::Instant;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::exchange::end_of_client;
use crate::load::Load;
use crate::numbered_text::NumberedText;
use crate::reply_check::ReplyCheck;
use crate::server::Server;

/// Starts clients that send the next request after each response.
pub(crate) async fn closed_loop(server: &Server, clients: usize, text: &NumberedText) -> io::Result<Load> {
    let mut load = Load::new();
    for number in 0..clients {
        let stream = TcpStream::connect(("127.0.0.1", server.port(number))).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let (check, text) = (ReplyCheck::add_to(&mut load), text.clone());
        load.tasks.spawn(async move {
            tokio::select! {
                ended = connection => end_of_client(ended.map_err(io::Error::other)),
                ended = send_requests(sender, text, check) => end_of_client(ended),
            }
        });
    }
    Ok(load)
}

async fn send_requests(mut sender: SendRequest<Full<Bytes>>, text: NumberedText, check: ReplyCheck) -> io::Result<()> {
    while !check.progress.is_over() {
        let begun = Instant::now();
        let (status, body) = send(&mut sender, text.bare(check.next_number()))
            .await
            .map_err(io::Error::other)?;
        let number = text.number_in(&body).filter(|_| status == StatusCode::OK);
        if check.record(number).is_some() {
            check.progress.latency.record(begun.elapsed());
        }
    }
    // Stays connected: a connection that ends is counted as broken.
    std::future::pending().await
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, body: Vec<u8>) -> hyper::Result<(StatusCode, Bytes)> {
    let request = Request::post("/")
        .header("host", "127.0.0.1")
        .header("content-type", "application/json");
    let request = request.body(Full::new(body.into())).expect("the request is valid");
    let response = sender.send_request(request).await?;
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}
