//! The clients that a command is for.

use serde::{Deserialize, Serialize};

use crate::{Channel, Namespace, SessionId};

/// Clients and channels of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// These clients.
    pub clients: Vec<SessionId>,
    /// All clients in these channels.
    pub channels: Vec<Channel>,
}

/// Clients of a namespace, before exceptions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// All clients.
    All,
    /// The selected clients.
    Only(Selection),
}

/// The clients that a command is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audience {
    /// Their namespace.
    pub namespace: Namespace,
    /// The clients meant.
    pub to: Scope,
    /// The clients left out.
    pub except: Selection,
}

impl Audience {
    /// The clients, if the audience names no channels: the command then goes to their io-nodes only.
    pub fn clients_only(&self) -> Option<&[SessionId]> {
        match &self.to {
            Scope::Only(selection) if selection.channels.is_empty() => Some(&selection.clients),
            _ => None,
        }
    }

    /// The client, if the audience is exactly one client.
    pub fn only_client(&self) -> Option<&SessionId> {
        let Selection { clients, channels } = &self.except;
        match self.clients_only() {
            Some([client]) if clients.is_empty() && channels.is_empty() => Some(client),
            _ => None,
        }
    }
}
