//! Whom a command is for: clients and channels, less exceptions, as in Socket.IO's `io.to(..).except(..).emit(..)`.

use std::time::Duration;

use crate::host::outbox::{self as wire, Delivery};
use crate::outbox::{CommandError, millis};
use crate::payload::Args;

/// The clients of one namespace that a command is for, and the commands.
///
/// Made by [`to`], [`client`] or [`all`], or by [`Client::to`](crate::Client::to) and
/// [`Client::others`](crate::Client::others), which leave that client out. A client that is named twice, or is in
/// several of the channels, counts once.
#[derive(Debug, Clone)]
#[must_use = "an audience does nothing until something is emitted or done to it"]
pub struct Audience {
    wire: wire::Audience,
    how: Delivery,
}

/// The clients of a channel.
pub fn to(channel: impl Into<String>) -> Audience {
    all().to(channel)
}

/// One client, by its id, wherever it is connected.
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
    /// And the clients of this channel. After [`all`], only those.
    pub fn to(mut self, channel: impl Into<String>) -> Self {
        self.selection().channels.push(channel.into());
        self
    }

    /// And this client. After [`all`], only this one.
    pub fn client(mut self, id: impl Into<String>) -> Self {
        self.selection().clients.push(id.into());
        self
    }

    /// But not the clients of this channel.
    pub fn except(mut self, channel: impl Into<String>) -> Self {
        self.wire.except.channels.push(channel.into());
        self
    }

    /// But not this client.
    pub fn except_client(mut self, id: impl Into<String>) -> Self {
        self.wire.except.clients.push(id.into());
        self
    }

    /// In another namespace than that of the client whose event is being handled. For an event without a client, that
    /// is the namespace the app is bound to.
    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.wire.namespace = Some(namespace.into());
        self
    }

    /// Clients that are not ready to receive may miss what is emitted.
    pub fn volatile(mut self) -> Self {
        self.how = self.how | Delivery::VOLATILE;
        self
    }

    /// What is emitted goes only to clients on the io-node of the client whose event is being handled.
    pub fn local(mut self) -> Self {
        self.how = self.how | Delivery::LOCAL;
        self
    }

    /// Emits an event.
    pub fn emit(&self, event: &str, args: impl Args) -> Result<(), CommandError> {
        let args = args.to_payload()?;
        Ok(wire::publish(&self.wire, event, &args, self.how)?)
    }

    /// Emits an event and asks each client for an acknowledgement. Each answer, or its absence after `timeout`, comes
    /// to [`Handler::on_reply`](crate::Handler::on_reply) with `token`.
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

    /// Emits an event, asks each client for an acknowledgement, and collects these, on all io-nodes. All of them together
    /// come as one reply, to [`Handler::on_reply`](crate::Handler::on_reply) with `token`, which
    /// [`Reply::collected`](crate::Reply::collected) reads: when everybody has answered, or after `timeout`, of which more
    /// than a minute counts as a minute. The event goes to whole audiences, without the niceties of
    /// [`volatile`](Self::volatile) and [`local`](Self::local).
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

    /// Looks for the clients on all io-nodes. How many there are, and who `most` of them are, comes as one reply with
    /// `token`, within `timeout` as with [`collect`](Self::collect): [`Reply::found`](crate::Reply::found) reads it. At most
    /// 10,000 are named; with a `most` of 0 they are counted alone.
    pub fn find_clients(&self, most: u32, timeout: Duration, token: impl AsRef<[u8]>) -> Result<(), CommandError> {
        Ok(wire::find_clients(&self.wire, most, millis(timeout), token.as_ref())?)
    }

    /// Subscribes the clients to a channel.
    pub fn join(&self, channel: impl Into<String>) -> Result<(), CommandError> {
        Ok(wire::subscribe(&self.wire, &[channel.into()])?)
    }

    /// Ends the clients' subscriptions to a channel.
    pub fn leave(&self, channel: impl Into<String>) -> Result<(), CommandError> {
        Ok(wire::unsubscribe(&self.wire, &[channel.into()])?)
    }

    /// Disconnects the clients from the namespace. JavaScript clients do not come back by themselves.
    pub fn disconnect(&self) -> Result<(), CommandError> {
        Ok(wire::disconnect(&self.wire, false)?)
    }

    /// Closes the clients' whole connections. JavaScript clients come back by themselves.
    pub fn close(&self) -> Result<(), CommandError> {
        Ok(wire::disconnect(&self.wire, true)?)
    }

    /// Whether it names any client or channel, or all.
    pub(crate) fn is_somebody(&self) -> bool {
        match &self.wire.to {
            wire::Scope::All => true,
            wire::Scope::Only(selection) => !selection.clients.is_empty() || !selection.channels.is_empty(),
        }
    }

    /// Nobody yet.
    pub(crate) fn nobody() -> Self {
        let mut audience = all();
        audience.selection();
        audience
    }

    /// Everybody, whoever was named before.
    pub(crate) fn everybody(mut self) -> Self {
        self.wire.to = wire::Scope::All;
        self
    }

    /// Those named so far, where everybody was meant before somebody was named.
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
