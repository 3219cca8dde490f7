//! `plugnode:app/outbox`: the commands of a handler to clients. Components and native handlers record them by one function,
//! [`InstanceState::record`]; nothing is sent before the event's effects are committed.

mod convert;

use plugnode_sdk::native::{Command, Error};
use wasmtime::component::HasSelf;

use self::convert::{channels, payload};
use super::definition::{Capability, Package};
use crate::bindings::plugnode::app::outbox::{self as wit, Delivery};
use crate::bindings::plugnode::app::types;
use crate::contract;
use crate::state::{InstanceState, QuotaExceeded};
use plugnode_message::{Command as IoCommand, LATEST, NodeId, QueryOrigin, Question, Refusal, due_in};

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: contract::PACKAGE,
        version: contract::VERSION,
        interfaces: &["types", "outbox"],
    }],
    grant: None,
    link: |linker| {
        types::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state)?;
        wit::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state)
    },
};

/// Most clients or channels in an answer.
const MAX_NAMES: u32 = 10_000;
/// Longest wait for answers to a query, in milliseconds.
const MAX_TIMEOUT_MS: u32 = 60_000;

/// Outer error: the call traps. Inner error: the handler gets it.
type HostResult = wasmtime::Result<Result<(), wit::Error>>;

impl types::Host for InstanceState {}

impl wit::Host for InstanceState {
    fn publish(&mut self, to: wit::Audience, event: String, args: wit::Payload, how: Delivery) -> HostResult {
        self.record_import(Command::Publish {
            to: to.into(),
            event,
            args: args.into(),
            volatile: how.contains(Delivery::VOLATILE),
            local: how.contains(Delivery::LOCAL),
        })
    }

    fn subscribe(&mut self, who: wit::Audience, channels: Vec<String>) -> HostResult {
        let who = who.into();
        self.record_import(Command::Subscribe { who, channels })
    }

    fn unsubscribe(&mut self, who: wit::Audience, channels: Vec<String>) -> HostResult {
        let who = who.into();
        self.record_import(Command::Unsubscribe { who, channels })
    }

    fn ack(&mut self, id: String, args: wit::Payload) -> HostResult {
        let args = args.into();
        self.record_import(Command::Ack { id, args })
    }

    fn request(
        &mut self,
        to: wit::Audience,
        event: String,
        args: wit::Payload,
        timeout_ms: u32,
        token: Vec<u8>,
    ) -> HostResult {
        self.record_import(Command::Request {
            to: to.into(),
            event,
            args: args.into(),
            timeout_ms,
            token,
        })
    }

    fn disconnect(&mut self, who: wit::Audience, close_transport: bool) -> HostResult {
        let who = who.into();
        self.record_import(Command::Disconnect { who, close_transport })
    }

    fn patch_attributes(&mut self, id: String, patch: String) -> HostResult {
        self.record_import(Command::PatchAttributes { id, patch })
    }

    fn custom(&mut self, io_node: Option<String>, kind: String, data: Vec<u8>) -> HostResult {
        self.record_import(Command::Custom { io_node, kind, data })
    }

    fn refuse(&mut self, message: String, data: Option<String>) -> HostResult {
        self.record_import(Command::Refuse { message, data })
    }

    fn collect(
        &mut self,
        to: wit::Audience,
        event: String,
        args: wit::Payload,
        timeout_ms: u32,
        token: Vec<u8>,
    ) -> HostResult {
        self.record_import(Command::Collect {
            to: to.into(),
            event,
            args: args.into(),
            timeout_ms,
            token,
        })
    }

    fn find_clients(&mut self, who: wit::Audience, most: u32, timeout_ms: u32, token: Vec<u8>) -> HostResult {
        self.record_import(Command::FindClients {
            who: who.into(),
            most,
            timeout_ms,
            token,
        })
    }

    fn list_channels(&mut self, namespace: Option<String>, most: u32, timeout_ms: u32, token: Vec<u8>) -> HostResult {
        self.record_import(Command::ListChannels {
            namespace,
            most,
            timeout_ms,
            token,
        })
    }

    fn settle(&mut self, timeout_ms: u32, token: Vec<u8>) -> HostResult {
        self.record_import(Command::Settle { timeout_ms, token })
    }
}

impl InstanceState {
    /// Records a command of a component.
    fn record_import(&mut self, command: Command) -> HostResult {
        Ok(self.record(command).map_err(wit::Error::from))
    }

