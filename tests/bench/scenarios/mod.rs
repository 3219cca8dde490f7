//! The scenarios: each starts its servers, runs the same load on them in turn, and returns the results.

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
mod publishes;
mod rooms;
mod swap;
mod timers;

use crate::peers::{self, Handler};
use crate::rounds::{Contender, Row, RunSize};

/// Settings of the app, for scenarios that start a cluster themselves.
const APP: &str = "instances = 2\ngrants.keyvalue = [\"default\"]";

/// All kinds of servers, each with as few processes as possible.
async fn all_servers() -> [Contender; 5] {
    [
        Contender::start("bare", peers::bare).await,
        Contender::start("node_alone", peers::node_alone).await,
        Contender::start("memory", async |folder| peers::memory(folder, Handler::Wasm).await).await,
        Contender::start("node", async |folder| peers::node(folder, 1, 1).await).await,
        Contender::start("redis", async |folder| peers::redis(folder, 1, 1).await).await,
    ]
}

/// A scenario. A run has them in this order.
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
    Timers,
    Publishes,
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
            Self::Timers => "timers",
            Self::Publishes => "publishes",
            Self::Growth => "growth",
            Self::Limits => "limits",
        }
    }

    /// Describes the load. Costs are per message, delivery or connection.
    pub(crate) fn load(self) -> &'static str {
        match self {
            Self::Echo => {
                "100 clients with 8 messages in flight each; the server sends each message back to its sender"
            }
            Self::Latency => "echo with one message in flight: of one client, and of each of 100",
            Self::Broadcast => "500 clients receive the messages of one, which has 8 in flight; costs are per delivery",
            Self::Rooms => {
                "200 rooms of 50; 2,000 clients in 5 rooms each; one sender in each room; costs are per delivery"
            }
            Self::Connect => {
                "2,000 clients connect, 100 at a time, until each has its session id; costs are per connection"
            }
            Self::Idle => "5,000 clients connect and stay idle: growth of memory per client",
            Self::Handler => {
                "100 clients with 8 messages in flight each; the same handler as a component and as native Rust, called in place"
            }
            Self::Invocation => {
                "100 clients with one request or message in flight each, which is sent back, over HTTP and over Socket.IO; the bare \
                 servers answer by themselves, the others invoke a component"
            }
            Self::Swap => {
                "100 clients with a message every 200 ms each, at fixed times; 3 app-nodes over Redis; one deploy per second"
            }
            Self::Kill => {
                "100 clients with 2,000 messages per second together, at fixed times; kill -9 of one of two app-nodes; lease of 1 s"
            }
            Self::Timers => "100 clients with a periodic timer of 100 ms each; costs are per event",
            Self::Publishes => {
                "200 programs publish 5,000 events per second together through the server API, at fixed times, each to one client; costs are \
                 per publish"
            }
            Self::Growth => {
                "3,000 messages per second at fixed times over Redis, from 100 to 10,000 clients, and with 2 to 5 nodes"
            }
            Self::Limits => {
                "redis-benchmark: rate and cost of each command, from 50 connections, with entries of 200 bytes"
            }
        }
    }

    /// Runs the scenario.
    ///
    /// # Errors
    /// When a server cannot run the load at all.
    pub(crate) async fn run(self, size: RunSize) -> anyhow::Result<Vec<Row>> {
        match self {
            Self::Echo => echo::run(size).await,
            Self::Latency => latency::run(size).await,
            Self::Broadcast => broadcast::run(size).await,
            Self::Rooms => rooms::run(size).await,
            Self::Connect => connect::run(size).await,
            Self::Idle => idle::run(size).await,
            Self::Handler => handler::run(size).await,
            Self::Invocation => invocation::run(size).await,
            Self::Swap => swap::run(size).await,
            Self::Kill => kill::run(size).await,
            Self::Timers => timers::run(size).await,
            Self::Publishes => publishes::run(size).await,
            Self::Growth => growth::run(size).await,
            Self::Limits => limits::run(size).await,
        }
    }
}
