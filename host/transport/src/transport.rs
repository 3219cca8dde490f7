//! The five seams together, and the three of them that operators use.

use std::sync::Arc;

use crate::{DeadLetters, Events, Nodes, Releases};
use plugnode_message::KeyValue;

/// How the nodes of a cluster reach each other: five seams, each of which another can take the place of. Clones are the same
/// transport.
#[derive(Clone)]
pub struct Transport {
    /// Events to app-nodes, commands to io-nodes.
    pub events: Arc<dyn Events>,
    /// Which nodes there are, and what they tell.
    pub nodes: Arc<dyn Nodes>,
    /// Components, and the board of releases.
    pub releases: Arc<dyn Releases>,
    /// Events that were put aside.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// The key-value store, as of the last commit.
    pub key_value: Arc<dyn KeyValue>,
}

impl Transport {
    /// A transport of one thing that is all five seams.
    pub fn of(whole: Arc<impl Events + Nodes + Releases + DeadLetters + KeyValue + 'static>) -> Self {
        Self {
            events: whole.clone(),
            nodes: whole.clone(),
            releases: whole.clone(),
            dead_letters: whole.clone(),
            key_value: whole,
        }
    }

    /// What an operator does with it.
    pub fn operations(&self) -> Operations {
        Operations {
            nodes: self.nodes.clone(),
            releases: self.releases.clone(),
            dead_letters: self.dead_letters.clone(),
        }
    }
}

/// What an operator does with a running cluster from outside of its processes: three seams of its [`Transport`].
#[derive(Clone)]
pub struct Operations {
    /// Which nodes there are, and what they tell.
    pub nodes: Arc<dyn Nodes>,
    /// Components, and the board of releases.
    pub releases: Arc<dyn Releases>,
    /// Events that were put aside.
    pub dead_letters: Arc<dyn DeadLetters>,
}

impl Operations {
    /// The operations of one thing that is all three seams.
    pub fn of(whole: Arc<impl Nodes + Releases + DeadLetters + 'static>) -> Self {
        Self {
            nodes: whole.clone(),
            releases: whole.clone(),
            dead_letters: whole,
        }
    }
}
