//! Redis as a URL says it: one server, the master that Sentinels name, or a Cluster. It knows how to connect and log
//! in, and keeps what the process as a whole knows of Redis: whether it answers, and which server is the master.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, Value,
};
use tokio_util::task::AbortOnDropHandle;

use super::outage::Outages;
use super::sentinel::Sentinels;
use super::trouble::{Kind, Trouble};
use super::url::{Host, Location, Login, Place};
use super::{RedisSettings, TlsFiles, startup, watch};
use crate::transport::{Result, TransportError};

/// A connection that takes longer is given up.
const CONNECT: Duration = Duration::from_secs(2);
/// The time for a Sentinel to answer, so that several that are dead cost less than a lease.
const SENTINEL: Duration = Duration::from_millis(500);
/// Requests that are handed over to a connection's task at once before their senders wait.
const QUEUE: usize = 1_000;

/// Where Redis is and how to log in. Neither `Debug` nor `Display` shows what is secret.
pub(super) struct Server {
    location: Location,
    certificates: Option<TlsCertificates>,
    outages: Outages,
    /// Who the masters are, as was seen last; empty before that.
    masters: Mutex<String>,
    /// How often they were others than before.
    changes: AtomicU64,
    watch: OnceLock<AbortOnDropHandle<()>>,
}

/// A connection, which is lost some day.
#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    Node(MultiplexedConnection),
    /// To all of a Cluster; it finds moved slots and lost nodes again by itself.
    Cluster(ClusterConnection),
}

impl Server {
    /// Reads a URL and the files for TLS. Connects to nothing.
    pub(super) fn new(url: &str, tls: &TlsFiles) -> Result<Self> {
        let location = Location::parse(url).map_err(|problem| unusable(format!("[transport] url: {problem}")))?;
        let certificates = match location.tls {
            true => Some(certificates(tls)?),
            false => None,
        };
        if !location.tls && (tls.ca.is_some() || tls.cert.is_some() || tls.key.is_some()) {
            let problem =
                "[transport] tls-ca, tls-cert and tls-key are for a url with TLS: write rediss:// for redis://";
            return Err(unusable(problem));
        }
        Ok(Self {
            outages: Outages::new(location.to_string()),
            location,
            certificates,
            masters: Mutex::default(),
            changes: AtomicU64::new(0),
            watch: OnceLock::new(),
        })
    }

    /// Connects and looks around before anything else is done: whether this Redis can be used is told by an error with
    /// a remedy, and whether it is set up well by warnings in the log.
    pub(super) async fn examine(&self, settings: &RedisSettings) -> Result<()> {
        startup::examine(self, settings).await
    }

