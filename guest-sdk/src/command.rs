//! The commands of a handler: the functions of the Rust API and, outside of wasm, each command as a value with its rules.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audience::Audience;
use crate::command_error::CommandError;
use crate::host::outbox as wire;
use crate::payload::Args;

impl Audience {
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
}

/// Identifies one acknowledgement that a client is waiting for. It can be stored, for example in a bucket, and answered while
/// handling a later event, from any instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AckId(pub(crate) String);

impl AckId {
    /// Answers the acknowledgement. Only the first answer reaches the client.
    pub fn answer(&self, args: impl Args) -> Result<(), CommandError> {
        let args = args.to_payload()?;
        Ok(wire::ack(&self.0, &args)?)
    }
}

/// Lists the channels that have clients on any io-node, in the namespace of the client whose event is being handled. One
/// reply has the number of channels, and the number of clients of up to `most` of them (capped at 10,000). It is passed to
/// [`Handler::on_reply`](crate::Handler::on_reply) with `token` when all io-nodes have answered or after `timeout`, at most one
/// minute. Parse it with [`Reply::channels`](crate::Reply::channels).
pub fn list_channels(most: u32, timeout: Duration, token: impl AsRef<[u8]>) -> Result<(), CommandError> {
    Ok(wire::list_channels(None, most, millis(timeout), token.as_ref())?)
}

/// Like [`list_channels`], for another namespace.
pub fn list_channels_of(
    namespace: &str,
    most: u32,
    timeout: Duration,
    token: impl AsRef<[u8]>,
) -> Result<(), CommandError> {
    Ok(wire::list_channels(
        Some(namespace),
        most,
        millis(timeout),
        token.as_ref(),
    )?)
}

/// Reports when every io-node has carried out the commands before this one: those of this event and of the client's earlier
/// events. One reply is passed to [`Handler::on_reply`](crate::Handler::on_reply) with `token`; `timeout` works as in
/// [`list_channels`]. Parse it with [`Reply::settled`](crate::Reply::settled).
///
/// To answer an acknowledgement only after that, use its id as the token:
///
/// ```
/// use std::time::Duration;
///
/// use plugnode_sdk::prelude::*;
/// use plugnode_sdk::{AckId, all, settle};
///
/// #[derive(Default)]
/// struct Gate;
///
/// impl Handler for Gate {
///     fn on_message(&mut self, _: &Client, message: &Incoming) -> Result {
///         all().join("everybody")?;
///         settle(Duration::from_secs(1), serde_json::to_vec(&message.ack_id())?)?;
///         Ok(())
///     }
///
///     fn on_reply(&mut self, _: &Client, reply: &Reply) -> Result {
///         let ack: Option<AckId> = serde_json::from_slice(&reply.token)?;
///         if let Some(ack) = ack {
///             ack.answer(reply.settled()?.silent.is_empty())?;
///         }
///         Ok(())
///     }
/// }
/// ```
pub fn settle(timeout: Duration, token: impl AsRef<[u8]>) -> Result<(), CommandError> {
    Ok(wire::settle(millis(timeout), token.as_ref())?)
}

/// Whole milliseconds, capped at `u32::MAX`.
pub(crate) fn millis(timeout: Duration) -> u32 {
    timeout.as_millis().try_into().unwrap_or(u32::MAX)
}

/// Sends a message to the Rust program that embeds one io-node, or to all io-nodes when `io_node` is none. `kind` ends in a
/// version, such as `acme.price-change/1`.
pub fn send_custom(io_node: Option<&str>, kind: &str, data: &[u8]) -> Result<(), CommandError> {
    Ok(wire::custom(io_node, kind, data)?)
}

/// The commands as values, and the imports of `outbox` that record them, outside of wasm.
#[cfg(not(target_family = "wasm"))]
pub(crate) mod value {
    pub(crate) use crate::bindings::plugnode::app::outbox::{Audience, Delivery, Error, Scope, Selection};
    use crate::native::imports::record_commands;
    use crate::native::rules::{
        CommandRules, check_ack_id, check_audience, check_custom_kind, check_event_name, check_namespace,
        check_new_channels, check_period, size_of,
    };
    use crate::native::{Owner, Payload, call_host};

