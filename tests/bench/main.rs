//! The benchmark: plugnode and its peers, under the same load, on the same machine, in one run.
//!
//! `make bench` runs all scenarios and writes `tests/bench/results`. Each recipient keeps an account of the messages that it
//! should receive: if one is lost, doubled or reordered, the run fails, because its figures are not comparable.
//!
//! [`scenarios`] run [`rounds`] on the servers in [`peers`]. A [`load`] consists of [`client`]s that [`exchange`] messages,
//! [`fan_out`] messages, or send HTTP [`requests`]. [`report`] presents the results.

mod client;
mod exchange;
mod fan_out;
mod latency;
mod load;
mod numbered_text;
mod peers;
mod reply_check;
mod report;
mod requests;
mod rounds;
mod scenarios;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use plugnode_tests::repository;

use crate::report::{Machine, Report, Results};
use crate::rounds::RunSize;
use crate::scenarios::Scenario;

/// Measure plugnode and its peers.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// Scenarios to run [default: all]
    scenarios: Vec<Scenario>,
    /// Rounds of each scenario; the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured time of a round
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Smoke test: one round of one second with fewer clients
    #[arg(long)]
    quick: bool,
    /// List the scenarios
    #[arg(long)]
    list: bool,
    /// Folder for the results [default: tests/bench/results for a run of all scenarios, none otherwise]
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
    /// Passed by cargo to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    if let Some(code) = peers::run_mode() {
        return code;
    }
    let arguments = Arguments::parse();
    if arguments.list {
        for scenario in Scenario::value_variants() {
            println!("{:<10} {}", scenario.name(), scenario.load());
        }
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run(arguments)))
    {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs the scenarios. Returns whether all checks are clean.
async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let size = match arguments.quick {
        true => RunSize {
            rounds: 1,
            time: Duration::from_secs(1),
            is_quick: true,
        },
        false => RunSize {
            rounds: arguments.rounds.max(1),
            time: Duration::try_from_secs_f64(arguments.seconds).context("--seconds is not a valid duration")?,
            is_quick: false,
        },
    };
    let all = arguments.scenarios.is_empty();
    let scenarios = if all {
        Scenario::value_variants()
    } else {
        &arguments.scenarios
    };
    let mut report = Report {
        machine: Machine::inspect(),
        size,
        results: Vec::new(),
    };
    for scenario in scenarios {
        eprintln!("== {}: {}", scenario.name(), scenario.load());
        let (rows, failed) = match scenario.run(size).await {
            Ok(rows) => (rows, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        report.results.push(Results {
            scenario: *scenario,
            rows,
            failed,
        });
    }
    report.machine.finish();
    println!("{}", report.to_markdown());
    let default_folder = (all && !arguments.quick).then(|| repository().join("tests/bench/results"));
    if let Some(folder) = arguments.results.or(default_folder) {
        report.write(&folder)?;
    }
    let clean = report.results.iter().all(Results::is_clean);
    if !clean {
        eprintln!("error: messages were lost, doubled or reordered, so the figures above are not comparable");
    }
    Ok(clean)
}
