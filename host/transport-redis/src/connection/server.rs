//! Redis as a URL says it: one server, the master that Sentinels name, or a Cluster. It knows how to connect and log
//! in, and keeps what the process as a whole knows of Redis: whether it answers, and which server is the master.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisResult, TlsCertificates, Value,
};
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

use super::outage::Outages;
use super::sentinel::Sentinels;
use super::trouble::{Kind, Trouble};
use super::url::{Host, Location, Login, Place};
use super::{RedisSettings, TlsFiles, startup, tls, watch};
use plugnode_transport::{Absence, Result, TransportError};

/// A connection that takes longer is given up.
const CONNECT: Duration = Duration::from_secs(2);
/// The same of a Cluster: its servers are connected to, and those that its slots are on and that were not reached once more.
const CONNECT_CLUSTER: Duration = Duration::from_secs(6);
/// The time for a Sentinel to answer, so that several that are dead cost less than a lease.
const SENTINEL: Duration = Duration::from_millis(500);
/// Requests that are handed over to a connection's task at once before their senders wait.
const QUEUE: usize = 1_000;

/// Where Redis is and how to log in. Neither `Debug` nor `Display` shows what is secret.
pub(crate) struct Server {
    location: Location,
    certificates: Option<TlsCertificates>,
    outages: Outages,
    /// Who the masters are, as was seen last; empty before that.
    masters: Mutex<String>,
    /// How often they were others than before.
    changes: AtomicU64,
    /// Whether anybody ever got through to it.
    reached: AtomicBool,
    watch: OnceLock<AbortOnDropHandle<()>>,
}

/// A connection, which is lost some day.
#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    Node(MultiplexedConnection),
    /// To all of a Cluster, and the time for an answer; it finds moved slots and lost nodes again by itself.
    Cluster(ClusterConnection, Duration),
}

