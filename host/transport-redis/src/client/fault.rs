//! Faults of Redis and its connections, classified by their remedy, with a description for people.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use plugnode_transport::Reachability;

/// Reason why a request was not answered.
#[derive(Debug, Clone)]
pub(crate) struct RedisFault {
    pub(crate) kind: FaultKind,
    /// Error text of the server or the library.
    pub(crate) detail: String,
}

/// Kind of a fault. Links wait until it is over, except for `Unexpected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FaultKind {
    /// The connection broke, or connecting failed.
    Unreachable,
    /// The response timeout has passed.
    Silent,
    /// The TLS handshake failed.
    Tls,
    /// User or password are wrong.
    Login,
    /// The database number does not exist.
    Database,
    /// The user lacks a right.
    Rights,
    /// Redis is loading its data after a start.
    Loading,
    /// Redis has reached `maxclients`.
    Crowded,
    /// Redis has reached `maxmemory`.
    Full,
    /// Redis cannot write to its disk.
    Disk,
    /// The server is a replica.
    Replica,
    /// The master has fewer replicas than `min-replicas-to-write`.
    Lonely,
    /// A script blocks Redis.
    Busy,
    /// The Cluster moves slots or has lost some.
    Cluster,
    /// No Sentinel names a server that is a master.
    Sentinel,
    /// The script is not in the cache yet.
    NoScript,
    /// Any other error.
    Unexpected,
}

impl RedisFault {
    pub(crate) fn new(kind: FaultKind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { kind, detail }
    }

    pub(crate) fn of(error: &RedisError) -> Self {
        let detail = match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => format!("{code} {detail}"),
            _ => error.to_string(),
        };
        Self::new(FaultKind::of(error, &detail), detail)
    }

    /// Whether only a new connection can help.
    pub(crate) fn needs_new_connection(&self) -> bool {
        // The last two may follow a failover: connecting finds the present master.
        matches!(
            self.kind,
            FaultKind::Unreachable
                | FaultKind::Silent
                | FaultKind::Tls
                | FaultKind::Login
                | FaultKind::Crowded
                | FaultKind::Replica
                | FaultKind::Lonely
                | FaultKind::Sentinel
        )
    }

    /// Whether the server closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        let detail = self.detail.to_lowercase();
        ["broken pipe", "reset", "closed", "eof"]
            .iter()
            .any(|sign| detail.contains(sign))
    }

    /// Whether any answered request proves that the fault is over for all requests.
    pub(crate) fn concerns_all(&self) -> bool {
        self.needs_new_connection() && !matches!(self.kind, FaultKind::Replica | FaultKind::Lonely)
            || self.kind == FaultKind::Loading
    }

    /// The reachability of Redis that the fault proves. A silent or unreachable server proves nothing: it may be so for this node only.
    pub(crate) fn reachability(&self) -> Reachability {
        match self.kind {
            FaultKind::Unreachable if self.detail.to_lowercase().contains("refused") => {
                Reachability::RefusesConnections
            }
            FaultKind::Loading
            | FaultKind::Replica
            | FaultKind::Lonely
            | FaultKind::Cluster
            | FaultKind::Sentinel
            | FaultKind::Disk
            | FaultKind::Busy => Reachability::Answers,
            _ => Reachability::Unknown,
        }
    }

    /// Describes the fault and its remedy.
    pub(crate) fn describe(&self, server: &str) -> String {
        let (problem, remedy) = match self.kind {
            FaultKind::Unreachable => (
                "cannot be reached",
                "; check that it runs, and the address in [transport] url",
            ),
            FaultKind::Silent => ("does not answer", "; check whether it hangs or is overloaded"),
            FaultKind::Tls => ("fails the TLS handshake", tls_remedy(&self.detail)),
            FaultKind::Login => ("refuses the login", "; correct user and password in [transport] url"),
            FaultKind::Database => ("has no such database", "; correct the number in [transport] url"),
            FaultKind::Rights => (
                "denies its user a command or key",
                "; give the user of [transport] url the right",
            ),
            FaultKind::Loading => ("is loading its data", "; wait until it is done"),
            FaultKind::Crowded => ("has no connection to spare", "; raise its maxclients"),
            FaultKind::Full => ("is full", "; raise its maxmemory or take something else out of it"),
            FaultKind::Disk => ("cannot write to its disk", "; see its log, and make room on its disk"),
            FaultKind::Replica => (
                "is a replica, which takes no writes",
                "; write the master's address in [transport] url",
            ),
            FaultKind::Lonely => (
                "has too few replicas to take writes",
                "; start its replicas, or lower its min-replicas-to-write",
            ),
            FaultKind::Busy => (
                "is busy with a script",
                "; wait for the script, or end it by SCRIPT KILL",
            ),
            FaultKind::Cluster => (
                "cannot serve some slots at present",
                "; check CLUSTER INFO and CLUSTER NODES",
            ),
            FaultKind::Sentinel => (
                "has no known master",
                "; check that the Sentinels run, and the master's name and the passwords in [transport] url",
            ),
            FaultKind::NoScript => ("does not know a script", ""),
            FaultKind::Unexpected => ("gives an unexpected answer", ""),
        };
        let detail = self.detail.trim();
        format!("Redis at {server} {problem} ({detail}){remedy}")
    }
}

