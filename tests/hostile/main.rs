//! `plugnode-hostile`: sends attacks and malformed input to a Socket.IO server and reports how it behaves.
//!
//! It needs only the server's URL; with its process id it also watches memory and open files. Every case, described in [`cases`], has a
//! time-out.

mod bystander;
mod case;
mod cases;
mod polling;
mod process;
mod report;
mod run;
mod server;
mod socket;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;

use case::Case;
use process::Process;
use report::Report;
use run::Runner;
use server::Server;

/// Attack a Socket.IO server while a well-behaved client, the bystander, is echoed; print the result of each case
#[derive(Debug, Parser)]
#[command(name = "plugnode-hostile", version, after_help = SERVER)]
struct Arguments {
    /// The server, as http://host:port
    #[arg(long, value_name = "URL", required_unless_present = "list")]
    url: Option<String>,
    /// Process id of the server on this machine, to watch its memory and open files
    #[arg(long)]
    pid: Option<u32>,
    /// Run only this case; may be given more than once
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Skip this case; may be given more than once
    #[arg(long = "without", value_name = "NAME")]
    without: Vec<String>,
    /// List the cases with the required behaviour and the source of each
    #[arg(long)]
    list: bool,
    /// Print JSON, one object a case, instead of a table
    #[arg(long)]
    json: bool,
    /// The path of Engine.IO
    #[arg(long, default_value = "/socket.io/")]
    path: String,
    /// Path of a file of 1 MB or more that the server serves; without it, cases with files are skipped
    #[arg(long, value_name = "PATH")]
    file: Option<String>,
    /// The server API of plugnode, as http://host:port; without it, cases of the API are skipped
    #[arg(long, value_name = "URL", requires = "api_key")]
    api: Option<String>,
    /// A key of it, with all permissions for namespace /
    #[arg(long, value_name = "KEY", requires = "api")]
    api_key: Option<String>,
    /// Seconds within which the server must close connections that are held without use
    #[arg(long, default_value_t = 30.0)]
    patience: f64,
    /// Factor on the allowed delay of the bystander, for a debug build or a busy machine
    #[arg(long, default_value_t = 1.0)]
    slack: f64,
}

const SERVER: &str = "\
The server must take clients of Socket.IO 4 in namespace /, by polling and websocket, with messages of up to 1 MB, and
  - answer the event `message` by the event `message-back` with the same arguments,
  - acknowledge the event `message-with-ack` with the same arguments,
  - broadcast the arguments of `shout` to all other clients as `shouted`,
  - on `join`, put the client into the room that the argument names, and acknowledge it with true.
It may send anything else. Namespaces /hostile-NUMBER should exist, preferably by a pattern; pings should come every 25 s, the default.

  node tests/js/reference.mjs hostile                       Node's own server
  plugnode run -c examples/conformance/plugnode-hostile.toml

Exit code 0: no case failed; 1: one did; 2: the server cannot be reached.
Attack only your own servers.";

#[tokio::main]
async fn main() -> ExitCode {
    match attack(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("plugnode-hostile: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs the selected cases; returns whether none failed.
async fn attack(arguments: Arguments) -> Result<bool> {
    let cases = chosen(&arguments)?;
    if arguments.list {
        report::list(&cases, arguments.json);
        return Ok(true);
    }
    // Some cases hold hundreds of connections.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let process = arguments.pid.map(Process::new).transpose()?;
    let url = arguments.url.context("--url is required")?;
    let mut server = Server::new(&url, &arguments.path, process).await?;
    server.file = arguments.file;
    if let (Some(api), Some(key)) = (&arguments.api, arguments.api_key) {
        server.api = Some(Arc::new((Server::new(api, "/", process).await?, key)));
    }
    server.patience = Duration::try_from_secs_f64(arguments.patience).context("--patience")?;
    server.slack = arguments.slack.max(0.1);
    let newcomer = server.newcomer().await;
    newcomer.with_context(|| format!("{url} does not behave as --help describes"))?;
    let mut report = Report::new(server.process.is_some());
    for (number, case) in cases.iter().enumerate() {
        let outcome = Runner::new(&server).run(case).await;
        let is_gone = outcome.is_unserved;
        report.add(case, outcome);
        if is_gone {
            eprintln!("the server has ended; {} cases are not run", cases.len() - number - 1);
            break;
        }
    }
    report.print(arguments.json);
    Ok(report.is_clean())
}

/// The cases that the command line selects, in order.
fn chosen(arguments: &Arguments) -> Result<Vec<Case>> {
    let all = cases::all();
    for name in arguments.cases.iter().chain(&arguments.without) {
        if all.iter().all(|case| case.name != name) {
            bail!("unknown case `{name}`; see --list");
        }
    }
    let wanted = |name: &str| {
        (arguments.cases.is_empty() || arguments.cases.iter().any(|case| case == name))
            && !arguments.without.iter().any(|case| case == name)
    };
    Ok(all.into_iter().filter(|case| wanted(case.name)).collect())
}
