//! The server as a peer sees it, over real sockets.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::connection_server::SHUTDOWN_WRITE_TIMEOUT;
use super::settings::MAX_HEADER_SIZE;
use super::*;
use plugnode_process::shutdown::Shutdown;

mod arbitrary;
mod websockets;

const SOON: Duration = Duration::from_secs(10);

async fn start<S, B>(service: S, settings: HttpSettings) -> (SocketAddr, Shutdown)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    start_with(service, None, settings).await
}

async fn start_with<S, B>(
    service: S,
    websockets: Option<Arc<dyn WebSockets>>,
    settings: HttpSettings,
) -> (SocketAddr, Shutdown)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let tcp = bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let listener = Listener::new(tcp, settings.read_tls().unwrap());
    let shutdown = Shutdown::new();
    let ours = shutdown.clone();
    shutdown.spawn(async move { serve_with_websockets(listener, service, websockets, &settings, ours).await });
    (address, shutdown)
}

fn text(text: &str) -> Response<Full<Bytes>> {
    Response::new(Full::from(text.to_owned()))
}

fn connection(request: &Request<Incoming>) -> Arc<Connection> {
    request
        .extensions()
        .get::<Arc<Connection>>()
        .expect("each request has its connection")
        .clone()
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut answer))
        .await
        .expect("the connection should end");
    assert!(read.is_ok() || !answer.is_empty(), "{read:?}");
    String::from_utf8_lossy(&answer).into_owned()
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn reading_stops_until_each_pause_is_resumed() {
    let (paused, mut pauses) = mpsc::channel(1);
    let service = service_fn(move |request: Request<Incoming>| {
        let paused = paused.clone();
        async move {
            let connection = connection(&request);
            connection.pause();
            connection.pause();
            paused.send(connection).await.unwrap();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Ok::<_, Infallible>(text(&format!("got {}", body.len())))
        }
    });
    let (address, _shutdown) = start(service, HttpSettings::default()).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client
        .write_all(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\n")
        .await
        .unwrap();
    let connection = timeout(SOON, pauses.recv()).await.unwrap().unwrap();
    assert_eq!(connection.peer(), client.local_addr().ok());
    client.write_all(b"hello").await.unwrap();

    let mut answer = [0; 1];
    assert!(
        timeout(Duration::from_millis(100), client.read(&mut answer))
            .await
            .is_err(),
        "read while paused"
    );
    connection.resume();
    assert!(
        timeout(Duration::from_millis(100), client.read(&mut answer))
            .await
            .is_err(),
        "read while paused once"
    );
    connection.resume();
    assert!(read_to_end(&mut client).await.ends_with("got 5"));
    assert!(connection.written() > 0);
}

#[tokio::test]
async fn close_ends_connection_that_waits_for_response() {
    let (asked, mut questions) = mpsc::channel(1);
    let service = service_fn(move |request: Request<Incoming>| {
        let asked = asked.clone();
        async move {
            asked.send(connection(&request)).await.unwrap();
            std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>().await
        }
    });
    let (address, shutdown) = start(service, HttpSettings::default()).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(GET.as_bytes()).await.unwrap();
    timeout(SOON, questions.recv()).await.unwrap().unwrap().close();
    assert_eq!(read_to_end(&mut client).await, "");
    shutdown.begin();
    assert!(shutdown.drained(SOON).await);
}

#[tokio::test]
async fn close_ends_connection_whose_peer_does_not_read() {
    let (asked, mut questions) = mpsc::channel(1);
    let service = service_fn(move |request: Request<Incoming>| {
        let asked = asked.clone();
        async move {
            asked.send(connection(&request)).await.unwrap();
            let endless = futures_util::stream::repeat(Bytes::from(vec![7; 64 * 1024]));
            Ok::<_, Infallible>(Response::new(StreamBody::new(
                endless.map(|data| Ok::<_, Infallible>(Frame::data(data))),
            )))
        }
    });
    let (address, shutdown) = start(service, HttpSettings::default()).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(GET.as_bytes()).await.unwrap();
    let connection = timeout(SOON, questions.recv()).await.unwrap().unwrap();
    // It stalls when the buffers on the way are full.
    timeout(SOON, async {
        let mut before = 0;
        while before == 0 || before != connection.written() {
            before = connection.written();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the server should stall");
    connection.close();
    shutdown.begin();
    assert!(shutdown.drained(SOON).await, "the connection should have ended");
}

#[tokio::test]
async fn closes_peer_with_slow_headers() {
    let service = service_fn(|_| async { Ok::<_, Infallible>(text("hello")) });
    let settings = HttpSettings {
        header_timeout: Duration::from_millis(100),
        ..HttpSettings::default()
    };
    let (address, _shutdown) = start(service, settings).await;
    for sent in ["", "GET / HTTP/1.1\r\nhost: a\r\n"] {
        let answer = ask(address, sent).await;
        assert!(!answer.contains("200"), "{answer}");
    }
    assert!(ask(address, GET).await.ends_with("hello"));
}

#[tokio::test]
async fn refuses_headers_over_limits() {
    let service = service_fn(|_| async { Ok::<_, Infallible>(text("hello")) });
    let (address, _shutdown) = start(service, HttpSettings::default()).await;
    let long = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "y".repeat(MAX_HEADER_SIZE)
    );
    assert!(ask(address, &long).await.starts_with("HTTP/1.1 431"));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(200));
    assert!(ask(address, &many).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn refuses_connections_over_limit_until_one_ends() {
    let service = service_fn(|_| async { Ok::<_, Infallible>(text("hello")) });
    let (address, _shutdown) = start(
        service,
        HttpSettings {
            max_connections: 1,
            ..HttpSettings::default()
        },
    )
    .await;
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    first.read_exact(&mut [0; 4]).await.unwrap();

    let mut second = TcpStream::connect(address).await.unwrap();
    assert!(read_to_end(&mut second).await.starts_with("HTTP/1.1 503"));

    drop(first);
    let third = async {
        loop {
            let mut third = TcpStream::connect(address).await.unwrap();
            // A refusal may come before, and then reset, the request.
            let _ = third.write_all(GET.as_bytes()).await;
            let mut answer = String::new();
            let _ = third.read_to_string(&mut answer).await;
            if answer.ends_with("hello") {
                return;
            }
        }
    };
    timeout(SOON, third)
        .await
        .expect("the first connection should not count any more");
}

#[tokio::test]
async fn shutdown_finishes_running_requests_and_closes_the_rest() {
    let (asked, mut questions) = mpsc::channel(1);
    let service = service_fn(move |request: Request<Incoming>| {
        let asked = asked.clone();
        async move {
            if request.uri().path() == "/slow" {
                let (answer, wait) = tokio::sync::oneshot::channel::<()>();
                asked.send(answer).await.unwrap();
                wait.await.unwrap();
            }
            Ok::<_, Infallible>(text("hello"))
        }
    });
    let (address, shutdown) = start(service, HttpSettings::default()).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    idle.read_exact(&mut [0; 4]).await.unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let answer = timeout(SOON, questions.recv()).await.unwrap().unwrap();

    shutdown.begin();
    read_to_end(&mut silent).await;
    assert!(read_to_end(&mut idle).await.ends_with("hello"));
    assert!(!shutdown.drained(Duration::from_millis(50)).await);
    answer.send(()).unwrap();
    assert!(read_to_end(&mut slow).await.ends_with("hello"));
    assert!(shutdown.drained(SOON).await);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn answers_health_checks_and_readiness_ends_with_shutdown() {
    let inner = service_fn(|_: Request<Empty<Bytes>>| async { Ok::<_, Infallible>(text("inner")) });
    let shutdown = Shutdown::new();
    let joined = Arc::new(AtomicBool::new(true));
    let ready = joined.clone();
    let ready = Arc::new(move || Readiness {
        problem: (!ready.load(Ordering::Relaxed)).then(|| "busy".into()),
        renewed: Some(("io-1".into(), Duration::from_millis(35))),
    });
    let health = Health::new(inner, ready, shutdown.clone());
    let ask = async |path: &str| {
        let response = health
            .call(Request::get(path).body(Empty::new()).unwrap())
            .await
            .unwrap();
        let status = response.status();
        if path == "/readyz" && !shutdown.has_begun() {
            assert_eq!(response.headers()[NODE_HEADER], "io-1");
            assert_eq!(response.headers()[RENEWED_HEADER], "35");
        }
        (status, response.into_body().collect().await.unwrap().to_bytes())
    };
    assert_eq!(ask("/healthz").await, (StatusCode::OK, "ok\n".into()));
    assert_eq!(ask("/readyz").await, (StatusCode::OK, "ok\n".into()));
    assert_eq!(ask("/readyz/x").await, (StatusCode::OK, "inner".into()));
    joined.store(false, Ordering::Relaxed);
    assert_eq!(ask("/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, "busy\n".into()));
    joined.store(true, Ordering::Relaxed);
    shutdown.begin();
    assert_eq!(ask("/healthz").await.0, StatusCode::OK);
    assert_eq!(ask("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

/// An endless response.
fn endless() -> Response<BoxedBody> {
    let endless = futures_util::stream::repeat(Bytes::from(vec![7; 64 * 1024]));
    let endless = endless.map(|data| Ok::<_, Infallible>(Frame::data(data)));
    Response::new(http_body_util::BodyExt::boxed_unsync(StreamBody::new(endless)))
}

type BoxedBody = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

#[tokio::test]
async fn closes_peer_that_takes_no_byte_in_time() {
    let service = service_fn(|_| async { Ok::<_, Infallible>(endless()) });
    let settings = HttpSettings {
        max_connections: 1,
        write_timeout: Duration::from_millis(300),
        ..HttpSettings::default()
    };
    let (address, _shutdown) = start(service, settings).await;
    // A peer that never reads, after one request and after many.
    for asked in [GET.to_owned(), "GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(100)] {
        let began = std::time::Instant::now();
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(asked.as_bytes()).await.unwrap();
        // Its connection does not count any more.
        let next = async {
            loop {
                let mut next = TcpStream::connect(address).await.unwrap();
                let _ = next.write_all(GET.as_bytes()).await;
                let mut head = [0; 12];
                if next.read_exact(&mut head).await.is_ok() && head.ends_with(b"200") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, next).await.expect("a connection should be admitted");
        assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
        drop(silent);
    }
}

#[tokio::test]
async fn keeps_peer_that_reads_slowly() {
    let service = service_fn(|_| async { Ok::<_, Infallible>(endless()) });
    let settings = HttpSettings {
        write_timeout: Duration::from_millis(500),
        ..HttpSettings::default()
    };
    let (address, _shutdown) = start(service, settings).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut slow = socket.connect(address).await.unwrap();
    slow.write_all(GET.as_bytes()).await.unwrap();
    let mut part = vec![0; 256 * 1024];
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        slow.read_exact(&mut part).await.expect("more bytes come");
    }
}

#[tokio::test]
async fn shutdown_does_not_wait_for_stalled_peers() {
    let service = service_fn(|_| async { Ok::<_, Infallible>(endless()) });
    let (address, shutdown) = start(service, HttpSettings::default()).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent.write_all(GET.as_bytes()).await.unwrap();
    silent.read_exact(&mut [0; 4]).await.unwrap();
    let mut unfinished = TcpStream::connect(address).await.unwrap();
    unfinished.write_all(b"GET / HT").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    shutdown.begin();
    let began = std::time::Instant::now();
    assert!(shutdown.drained(SOON).await);
    assert!(began.elapsed() < SHUTDOWN_WRITE_TIMEOUT * 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn refuses_connections_over_limit_of_address() {
    let service = service_fn(|_| async { Ok::<_, Infallible>(text("hello")) });
    let settings = HttpSettings {
        max_connections_per_address: Some(2),
        ..HttpSettings::default()
    };
    let (address, _shutdown) = start(service, settings).await;
    let first = TcpStream::connect(address).await.unwrap();
    let _second = TcpStream::connect(address).await.unwrap();
    let mut third = TcpStream::connect(address).await.unwrap();
    assert!(read_to_end(&mut third).await.starts_with("HTTP/1.1 429"));
    drop(first);
    let again = async {
        loop {
            let mut again = TcpStream::connect(address).await.unwrap();
            let _ = again.write_all(GET.as_bytes()).await;
            let mut answer = String::new();
            let _ = again.read_to_string(&mut answer).await;
            if answer.ends_with("hello") {
                return;
            }
        }
    };
    timeout(SOON, again)
        .await
        .expect("a connection should be admitted after one ended");
}
