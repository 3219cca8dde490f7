//! A race: several servers under the same load, a round each in turn, and what the middle rounds were.
//!
//! Medians of rounds in turn, because other work on the machine comes and goes. Ratios hold better than figures.

use std::process::ExitCode;

use crate::load::{CLIENTS, IN_FLIGHT, Round, Tally, measure, ready};
use crate::server::Server;

const ROUNDS: usize = 5;

/// One server's medians, and what became of all its messages.
struct Medians {
    per_second: f64,
    cpu_micros: f64,
    /// Of each process by itself.
    by_process: Vec<f64>,
    tally: Tally,
}

/// Runs the race and prints the table; the ratios are those of the last server to the first.
///
/// A failure when a message was lost, doubled, or out of order where order is meant: then the figures compare nothing.
pub(crate) async fn run(title: &str, servers: &[Server]) -> ExitCode {
    for server in servers {
        ready(server).await;
    }
    let mut rounds: Vec<Vec<Round>> = servers.iter().map(|_| Vec::new()).collect();
    for n in 0..ROUNDS {
        for (server, rounds) in servers.iter().zip(&mut rounds) {
            eprintln!("round {} of {ROUNDS}: {}", n + 1, server.name);
            rounds.push(measure(server).await);
        }
    }
    let medians: Vec<Medians> = rounds.iter().map(|rounds| Medians::of(rounds)).collect();
    println!("{title}: {CLIENTS} clients, {IN_FLIGHT} messages in flight each, medians of {ROUNDS} rounds");
    println!("{:<30} {:>12} {:>22}", "", "messages/s", "server CPU a message");
    for (server, of_it) in servers.iter().zip(&medians) {
        of_it.print(server);
    }
    let (first, last) = (&medians[0], &medians[medians.len() - 1]);
    println!("ratio of messages/s: {:.2}", last.per_second / first.per_second);
    println!("ratio of CPU:        {:.3}", last.cpu_micros / first.cpu_micros);
    let mut both = servers.iter().zip(&medians);
    if both.all(|(server, of_it)| of_it.tally.is_clean(server.in_order)) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: not every message came back as it should, so the figures above compare nothing");
    ExitCode::FAILURE
}

impl Medians {
    fn of(rounds: &[Round]) -> Self {
        let processes = rounds[0].cpu_micros.len();
        let mut tally = Tally::default();
        rounds.iter().for_each(|round| tally += round.tally);
        Self {
            per_second: median(rounds, |round| round.per_second),
            cpu_micros: median(rounds, |round| round.cpu_micros.iter().sum()),
            by_process: (0..processes)
                .map(|n| median(rounds, |round| round.cpu_micros[n]))
                .collect(),
            tally,
        }
    }

    fn print(&self, server: &Server) {
        println!(
            "{:<30} {:>12.0} {:>19.2} µs",
            server.name, self.per_second, self.cpu_micros
        );
        if server.processes.len() > 1 {
            for (process, cpu) in server.processes.iter().zip(&self.by_process) {
                println!("  {:<28} {:>12} {cpu:>19.2} µs", process.name, "");
            }
        }
        let Tally {
            sent,
            lost,
            doubled,
            out_of_order,
        } = self.tally;
        println!("  {sent} messages: {lost} lost, {doubled} doubled, {out_of_order} out of order");
    }
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
