//! What keeps Redis from answering as it should, told apart by what to do about it, and put in words.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use plugnode_transport::Absence;

/// Something that was not answered, and why.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    /// What was heard of it.
    pub(super) detail: String,
}

/// What is wrong. All of it but `Unexpected` is waited out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The connection broke, or could not be made.
    Unreachable,
    /// It took too long.
    Silent,
    /// TLS cannot be agreed on.
    Tls,
    /// User or password are wrong.
    Login,
    /// There is no database of this number.
    Database,
    /// The user may not do this.
    Rights,
    /// It reads its files first.
    Loading,
    /// It has as many connections as it takes.
    Crowded,
    /// Memory is full.
    Full,
    /// Its disk is full or broken.
    Disk,
    /// It is a replica.
    Replica,
    /// It has too few replicas to take writes.
    Lonely,
    /// A script runs for too long.
    Busy,
    /// The Cluster moves slots or has lost some.
    Cluster,
    /// No Sentinel names a master that is one.
    Sentinel,
    /// It does not know the script: not for long.
    NoScript,
    /// What nobody expected.
    Unexpected,
}

impl Trouble {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { kind, detail }
    }

    pub(super) fn of(error: &RedisError) -> Self {
        let detail = match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => format!("{code} {detail}"),
            _ => error.to_string(),
        };
        Self::new(Kind::of(error, &detail), detail)
    }

    /// Whether nothing but a new connection can help.
    pub(super) fn needs_new_connection(&self) -> bool {
        // A replica was a master once, and a lonely master may be one no more: ask who is.
        matches!(
            self.kind,
            Kind::Unreachable
                | Kind::Silent
                | Kind::Tls
                | Kind::Login
                | Kind::Crowded
                | Kind::Replica
                | Kind::Lonely
                | Kind::Sentinel
        )
    }

    /// Whether the other end closed the connection.
    pub(super) fn is_closed(&self) -> bool {
        let detail = self.detail.to_lowercase();
        ["broken pipe", "reset", "closed", "eof"]
            .iter()
            .any(|sign| detail.contains(sign))
    }

    /// Whether whoever is answered has proof that it is over for all.
    pub(super) fn concerns_all(&self) -> bool {
        self.needs_new_connection() && !matches!(self.kind, Kind::Replica | Kind::Lonely) || self.kind == Kind::Loading
    }

    /// What Redis tells of itself by this. What is silent or cannot be reached may be so for this node alone.
    pub(super) fn absence(&self) -> Absence {
        match self.kind {
            Kind::Unreachable if self.detail.to_lowercase().contains("refused") => Absence::Refuses,
            Kind::Loading | Kind::Replica | Kind::Lonely | Kind::Cluster | Kind::Sentinel | Kind::Disk | Kind::Busy => {
                Absence::Answers
            }
            _ => Absence::Unknown,
        }
    }

    /// What is wrong, what that means, and what to do.
    pub(super) fn words(&self, server: &str) -> String {
        let (problem, remedy) = match self.kind {
            Kind::Unreachable => ("cannot be reached", ""),
            Kind::Silent => ("does not answer", ""),
            Kind::Tls => ("cannot be spoken to by TLS", tls_remedy(&self.detail)),
            Kind::Login => ("refuses the login", "; correct user and password in [transport] url"),
            Kind::Database => ("has no such database", "; correct the number in [transport] url"),
            Kind::Rights => (
                "denies its user a command or key",
                "; give the user of [transport] url the right",
            ),
            Kind::Loading => ("is loading its data", ""),
            Kind::Crowded => ("has no connection to spare", "; raise its maxclients"),
            Kind::Full => ("is full", "; raise its maxmemory or take something else out of it"),
            Kind::Disk => ("cannot write to its disk", "; see its log, and make room on its disk"),
            Kind::Replica => (
                "is a replica, which takes no writes",
                "; write the master's address in [transport] url",
            ),
            Kind::Lonely => ("has too few replicas to take writes (min-replicas-to-write)", ""),
            Kind::Busy => ("is busy with a script", ""),
            Kind::Cluster => ("cannot serve some slots just now", ""),
            Kind::Sentinel => ("has no master just now", ""),
            Kind::NoScript => ("does not know a script", ""),
            Kind::Unexpected => ("answers what was not expected", ""),
        };
        let detail = self.detail.trim();
        format!("Redis at {server} {problem} ({detail}){remedy}")
    }
}

impl Kind {
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
                // Sent to a reader whose server has just become a replica.
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
            // Redis 7.0 has no code of its own for these.
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

/// The words of rustls.
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
            "; name the certificate of whoever signed the server's in [transport] tls-ca",
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
