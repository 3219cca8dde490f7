//! `plugnode-check`: sends numbered messages to a cluster and reports what was lost, doubled or reordered.
//!
//! Inject faults while it runs: kill nodes, restart Redis, cut the network. Exit code 0: every promise was kept; 1: one was broken;
//! 2: no verdict was possible.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use plugnode_tests::check::{Check, Progress, Report, Settings, io_nodes};

/// Check a cluster that runs the handler `recorder` for lost, doubled, reordered and partial effects
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// An io-node, as http://host:port; may be given more than once
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,
    /// A frontend that lists the io-nodes in its /config.json
    #[arg(long, value_name = "URL", required_unless_present = "urls")]
    frontend: Option<String>,
    /// The namespace that the handler `recorder` is bound to
    #[arg(long, default_value = "/")]
    namespace: String,
    /// The path of Engine.IO
    #[arg(long, default_value = "/socket.io")]
    path: String,
    /// Number of clients at any time
    #[arg(long, default_value_t = 50)]
    clients: usize,
    /// Seconds to send for; ctrl-c stops earlier, with a verdict
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Messages of each client per second
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Most messages of a client in flight
    #[arg(long, default_value_t = 32)]
    window: usize,
    /// Clients per channel
    #[arg(long, default_value_t = 8)]
    channel: usize,
    /// Mean seconds before a client disconnects and a new one takes its place; 0: never
    #[arg(long, default_value_t = 10.0)]
    lifetime: f64,
    /// Share of messages that ask the handler to fail at the first attempt, such as 0.01; each is logged there
    #[arg(long, default_value_t = 0.0)]
    trouble: f64,
    /// Share of messages that ask the handler to fail at every attempt, such as 0.01; each leaves a dead letter
    #[arg(long, default_value_t = 0.0)]
    failures: f64,
    /// Number of shared counters, which messages increment by read, addition and write
    #[arg(long, default_value_t = 0)]
    counters: usize,
    /// Share of messages that increment a counter, if there are any
    #[arg(long, default_value_t = 0.2)]
    increments: f64,
    /// Let each message set an attribute of its client, which the client's next event must see
    #[arg(long)]
    attributes: bool,
    /// Share of messages that set a timer of their client, such as 0.1
    #[arg(long, default_value_t = 0.0)]
    timers: f64,
    /// A node that serves the server API, as http://host:port; may be given more than once. Publishes through it are checked as well
    #[arg(long = "api", value_name = "URL", requires = "api_key_file")]
    apis: Vec<String>,
    /// File of a key of the server API with the permission `publish`
    #[arg(long, value_name = "FILE", requires = "apis")]
    api_key_file: Option<PathBuf>,
    /// Number of programs that publish through the server API
    #[arg(long, default_value_t = 4)]
    publishers: usize,
    /// Publishes of each per second
    #[arg(long, default_value_t = 20.0)]
    publish_rate: f64,
    /// Seconds to wait at the end for messages in flight
    #[arg(long, default_value_t = 30.0)]
    patience: f64,
    /// Value of [io-node] refuse-after-ms, in seconds
    #[arg(long, default_value_t = 10.0)]
    refuse_after: f64,
    /// Seed of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Print no progress
    #[arg(long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
The handler is examples/recorder; its app needs a grant: grants = { keyvalue = [\"default\"] }.

Examples:
  plugnode-check --url http://127.0.0.1:8080
  plugnode-check --url http://10.0.0.1:8081 --url http://10.0.0.2:8081 --namespace /recorder
  plugnode-check --frontend http://127.0.0.1:8080 --clients 500 --rate 2 --seconds 600 --json";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(&arguments)));
    let report = match done {
        Ok(report) => report,
        Err(error) => {
            eprintln!("plugnode-check: {error:#}");
            return ExitCode::from(2);
        }
    };
    match arguments.json {
        true => println!("{:#}", report.to_json()),
        false => print!("{report}"),
    }
    match report.incomplete {
        Some(_) => ExitCode::from(2),
        None if report.is_clean() => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

async fn run(arguments: &Arguments) -> Result<Report> {
    let mut urls = arguments.urls.clone();
    if let Some(frontend) = &arguments.frontend {
        urls.extend(io_nodes(frontend).await?);
    }
    let read = |file: &PathBuf| fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
    let api_key = arguments.api_key_file.as_ref().map(read).transpose()?;
    let mut check = Check::start(Settings {
        urls,
        path: arguments.path.clone(),
        namespace: arguments.namespace.clone(),
        clients: arguments.clients,
        rate: arguments.rate,
        window: arguments.window.max(1),
        channel: arguments.channel,
        lifetime: (arguments.lifetime > 0.0).then(|| seconds(arguments.lifetime)),
        trouble: arguments.trouble,
        failures: arguments.failures,
        counters: arguments.counters.min(usize::from(u16::MAX)),
        increments: arguments.increments,
        attributes: arguments.attributes,
        timers: arguments.timers,
        publishers: arguments.publishers,
        publish_rate: arguments.publish_rate,
        patience: seconds(arguments.patience),
        refuse_after: seconds(arguments.refuse_after),
        quiet: Duration::from_secs(1),
        seed: arguments.seed,
    })
    .await?;
    if let Some(key) = api_key {
        for api in &arguments.apis {
            check.add_api(api);
        }
        check.publish(key.trim());
    }
    let printing = (!arguments.quiet).then(|| tokio::spawn(print_progress(check.progress())));
    tokio::select! {
        () = tokio::time::sleep(seconds(arguments.seconds)) => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    if !arguments.quiet {
        eprintln!("waiting for messages in flight");
    }
    let report = check.finish().await;
    printing.inspect(|task| task.abort());
    Ok(report)
}

/// Prints a line every five seconds.
async fn print_progress(progress: Arc<Progress>) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        eprintln!(
            "{:>5.0} s  {} connected, {} sent, {} acknowledged, {} refused, {} in flight, {} connections lost",
            progress.now() as f64 / 1e6,
            progress.connected(),
            progress.sent(),
            progress.acked(),
            progress.refused(),
            progress.outstanding(),
            progress.lost()
        );
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4)
}