    /// Whether it is a Cluster.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.location.place, Place::Cluster(_))
    }

    pub(super) fn location(&self) -> &Location {
        &self.location
    }

    pub(super) fn outages(&self) -> &Outages {
        &self.outages
    }

    /// Grows whenever there are other masters: a connection made before may lead to one that is none any more.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Connects and logs in. `response` is how long an answer may take.
    pub(super) async fn connect(&self, response: Duration) -> std::result::Result<Connection, Trouble> {
        match &self.location.place {
            Place::Cluster(hosts) => self.connect_cluster(hosts, response).await.map(Connection::Cluster),
            Place::Node(host) => self
                .connect_node(&self.address(host), response)
                .await
                .map(Connection::Node),
            Place::Socket(path) => {
                let address = ConnectionAddr::Unix(path.clone());
                self.connect_node(&address, response).await.map(Connection::Node)
            }
            Place::Sentinel { .. } => self.connect_master(response).await.map(Connection::Node),
        }
    }

    /// Connects to one server of which it is known that it is meant.
    pub(super) async fn connect_node(
        &self,
        address: &ConnectionAddr,
        response: Duration,
    ) -> std::result::Result<MultiplexedConnection, Trouble> {
        let login = &self.location.login;
        self.log_in(address, login, self.location.database, CONNECT, response)
            .await
    }

    pub(super) fn address(&self, host: &Host) -> ConnectionAddr {
        let (host, port) = (host.name.clone(), host.port);
        match self.location.tls {
            false => ConnectionAddr::Tcp(host, port),
            true => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            },
        }
    }

    /// The client would log in too, but tell little of why it could not.
    async fn log_in(
        &self,
        address: &ConnectionAddr,
        login: &Login,
        database: i64,
        within: Duration,
        response: Duration,
    ) -> std::result::Result<MultiplexedConnection, Trouble> {
        let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        let connect = async {
            let info = to_info(address.clone())?.set_redis_settings(settings);
            let client = match (&self.certificates, address) {
                (Some(certificates), ConnectionAddr::TcpTls { .. }) => {
                    Client::build_with_tls(info, certificates.clone())?
                }
                _ => Client::open(info)?,
            };
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(within))
                .set_response_timeout(Some(response))
                .set_pipeline_buffer_size(QUEUE);
            let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            let mut hello = Pipeline::new();
            if let Some(password) = &login.password {
                hello.cmd("AUTH").arg(login.user.as_deref()).arg(password);
            }
            if database != 0 {
                hello.cmd("SELECT").arg(database);
            }
            // What asks nothing else shows whether it is let in.
            hello.cmd("PING");
            Connection::Node(connection.clone()).ask_all(&hello).await?;
            Ok(connection)
        };
        match tokio::time::timeout(within, connect).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Trouble::of(&error)),
            Err(_) => Err(Trouble::new(Kind::Unreachable, "connecting takes too long")),
        }
    }

    async fn connect_cluster(
        &self,
        hosts: &[Host],
        response: Duration,
    ) -> std::result::Result<ClusterConnection, Trouble> {
        let connect = async {
            let nodes = hosts
                .iter()
                .map(|host| to_info(self.address(host)))
                .collect::<RedisResult<Vec<_>>>()?;
            let mut builder = ClusterClientBuilder::new(nodes)
                .connection_timeout(CONNECT)
                .response_timeout(response)
                // A slot that has moved is found at once; what takes longer is waited for by the link.
                .retries(4)
                .min_retry_wait(10)
                .max_retry_wait(100)
                .tcp_settings(tcp());
            if let Some(password) = &self.location.login.password {
                builder = builder.password(password);
            }
            if let Some(user) = &self.location.login.user {
                builder = builder.username(user);
            }
            if let Some(certificates) = &self.certificates {
                builder = builder.certs(certificates.clone());
            }
            builder.build()?.get_async_connection().await
        };
        match tokio::time::timeout(2 * CONNECT, connect).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Trouble::of(&error)),
            Err(_) => Err(Trouble::new(Kind::Unreachable, "connecting takes too long")),
        }
    }

    /// Asks the Sentinels, and connects to whom they name if that server agrees.
    async fn connect_master(&self, response: Duration) -> std::result::Result<MultiplexedConnection, Trouble> {
        let master = self.find_master().await?;
        let connection = self.connect_node(&self.address(&master), response).await;
        let mut connection = connection.map_err(|mut trouble| {
            trouble.detail = format!("{master}: {}", trouble.detail);
            trouble
        })?;
        let role: RedisResult<Vec<Value>> = redis::cmd("ROLE").query_async(&mut connection).await;
        match role.as_deref() {
            Ok([Value::BulkString(role), ..]) if role != b"master" => {
                let problem = format!("{master} is named as the master and does not know it yet");
                Err(Trouble::new(Kind::Sentinel, problem))
            }
            // A user may lack the right to ask; a replica will say so to whoever writes.
            _ => Ok(connection),
        }
    }

    /// The master that Sentinels name.
    pub(super) async fn find_master(&self) -> std::result::Result<Host, Trouble> {
        match &self.location.place {
            Place::Sentinel {
                sentinels,
                master,
                login,
            } => {
                let (hosts, master) = (sentinels, master.as_str());
                Sentinels { hosts, master, login }.find(self).await
            }
            _ => Err(Trouble::new(Kind::Sentinel, "there is none")),
        }
    }

    pub(super) async fn connect_sentinel(
        &self,
        sentinel: &Host,
        login: &Login,
    ) -> std::result::Result<MultiplexedConnection, Trouble> {
        self.log_in(&self.address(sentinel), login, 0, SENTINEL, SENTINEL).await
    }

    /// Watches who the masters are from now on, where that can change.
    pub(super) fn watch(self: &Arc<Self>) {
        if matches!(self.location.place, Place::Sentinel { .. } | Place::Cluster(_)) {
            self.watch.get_or_init(|| watch::watch(self));
        }
    }

    /// Notes who the masters are. When they are others than before, links connect anew.
    pub(super) fn is_led_by(&self, masters: impl ToString) {
        let masters = masters.to_string();
        let mut known = self.masters.lock().expect("nothing panics while it holds this lock");
        if *known == masters {
            return;
        }
        let old = std::mem::replace(&mut *known, masters);
        if !old.is_empty() {
            self.changes.fetch_add(1, Ordering::AcqRel);
            tracing::warn!("Redis at {self} has another master: {} instead of {old}", *known);
        }
    }

    /// Notes that one who connected after so many changes did not get to a master: all connect anew.
    pub(super) fn is_not_led_so(&self, change: u64) {
        let _ = self
            .changes
            .compare_exchange(change, change + 1, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl Connection {
    /// The answer to one command, or to none an error.
    pub(super) async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        use redis::aio::ConnectionLike;
        let answer = match self {
            Self::Node(connection) => connection.req_packed_command(command).await,
            Self::Cluster(connection) => connection.req_packed_command(command).await,
        };
        answer?.extract_error()
    }

    /// The answers to several commands, or to none an error.
    pub(super) async fn ask_all(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        use redis::aio::ConnectionLike;
        let answers = match self {
            Self::Node(connection) => connection.req_packed_commands(commands, 0, commands.len()).await,
            Self::Cluster(connection) => connection.req_packed_commands(commands, 0, commands.len()).await,
        };
        answers?.into_iter().map(Value::extract_error).collect()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.location.fmt(f)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.location)
    }
}

