//! Measures the memory of idle sessions: `cargo run --release -p engine-io --example memory -- 10000`. It starts itself as a
//! server, opens this many websockets, then as many polling sessions without and with a pending poll, and prints the server's
//! resident memory for each.

use std::convert::Infallible;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use engine_io::{Application, CloseReason, Engine, Handler, Message, Refusal, Session, Settings};
use http::Extensions;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

struct Silent;

struct Held(#[allow(dead_code, reason = "keeps the session")] Session);

impl Application for Silent {
    type Handler = Held;

    fn open(&self, session: Session, _: &Extensions) -> Result<Held, Refusal> {
        Ok(Held(session))
    }
}

impl Handler for Held {
    fn message(&mut self, _: Message) {}

    fn close(self, _: CloseReason) {}
}

fn main() -> io::Result<()> {
    let argument = std::env::args().nth(1).unwrap_or_else(|| "10000".into());
    if argument == "--serve" {
        return serve();
    }
    let count: usize = argument.parse().map_err(io::Error::other)?;
    for (name, open) in [
        ("websocket", open_websocket as fn(&str) -> io::Result<Vec<TcpStream>>),
        ("polling session, no poll pending", open_polling),
        ("polling session, poll pending", open_pending),
    ] {
        let (mut server, address) = start()?;
        drop((0..100).map(|_| open(&address)).collect::<io::Result<Vec<_>>>()?);
        std::thread::sleep(Duration::from_secs(1));
        let before = resident(&server)?;
        let open = (0..count).map(|_| open(&address)).collect::<io::Result<Vec<_>>>()?;
        std::thread::sleep(Duration::from_secs(1));
        let each = (resident(&server)? - before) / count;
        println!("{each} bytes per {name} ({count} sessions)");
        drop(open);
        server.kill()?;
        server.wait()?;
    }
    Ok(())
}

fn start() -> io::Result<(Child, String)> {
    let program = std::env::current_exe()?;
    let mut server = Command::new(program).arg("--serve").stdout(Stdio::piped()).spawn()?;
    let mut address = String::new();
    let output = server.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
    BufReader::new(output).read_line(&mut address)?;
    Ok((server, address.trim().to_owned()))
}

fn resident(server: &Child) -> io::Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .and_then(|number| number.parse::<usize>().ok());
    Ok(kilobytes.ok_or_else(|| io::Error::other("no VmRSS"))? * 1024)
}

/// Headers as a browser sends them.
const HEADERS: &str = "host: app.example.org\r\norigin: https://app.example.org\r\nuser-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) \
    Gecko/20100101 Firefox/140.0\r\naccept: */*\r\naccept-language: en-US,en;q=0.5\r\ncookie: session=0123456789abcdef0123456789abcdef\r\n";

fn get(tcp: &mut TcpStream, query: &str, headers: &str) -> io::Result<()> {
    write!(tcp, "GET /engine.io/?EIO=4&{query} HTTP/1.1\r\n{HEADERS}{headers}\r\n")
}

fn read(tcp: &mut TcpStream) -> io::Result<String> {
    let mut buffer = [0; 2048];
    let mut response = String::new();
    while !response.contains("maxPayload") {
        let read = tcp.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        response.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    Ok(response)
}

fn open_websocket(address: &str) -> io::Result<Vec<TcpStream>> {
    let mut tcp = TcpStream::connect(address)?;
    let headers = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    get(&mut tcp, "transport=websocket", headers)?;
    read(&mut tcp)?;
    Ok(vec![tcp])
}

/// Opens a session on a connection that is closed afterwards.
fn open_polling(address: &str) -> io::Result<Vec<TcpStream>> {
    start_polling(address)?;
    Ok(Vec::new())
}

fn open_pending(address: &str) -> io::Result<Vec<TcpStream>> {
    let (mut tcp, sid) = start_polling(address)?;
    get(&mut tcp, &format!("transport=polling&sid={sid}"), "")?;
    Ok(vec![tcp])
}

fn start_polling(address: &str) -> io::Result<(TcpStream, String)> {
    let mut tcp = TcpStream::connect(address)?;
    get(&mut tcp, "transport=polling", "")?;
    let response = read(&mut tcp)?;
    let sid = response
        .split_once("\"sid\":\"")
        .and_then(|(_, rest)| rest.split_once('"'));
    let (sid, _) = sid.ok_or_else(|| io::Error::other("no sid"))?;
    Ok((tcp, sid.to_owned()))
}

#[tokio::main]
async fn serve() -> io::Result<()> {
    let settings = Settings {
        ping_interval: Duration::from_secs(600),
        ..Settings::default()
    };
    let engine = Engine::new(settings, Silent);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (tcp, _) = listener.accept().await?;
        let engine = engine.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let engine = engine.clone();
                async move { Ok::<_, Infallible>(engine.answer(request).await) }
            });
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(tcp), service)
                .with_upgrades()
                .await;
        });
    }
}
