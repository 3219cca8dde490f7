//! `plugnode rollback`: back to a release that was in use, or an end to the one on its way.

use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::json;

use super::author::{author, parse_message};
use super::cluster::Cluster;
use super::outcome::{Ask, Asking};
use super::progress::say;
use super::rollout::{self, Patience};
use plugnode_message::now_ms;
use plugnode_release::ReleaseError;
use plugnode_transport::Operations;

/// Arguments of `plugnode rollback`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without RELEASE it goes back to the release that was in use before the present one, or, while a release is being rolled out, ends
that and changes nothing else. A rollback is a release of its own, with a number of its own.

Examples:
  plugnode rollback                 the one before
  plugnode rollback 4               release 4, as plugnode releases lists it
  plugnode rollback 3f2a91c04e11    the release whose component has this digest, or one that begins so

The exit code is 0 when all was done that was asked for.")]
pub struct Arguments {
    /// The number of a release, or the first 6 or more digits of its digest
    #[arg(value_name = "RELEASE")]
    pub release: Option<String>,
    /// The namespace of the app; may be left out when there is one app only
    #[arg(long, value_name = "NAMESPACE")]
    pub app: Option<String>,
    /// Why, for plugnode releases and plugnode status
    #[arg(short, long, value_name = "TEXT", value_parser = parse_message)]
    pub message: Option<String>,
    /// Where.
    #[command(flatten)]
    pub cluster: Cluster,
    /// Say at the end what happened as a JSON object, on standard output
    #[arg(long)]
    pub json: bool,
}

/// Goes back, and follows that to its end. The exit code says whether it was done.
pub fn rollback(arguments: &Arguments) -> Result<ExitCode> {
    let asking = Ask {
        verb: "rollback",
        json: arguments.json,
        patience: Patience::default(),
    };
    asking.run(
        || Ok(()),
        &arguments.cluster,
        async |cluster, ()| rollback_at(&cluster.operations, arguments, &asking).await,
    )
}

async fn rollback_at(cluster: &Operations, arguments: &Arguments, asking: &Ask) -> Result<Asking> {
    let (_, board) = cluster
        .releases
        .board()
        .await
        .context("cannot read the board of releases")?;
    let app = rollout::app_of(cluster, &board, arguments.app.as_deref()).await?;
    let asked = rollout::change(cluster, &app, |app_releases| {
        let ended = app_releases.rollout.as_ref().map(|rollout| rollout.release);
        let to = app_releases.rollback(arguments.release.as_deref(), now_ms())?;
        if let Some(number) = to {
            app_releases.set_author(number, author(), arguments.message.as_deref());
        }
        Ok((to, ended, app_releases.current))
    });
    match asked.await? {
        Ok((Some(number), _, _)) => {
            say(&format!("going back is release {number} of app {app}"));
            Ok(Asking::Release(app, number))
        }
        Ok((None, ended, in_use)) => {
            let ended_words = ended.map_or_else(
                || "the rollout".to_owned(),
                |number| format!("the rollout of release {number}"),
            );
            say(&format!("{ended_words} is ended; release {in_use} stays in use"));
            asking.print(&json!({
                "app": app.as_str(), "release": in_use, "outcome": "rollout-ended", "ended": ended, "in_use": in_use,
            }))?;
            Ok(Asking::Ended(ExitCode::SUCCESS))
        }
        Err(ReleaseError::InUse(number)) => {
            say(&format!(
                "release {number} of app {app} is in use already, and has that component"
            ));
            asking.print(&json!({ "app": app.as_str(), "release": number, "outcome": "in-use", "unchanged": true }))?;
            Ok(Asking::Ended(ExitCode::SUCCESS))
        }
        Err(ReleaseError::RollingOut(number)) => {
            say(&format!(
                "release {number} of app {app} has that component and is being rolled out already"
            ));
            Ok(Asking::Release(app, number))
        }
        Err(refused) => Err(refused.into()),
    }
}
