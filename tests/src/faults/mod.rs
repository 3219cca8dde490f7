//! Faults for real, under load: each scene starts a cluster of processes over a Redis of its own, lets the checker's
//! clients speak to it, breaks something again and again, and returns the checker's report.
//!
//! A scene sees to it that work goes on after each fault, and that no client loses its connection where none may. Whether
//! anything was lost, doubled or reordered is in the report.

mod amnesia;
mod deploys;
mod everything;
mod ground;
mod late;
mod network;
mod nodes;
mod rollouts;
mod shares;
mod storage;

pub use deploys::Deploys;

use std::pin::Pin;
use std::time::Duration;

use crate::check::Report;

/// How a scene is played.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Which random numbers to take: for times, for victims.
    pub seed: u64,
    /// How many clients there are.
    pub clients: usize,
    /// How many messages each sends in a second.
    pub rate: f64,
    /// How often something is broken.
    pub rounds: usize,
    /// Parts that partitions and keys are spread over.
    pub shards: u16,
    /// Of all messages, the part that the handler fails at the first attempt.
    pub trouble: f64,
    /// Of all messages, the part that the handler fails at every attempt.
    pub failures: f64,
    /// Whether messages increment shared counters.
    pub counters: bool,
    /// Whether messages set attributes of their clients.
    pub attributes: bool,
    /// How long a client stays, more or less, before another takes its place.
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

/// A scene that is being played.
pub type Playing = Pin<Box<dyn Future<Output = Report> + Send>>;

/// A scene.
#[derive(Clone, Copy)]
pub struct Scene {
    /// Its name.
    pub name: &'static str,
    play: fn(Plan) -> Playing,
}

impl Scene {
    /// Plays it.
    ///
    /// # Panics
    /// When work does not go on after a fault, or clients were disconnected by one that is none of theirs.
    pub fn play(self, plan: Plan) -> Playing {
        (self.play)(plan)
    }

    /// The scene of that name.
    ///
    /// # Panics
    /// When there is none.
    pub fn named(name: &str) -> Self {
        let scene = SCENES.into_iter().find(|scene| scene.name == name);
        scene.unwrap_or_else(|| panic!("there is no scene {name:?}: {:?}", SCENES.map(|scene| scene.name)))
    }
}

macro_rules! scenes {
    ($($name:literal => $scene:path,)*) => {
        [$(Scene { name: $name, play: |plan| Box::pin($scene(plan)) }),*]
    };
}

/// Every scene.
pub const SCENES: [Scene; 34] = scenes! {
    "app-nodes-killed" => nodes::app_nodes_killed,
    "app-node-zombie" => nodes::app_node_zombie,
    "app-nodes-restarted" => nodes::app_nodes_restarted,
    "app-nodes-come-and-go" => nodes::app_nodes_come_and_go,
    "io-nodes-killed" => nodes::io_nodes_killed,
    "io-node-zombie" => nodes::io_node_zombie,
    "io-nodes-restarted" => nodes::io_nodes_restarted,
    "redis-restarted" => storage::redis_restarted,
    "redis-killed" => storage::redis_killed,
    "redis-paused" => storage::redis_paused,
    "server-paused" => storage::server_paused,
    "server-replaced" => storage::server_replaced,
    "replica-promoted" => storage::replica_promoted,
    "master-killed" => storage::master_killed,
    "slots-moved" => storage::slots_moved,
    "links-cut" => network::links_cut,
    "links-delayed" => network::links_delayed,
    "links-blackholed" => network::links_blackholed,
    "links-flaky" => network::links_flaky,
    "links-narrow" => network::links_narrow,
    "io-node-isolated" => network::io_node_isolated,
    "late-copies" => late::late_copies,
    "greedy-clients" => shares::greedy_clients,
    "redis-flushed" => amnesia::redis_flushed,
    "redis-restarted-without-aof" => amnesia::redis_restarted_without_aof,
    "swap-storm" => deploys::swap_storm,
    "swap-storm-in-memory" => deploys::swap_storm_in_memory,
    "deploys-at-once" => rollouts::deploys_at_once,
    "deploys-while-app-nodes-die" => rollouts::app_nodes_killed,
    "deploys-while-redis-dies" => rollouts::redis_killed,
    "deploys-while-app-nodes-sleep" => rollouts::app_nodes_paused,
    "rollbacks-in-rollouts" => rollouts::rolled_back,
    "canaries-of-flawed-builds" => rollouts::canaries_fail,
    "everything-at-once" => everything::at_once,
};
