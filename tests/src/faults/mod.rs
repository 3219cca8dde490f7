//! Real faults under load: each scenario starts a cluster of processes over its own Redis, runs the checker's clients against it, injects
//! faults repeatedly, and returns the checker's report.
//!
//! A scenario asserts that clients are served after each fault, and that no client loses its connection where none may. Lost, doubled
//! and reordered messages are in the report.

mod combined;
mod data_loss;
mod deployer;
mod greedy;
mod late_copies;
mod network;
mod nodes;
mod redis;
mod rollouts;
mod testbed;

pub use deployer::Deployer;

use std::pin::Pin;
use std::time::Duration;

use crate::check::Report;

/// Parameters of a scenario.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Seed of the random times and victims.
    pub seed: u64,
    /// Number of clients.
    pub clients: usize,
    /// Messages of each client per second.
    pub rate: f64,
    /// Number of faults.
    pub rounds: usize,
    /// Number of shards.
    pub shards: u16,
    /// Share of messages that the handler fails at the first attempt.
    pub trouble: f64,
    /// Share of messages that the handler fails at every attempt.
    pub failures: f64,
    /// Whether messages increment shared counters.
    pub counters: bool,
    /// Whether messages set attributes of their clients.
    pub attributes: bool,
    /// Mean time before a client disconnects and a new one takes its place.
    pub lifetime: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            clients: 24,
            rate: 10.0,
            rounds: 3,
            shards: 1,
            trouble: 0.01,
            failures: 0.01,
            counters: true,
            attributes: true,
            lifetime: Duration::from_secs(8),
        }
    }
}

/// A running scenario.
pub type RunningScenario = Pin<Box<dyn Future<Output = Report> + Send>>;

/// A named scenario.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    run: fn(Plan) -> RunningScenario,
}

impl Scenario {
    /// Runs it.
    ///
    /// # Panics
    /// When clients are not served after a fault, or lose their connection where none may.
    pub fn run(self, plan: Plan) -> RunningScenario {
        (self.run)(plan)
    }

    /// The scenario with this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn named(name: &str) -> Self {
        let scenario = SCENARIOS.into_iter().find(|scenario| scenario.name == name);
        scenario.unwrap_or_else(|| {
            panic!(
                "no scenario {name:?}; there are {:?}",
                SCENARIOS.map(|scenario| scenario.name)
            )
        })
    }
}

macro_rules! scenarios {
    ($($name:literal => $scenario:path,)*) => {
        [$(Scenario { name: $name, run: |plan| Box::pin($scenario(plan)) }),*]
    };
}

/// All scenarios.
pub const SCENARIOS: [Scenario; 34] = scenarios! {
    "app-nodes-killed" => nodes::app_nodes_killed,
    "app-node-zombie" => nodes::app_node_zombie,
    "app-nodes-restarted" => nodes::app_nodes_restarted,
    "app-nodes-come-and-go" => nodes::app_nodes_come_and_go,
    "io-nodes-killed" => nodes::io_nodes_killed,
    "io-node-zombie" => nodes::io_node_zombie,
    "io-nodes-restarted" => nodes::io_nodes_restarted,
    "redis-restarted" => redis::redis_restarted,
    "redis-killed" => redis::redis_killed,
    "redis-paused" => redis::redis_paused,
    "server-paused" => redis::server_paused,
    "server-replaced" => redis::server_replaced,
    "replica-promoted" => redis::replica_promoted,
    "master-killed" => redis::master_killed,
    "slots-moved" => redis::slots_moved,
    "links-cut" => network::links_cut,
    "links-delayed" => network::links_delayed,
    "links-blackholed" => network::links_blackholed,
    "links-flaky" => network::links_flaky,
    "links-narrow" => network::links_narrow,
    "io-node-isolated" => network::io_node_isolated,
    "late-copies" => late_copies::late_copies,
    "greedy-clients" => greedy::greedy_clients,
    "redis-flushed" => data_loss::redis_flushed,
    "redis-restarted-without-aof" => data_loss::redis_restarted_without_aof,
    "swap-storm" => deployer::swap_storm,
    "swap-storm-in-memory" => deployer::swap_storm_in_memory,
    "deploys-at-once" => rollouts::deploys_at_once,
    "deploys-while-app-nodes-die" => rollouts::app_nodes_killed,
    "deploys-while-redis-dies" => rollouts::redis_killed,
    "deploys-while-app-nodes-sleep" => rollouts::app_nodes_paused,
    "rollbacks-in-rollouts" => rollouts::rolled_back,
    "canaries-of-flawed-builds" => rollouts::canaries_fail,
    "everything-at-once" => combined::at_once,
};
