//! `plugnode deploy`: makes a component the next release of an app.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::json;

use super::author::parse_message;
use super::cluster::{ClusterArgs, ClusterConnection};
use super::component_file;
use super::format::{parse_percent, parse_span};
use super::release_request::{NextStep, ReleaseRequest};
use super::rollout::{self, FollowLimits, RequestedRelease, Strategy};
use super::terminal::say;
use plugnode_release::Canary;
use plugnode_runtime::ComponentInfo;

/// Arguments of `plugnode deploy`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every app-node of the app fetches, compiles and starts the component, and tries it with first events, one at a time; an event that
fails there is handled by the release in use instead. Once the component works on all nodes, each node switches to it between two
events. If it cannot be compiled or started, or fails its first events on any node, the release in use stays on all nodes.

Examples:
  plugnode deploy chat.wasm                         to the only app in plugnode.toml
  plugnode deploy chat.wasm --app /chat -c prod.toml
  plugnode deploy chat.wasm --canary 10% --for 2m   to a tenth of the clients first; taken back if it does worse
  plugnode deploy chat.wasm --wait-for-events=10m   wait until it has answered events
  plugnode deploy chat.wasm --port 8080             to the plugnode dev at http://localhost:8080

Without events to try it with, the component is taken into use and reported as not tried yet; if it fails its first events later,
it is taken back. If no app-node runs the app, the command waits for the first one. To deploy an app that has no release yet, name
a config file with the app by -c.

The exit code is 0 if the component is in use at the end and, with --wait-for-events, has answered events.")]
pub struct DeployArgs {
    /// File of the component
    #[arg(value_name = "APP.wasm")]
    pub component: PathBuf,
    /// Namespace of the app; optional if there is only one app
    #[arg(long, value_name = "NAMESPACE")]
    pub app: Option<String>,
    /// Reason, shown by plugnode releases and plugnode status
    #[arg(short, long, value_name = "TEXT", value_parser = parse_message)]
    pub message: Option<String>,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Give it this share of the partitions first, and compare it with the release in use
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub canary: Option<f64>,
    /// Duration of the canary [default: 2m]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_span, requires = "canary")]
    pub time: Option<Duration>,
    /// Percentage points by which the canary's failure rate may be higher [default: 1%]
    #[arg(long, value_name = "SHARE", value_parser = parse_percent, requires = "canary")]
    pub failure_margin: Option<f64>,
    /// Percent by which the canary's 99th percentile of handling times may be higher [default: 50%]
    #[arg(long, value_name = "SHARE", value_parser = parse_percent, requires = "canary")]
    pub p99_margin: Option<f64>,
    /// If there were no events to try it with, wait for the first ones, at most this long [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = parse_span, num_args = 0..=1, require_equals = true)]
    pub wait_for_events: Option<Option<Duration>>,
    /// Stop following the rollout after this time; the rollout goes on [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub timeout: Option<Duration>,
    /// Print the result as a JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

/// Deploys, and follows the rollout to its outcome.
pub(super) fn deploy(args: &DeployArgs) -> Result<ExitCode> {
    let request = ReleaseRequest {
        command: "deploy",
        json: args.json,
        limits: FollowLimits {
            total: args.timeout,
            first_events: args.wait_for_events.map(|limit| limit.unwrap_or(Duration::MAX)),
        },
    };
    request.run(
        || read_component(args),
        &args.cluster,
        async |cluster, component| request_deploy(cluster, args, component, &request).await,
    )
}

async fn request_deploy(
    cluster: &ClusterConnection,
    args: &DeployArgs,
    component: Bytes,
    request: &ReleaseRequest,
) -> Result<NextStep> {
    let operations = &cluster.operations;
    let (_, board) = rollout::board(operations).await?;
    let app = rollout::select_or_new_app(operations, &board, args.app.as_deref(), &cluster.apps).await?;
    let file = args.component.display().to_string();
    let canary = canary(args);
    let strategy = Strategy::Trial(canary.as_ref());
    let message = args.message.as_deref();
    let number = match rollout::request(operations, &app, component, &file, strategy, message).await? {
        RequestedRelease::InUse(number) => {
            say(&format!(
                "release {number} of app {app} has the same component and is in use already"
            ));
            request
                .print(&json!({ "app": app.as_str(), "release": number, "outcome": "in-use", "unchanged": true }))?;
            return Ok(NextStep::End(ExitCode::SUCCESS));
        }
        RequestedRelease::RollingOut(number) => {
            say(&format!(
                "release {number} of app {app} has the same component and is being rolled out already"
            ));
            number
        }
        RequestedRelease::New(number) => {
            say(&format!("{file} is release {number} of app {app}"));
            number
        }
    };
    Ok(NextStep::Follow(app, number))
}

/// Reads the file, and checks that it is a component with a handler.
fn read_component(args: &DeployArgs) -> Result<Bytes> {
    let file = args.component.display();
    let bytes = component_file::read(&args.component)?;
    ComponentInfo::of_handler(&bytes).with_context(|| format!("cannot deploy {file}"))?;
    Ok(bytes.into())
}

fn canary(args: &DeployArgs) -> Option<Canary> {
    let default = Canary::default();
    Some(Canary {
        percent: args.canary?,
        for_ms: args.time.map_or(default.for_ms, |time| {
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
        }),
        failure_margin: args.failure_margin.unwrap_or(default.failure_margin),
        p99_margin: args.p99_margin.unwrap_or(default.p99_margin),
    })
}

/// Parses a share of the partitions: more than none, less than all.
fn parse_share(text: &str) -> Result<f64, String> {
    let share = parse_percent(text)?;
    match share > 0.0 && share < 100.0 {
        true => Ok(share),
        false => Err("is not a share of the partitions: give more than 0% and less than 100%".to_owned()),
    }
}