    /// A command of a handler: one call of `outbox` or `schedule`.
    #[derive(Debug, Clone, PartialEq)]
    #[allow(
        missing_docs,
        reason = "the fields are the parameters of the functions of `outbox` and `schedule` in the contract"
    )]
    pub enum Command {
        /// Emits an event to clients.
        Publish {
            to: Audience,
            event: String,
            args: Payload,
            volatile: bool,
            local: bool,
        },
        /// Subscribes clients to channels.
        Subscribe { who: Audience, channels: Vec<String> },
        /// Unsubscribes clients from channels.
        Unsubscribe { who: Audience, channels: Vec<String> },
        /// Answers an acknowledgement.
        Ack { id: String, args: Payload },
        /// Emits an event to clients and asks each for an acknowledgement.
        Request {
            to: Audience,
            event: String,
            args: Payload,
            timeout_ms: u32,
            token: Vec<u8>,
        },
        /// Disconnects clients.
        Disconnect { who: Audience, close_transport: bool },
        /// Applies a JSON merge patch to a client's attributes.
        PatchAttributes { id: String, patch: String },
        /// Sends a message to the program that embeds io-nodes.
        Custom {
            io_node: Option<String>,
            kind: String,
            data: Vec<u8>,
        },
        /// Refuses the connecting client. The host then drops all other commands of the event.
        Refuse { message: String, data: Option<String> },
        /// Emits an event to clients and collects their acknowledgements.
        Collect {
            to: Audience,
            event: String,
            args: Payload,
            timeout_ms: u32,
            token: Vec<u8>,
        },
        /// Finds clients.
        FindClients {
            who: Audience,
            most: u32,
            timeout_ms: u32,
            token: Vec<u8>,
        },
        /// Lists channels.
        ListChannels {
            namespace: Option<String>,
            most: u32,
            timeout_ms: u32,
            token: Vec<u8>,
        },
        /// Reports when all earlier commands have been carried out.
        Settle { timeout_ms: u32, token: Vec<u8> },
        /// Sets a one-shot timer.
        At {
            owner: Owner,
            key: String,
            time_ms: u64,
            kind: String,
            data: Vec<u8>,
        },
        /// Sets a periodic timer.
        Every {
            owner: Owner,
            key: String,
            period_ms: u64,
            kind: String,
            data: Vec<u8>,
        },
        /// Cancels a timer.
        Cancel { owner: Owner, key: String },
    }

    impl Command {
        /// Checks this command by the rules of the contract, and returns the bytes that it counts for. A host calls this before it
        /// records a command, and passes the error on to the handler.
        ///
        /// # Errors
        /// Why the command is refused.
        pub fn check(&self, rules: &CommandRules) -> Result<usize, Error> {
            rules.check_in_event()?;
            Ok(match self {
                Self::Publish {
                    to, event, args, local, ..
                } => {
                    if *local {
                        rules.check_local()?;
                    }
                    check_event_name(event)? + rules.check_payload(args)? + check_audience(to)?
                }
                Self::Subscribe { who, channels } => check_audience(who)? + check_new_channels(channels)?,
                Self::Unsubscribe { who, channels } => check_audience(who)? + size_of(channels),
                Self::Ack { id, args } => {
                    check_ack_id(id)?;
                    rules.check_payload(args)?
                }
                Self::Request {
                    to, event, args, token, ..
                } => {
                    let size = check_event_name(event)? + rules.check_bytes(token)?;
                    size + rules.check_payload(args)? + check_audience(to)?
                }
                Self::Disconnect { who, .. } => check_audience(who)?,
                Self::PatchAttributes { id, patch } => id.len() + rules.check_patch(patch)?,
                Self::Custom { kind, data, .. } => check_custom_kind(kind)? + rules.check_bytes(data)?,
                Self::Refuse { message, data } => rules.check_refusal(message, data.as_deref())?,
                Self::Collect {
                    to, event, args, token, ..
                } => {
                    let size = rules.check_query(token)? + check_event_name(event)?;
                    size + rules.check_payload(args)? + check_audience(to)?
                }
                Self::FindClients { who, token, .. } => rules.check_query(token)? + check_audience(who)?,
                Self::ListChannels { namespace, token, .. } => {
                    rules.check_query(token)? + check_namespace(namespace.as_deref())?
                }
                Self::Settle { token, .. } => rules.check_query(token)?,
                Self::At {
                    owner, key, kind, data, ..
                } => rules.check_timer(*owner, key)? + rules.check_timer_event(kind, data)?,
                Self::Every {
                    owner,
                    key,
                    period_ms,
                    kind,
                    data,
                } => {
                    check_period(*period_ms)?;
                    rules.check_timer(*owner, key)? + rules.check_timer_event(kind, data)?
                }
                Self::Cancel { owner, key } => rules.check_timer(*owner, key)?,
            })
        }
    }

    fn record(command: Command) -> Result<(), Error> {
        call_host(|host| host.command(command))
    }

    pub(crate) fn publish(to: &Audience, event: &str, args: &Payload, how: Delivery) -> Result<(), Error> {
        record(Command::Publish {
            to: to.clone(),
            event: event.into(),
            args: args.clone(),
            volatile: (how & Delivery::VOLATILE).bits() != 0,
            local: (how & Delivery::LOCAL).bits() != 0,
        })
    }

    pub(crate) fn custom(io_node: Option<&str>, kind: &str, data: &[u8]) -> Result<(), Error> {
        record(Command::Custom {
            io_node: io_node.map(Into::into),
            kind: kind.into(),
            data: data.into(),
        })
    }

    pub(crate) fn refuse(message: &str, data: Option<&str>) -> Result<(), Error> {
        record(Command::Refuse {
            message: message.into(),
            data: data.map(Into::into),
        })
    }

    pub(crate) fn list_channels(
        namespace: Option<&str>,
        most: u32,
        timeout_ms: u32,
        token: &[u8],
    ) -> Result<(), Error> {
        record(Command::ListChannels {
            namespace: namespace.map(Into::into),
            most,
            timeout_ms,
            token: token.into(),
        })
    }

    record_commands! { record:
        fn subscribe(who: &Audience, channels: &[String]) => Subscribe;
        fn unsubscribe(who: &Audience, channels: &[String]) => Unsubscribe;
        fn ack(id: &str, args: &Payload) => Ack;
        fn request(to: &Audience, event: &str, args: &Payload, timeout_ms: u32, token: &[u8]) => Request;
        fn disconnect(who: &Audience, close_transport: bool) => Disconnect;
        fn patch_attributes(id: &str, patch: &str) => PatchAttributes;
        fn collect(to: &Audience, event: &str, args: &Payload, timeout_ms: u32, token: &[u8]) => Collect;
        fn find_clients(who: &Audience, most: u32, timeout_ms: u32, token: &[u8]) => FindClients;
        fn settle(timeout_ms: u32, token: &[u8]) => Settle;
    }
}
