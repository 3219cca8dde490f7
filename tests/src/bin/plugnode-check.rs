//! `plugnode-check`: sends numbered messages to a cluster, and says what was lost, doubled or reordered.
//!
//! Break what you like while it runs: kill nodes, restart Redis, cut the network. It exits with 0 when every promise was
//! kept, with 1 when one was broken, and with 2 when it could not be told.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use plugnode_tests::check::{Check, Progress, Report, Settings, io_nodes};

/// Checks a cluster that runs the handler `recorder`: is anything lost, doubled, reordered or done by half?
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
    /// How many clients there are at any time
    #[arg(long, default_value_t = 50)]
    clients: usize,
    /// How long they send; ctrl-c ends it earlier, and judges
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// How many messages each sends in a second
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// How many messages of a client may be on their way
    #[arg(long, default_value_t = 32)]
    window: usize,
    /// How many clients share a channel
    #[arg(long, default_value_t = 8)]
    channel: usize,
    /// How many seconds a client stays, more or less, before another takes its place; 0 for all the time
    #[arg(long, default_value_t = 10.0)]
    lifetime: f64,
    /// Of all messages, the part that asks the handler to fail at the first attempt, such as 0.01; its log tells of each
    #[arg(long, default_value_t = 0.0)]
    trouble: f64,
    /// Of all messages, the part that asks the handler to fail at every attempt, such as 0.01; each leaves a dead letter
    #[arg(long, default_value_t = 0.0)]
    failures: f64,
    /// How many shared counters messages increment by a read, an addition and a write
    #[arg(long, default_value_t = 0)]
    counters: usize,
    /// Of all messages, the part that increments one, where there are any
    #[arg(long, default_value_t = 0.2)]
    increments: f64,
    /// Have each message set an attribute of its client, which the client's next event must see
    #[arg(long)]
    attributes: bool,
    /// Of all messages, the part that sets a timer of its client, such as 0.1
    #[arg(long, default_value_t = 0.0)]
    timers: f64,
    /// How many seconds to wait at the end for what is still on its way
    #[arg(long, default_value_t = 30.0)]
    patience: f64,
    /// What refuse-after-ms under [io-node] says, in seconds
    #[arg(long, default_value_t = 10.0)]
    refuse_after: f64,
    /// Which random numbers to take
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the report as JSON
    #[arg(long)]
    json: bool,
    /// Say nothing while it runs
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
    let check = Check::start(Settings {
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
        patience: seconds(arguments.patience),
        refuse_after: seconds(arguments.refuse_after),
        quiet: Duration::from_secs(1),
        seed: arguments.seed,
    })
    .await?;
    let say = (!arguments.quiet).then(|| tokio::spawn(say(check.progress())));
    tokio::select! {
        () = tokio::time::sleep(seconds(arguments.seconds)) => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    if !arguments.quiet {
        eprintln!("waiting for what is still on its way");
    }
    let report = check.finish().await;
    say.inspect(|say| say.abort());
    Ok(report)
}

/// A line now and then, for whoever waits.
async fn say(progress: Arc<Progress>) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        eprintln!(
            "{:>5.0} s  {} connected, {} sent, {} acknowledged, {} refused, {} on their way, {} connections lost",
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
