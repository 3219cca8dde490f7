//! Clients that ask over HTTP: a connection each that is kept, and one request in flight on it, whose body comes back.
//!
//! There is no more than one in flight, as clients of HTTP/1.1 do not pipeline. By hyper: it is what most of the servers are made
//! of, and so costs about as much on this side.

use std::io;
use std::time::Instant;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::books::Books;
use crate::crowd::Crowd;
use crate::server::Server;
use crate::talk::failed;
use crate::text::Text;

/// So many clients that each ask again when an answer came.
pub(crate) async fn steady(server: &Server, clients: usize, text: &Text) -> io::Result<Crowd> {
    let mut crowd = Crowd::new();
    for number in 0..clients {
        let stream = TcpStream::connect(("127.0.0.1", server.port(number))).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let (books, text) = (Books::open(&mut crowd), text.clone());
        crowd.tasks.spawn(async move {
            tokio::select! {
                ended = connection => failed(ended.map_err(io::Error::other)),
                ended = keep_asking(sender, text, books) => failed(ended),
            }
        });
    }
    Ok(crowd)
}

async fn keep_asking(mut sender: SendRequest<Full<Bytes>>, text: Text, books: Books) -> io::Result<()> {
    while !books.field.is_over() {
        let begun = Instant::now();
        let (status, body) = ask(&mut sender, text.bare(books.send()))
            .await
            .map_err(io::Error::other)?;
        let number = text.number_in(&body).filter(|_| status == StatusCode::OK);
        if books.settle(number).is_some() {
            books.field.latency.record(begun.elapsed());
        }
    }
    // A connection that is over by itself would be one that broke.
    std::future::pending().await
}

async fn ask(sender: &mut SendRequest<Full<Bytes>>, body: Vec<u8>) -> hyper::Result<(StatusCode, Bytes)> {
    let request = Request::post("/")
        .header("host", "127.0.0.1")
        .header("content-type", "application/json");
    let request = request.body(Full::new(body.into())).expect("it is as it should be");
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    Ok((status, answer.into_body().collect().await?.to_bytes()))
}
