//! The clients that a command applies to, as in Socket.IO's `io.to(..).except(..).emit(..)`.

use std::time::Duration;

use crate::host::outbox::{self as wire, Delivery};
use crate::outbox::{CommandError, millis};
use crate::payload::Args;

/// A set of clients of one namespace, with the commands for them.
///
/// Created by [`to`], [`client`] or [`all`], or by [`Client::to`](crate::Client::to) and
/// [`Client::others`](crate::Client::others), which leave that client out. A client that matches more than once counts once.
#[derive(Debug, Clone)]
#[must_use = "an audience does nothing until one of its commands is called"]
pub struct Audience {
    wire: wire::Audience,
    how: Delivery,
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

    /// Emits an event.
    pub fn emit(&self, event: &str, args: impl Args) -> Result<(), CommandError> {
        let args = args.to_payload()?;
        Ok(wire::publish(&self.wire, event, &args, self.how)?)
    }

    /// Emits an event and asks each client for an acknowledgement. Each client's answer, or its absence after `timeout`, is
    /// passed to [`Handler::on_reply`](crate::Handler::on_reply) with `token`.
    pub fn request(
        &self,
        event: &str,
        args: impl Args,
        timeout: Duration,
        token: impl AsRef<[u8]>,
    ) -> Result<(), CommandError> {
        let args = args.to_payload()?;
        Ok(wire::request(
            &self.wire,
            event,
            &args,
            millis(timeout),
            token.as_ref(),
        )?)
    }

    /// Emits an event to clients on all io-nodes, asks each for an acknowledgement, and collects the answers in one reply. The
    /// reply is passed to [`Handler::on_reply`](crate::Handler::on_reply) with `token` when all clients have answered or after
    /// `timeout`, at most one minute. Parse it with [`Reply::collected`](crate::Reply::collected).
    ///
    /// Ignores [`volatile`](Self::volatile) and [`local`](Self::local).
    pub fn collect(
        &self,
        event: &str,
        args: impl Args,
        timeout: Duration,
        token: impl AsRef<[u8]>,
    ) -> Result<(), CommandError> {
        let args = args.to_payload()?;
        Ok(wire::collect(
            &self.wire,
            event,
            &args,
            millis(timeout),
            token.as_ref(),
        )?)
    }

    /// Finds the matching clients on all io-nodes. One reply with `token` has their number and describes up to `most` of them;
    /// `timeout` works as in [`collect`](Self::collect). Parse it with [`Reply::found`](crate::Reply::found).
    ///
    /// `most` is capped at 10,000; 0 requests only the number.
    pub fn find_clients(&self, most: u32, timeout: Duration, token: impl AsRef<[u8]>) -> Result<(), CommandError> {
        Ok(wire::find_clients(&self.wire, most, millis(timeout), token.as_ref())?)
    }

    /// Subscribes the clients to a channel.
    pub fn join(&self, channel: impl Into<String>) -> Result<(), CommandError> {
        Ok(wire::subscribe(&self.wire, &[channel.into()])?)
    }

    /// Unsubscribes the clients from a channel.
    pub fn leave(&self, channel: impl Into<String>) -> Result<(), CommandError> {
        Ok(wire::unsubscribe(&self.wire, &[channel.into()])?)
    }

    /// Disconnects the clients from the namespace. JavaScript clients do not reconnect automatically.
    pub fn disconnect(&self) -> Result<(), CommandError> {
        Ok(wire::disconnect(&self.wire, false)?)
    }

    /// Closes the clients' whole connections. JavaScript clients reconnect automatically.
    pub fn close(&self) -> Result<(), CommandError> {
        Ok(wire::disconnect(&self.wire, true)?)
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
