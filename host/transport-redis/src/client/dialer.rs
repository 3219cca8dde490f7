//! Connects to Redis servers, Sentinels and Clusters, and logs in. It knows addresses, credentials and TLS, but not which
//! server is the master.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisResult,
    TlsCertificates, Value,
};

use crate::client::address::{tcp, to_info};
use crate::client::connection::Connection;
use crate::client::fault::{FaultKind, RedisFault};
use crate::client::url::{Host, Location, Login};

/// Timeout of a connection attempt.
pub(crate) const CONNECT: Duration = Duration::from_secs(2);
/// Timeout of a connection attempt to a Cluster, which connects to the given servers and then to those with slots.
const CONNECT_CLUSTER: Duration = Duration::from_secs(6);
/// Timeout of a Sentinel, so that several dead ones cost less than a lease.
const SENTINEL: Duration = Duration::from_millis(500);
/// Number of requests that a connection's task accepts before their senders wait.
const QUEUE: usize = 1_000;

/// Connects to the servers of one URL.
pub(crate) struct Dialer {
    pub(crate) location: Location,
    certificates: Option<TlsCertificates>,
    /// Whether any login has succeeded.
    reached: AtomicBool,
}

impl Dialer {
    pub(crate) fn new(location: Location, certificates: Option<TlsCertificates>) -> Self {
        Self {
            location,
            certificates,
            reached: AtomicBool::new(false),
        }
    }

    /// Connects to one server of the URL and logs in.
    pub(crate) async fn connect_node(
        &self,
        address: &ConnectionAddr,
        response: Duration,
    ) -> Result<MultiplexedConnection, RedisFault> {
        let login = &self.location.login;
        self.log_in(address, login, self.location.database, CONNECT, response)
            .await
    }

    /// Connects to a server that Sentinels name, and checks its role.
    pub(crate) async fn connect_master(
        &self,
        master: &Host,
        response: Duration,
    ) -> Result<MultiplexedConnection, RedisFault> {
        let connection = self.connect_node(&self.address(master), response).await;
        let mut connection = connection.map_err(|mut fault| {
            fault.detail = format!("{master}: {}", fault.detail);
            fault
        })?;
        let role: RedisResult<Vec<Value>> = redis::cmd("ROLE").query_async(&mut connection).await;
        match role.as_deref() {
            Ok([Value::BulkString(role), ..]) if role != b"master" => {
                let problem = format!("{master} is named as the master and does not know it yet");
                Err(RedisFault::new(FaultKind::Sentinel, problem))
            }
            // The user may lack the right to ask; a replica refuses the first write.
            _ => Ok(connection),
        }
    }

    /// Connects to a Sentinel.
    pub(crate) async fn connect_sentinel(
        &self,
        sentinel: &Host,
        login: &Login,
    ) -> Result<MultiplexedConnection, RedisFault> {
        self.log_in(&self.address(sentinel), login, 0, SENTINEL, SENTINEL).await
    }

    /// Connects to the Cluster that these hosts belong to.
    pub(crate) async fn connect_cluster(
        &self,
        hosts: &[Host],
        response: Duration,
    ) -> Result<ClusterConnection, RedisFault> {
        let connect = async {
            let nodes = hosts
                .iter()
                .map(|host| to_info(self.address(host)))
                .collect::<RedisResult<Vec<_>>>()?;
            let mut builder = ClusterClientBuilder::new(nodes)
                .connection_timeout(CONNECT)
                .response_timeout(response)
                // Enough for a moved slot; the link waits for anything that takes longer.
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
            Ok(Err(error)) => Err(RedisFault::of(&error)),
            Err(_) => Err(RedisFault::new(FaultKind::Unreachable, "connecting takes too long")),
        }
    }

