//! Redis servers for tests: started in a temporary folder, killed on drop.
//!
//! A server listens on a Unix socket, so ports cannot collide. A test that needs TCP (Cluster, Sentinel, TLS) starts it with
//! [`TestServer::start_on_port`], which tries another port if a process has taken the first.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};
use tempfile::TempDir;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, UnixListener, UnixStream};
use tracing::subscriber::DefaultGuard;

/// Deadline of a start on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// Ports that are tried for a server.
const PORTS: usize = 10;

/// A `redis-server`.
pub(crate) struct TestServer {
    folder: TempDir,
    /// Config file of a Sentinel, which rewrites it.
    config: Option<PathBuf>,
    arguments: Vec<String>,
    process: Option<Child>,
    /// Password for the test's own commands, if the server requires one.
    password: Option<String>,
}

impl TestServer {
    /// Starts a server without persistence.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with command-line arguments, such as `["--appendonly", "yes"]`.
    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        let mut server = Self::new(arguments);
        server.restart().await;
        server
    }

    /// Starts a server with these arguments and a free TCP port as the value of `option`, and returns the port. A Cluster node
    /// also gets a free port for its bus.
    pub(crate) async fn start_on_port(option: &str, arguments: &[&str]) -> (Self, u16) {
        let ports = (0..PORTS).map(|_| free_port());
        let new = |port: u16| {
            let (port, bus) = (port.to_string(), free_port().to_string());
            let mut all = [arguments, &[option, &port]].concat();
            if arguments.contains(&"--cluster-enabled") {
                all.extend(["--cluster-port", &bus]);
            }
            Self::new(&all)
        };
        Self::start_on_one_of(ports, new).await
    }

    /// Starts a Sentinel that watches one master under the name `main`, and returns its port.
    pub(crate) async fn start_sentinel(master: u16) -> (Self, u16) {
        let ports = (0..PORTS).map(|_| free_port());
        Self::start_on_one_of(ports, |port| Self::new_sentinel(port, master)).await
    }

    /// Starts a server on the first of these ports that no other process has.
    async fn start_on_one_of(ports: impl Iterator<Item = u16>, new: impl Fn(u16) -> Self) -> (Self, u16) {
        for port in ports {
            let mut server = new(port);
            match server.try_restart().await {
                Ok(()) => return (server, port),
                Err(reason) if reason.contains("Address already in use") => {}
                Err(reason) => panic!("{reason}"),
            }
        }
        panic!("other processes have taken every port that was tried")
    }

    fn new_sentinel(port: u16, master: u16) -> Self {
        let mut server = Self::new(&["--sentinel"]);
        let config = server.folder.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nsentinel monitor main 127.0.0.1 {master} 1\nsentinel down-after-milliseconds main 300\n\
             sentinel failover-timeout main 1000\n"
        );
        std::fs::write(&config, text).expect("a test can write to its folder");
        server.config = Some(config);
        server
    }

    fn new(arguments: &[&str]) -> Self {
        let password = arguments.iter().position(|argument| *argument == "--requirepass");
        Self {
            folder: tempfile::tempdir().expect("a test can write to the temporary folder"),
            config: None,
            arguments: arguments.iter().map(|argument| argument.to_string()).collect(),
            process: None,
            password: password
                .and_then(|at| arguments.get(at + 1))
                .map(|word| word.to_string()),
        }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().into()
    }

    /// Sends a command over a new connection.
    pub(crate) async fn ask(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let address = ConnectionAddr::Unix(self.socket());
        let mut login = RedisConnectionInfo::default();
        if let Some(password) = &self.password {
            login = login.set_password(password);
        }
        let info = address.into_connection_info()?.set_redis_settings(login);
        let mut connection = redis::Client::open(info)?.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query_async(&mut connection).await
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Sends `STOP` or `CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it was not killed");
        let sent = Command::new("kill")
            .args([format!("-{signal}"), process.id().to_string()])
            .status();
        assert!(sent.expect("there is a kill command").success());
    }

    /// Kills it if it runs, and starts it with the same files and arguments.
    pub(crate) async fn restart(&mut self) {
        if let Err(reason) = self.try_restart().await {
            panic!("{reason}");
        }
    }

    async fn try_restart(&mut self) -> Result<(), String> {
        self.kill();
        let _ = std::fs::remove_file(self.socket());
        let log = std::fs::File::create(self.log()).expect("a test can write to its folder");
        let mut command = Command::new("redis-server");
        match &self.config {
            Some(config) => command.arg(config),
            None => command.args(["--port", "0", "--save", "", "--repl-diskless-sync-delay", "0"]),
        };
        let started = command
            .arg("--unixsocket")
            .arg(self.socket())
            .args(&self.arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(started.expect("redis-server can be started; install the package redis-server"));
        let begun = Instant::now();
        while let Err(error) = self.ask(&["PING"]).await {
            let process = self.process.as_mut().expect("it was just started");
            let ended = process.try_wait().expect("it is our child").is_some();
            if ended || begun.elapsed() >= START_DEADLINE {
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                return Err(format!("redis-server does not start: {error}\n{log}"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The server log helps to understand a failed test.
            eprintln!("{}", std::fs::read_to_string(self.log()).unwrap_or_default());
        }
        self.kill();
    }
}

/// A proxy in front of a server with a limited throughput in each direction, shared by all connections.
pub(crate) struct NarrowLink {
    socket: PathBuf,
    carrying: tokio::task::JoinHandle<()>,
}

impl NarrowLink {
    pub(crate) fn to(server: &TestServer, bytes_per_second: u32) -> Self {
        let (socket, far) = (server.folder().join("narrow.sock"), server.socket());
        let listener = UnixListener::bind(&socket).expect("a test can write to its folder");
        let carrying = tokio::spawn(async move {
            let directions = [Direction::new(bytes_per_second), Direction::new(bytes_per_second)];
            // Dropping the set closes all connections.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = UnixStream::connect(&far).await else {
                    continue;
                };
                let ((near_reads, near_writes), (far_reads, far_writes)) = (near.into_split(), far.into_split());
                let [there, back] = directions.clone();
                connections.spawn(async move {
                    tokio::select! {
                        () = there.carry(near_reads, far_writes) => {}
                        () = back.carry(far_reads, near_writes) => {}
                    }
                });
            }
        });
        Self { socket, carrying }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }
}

impl Drop for NarrowLink {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

#[derive(Clone)]
struct Direction {
    bytes_per_second: u32,
    /// Time at which all earlier bytes are delivered.
    free_at: Arc<tokio::sync::Mutex<tokio::time::Instant>>,
}

impl Direction {
    fn new(bytes_per_second: u32) -> Self {
        Self {
            bytes_per_second,
            free_at: Arc::new(tokio::sync::Mutex::new(tokio::time::Instant::now())),
        }
    }

    async fn carry(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut piece = vec![0; 16 << 10];
        while let Ok(bytes @ 1..) = from.read(&mut piece).await {
            let mut free_at = self.free_at.lock().await;
            *free_at = (*free_at).max(tokio::time::Instant::now())
                + Duration::from_secs(1).mul_f64(bytes as f64 / f64::from(self.bytes_per_second));
            let carried = *free_at;
            drop(free_at);
            tokio::time::sleep_until(carried).await;
            if to.write_all(&piece[..bytes]).await.is_err() {
                return;
            }
        }
    }
}

/// Log lines of this thread.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Collects lines until the guard is dropped.
    pub(crate) fn heard() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    /// Number of lines with this level and text.
    pub(crate) fn with(&self, level: &str, words: &str) -> usize {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let found = text.lines().filter(|line| line.contains(level) && line.contains(words));
        found.count()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A TCP port that nothing listens on, as long as the socket exists.
pub(crate) fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().expect("there are sockets");
    socket
        .bind("127.0.0.1:0".parse().unwrap())
        .expect("there is a free port");
    let port = socket.local_addr().expect("it is bound").port();
    (socket, port)
}

/// A TCP port that was free just now. Another process may take it at any time.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}

#[tokio::test]
async fn test_server_restarts() {
    let mut server = TestServer::start().await;
    server.ask(&["SET", "a", "1"]).await.unwrap();
    assert!(server.url().starts_with("redis+unix:///"));
    server.restart().await;
    assert_eq!(server.ask(&["GET", "a"]).await.unwrap(), redis::Value::Nil);
    assert!(server.folder().is_dir() && free_port() > 0);
    server.signal("STOP");
    server.signal("CONT");
    server.ask(&["PING"]).await.unwrap();
}

#[tokio::test]
async fn server_starts_on_another_port_if_first_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let ports = [taken_port, free_port(), free_port()].into_iter();
    let new = |port: u16| TestServer::new(&["--port", &port.to_string()]);
    let (server, port) = TestServer::start_on_one_of(ports, new).await;
    assert_ne!(port, taken_port);
    server.ask(&["PING"]).await.unwrap();
}
