//! `plugnode rollback`: returns to an earlier release, or ends a rollout.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::author::{author, parse_message};
use super::cluster::ClusterArgs;
use super::release_request::{NextStep, ReleaseRequest};
use super::rollout::{self, FollowLimits};
use super::terminal::say;
use plugnode_message::now_ms;
use plugnode_release::ReleaseError;
use plugnode_transport::Operations;

/// Arguments of `plugnode rollback`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without RELEASE, return to the release that was in use before the current one; or, during a rollout, end the rollout and change
nothing else. A rollback is a new release with the component of the earlier one.

Examples:
  plugnode rollback                 the previous release
  plugnode rollback 4               release 4 of plugnode releases
  plugnode rollback 3f2a91c04e11    the release whose digest begins with this

The exit code is 0 if the rollback succeeded.")]
pub struct RollbackArgs {
    /// Number of a release, or the first 6 or more digits of its digest [default: the previous release]
    #[arg(value_name = "RELEASE")]
    pub release: Option<String>,
    /// Namespace of the app; optional if there is only one app
    #[arg(long, value_name = "NAMESPACE")]
    pub app: Option<String>,
    /// Reason, shown by plugnode releases and plugnode status
    #[arg(short, long, value_name = "TEXT", value_parser = parse_message)]
    pub message: Option<String>,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Print the result as a JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

/// Rolls back, and follows the rollout to its outcome.
pub(super) fn rollback(args: &RollbackArgs) -> Result<ExitCode> {
    let request = ReleaseRequest {
        command: "rollback",
        json: args.json,
        limits: FollowLimits::default(),
    };
    request.run(
        || Ok(()),
        &args.cluster,
        async |cluster, ()| request_rollback(&cluster.operations, args, &request).await,
    )
}

async fn request_rollback(cluster: &Operations, args: &RollbackArgs, request: &ReleaseRequest) -> Result<NextStep> {
    let (_, board) = rollout::board(cluster).await?;
    let app = rollout::select_app(cluster, &board, args.app.as_deref()).await?;
    let changed = rollout::change(cluster, &app, |app_releases| {
        let ended = app_releases.rollout.as_ref().map(|rollout| rollout.release);
        let new = app_releases.rollback(args.release.as_deref(), now_ms())?;
        if let Some(number) = new {
            app_releases.set_author(number, author(), args.message.as_deref());
        }
        Ok((new, ended, app_releases.current))
    });
    match changed.await? {
        Ok((Some(number), _, _)) => {
            say(&format!("the rollback is release {number} of app {app}"));
            Ok(NextStep::Follow(app, number))
        }
        Ok((None, ended, in_use)) => {
            let rollout = ended.map_or_else(
                || "the rollout".to_owned(),
                |number| format!("the rollout of release {number}"),
            );
            say(&format!("{rollout} is ended; release {in_use} stays in use"));
            request.print(&json!({
                "app": app.as_str(), "release": in_use, "outcome": "rollout-ended", "ended": ended, "in_use": in_use,
            }))?;
            Ok(NextStep::End(ExitCode::SUCCESS))
        }
        Err(ReleaseError::InUse(number)) => {
            say(&format!(
                "release {number} of app {app} has the same component and is in use already"
            ));
            request
                .print(&json!({ "app": app.as_str(), "release": number, "outcome": "in-use", "unchanged": true }))?;
            Ok(NextStep::End(ExitCode::SUCCESS))
        }
        Err(ReleaseError::RollingOut(number)) => {
            say(&format!(
                "release {number} of app {app} has the same component and is being rolled out already"
            ));
            Ok(NextStep::Follow(app, number))
        }
        Err(refused) => Err(refused.into()),
    }
}