    /// Connects to a server by protocol version 3, in which messages of channels arrive beside answers, and logs in. `push` gets these
    /// messages, and must not block.
    pub(crate) async fn connect_subscriber(
        &self,
        address: &ConnectionAddr,
        response: Duration,
        push: impl AsyncPushSender,
    ) -> Result<MultiplexedConnection, RedisFault> {
        let login = &self.location.login;
        let mut settings = RedisConnectionInfo::default()
            .set_skip_set_lib_name()
            .set_protocol(ProtocolVersion::RESP3);
        if let Some(password) = &login.password {
            settings = settings.set_password(password.as_str());
        }
        if let Some(user) = &login.user {
            settings = settings.set_username(user.as_str());
        }
        let config = config(CONNECT, response).set_push_sender(push);
        let connect = async {
            let client = self.client(address, settings)?;
            client.get_multiplexed_async_connection_with_config(&config).await
        };
        match tokio::time::timeout(CONNECT, connect).await {
            Ok(Ok(connection)) => Ok(connection),
            // The client library hides why a login failed: the other way to connect finds it.
            Ok(Err(error)) => match self.connect_node(address, response).await {
                Ok(_) => Err(RedisFault::of(&error)),
                Err(fault) => Err(fault),
            },
            Err(_) => Err(RedisFault::new(FaultKind::Unreachable, "connecting takes too long")),
        }
    }

    pub(crate) fn address(&self, host: &Host) -> ConnectionAddr {
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

    /// Connects and logs in. The login is done here, because the client library hides the reason of a failed one.
    async fn log_in(
        &self,
        address: &ConnectionAddr,
        login: &Login,
        database: i64,
        within: Duration,
        response: Duration,
    ) -> Result<MultiplexedConnection, RedisFault> {
        let connect = async {
            let opened = self.open(address, within, response).await;
            let connection = opened.map_err(|error| self.with_hint(address, RedisFault::of(&error)))?;
            let mut hello = Pipeline::new();
            if let Some(password) = &login.password {
                hello.cmd("AUTH").arg(login.user.as_deref()).arg(password);
            }
            if database != 0 {
                hello.cmd("SELECT").arg(database);
            }
            // Fails if a login is required and none was given.
            hello.cmd("PING");
            let answers = Connection::Node(connection.clone()).ask_all(&hello).await;
            answers.map_err(|error| self.with_hint(address, RedisFault::of(&error)))?;
            self.reached.store(true, Ordering::Release);
            Ok(connection)
        };
        // A server without TLS waits for the end of a line, which a TLS greeting may lack.
        let hint = match address {
            ConnectionAddr::TcpTls { .. } => {
                "; it may speak no TLS there: write redis:// for rediss://, or its TLS port"
            }
            _ => "",
        };
        let late = |_| {
            let detail = format!("connecting takes too long{hint}");
            Err(RedisFault::new(FaultKind::Unreachable, detail))
        };
        tokio::time::timeout(within, connect).await.unwrap_or_else(late)
    }

    async fn open(
        &self,
        address: &ConnectionAddr,
        within: Duration,
        response: Duration,
    ) -> RedisResult<MultiplexedConnection> {
        let client = self.client(address, RedisConnectionInfo::default().set_skip_set_lib_name())?;
        let config = config(within, response);
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    fn client(&self, address: &ConnectionAddr, settings: RedisConnectionInfo) -> RedisResult<Client> {
        let info = to_info(address.clone())?.set_redis_settings(settings);
        match (&self.certificates, address) {
            (Some(certificates), ConnectionAddr::TcpTls { .. }) => Client::build_with_tls(info, certificates.clone()),
            _ => Client::open(info),
        }
    }

    /// Adds a hint about TLS, until a first login has succeeded: a server that requires TLS or a client certificate, or knows no
    /// TLS, often just closes the connection or stays silent.
    fn with_hint(&self, address: &ConnectionAddr, mut fault: RedisFault) -> RedisFault {
        if self.reached.load(Ordering::Acquire) {
            return fault;
        }
        let hint = match (fault.kind, address, &self.certificates) {
            (FaultKind::Silent, ConnectionAddr::TcpTls { .. }, _) => {
                "if it speaks no TLS there, write redis:// for rediss://"
            }
            (FaultKind::Unreachable, ConnectionAddr::TcpTls { .. }, Some(certificates))
                if certificates.client_tls.is_none() && fault.is_closed() =>
            {
                "if it wants a certificate, name one in [transport] tls-cert and tls-key"
            }
            (FaultKind::Unreachable, ConnectionAddr::Tcp(..), _) if fault.is_closed() => {
                "if it speaks TLS there, write rediss:// for redis://"
            }
            _ => return fault,
        };
        fault.detail = format!("{}; {hint}", fault.detail);
        fault
    }
}

fn config(within: Duration, response: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(within))
        .set_response_timeout(Some(response))
        .set_pipeline_buffer_size(QUEUE)
}