fn to_info(address: ConnectionAddr) -> RedisResult<ConnectionInfo> {
    Ok(address.into_connection_info()?.set_tcp_settings(tcp()))
}

/// Commands are small and somebody waits for each.
fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn certificates(files: &TlsFiles) -> Result<TlsCertificates> {
    // An error means that it was chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let read = |path: &Path, key: &str| {
        let problem = |error| unusable(format!("[transport] {key}: cannot read {}: {error}", path.display()));
        std::fs::read(path).map_err(problem)
    };
    let client_tls = match (&files.cert, &files.key) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(ClientTlsConfig {
            client_cert: read(cert, "tls-cert")?,
            client_key: read(key, "tls-key")?,
        }),
        _ => return Err(unusable("[transport] tls-cert and tls-key go together: name both")),
    };
    let root_cert = files.ca.as_ref().map(|path| read(path, "tls-ca")).transpose()?;
    let certificates = TlsCertificates { client_tls, root_cert };
    // What is in the files is looked at when a client is made of them.
    let address = ConnectionAddr::TcpTls {
        host: "localhost".into(),
        port: 1,
        insecure: false,
        tls_params: None,
    };
    let made = to_info(address).and_then(|info| Client::build_with_tls(info, certificates.clone()));
    let problem = |error: RedisError| unusable(format!("[transport] tls-ca, tls-cert, tls-key: {error}"));
    made.map_err(problem)?;
    Ok(certificates)
}

pub(super) fn unusable(problem: impl Into<String>) -> TransportError {
    TransportError::Unusable(problem.into())
}
