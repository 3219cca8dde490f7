//! Runs one case: beside it the bystander is echoed and the server's memory watched, and all three are judged.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::{sleep, timeout};

use crate::bystander::Bystander;
use crate::case::{Case, Did, Skipped};
use crate::process::{Memory, Watch};
use crate::server::Server;

/// A case that takes longer says on stderr that it goes on.
const LONG: Duration = Duration::from_secs(2);
/// What the bystander has for connecting, when the case before may have left the server busy.
const CONNECTS: Duration = Duration::from_secs(15);
/// Between cases, for connections to be gone.
const PAUSE: Duration = Duration::from_millis(30);

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    Skipped,
}

/// What came of a case.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// What the server did, and what is wrong with that.
    pub(crate) did: String,
    /// Where the process is known.
    pub(crate) memory: Option<Memory>,
    /// The longest that the bystander waited, if it was served at all.
    pub(crate) bystander: Option<Duration>,
    pub(crate) took: Duration,
    /// Whether the server took no connection of the bystander even before the case began.
    pub(crate) is_unserved: bool,
}

/// Runs cases against one server.
pub(crate) struct Runner<'a> {
    server: &'a Server,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(server: &'a Server) -> Self {
        Self { server }
    }

    /// Runs a case, and never for longer than its limit and what the bystander may take to connect and to be lost.
    pub(crate) async fn run(&self, case: &Case) -> Outcome {
        let begun = Instant::now();
        let bystander = timeout(CONNECTS, Bystander::connect(self.server))
            .await
            .context("the server does not answer")
            .and_then(|connected| connected.context("the server is not there any more"));
        let bystander = match bystander {
            Ok(bystander) => bystander.start(),
            Err(error) => return Outcome::unserved(&error, begun.elapsed()),
        };
        let watch = self.server.process.map(Watch::start);
        let did = self.attempt(case).await;
        sleep(PAUSE).await;
        let worst = bystander.stop().await;
        let memory = watch.map(Watch::stop);
        self.judge(case, did, worst, memory, begun.elapsed())
    }

    /// The case itself, with its limit in time and a word now and then.
    async fn attempt(&self, case: &Case) -> Did {
        let patience = if case.is_patient {
            self.server.patience
        } else {
            Duration::ZERO
        };
        let limit = case.limit + patience;
        let progress = async {
            let begun = Instant::now();
            loop {
                sleep(LONG).await;
                eprintln!("{}: {:.0?} of at most {limit:.0?}", case.name, begun.elapsed());
                let _ = std::io::stderr().flush();
            }
        };
        tokio::select! {
            did = timeout(limit, (case.run)(self.server.clone())) => {
                did.with_context(|| format!("no end of it in {limit:?}"))?
            }
            () = progress => unreachable!("it goes on for ever"),
        }
    }

    fn judge(&self, case: &Case, did: Did, worst: Result<Duration>, memory: Option<Memory>, took: Duration) -> Outcome {
        let (mut verdict, did) = match did {
            Ok(did) => (Verdict::Passed, did),
            Err(error) if error.is::<Skipped>() => (Verdict::Skipped, error.to_string()),
            Err(error) => (Verdict::Failed, format!("{error:#}")),
        };
        let mut words = vec![did];
        let allowed = case.delay.mul_f64(self.server.slack);
        match &worst {
            Ok(worst) if *worst > allowed => {
                words.push(format!(
                    "the bystander waited {worst:.1?}, and {allowed:.1?} is allowed"
                ));
            }
            Err(error) => words.push(format!("the bystander was lost: {error:#}")),
            Ok(_) => {}
        }
        if let Some(memory) = memory {
            let growth = memory.peak.saturating_sub(memory.before);
            if growth > case.growth {
                words.push(format!(
                    "memory grew by {} MB, and {} is allowed",
                    growth >> 20,
                    case.growth >> 20
                ));
            }
        }
        if words.len() > 1 {
            verdict = Verdict::Failed;
        }
        Outcome {
            verdict,
            did: words.join("; "),
            memory,
            bystander: worst.ok(),
            took,
            is_unserved: false,
        }
    }
}

impl Outcome {
    fn unserved(error: &anyhow::Error, took: Duration) -> Self {
        Self {
            verdict: Verdict::Failed,
            did: format!("not begun: {error:#}"),
            memory: None,
            bystander: None,
            took,
            is_unserved: true,
        }
    }
}
