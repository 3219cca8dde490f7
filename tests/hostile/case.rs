//! A case: what it does, what must come of it, where it comes from, and its bounds.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::server::Server;

/// Source of the cases that nobody has reported elsewhere, as far as we know.
pub(crate) const OURS: &str = "found by attacking plugnode";

/// What a case found: what the server did, which is right, or what is wrong with it.
pub(crate) type Did = anyhow::Result<String>;

type Run = Box<dyn Fn(Server) -> Pin<Box<dyn Future<Output = Did> + Send>> + Send + Sync>;

/// One attack or oddity.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What it does, for a reader who knows the protocol.
    pub(crate) does: &'static str,
    /// What must come of it.
    pub(crate) must: &'static str,
    /// A CVE, an advisory, a specification, or [`OURS`].
    pub(crate) source: &'static str,
    /// How long it may take.
    pub(crate) limit: Duration,
    /// Whether it may take the server's patience besides.
    pub(crate) is_patient: bool,
    /// How long the bystander may wait for an echo meanwhile.
    pub(crate) delay: Duration,
    /// By how many bytes the server's memory may grow meanwhile.
    pub(crate) growth: u64,
    /// Does it.
    pub(crate) run: Run,
}

impl Case {
    /// A case that may take 15 seconds, delay the bystander by one, and have the server's memory grow by 100 MB.
    pub(crate) fn new<F>(
        name: &'static str,
        does: &'static str,
        must: &'static str,
        source: &'static str,
        run: fn(Server) -> F,
    ) -> Self
    where
        F: Future<Output = Did> + Send + 'static,
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

    /// With another limit in time.
    pub(crate) fn seconds(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// One that waits for the server to let go of connections, as long as --patience allows.
    pub(crate) fn patient(mut self) -> Self {
        self.is_patient = true;
        self
    }

    /// With another bound on what the server's memory may grow by.
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
