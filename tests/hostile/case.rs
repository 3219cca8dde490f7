//! A case: its action, the required behaviour of the server, its source and its limits.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::server::Server;

/// Source of cases without a published report.
pub(crate) const OURS: &str = "found by attacking plugnode";
/// Source of cases of Engine.IO's protocol.
pub(crate) const ENGINE: &str = "Engine.IO protocol 4, and its test suite";

/// The behaviour of the server, or the error in it.
pub(crate) type CaseResult = anyhow::Result<String>;

type Run = Box<dyn Fn(Server) -> Pin<Box<dyn Future<Output = CaseResult> + Send>> + Send + Sync>;

/// One attack or oddity.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The action of the client, for a reader who knows the protocol.
    pub(crate) does: &'static str,
    /// The required behaviour of the server.
    pub(crate) must: &'static str,
    /// A CVE, an advisory, a specification, or [`OURS`].
    pub(crate) source: &'static str,
    /// Time-out.
    pub(crate) limit: Duration,
    /// Whether `--patience` is added to the time-out.
    pub(crate) is_patient: bool,
    /// Longest echo of the bystander meanwhile.
    pub(crate) delay: Duration,
    /// Bytes by which the server's memory may grow meanwhile.
    pub(crate) growth: u64,
    /// Runs the case.
    pub(crate) run: Run,
}

impl Case {
    /// A case with the default limits: 15 seconds, an echo within one second, 100 MB of memory.
    pub(crate) fn new<F>(
        name: &'static str,
        does: &'static str,
        must: &'static str,
        source: &'static str,
        run: fn(Server) -> F,
    ) -> Self
    where
        F: Future<Output = CaseResult> + Send + 'static,
    {
        Self {
            name,
            does,
            must,
            source,
            limit: Duration::from_secs(15),
            is_patient: false,
            delay: Duration::from_secs(1),
            growth: 100 << 20,
            run: Box::new(move |server| Box::pin(run(server))),
        }
    }

    /// Sets another time-out.
    pub(crate) fn seconds(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// Adds `--patience` to the time-out, for a case that waits until the server closes connections.
    pub(crate) fn patient(mut self) -> Self {
        self.is_patient = true;
        self
    }

    /// Sets another limit of memory growth.
    pub(crate) fn megabytes(mut self, megabytes: u64) -> Self {
        self.growth = megabytes << 20;
        self
    }
}

/// The error of a case that does not apply to this server.
#[derive(Debug)]
pub(crate) struct Skipped(pub(crate) &'static str);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Skipped {}
