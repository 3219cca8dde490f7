//! `plugnode-hostile`: attacks a Socket.IO server and sends it what is odd, and says how it took that.
//!
//! It knows the server by its URL alone, and by its process id what it takes of memory and files. Each case is described where it is
//! written, in [`cases`]: to add one, write it there. Nothing here hangs: every case has a limit in time.

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
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;

use case::Case;
use process::Process;
use report::Report;
use run::Runner;
use server::Server;

/// Attacks a Socket.IO server, while an bystander client is echoed, and prints how each case went.
#[derive(Debug, Parser)]
#[command(name = "plugnode-hostile", version, after_help = SERVER)]
struct Arguments {
    /// The server, as http://host:port
    #[arg(long, value_name = "URL", required_unless_present = "list")]
    url: Option<String>,
    /// The server's process on this machine: its memory and open files are watched
    #[arg(long)]
    pid: Option<u32>,
    /// Run this case alone; may be given more than once
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Leave this case out; may be given more than once
    #[arg(long = "without", value_name = "NAME")]
    without: Vec<String>,
    /// List the cases, what each must lead to, and where it comes from
    #[arg(long)]
    list: bool,
    /// Print JSON, an object for each case, instead of a table
    #[arg(long)]
    json: bool,
    /// The path of Engine.IO
    #[arg(long, default_value = "/socket.io/")]
    path: String,
    /// The path of a file of 1 MB or more that the server gives out; without it, cases with files are skipped
    #[arg(long, value_name = "PATH")]
    file: Option<String>,
    /// Seconds after which the server must have let go those who hold a connection and do nothing with it
    #[arg(long, default_value_t = 30.0)]
    patience: f64,
    /// Allow the bystander so many times the delay, for a slow build or a busy machine
    #[arg(long, default_value_t = 1.0)]
    slack: f64,
}

const SERVER: &str = "\
The server must take clients of Socket.IO 4 in namespace /, by polling and websocket, with messages of up to 1 MB, and
  - answer the event `message` by the event `message-back` with the same arguments,
  - acknowledge the event `message-with-ack` with the same arguments,
  - send what `shout` gives it to all other clients, as `shouted`,
  - on `join`, put the client into the room that the argument names, and acknowledge it with true.
What else it sends does not matter. Namespaces /hostile-NUMBER should be there, best by a pattern; pings at the usual 25 s.

  node tests/js/reference.mjs hostile                       Node's own server
  plugnode run -c examples/conformance/plugnode-hostile.toml

It exits with 0 when no case failed, with 1 when one did, and with 2 when the server cannot be reached.
Attack servers of your own only.";

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

/// Runs the chosen cases, and says whether none failed.
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
    server.patience = Duration::try_from_secs_f64(arguments.patience).context("--patience")?;
    server.slack = arguments.slack.max(0.1);
    let newcomer = server.newcomer().await;
    newcomer.with_context(|| format!("{url} is not answering as --help asks"))?;
    let mut report = Report::new(server.process.is_some());
    for (number, case) in cases.iter().enumerate() {
        let outcome = Runner::new(&server).run(case).await;
        let is_gone = outcome.is_unserved;
        report.add(case, outcome);
        if is_gone {
            eprintln!("the server is gone, and {} cases are not run", cases.len() - number - 1);
            break;
        }
    }
    report.print(arguments.json);
    Ok(report.is_clean())
}

/// The cases that the command line asks for, in their order.
fn chosen(arguments: &Arguments) -> Result<Vec<Case>> {
    let all = cases::all();
    for name in arguments.cases.iter().chain(&arguments.without) {
        if all.iter().all(|case| case.name != name) {
            bail!("there is no case `{name}`; --list has all of them");
        }
    }
    let wanted = |name: &str| {
        (arguments.cases.is_empty() || arguments.cases.iter().any(|case| case == name))
            && !arguments.without.iter().any(|case| case == name)
    };
    Ok(all.into_iter().filter(|case| wanted(case.name)).collect())
}
