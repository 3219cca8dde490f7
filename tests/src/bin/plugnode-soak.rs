//! `make soak`: plays scenes of faults in random order and length until the time is over or something is found.
//!
//! SOAK_MINUTES says how long, SOAK_SEED and SOAK_SCENE play one thing again. Every scene says its seed before it begins.
//! `SOAK_SCENE=coming-and-going` and `SOAK_SCENE=large-messages` are crowds of clients, which are played once and alone.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use plugnode_tests::crowd::{ComingAndGoing, LargeMessages};
use plugnode_tests::faults::{Plan, SCENES, Scene};

/// How long to go on when nothing else is said.
const MINUTES: u64 = 30;

#[tokio::main]
async fn main() -> ExitCode {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>());
    let (minutes, seed) = match (number("SOAK_MINUTES").transpose(), number("SOAK_SEED").transpose()) {
        (Ok(minutes), Ok(seed)) => (minutes.unwrap_or(MINUTES), seed.unwrap_or_else(by_the_clock)),
        _ => {
            eprintln!("plugnode-soak: SOAK_MINUTES and SOAK_SEED are whole numbers");
            return ExitCode::from(2);
        }
    };
    let scenes = match std::env::var("SOAK_SCENE") {
        Ok(name) if name == "coming-and-going" => {
            ComingAndGoing::LONG.play().await;
            return ExitCode::SUCCESS;
        }
        Ok(name) if name == "large-messages" => {
            LargeMessages::LONG.play().await;
            return ExitCode::SUCCESS;
        }
        Ok(name) => vec![Scene::named(&name)],
        Err(_) => SCENES.to_vec(),
    };
    let begun = Instant::now();
    let mut seed = seed;
    let mut played = 0;
    while begun.elapsed() < Duration::from_secs(60 * minutes) {
        let scene = scenes[(mixed(seed) % scenes.len() as u64) as usize];
        let plan = plan(seed, scene);
        println!(
            "== {:.0?}: {} (SOAK_SEED={seed} SOAK_SCENE={}), {} clients, {} messages/s each, {} rounds, {} shards",
            begun.elapsed(),
            scene.name,
            scene.name,
            plan.clients,
            plan.rate,
            plan.rounds,
            plan.shards
        );
        // A panic says what is wrong as well; it ends this program with another code than success.
        let report = scene.play(plan).await;
        if !report.is_clean() {
            println!("found with SOAK_SEED={seed} SOAK_SCENE={}", scene.name);
            return ExitCode::FAILURE;
        }
        played += 1;
        seed = seed.wrapping_add(1);
    }
    println!("== {played} scenes in {:.0?}, and nothing found", begun.elapsed());
    ExitCode::SUCCESS
}

/// What a seed makes of a scene.
fn plan(seed: u64, scene: Scene) -> Plan {
    let random = mixed(seed ^ 0x5eed);
    let plan = Plan {
        seed,
        clients: 8 + (random % 40) as usize,
        rate: 3.0 + (random >> 8 & 15) as f64,
        rounds: 2 + (random >> 16) as usize % 5,
        shards: if random >> 24 & 1 == 1 { 3 } else { 1 },
        ..Default::default()
    };
    match scene.name {
        // Many who say little, for ten minutes of a deploy each second.
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