impl Server {
    /// Reads a URL and the files for TLS. Connects to nothing.
    pub(crate) fn new(url: &str, tls: &TlsFiles) -> Result<Self> {
        let location = Location::parse(url).map_err(|problem| unusable(format!("[transport] url: {problem}")))?;
        let certificates = match location.tls {
            true => Some(tls::certificates(tls)?),
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
            reached: AtomicBool::new(false),
            watch: OnceLock::new(),
        })
    }

    /// Connects and looks around before anything else is done: whether this Redis can be used is told by an error with
    /// a remedy, and whether it is set up well by warnings in the log.
    pub(crate) async fn examine(&self, settings: &RedisSettings) -> Result<()> {
        startup::examine(self, settings).await
    }

    /// Connects for a verb of the command line, which has nothing to say about how this Redis is set up and may have few
    /// rights: whether it is there is all that is looked at.
    pub(crate) async fn greet(&self) -> Result<()> {
        startup::greet(self).await
    }

    /// For how long Redis has not answered as it should, and why.
    pub(crate) fn outage(&self) -> Option<(Duration, String)> {
        self.outages.lasting()
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

    /// Whether Redis itself is known to be away, and not only out of reach.
    pub(crate) fn absence(&self) -> Absence {
        self.outages.absence()
    }

    /// The address by which this machine reaches Redis, and by which other nodes are likely to reach it.
    pub(crate) async fn local_ip(&self) -> IpAddr {
        let host = match &self.location.place {
            Place::Node(host) => Some(host),
            Place::Sentinel { sentinels: hosts, .. } | Place::Cluster(hosts) => hosts.first(),
            // All nodes are on this machine.
            Place::Socket(_) => None,
        };
        let find = async {
            let host = host?;
            for any in ["0.0.0.0:0", "[::]:0"] {
                // Nothing is sent by this.
                let socket = UdpSocket::bind(any).await.ok()?;
                if socket.connect((host.name.as_str(), host.port)).await.is_ok() {
                    return Some(socket.local_addr().ok()?.ip());
                }
            }
            None
        };
        let found = tokio::time::timeout(CONNECT, find).await;
        found.ok().flatten().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Grows whenever there are other masters: a connection made before may lead to one that is none any more.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Connects and logs in. `response` is how long an answer may take.
    pub(super) async fn connect(&self, response: Duration) -> std::result::Result<Connection, Trouble> {
        let (connection, _) = self.connect_as_of(response).await?;
        Ok(connection)
    }

    /// The same, with the number of changes as of which this leads to a master.
    pub(super) async fn connect_as_of(&self, response: Duration) -> std::result::Result<(Connection, u64), Trouble> {
        let change = self.changes();
        let node = match &self.location.place {
            Place::Cluster(hosts) => {
                let cluster = self.connect_cluster(hosts, response).await?;
                return Ok((Connection::Cluster(cluster, response), change));
            }
            Place::Sentinel { .. } => {
                let master = self.find_master().await?;
                // From here on: should it be another one again before this is connected, that counts.
                let change = self.is_led_by(&master);
                let node = self.connect_master(&master, response).await?;
                return Ok((Connection::Node(node), change));
            }
            Place::Node(host) => self.connect_node(&self.address(host), response).await?,
            Place::Socket(path) => self.connect_node(&ConnectionAddr::Unix(path.clone()), response).await?,
        };
        Ok((Connection::Node(node), change))
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
        let connect = async {
            let opened = self.open(address, within, response).await;
            let connection = opened.map_err(|error| self.explained(address, Trouble::of(&error)))?;
            let mut hello = Pipeline::new();
            if let Some(password) = &login.password {
                hello.cmd("AUTH").arg(login.user.as_deref()).arg(password);
            }
            if database != 0 {
                hello.cmd("SELECT").arg(database);
            }
            // What asks nothing else shows whether it is let in.
            hello.cmd("PING");
            let said = Connection::Node(connection.clone()).ask_all(&hello).await;
            said.map_err(|error| self.explained(address, Trouble::of(&error)))?;
            self.reached.store(true, Ordering::Release);
            Ok(connection)
        };
        // Redis waits for the end of a line, which not every greeting of TLS happens to have in it.
        let hint = match address {
            ConnectionAddr::TcpTls { .. } => {
                "; it may speak no TLS there: write redis:// for rediss://, or its TLS port"
            }
            _ => "",
        };
        let late = |_| {
            let words = format!("connecting takes too long{hint}");
            Err(Trouble::new(Kind::Unreachable, words))
        };
        tokio::time::timeout(within, connect).await.unwrap_or_else(late)
    }

    async fn open(
        &self,
        address: &ConnectionAddr,
        within: Duration,
        response: Duration,
    ) -> RedisResult<MultiplexedConnection> {
        let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        let info = to_info(address.clone())?.set_redis_settings(settings);
        let client = match (&self.certificates, address) {
            (Some(certificates), ConnectionAddr::TcpTls { .. }) => Client::build_with_tls(info, certificates.clone())?,
            _ => Client::open(info)?,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(within))
            .set_response_timeout(Some(response))
            .set_pipeline_buffer_size(QUEUE);
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// A server that wants TLS, or a certificate, or that knows nothing of TLS, often says no more than that it closes
    /// the connection, or nothing at all. When it was never reached, that is worth a hint.
    fn explained(&self, address: &ConnectionAddr, mut trouble: Trouble) -> Trouble {
        if self.reached.load(Ordering::Acquire) {
            return trouble;
        }
        let hint = match (trouble.kind, address, &self.certificates) {
            (Kind::Silent, ConnectionAddr::TcpTls { .. }, _) => {
                "if it speaks no TLS there, write redis:// for rediss://"
            }
            (Kind::Unreachable, ConnectionAddr::TcpTls { .. }, Some(certificates))
                if certificates.client_tls.is_none() && trouble.is_closed() =>
            {
                "if it wants a certificate, name one in [transport] tls-cert and tls-key"
            }
            (Kind::Unreachable, ConnectionAddr::Tcp(..), _) if trouble.is_closed() => {
                "if it speaks TLS there, write rediss:// for redis://"
            }
            _ => return trouble,
        };
        trouble.detail = format!("{}; {hint}", trouble.detail);
        trouble
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
        match tokio::time::timeout(CONNECT_CLUSTER, connect).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Trouble::of(&error)),
            Err(_) => Err(Trouble::new(Kind::Unreachable, "connecting takes too long")),
        }
    }

    /// Connects to whom Sentinels name, if that server agrees.
    async fn connect_master(
        &self,
        master: &Host,
        response: Duration,
    ) -> std::result::Result<MultiplexedConnection, Trouble> {
        let connection = self.connect_node(&self.address(master), response).await;
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

    /// Notes who the masters are. When they are others than before, links connect anew, those to a Cluster at their
    /// leisure. Returns how often that was.
    pub(super) fn is_led_by(&self, masters: impl ToString) -> u64 {
        let masters = masters.to_string();
        let mut known = self.masters.lock().expect("nothing panics while it holds this lock");
        if *known != masters {
            let old = std::mem::replace(&mut *known, masters);
            if !old.is_empty() {
                self.changes.fetch_add(1, Ordering::AcqRel);
                tracing::warn!("Redis at {self} has another master: {} instead of {old}", *known);
            }
        }
        self.changes()
    }

    /// Notes that one who connected after so many changes did not get to a master: all connect anew.
    pub(super) fn is_not_led_so(&self, change: u64) {
        let _ = self
            .changes
            .compare_exchange(change, change + 1, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl Connection {
    /// Answers may take so long from now on.
    pub(super) fn set_time(&mut self, answer: Duration) {
        match self {
            Self::Node(connection) => connection.set_response_timeout(answer),
            Self::Cluster(_, time) => *time = answer,
        }
    }

    /// The answer to one command, or to none an error.
    pub(super) async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        use redis::aio::ConnectionLike;
        let answer = match self {
            Self::Node(connection) => connection.req_packed_command(command).await,
            Self::Cluster(connection, time) => in_time(*time, connection.req_packed_command(command)).await,
        };
        answer?.extract_error()
    }

    /// The answers to several commands, or to none an error.
    pub(super) async fn ask_all(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        use redis::aio::ConnectionLike;
        let answers = match self {
            Self::Node(connection) => connection.req_packed_commands(commands, 0, commands.len()).await,
            Self::Cluster(connection, time) => {
                in_time(*time, connection.req_packed_commands(commands, 0, commands.len())).await
            }
        };
        answers?.into_iter().map(Value::extract_error).collect()
    }
}

/// A Cluster's connection has one time for all answers.
async fn in_time<T>(time: Duration, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let late = |_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
    tokio::time::timeout(time, answer).await.unwrap_or_else(late)
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

pub(super) fn to_info(address: ConnectionAddr) -> RedisResult<ConnectionInfo> {
    Ok(address.into_connection_info()?.set_tcp_settings(tcp()))
}

/// Commands are small and somebody waits for each.
fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

pub(super) fn unusable(problem: impl Into<String>) -> TransportError {
    TransportError::Unusable(problem.into())
}
