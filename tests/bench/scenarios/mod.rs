//! The scenarios: each starts its servers, puts the same load on each of them in turn, and says what came of it.

mod broadcast;
mod connect;
mod echo;
mod growth;
mod handler;
mod idle;
mod invocation;
mod kill;
mod latency;
mod limits;
mod rooms;
mod swap;

use crate::peers::{self, Handler};
use crate::rounds::{Entrant, Extent, Row};

/// Settings of the handler that is measured, where a scenario starts its nodes itself.
const APP: &str = "instances = 2\ngrants.keyvalue = [\"default\"]";

/// Every kind of server, with as few processes as it can have.
async fn everyone() -> [Entrant; 5] {
    [
        Entrant::start("bare", peers::bare).await,
        Entrant::start("node_alone", peers::node_alone).await,
        Entrant::start("memory", async |folder| peers::memory(folder, Handler::Wasm).await).await,
        Entrant::start("node", async |folder| peers::node(folder, 1, 1).await).await,
        Entrant::start("redis", async |folder| peers::redis(folder, 1, 1).await).await,
    ]
}

/// What is measured, in the order in which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    Echo,
    Latency,
    Broadcast,
    Rooms,
    Connect,
    Idle,
    Handler,
    Invocation,
    Swap,
    Kill,
    Growth,
    Limits,
}

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Latency => "latency",
            Self::Broadcast => "broadcast",
            Self::Rooms => "rooms",
            Self::Connect => "connect",
            Self::Idle => "idle",
            Self::Handler => "handler",
            Self::Invocation => "invocation",
            Self::Swap => "swap",
            Self::Kill => "kill",
            Self::Growth => "growth",
            Self::Limits => "limits",
        }
    }

    /// The load, in a sentence. Everything that costs is what one message, delivery or connection cost.
    pub(crate) fn load(self) -> &'static str {
        match self {
            Self::Echo => "100 clients with 8 messages in flight each; each message comes back to its sender",
            Self::Latency => "echo with one message in flight: by one client alone, and by each of 100",
            Self::Broadcast => {
                "500 clients hear what one says, who has 8 messages in flight; costs are of one delivery"
            }
            Self::Rooms => "200 rooms of 50, 2,000 clients in 5 each, one speaker a room; costs are of one delivery",
            Self::Connect => {
                "2,000 clients connect, 100 at a time, until each has its session id; costs are of one connection"
            }
            Self::Idle => "5,000 clients connect and are silent: what memory grew by, for each",
            Self::Handler => {
                "100 clients with 8 messages in flight each, the same handler as a component and natively, called in place"
            }
            Self::Invocation => {
                "100 clients with one request or message in flight each, which comes back, over HTTP and over Socket.IO; the bare \
                 servers answer by themselves, the others invoke a component"
            }
            Self::Swap => {
                "100 clients, each a message every 200 ms at fixed times, 3 app-nodes over Redis, a deploy a second"
            }
            Self::Kill => {
                "100 clients, 2,000 messages a second at fixed times, kill -9 of one of two app-nodes; lease of 1 s"
            }
            Self::Growth => {
                "3,000 messages a second at fixed times over Redis, from few clients and many, with few nodes and more"
            }
            Self::Limits => "redis-benchmark: what Redis does of each, from 50 connections, with entries of 200 bytes",
        }
    }

    /// The same, with one server after the other.
    ///
    /// # Errors
    /// When a server did not take the load at all.
    pub(crate) async fn run(self, extent: Extent) -> anyhow::Result<Vec<Row>> {
        match self {
            Self::Echo => echo::run(extent).await,
            Self::Latency => latency::run(extent).await,
            Self::Broadcast => broadcast::run(extent).await,
            Self::Rooms => rooms::run(extent).await,
            Self::Connect => connect::run(extent).await,
            Self::Idle => idle::run(extent).await,
            Self::Handler => handler::run(extent).await,
            Self::Invocation => invocation::run(extent).await,
            Self::Swap => swap::run(extent).await,
            Self::Kill => kill::run(extent).await,
            Self::Growth => growth::run(extent).await,
            Self::Limits => limits::run(extent).await,
        }
    }
}
