//! `plugnode deploy`: a component becomes the next release of an app, on all its nodes, with nobody noticing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::json;

use super::author::parse_message;
use super::cluster::{Cluster, Reached};
use super::outcome::{Ask, Asking};
use super::progress::say;
use super::rollout::{self, Asked, Patience, Way};
use super::words::{parse_percent, parse_span};
use plugnode_release::Canary;
use plugnode_runtime::ComponentInfo;

/// Arguments of `plugnode deploy`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every app-node of the app fetches, compiles and starts the component, and gives it first events, one at a time; an event
that fails there is handled by the release in use. When all nodes are content, each takes it into use between two events.
What cannot be compiled, started or given events on any node replaces nothing anywhere.

Examples:
  plugnode deploy chat.wasm                         the only app of the cluster that plugnode.toml names
  plugnode deploy chat.wasm --app /chat -c prod.toml
  plugnode deploy chat.wasm --canary 10% --for 2m   a tenth of the clients first; taken back by itself if it does worse
  plugnode deploy chat.wasm --wait-for-events=10m   for the exit code to say that it has answered events
  plugnode deploy chat.wasm --port 8080             to the plugnode dev at http://localhost:8080

Without events there is nothing to try it with: it is taken into use, which is told as not tried yet, and taken back should it
fail the first events that come. Where no app-node runs the app, the first that starts takes it up, and is waited for. An app
that never had a release may be deployed as well, if the config file (-c) names it.

The exit code is 0 when the component is in use at the end; with --wait-for-events, when it has answered events, too.")]
pub struct Arguments {
    /// The component
    #[arg(value_name = "APP.wasm")]
    pub component: PathBuf,
    /// The namespace of the app; may be left out when there is one app only
    #[arg(long, value_name = "NAMESPACE")]
    pub app: Option<String>,
    /// Why, for plugnode releases and plugnode status
    #[arg(short, long, value_name = "TEXT", value_parser = parse_message)]
    pub message: Option<String>,
    /// Where it is to be deployed.
    #[command(flatten)]
    pub cluster: Cluster,
    /// Give it this share of the partitions first, and compare it with the release in use
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub canary: Option<f64>,
    /// For how long [default: 2m]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_span, requires = "canary")]
    pub time: Option<Duration>,
    /// By how many percentage points more of its events may fail [default: 1%]
    #[arg(long, value_name = "SHARE", value_parser = parse_percent, requires = "canary")]
    pub failure_margin: Option<f64>,
    /// By how many percent longer the slowest of a hundred events may take [default: 50%]
    #[arg(long, value_name = "SHARE", value_parser = parse_percent, requires = "canary")]
    pub p99_margin: Option<f64>,
    /// When there were no events to try it with, wait for the first, for no longer than this [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = parse_span, num_args = 0..=1, require_equals = true)]
    pub wait_for_events: Option<Option<Duration>>,
    /// Follow it for no longer than this; it goes on all the same
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub timeout: Option<Duration>,
    /// Say at the end what happened as a JSON object, on standard output
    #[arg(long)]
    pub json: bool,
}

/// Deploys, and follows that to its end. The exit code says whether the component is in use.
pub fn deploy(arguments: &Arguments) -> Result<ExitCode> {
    let asking = Ask {
        verb: "deploy",
        json: arguments.json,
        patience: Patience {
            whole: arguments.timeout,
            for_events: arguments.wait_for_events.map(|most| most.unwrap_or(Duration::MAX)),
        },
    };
    asking.run(
        || component(arguments),
        &arguments.cluster,
        async |cluster, component| deploy_to(cluster, arguments, component, &asking).await,
    )
}

async fn deploy_to(cluster: &Reached, arguments: &Arguments, component: Bytes, asking: &Ask) -> Result<Asking> {
    let operations = &cluster.operations;
    let (_, board) = operations
        .releases
        .board()
        .await
        .context("cannot read the board of releases")?;
    let app = rollout::app_or_new(operations, &board, arguments.app.as_deref(), &cluster.apps).await?;
    let file = arguments.component.display().to_string();
    let canary = canary(arguments);
    let message = arguments.message.as_deref();
    let number = match rollout::ask(operations, &app, component, &file, Way::Tried(canary.as_ref()), message).await? {
        Asked::InUse(number) => {
            say(&format!(
                "release {number} of app {app} is in use already, and has the same component"
            ));
            asking.print(&json!({ "app": app.as_str(), "release": number, "outcome": "in-use", "unchanged": true }))?;
            return Ok(Asking::Ended(ExitCode::SUCCESS));
        }
        Asked::RollingOut(number) => {
            say(&format!(
                "release {number} of app {app} has the same component and is being rolled out already"
            ));
            number
        }
        Asked::Release(number) => {
            say(&format!("{file} is release {number} of app {app}"));
            number
        }
    };
    Ok(Asking::Release(app, number))
}

/// The component, once it is clear that it is a handler's.
fn component(arguments: &Arguments) -> Result<Bytes> {
    let file = arguments.component.display();
    let bytes = std::fs::read(&arguments.component).with_context(|| format!("cannot read {file}"))?;
    ComponentInfo::of_handler(&bytes).with_context(|| format!("{file} cannot be deployed"))?;
    Ok(bytes.into())
}

fn canary(arguments: &Arguments) -> Option<Canary> {
    let usual = Canary::default();
    Some(Canary {
        percent: arguments.canary?,
        for_ms: arguments
            .time
            .map_or(usual.for_ms, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        failure_margin: arguments.failure_margin.unwrap_or(usual.failure_margin),
        p99_margin: arguments.p99_margin.unwrap_or(usual.p99_margin),
    })
}

/// A share of the partitions: some, and not all.
fn share(text: &str) -> Result<f64, String> {
    let share = parse_percent(text)?;
    match share > 0.0 && share < 100.0 {
        true => Ok(share),
        false => Err("is no part of the partitions: more than 0% and less than 100% is one".to_owned()),
    }
}
