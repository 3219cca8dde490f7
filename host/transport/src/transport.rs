//! A transport: five trait objects, one for each seam. Three of them are also the interface for operators.

use std::sync::Arc;

use crate::{DeadLetters, Events, Nodes, Releases};
use plugnode_message::KeyValue;

/// The transport of a node: five seams, each of which can be replaced on its own. Clones share the transport.
#[derive(Clone)]
pub struct Transport {
    /// Events to app-nodes, commands to io-nodes.
    pub events: Arc<dyn Events>,
    /// The members of the cluster and their reports.
    pub nodes: Arc<dyn Nodes>,
    /// Components, and the board of releases.
    pub releases: Arc<dyn Releases>,
    /// Dead letters: events that every attempt failed to handle.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// The key-value store, as of the last commit.
    pub key_value: Arc<dyn KeyValue>,
}

impl Transport {
    /// A transport from one value that implements all five seams.
    pub fn of(whole: Arc<impl Events + Nodes + Releases + DeadLetters + KeyValue + 'static>) -> Self {
        Self {
            events: whole.clone(),
            nodes: whole.clone(),
            releases: whole.clone(),
            dead_letters: whole.clone(),
            key_value: whole,
        }
    }

    /// The seams that operators use.
    pub fn operations(&self) -> Operations {
        Operations {
            nodes: self.nodes.clone(),
            releases: self.releases.clone(),
            dead_letters: self.dead_letters.clone(),
        }
    }
}

/// The interface for operators, such as the command line: three seams of the [`Transport`] of a running cluster.
#[derive(Clone)]
pub struct Operations {
    /// The members of the cluster and their reports.
    pub nodes: Arc<dyn Nodes>,
    /// Components, and the board of releases.
    pub releases: Arc<dyn Releases>,
    /// Dead letters: events that every attempt failed to handle.
    pub dead_letters: Arc<dyn DeadLetters>,
}

impl Operations {
    /// The operations of one value that implements all three seams.
    pub fn of(whole: Arc<impl Nodes + Releases + DeadLetters + 'static>) -> Self {
        Self {
            nodes: whole.clone(),
            releases: whole.clone(),
            dead_letters: whole,
        }
    }
}
