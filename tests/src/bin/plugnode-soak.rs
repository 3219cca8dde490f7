//! `make soak`: runs random fault scenarios until the time is over or a violation is found.
//!
//! SOAK_MINUTES sets the time; SOAK_SEED and SOAK_SCENARIO repeat one scenario, with the values printed at its start.
//! `SOAK_SCENARIO=client-churn` and `SOAK_SCENARIO=large-messages` run a leak check once.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use plugnode_tests::faults::{Plan, SCENARIOS, Scenario};
use plugnode_tests::leaks::{ClientChurn, LargeMessages};

/// Default of SOAK_MINUTES.
const MINUTES: u64 = 30;

#[tokio::main]
async fn main() -> ExitCode {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>());
    let (minutes, seed) = match (number("SOAK_MINUTES").transpose(), number("SOAK_SEED").transpose()) {
        (Ok(minutes), Ok(seed)) => (minutes.unwrap_or(MINUTES), seed.unwrap_or_else(by_the_clock)),
        _ => {
            eprintln!("plugnode-soak: SOAK_MINUTES and SOAK_SEED must be whole numbers");
            return ExitCode::from(2);
        }
    };
    let scenarios = match std::env::var("SOAK_SCENARIO") {
        Ok(name) if name == "client-churn" => {
            ClientChurn::LONG.run().await;
            return ExitCode::SUCCESS;
        }
        Ok(name) if name == "large-messages" => {
            LargeMessages::LONG.run().await;
            return ExitCode::SUCCESS;
        }
        Ok(name) => vec![Scenario::named(&name)],
        Err(_) => SCENARIOS.to_vec(),
    };
    let begun = Instant::now();
    let mut seed = seed;
    let mut runs = 0;
    while begun.elapsed() < Duration::from_secs(60 * minutes) {
        let scenario = scenarios[(mixed(seed) % scenarios.len() as u64) as usize];
        let plan = plan(seed, scenario);
        println!(
            "== {:.0?}: {} (SOAK_SEED={seed} SOAK_SCENARIO={}), {} clients, {} messages/s each, {} rounds, {} shards",
            begun.elapsed(),
            scenario.name,
            scenario.name,
            plan.clients,
            plan.rate,
            plan.rounds,
            plan.shards
        );
        // A panic is a failure as well, with its own exit code.
        let report = scenario.run(plan).await;
        if !report.is_clean() {
            println!(
                "violation found; repeat with SOAK_SEED={seed} SOAK_SCENARIO={}",
                scenario.name
            );
            return ExitCode::FAILURE;
        }
        runs += 1;
        seed = seed.wrapping_add(1);
    }
    println!("== {runs} scenarios in {:.0?}, no violation", begun.elapsed());
    ExitCode::SUCCESS
}

/// The parameters of a scenario that follow from a seed.
fn plan(seed: u64, scenario: Scenario) -> Plan {
    let random = mixed(seed ^ 0x5eed);
    let plan = Plan {
        seed,
        clients: 8 + (random % 40) as usize,
        rate: 3.0 + (random >> 8 & 15) as f64,
        rounds: 2 + (random >> 16) as usize % 5,
        shards: if random >> 24 & 1 == 1 { 3 } else { 1 },
        ..Default::default()
    };
    match scenario.name {
        // Many clients with few messages; a deploy every second for ten minutes.
        "swap-storm" => Plan {
            clients: 2_000,
            rate: 0.1,
            rounds: 60,
            ..plan
        },
        _ => plan,
    }
}

fn mixed(seed: u64) -> u64 {
    let mixed = (seed ^ (seed >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 3
}

fn by_the_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(1, |since| since.as_secs())
}