    /// Records a command of the handler in the event's effects: checks it by the rules of the contract, and charges its bytes to
    /// the event's limits.
    ///
    /// # Errors
    /// Why the command is refused. The handler gets it and may continue.
    pub(crate) fn record(&mut self, command: Command) -> Result<(), Error> {
        let size = command.check(&self.command_rules())?;
        let command = match command {
            Command::Publish {
                to,
                event,
                args,
                volatile,
                local,
            } => IoCommand::Publish {
                to: self.audience(to),
                event: event.into(),
                args: payload(args),
                volatile,
                local,
            },
            Command::Subscribe { who, channels: names } => IoCommand::Subscribe {
                who: self.audience(who),
                channels: channels(names),
            },
            Command::Unsubscribe { who, channels: names } => IoCommand::Unsubscribe {
                who: self.audience(who),
                channels: channels(names),
            },
            Command::Ack { id, args } => {
                let parsed = id.parse();
                let id = parsed.map_err(|reason| Error::Invalid(format!("{id:?} is {reason}")))?;
                IoCommand::acknowledge(id, payload(args))
            }
            Command::Request {
                to,
                event,
                args,
                timeout_ms,
                token,
            } => IoCommand::Request {
                to: self.audience(to),
                event: event.into(),
                args: payload(args),
                timeout_ms,
                token: token.into(),
            },
            Command::Disconnect { who, close_transport } => IoCommand::Disconnect {
                who: self.audience(who),
                close_transport,
            },
            Command::PatchAttributes { id, patch } => {
                let own = self.call.client.as_ref().filter(|own| own.id.as_str() == id);
                IoCommand::PatchAttributes {
                    namespace: self.call.namespace.clone(),
                    number: own.and(self.call.event).map_or(0, |event| event.sequence),
                    client: id.into(),
                    patch: patch.into(),
                }
            }
            Command::Custom { io_node, kind, data } => IoCommand::Custom {
                io_node: io_node.map(NodeId::from),
                kind: kind.into(),
                data: data.into(),
            },
            Command::Refuse { message, data } => {
                let refusal = Refusal {
                    message: message.into(),
                    data: data.map(Into::into),
                };
                return self.call.refuse(refusal, size).map_err(Error::from);
            }
            Command::Collect {
                to,
                event,
                args,
                timeout_ms,
                token,
            } => {
                let question = Question::Acks {
                    to: self.audience(to),
                    event: event.into(),
                    args: payload(args),
                };
                self.query(question, timeout_ms, token)?
            }
            Command::FindClients {
                who,
                most,
                timeout_ms,
                token,
            } => {
                let question = Question::Clients {
                    who: self.audience(who),
                    most: most.min(MAX_NAMES),
                };
                self.query(question, timeout_ms, token)?
            }
            Command::ListChannels {
                namespace,
                most,
                timeout_ms,
                token,
            } => {
                let question = Question::Channels {
                    namespace: self.namespace(namespace),
                    most: most.min(MAX_NAMES),
                };
                self.query(question, timeout_ms, token)?
            }
            Command::Settle { timeout_ms, token } => self.query(Question::Settled, timeout_ms, token)?,
            Command::At {
                owner,
                key,
                time_ms,
                kind,
                data,
            } => return self.set_timer(owner, key, kind, data, None, time_ms.min(LATEST)),
            Command::Every {
                owner,
                key,
                period_ms,
                kind,
                data,
            } => {
                let period_ms = period_ms.min(LATEST);
                return self.set_timer(owner, key, kind, data, Some(period_ms), due_in(period_ms));
            }
            Command::Cancel { owner, key } => return self.cancel_timer(owner, key),
        };
        self.call.add_command(command, size).map_err(Error::from)
    }

    /// A query to all io-nodes, whose answers come back as one reply event of the client whose event is handled.
    fn query(&self, question: Question, timeout_ms: u32, token: Vec<u8>) -> Result<IoCommand, Error> {
        let (Some(event), Some(client)) = (self.call.event, &self.call.client) else {
            return Err(Error::Denied(
                "this event has no client to receive the reply".to_owned(),
            ));
        };
        let origin = QueryOrigin {
            // The same for each attempt at the event, only one of which takes effect.
            id: format!("{event}.{}", self.call.effects.commands.len()).into(),
            namespace: self.call.namespace.clone(),
            client: client.id.clone(),
            io_node: client.io_node.clone(),
        };
        Ok(IoCommand::Ask {
            origin,
            question,
            timeout_ms: timeout_ms.min(MAX_TIMEOUT_MS),
            token: token.into(),
        })
    }
}

impl From<QuotaExceeded> for Error {
    fn from(QuotaExceeded: QuotaExceeded) -> Self {
        Self::QuotaExceeded
    }
}
