//! The benchmark: plugnode beside its peers, under the same load, on the same machine, in one run.
//!
//! `make bench` runs all of it and writes `tests/bench/results`. Of everything that is sent, each recipient keeps an account:
//! where something was lost, doubled or reordered, the run fails, because then its figures compare nothing.
//!
//! Read it from here: [`scenarios`] say what is measured, on [`peers`], with clients that [`talk`], [`fan`] out, or make
//! [`requests`]; [`rounds`] are what comes of it, and [`report`] is what is said about it.

mod books;
mod client;
mod crowd;
mod fan;
mod latency;
mod peers;
mod report;
mod requests;
mod rounds;
mod scenarios;
mod server;
mod talk;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use plugnode_tests::repository;

use crate::report::{Machine, Report, Results};
use crate::rounds::Extent;
use crate::scenarios::Scenario;

/// Measures plugnode and its peers.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// What to measure; all when none is named
    scenarios: Vec<Scenario>,
    /// Of these, the middle is what counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a round is measured
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// One round of a second with fewer clients: to see that it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Say what there is to measure
    #[arg(long)]
    list: bool,
    /// Where to write the results; without it, only a run of all scenarios writes them, to tests/bench/results
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    if let Some(code) = peers::take_part() {
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

/// Whether everything that was sent came as it should.
async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let extent = match arguments.quick {
        true => Extent {
            rounds: 1,
            time: Duration::from_secs(1),
            quick: true,
        },
        false => Extent {
            rounds: arguments.rounds.max(1),
            time: Duration::try_from_secs_f64(arguments.seconds).context("--seconds is no time")?,
            quick: false,
        },
    };
    let all = arguments.scenarios.is_empty();
    let scenarios = if all {
        Scenario::value_variants()
    } else {
        &arguments.scenarios
    };
    let mut report = Report {
        machine: Machine::look(),
        extent,
        results: Vec::new(),
    };
    for scenario in scenarios {
        eprintln!("== {}: {}", scenario.name(), scenario.load());
        let (rows, failed) = match scenario.run(extent).await {
            Ok(rows) => (rows, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        report.results.push(Results {
            scenario: *scenario,
            rows,
            failed,
        });
    }
    report.machine.look_again();
    println!("{}", report.to_markdown());
    let own = (all && !arguments.quick).then(|| repository().join("tests/bench/results"));
    if let Some(folder) = arguments.results.or(own) {
        report.write(&folder)?;
    }
    let clean = report.results.iter().all(Results::is_clean);
    if !clean {
        eprintln!("error: not everything came as it should, so the figures above compare nothing");
    }
    Ok(clean)
}
