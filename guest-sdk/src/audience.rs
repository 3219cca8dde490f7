//! The clients that a command applies to, as in Socket.IO's `io.to(..).except(..).emit(..)`. Its commands are in `command`.

use crate::host::outbox::{self as wire, Delivery};

/// A set of clients of one namespace, with the commands for them.
///
/// Created by [`to`], [`client`] or [`all`], or by [`Client::to`](crate::Client::to) and
/// [`Client::others`](crate::Client::others), which leave that client out. A client that matches more than once counts once.
#[derive(Debug, Clone)]
#[must_use = "an audience does nothing until one of its commands is called"]
pub struct Audience {
    pub(crate) wire: wire::Audience,
    pub(crate) how: Delivery,
}

/// The clients of a channel.
pub fn to(channel: impl Into<String>) -> Audience {
    all().to(channel)
}

/// One client, by its id, on any io-node.
pub fn client(id: impl Into<String>) -> Audience {
    all().client(id)
}

/// Every client of the namespace.
pub fn all() -> Audience {
    Audience {
        wire: wire::Audience {
            namespace: None,
            to: wire::Scope::All,
            except: wire::Selection {
                clients: Vec::new(),
                channels: Vec::new(),
            },
        },
        how: Delivery::empty(),
    }
}

impl Audience {
    /// Adds the clients of a channel. After [`all`], selects only those.
    pub fn to(mut self, channel: impl Into<String>) -> Self {
        self.selection().channels.push(channel.into());
        self
    }

    /// Adds a client. After [`all`], selects only that client.
    pub fn client(mut self, id: impl Into<String>) -> Self {
        self.selection().clients.push(id.into());
        self
    }

    /// Leaves out the clients of a channel.
    pub fn except(mut self, channel: impl Into<String>) -> Self {
        self.wire.except.channels.push(channel.into());
        self
    }

    /// Leaves out a client.
    pub fn except_client(mut self, id: impl Into<String>) -> Self {
        self.wire.except.clients.push(id.into());
        self
    }

    /// Selects clients of this namespace. The default is the namespace of the client whose event is being handled or, in an
    /// event without a client, the namespace that the app is bound to.
    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.wire.namespace = Some(namespace.into());
        self
    }

    /// Skips clients that are not ready to receive.
    pub fn volatile(mut self) -> Self {
        self.how = self.how | Delivery::VOLATILE;
        self
    }

    /// Sends only to clients on the io-node of the client whose event is being handled.
    pub fn local(mut self) -> Self {
        self.how = self.how | Delivery::LOCAL;
        self
    }

    /// Whether it selects no client and no channel.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.wire.to {
            wire::Scope::All => false,
            wire::Scope::Only(selection) => selection.clients.is_empty() && selection.channels.is_empty(),
        }
    }

    /// Selects no client yet.
    pub(crate) fn empty() -> Self {
        let mut audience = all();
        audience.selection();
        audience
    }

    /// Selects every client, regardless of the selection so far.
    pub(crate) fn widen_to_all(mut self) -> Self {
        self.wire.to = wire::Scope::All;
        self
    }

    /// The selection, which is empty at first if the scope was all clients.
    fn selection(&mut self) -> &mut wire::Selection {
        if matches!(self.wire.to, wire::Scope::All) {
            self.wire.to = wire::Scope::Only(wire::Selection {
                clients: Vec::new(),
                channels: Vec::new(),
            });
        }
        match &mut self.wire.to {
            wire::Scope::Only(selection) => selection,
            wire::Scope::All => unreachable!("the scope was narrowed above"),
        }
    }
}