impl FaultKind {
    fn of(error: &RedisError, detail: &str) -> Self {
        match error.kind() {
            ErrorKind::Server(kind) => Self::of_server(kind, detail),
            ErrorKind::Extension => match error.code().unwrap_or_default() {
                "OOM" => Self::Full,
                "MISCONF" => Self::Disk,
                "NOREPLICAS" => Self::Lonely,
                "BUSY" | "UNKILLABLE" => Self::Busy,
                "NOAUTH" | "WRONGPASS" => Self::Login,
                "DENIED" => Self::Rights,
                // Sent to a blocked reader when its server becomes a replica.
                "UNBLOCKED" => Self::Replica,
                "CLUSTERDOWN" | "REDIRECT" => Self::Cluster,
                _ => Self::Unexpected,
            },
            ErrorKind::AuthenticationFailed => Self::Login,
            ErrorKind::ClusterConnectionNotFound => Self::Unreachable,
            _ if error.is_timeout() => Self::Silent,
            _ if is_tls(detail) => Self::Tls,
            ErrorKind::Io | ErrorKind::Parse => Self::Unreachable,
            _ if error.is_unrecoverable_error() => Self::Unreachable,
            _ => Self::Unexpected,
        }
    }

    fn of_server(kind: ServerErrorKind, detail: &str) -> Self {
        match kind {
            ServerErrorKind::BusyLoading => Self::Loading,
            ServerErrorKind::NoScript => Self::NoScript,
            ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown => Self::Cluster,
            ServerErrorKind::MasterDown | ServerErrorKind::ReadOnly => Self::Replica,
            ServerErrorKind::NoPerm => Self::Rights,
            // Redis 7.0 has no error codes for these.
            ServerErrorKind::ResponseError if detail.contains("max number of clients") => Self::Crowded,
            ServerErrorKind::ResponseError
                if detail.contains("user executing the script can't") || detail.contains("ACL failure") =>
            {
                Self::Rights
            }
            ServerErrorKind::ResponseError if detail.contains("DB index") => Self::Database,
            ServerErrorKind::ResponseError if detail.contains("Password") || detail.contains("AUTH") => Self::Login,
            _ => Self::Unexpected,
        }
    }
}

/// Parts of rustls' error texts.
const TLS_SIGNS: [&str; 5] = [
    "certificate",
    "received fatal alert",
    "corrupt message",
    "peer is incompatible",
    "peer misbehaved",
];

fn is_tls(detail: &str) -> bool {
    TLS_SIGNS.iter().any(|sign| detail.contains(sign))
}

fn tls_remedy(detail: &str) -> &'static str {
    for (sign, remedy) in [
        (
            "UnknownIssuer",
            "; name the CA certificate that signed the server's in [transport] tls-ca",
        ),
        (
            "CaUsedAsEndEntity",
            "; the server shows a CA's certificate, and needs one signed by that CA",
        ),
        (
            "NotValidForName",
            "; write the host in [transport] url as the server's certificate has it",
        ),
        ("Expired", "; the server needs a new certificate"),
        (
            "not valid for name",
            "; write the host in [transport] url as the server's certificate has it",
        ),
        (
            "corrupt message",
            "; it may speak no TLS there: write redis:// for rediss://, or its TLS port",
        ),
        (
            "CertificateRequired",
            "; it wants a certificate: name one in [transport] tls-cert and tls-key",
        ),
        (
            "HandshakeFailure",
            "; it may want a certificate: name one in [transport] tls-cert and tls-key",
        ),
        (
            "UnknownCA",
            "; it does not know who signed the certificate in [transport] tls-cert",
        ),
    ] {
        if detail.contains(sign) {
            return remedy;
        }
    }
    "; see tls-ca, tls-cert and tls-key in [transport]"
}
