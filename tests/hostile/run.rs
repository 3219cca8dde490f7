//! Runs one case, while the bystander is echoed and the server's memory is watched, and judges all three.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::{sleep, timeout};

use crate::bystander::Bystander;
use crate::case::{Case, CaseResult, Skipped};
use crate::process::{Memory, Watch};
use crate::server::Server;

/// Interval of progress lines on stderr.
const LONG: Duration = Duration::from_secs(2);
/// Time-out of the bystander's connection; the previous case may have left the server busy.
const CONNECTS: Duration = Duration::from_secs(15);
/// Pause after a case, for connections to close.
const PAUSE: Duration = Duration::from_millis(30);

/// Verdict on a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    Skipped,
}

/// Result of a case.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// The behaviour of the server, and the error in it.
    pub(crate) did: String,
    /// Memory of the server, if its process is known.
    pub(crate) memory: Option<Memory>,
    /// Longest echo of the bystander, if all were answered.
    pub(crate) bystander: Option<Duration>,
    pub(crate) took: Duration,
    /// Whether the bystander could not connect before the case began.
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

    /// Runs a case, for at most its time-out and those of the bystander.
    pub(crate) async fn run(&self, case: &Case) -> Outcome {
        let begun = Instant::now();
        let bystander = timeout(CONNECTS, Bystander::connect(self.server))
            .await
            .context("the server does not answer")
            .and_then(|connected| connected.context("the server cannot be reached any more"));
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

    /// Runs the case itself with its time-out, printing progress.
    async fn attempt(&self, case: &Case) -> CaseResult {
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
                did.with_context(|| format!("not finished within {limit:?}"))?
            }
            () = progress => unreachable!("the loop never ends"),
        }
    }

    fn judge(
        &self,
        case: &Case,
        did: CaseResult,
        worst: Result<Duration>,
        memory: Option<Memory>,
        took: Duration,
    ) -> Outcome {
        let (mut verdict, did) = match did {
            Ok(did) => (Verdict::Passed, did),
            Err(error) if error.is::<Skipped>() => (Verdict::Skipped, error.to_string()),
            Err(error) => (Verdict::Failed, format!("{error:#}")),
        };
        let mut words = vec![did];
        let allowed = case.delay.mul_f64(self.server.slack);
        match &worst {
            Ok(worst) if *worst > allowed => {
                words.push(format!("the bystander waited {worst:.1?}; {allowed:.1?} is allowed"));
            }
            Err(error) => words.push(format!("the bystander was lost: {error:#}")),
            Ok(_) => {}
        }
        if let Some(memory) = memory {
            let growth = memory.peak.saturating_sub(memory.before);
            if growth > case.growth {
                words.push(format!(
                    "memory grew by {} MB; {} MB is allowed",
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
            did: format!("not started: {error:#}"),
            memory: None,
            bystander: None,
            took,
            is_unserved: true,
        }
    }
}
