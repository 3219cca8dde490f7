//! Runs a command that requests a release, `deploy` or `rollback`: connects, requests it, and follows its rollout to the outcome, with
//! progress on standard error and, on request, a JSON object on standard output.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cluster::{ClusterArgs, ClusterConnection, UNAVAILABLE};
use super::format::{json_page, plain};
use super::release_format::counts_in_words;
use super::rollout::{self, FollowLimits, RolloutOutcome};
use super::rollout_report::{result_in_json, result_in_words};
use super::terminal::say;
use plugnode_message::Namespace;

/// Exit code after ctrl-c, as a shell reports it.
const INTERRUPTED: u8 = 130;

/// Time for which Redis may be unavailable or full while a rollout is followed.
const UNAVAILABLE_WHILE_FOLLOWING: Duration = Duration::from_secs(30);

/// The next step of a command after its request.
pub(super) enum NextStep {
    /// End: there is no rollout to follow.
    End(ExitCode),
    /// Follow this release of this app.
    Follow(Namespace, u64),
}

/// A command that requests a release.
pub(super) struct ReleaseRequest {
    /// Name of the command.
    pub(super) command: &'static str,
    /// Whether standard output gets a JSON object.
    pub(super) json: bool,
    /// Limits of following the rollout.
    pub(super) limits: FollowLimits,
}

impl ReleaseRequest {
    /// Prepares, connects, makes the request, and follows the rollout. An error is printed as JSON too.
    pub(super) fn run<T>(
        &self,
        prepare: impl FnOnce() -> Result<T>,
        cluster: &ClusterArgs,
        request: impl AsyncFnOnce(&ClusterConnection, T) -> Result<NextStep>,
    ) -> Result<ExitCode> {
        let began = Instant::now();
        let result = prepare().and_then(|prepared| {
            cluster.run_connected(async |cluster| {
                match cluster.within(UNAVAILABLE, request(cluster, prepared)).await? {
                    NextStep::End(code) => Ok(code),
                    NextStep::Follow(app, number) => self.follow(cluster, &app, number, began).await,
                }
            })
        });
        if let Err(error) = &result {
            self.print(&json!({ "outcome": "refused", "reason": format!("{error:#}") }))?;
        }
        result
    }

    /// Prints a JSON object, if one is requested.
    pub(super) fn print(&self, value: &Value) -> Result<()> {
        if self.json {
            writeln!(std::io::stdout(), "{}", json_page(value))?;
        }
        Ok(())
    }

    /// Follows a rollout to its outcome and reports it. The exit code is success if the release is or was in use and, if its first
    /// events were to be waited for, has answered some.
    async fn follow(
        &self,
        cluster: &ClusterConnection,
        app: &Namespace,
        number: u64,
        began: Instant,
    ) -> Result<ExitCode> {
        let operations = &cluster.operations;
        let following = async {
            let nodes = operations
                .nodes
                .app_nodes()
                .await
                .context("cannot list the app-nodes")?;
            if !rollout::runs(&nodes, app) {
                say(&format!(
                    "no app-node runs app {app}: waiting for one to take up release {number}; ctrl-c ends only the waiting"
                ));
            }
            rollout::follow(operations, app, number, began, self.limits, say).await
        };
        let result = tokio::select! {
            result = cluster.within(UNAVAILABLE_WHILE_FOLLOWING, following) => match result {
                Ok(result) => result,
                Err(error) => {
                    let reason = format!("{error:#}");
                    say(&reason);
                    self.print(&json!({
                        "app": app.as_str(), "release": number, "outcome": "not-followed", "reason": reason,
                    }))?;
                    return Ok(ExitCode::FAILURE);
                }
            },
            _ = tokio::signal::ctrl_c() => {
                say("the rollout goes on; plugnode status shows it, and plugnode rollback ends it");
                self.print(&json!({ "app": app.as_str(), "release": number, "outcome": "not-followed" }))?;
                return Ok(ExitCode::from(INTERRUPTED));
            }
        };
        for (node, progress) in &result.nodes {
            for reason in &progress.states_refused {
                say(&format!("{node} began without state: {}", plain(reason)));
            }
        }
        if let Some((_, old, new)) = &result.canary {
            say(&format!("release in use: {}", counts_in_words(old)));
            say(&format!("release {number}: {}", counts_in_words(new)));
        }
        if let RolloutOutcome::Failed(reason) = &result.outcome {
            // The handler's error message and stack trace.
            reason.lines().skip(1).for_each(|line| eprintln!("  {}", plain(line)));
        }
        say(&result_in_words(&result, self.command));
        self.print(&result_in_json(app, &result))?;
        Ok(match result.outcome {
            RolloutOutcome::InUse | RolloutOutcome::Replaced(_) => ExitCode::SUCCESS,
            RolloutOutcome::NotTried if self.limits.first_events.is_none() => ExitCode::SUCCESS,
            RolloutOutcome::NotTried
            | RolloutOutcome::Failed(_)
            | RolloutOutcome::Superseded(_)
            | RolloutOutcome::Cancelled => ExitCode::FAILURE,
        })
    }
}
