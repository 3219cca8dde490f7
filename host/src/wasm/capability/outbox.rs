//! `plugnode:app/outbox`: what a handler can have done for clients. Each call is checked and noted; nothing leaves
//! before the event's effects are committed.

use wasmtime::component::HasSelf;

use super::{Capability, Package};
use crate::message::{AckId, Audience, Channel, Command, Namespace, NodeId, Payload, Scope, Selection, SessionId};
use crate::wasm::bindings::plugnode::app::outbox::{self as wit, Delivery, Error};
use crate::wasm::bindings::plugnode::app::types;
use crate::wasm::inspect::CONTRACT;
use crate::wasm::json;
use crate::wasm::state::{QuotaExceeded, State};

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: CONTRACT.0,
        version: CONTRACT.1,
        interfaces: &["types", "outbox"],
    }],
    grant: None,
    link: |linker| {
        types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
        wit::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
    },
};

/// Names that Socket.IO keeps for itself, on one side of a connection or on the other.
const RESERVED: [&str; 6] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];

type Answer = wasmtime::Result<Result<(), Error>>;

impl types::Host for State {}

impl wit::Host for State {
    fn publish(&mut self, to: wit::Audience, event: String, args: wit::Payload, how: Delivery) -> Answer {
        Ok(self.try_publish(to, event, args, how))
    }

    fn subscribe(&mut self, who: wit::Audience, channels: Vec<String>) -> Answer {
        Ok(self.audience(who).and_then(|(who, size)| {
            let (channels, more) = lift_channels(channels);
            self.note_command(Command::Subscribe { who, channels }, size + more)
        }))
    }

    fn unsubscribe(&mut self, who: wit::Audience, channels: Vec<String>) -> Answer {
        Ok(self.audience(who).and_then(|(who, size)| {
            let (channels, more) = lift_channels(channels);
            self.note_command(Command::Unsubscribe { who, channels }, size + more)
        }))
    }

    fn ack(&mut self, id: String, args: wit::Payload) -> Answer {
        Ok(self.try_ack(&id, args))
    }

    fn request(
        &mut self,
        to: wit::Audience,
        event: String,
        args: wit::Payload,
        timeout_ms: u32,
        token: Vec<u8>,
    ) -> Answer {
        Ok(self.try_request(to, event, args, timeout_ms, token))
    }

    fn disconnect(&mut self, who: wit::Audience, close_transport: bool) -> Answer {
        Ok(self
            .audience(who)
            .and_then(|(who, size)| self.note_command(Command::Disconnect { who, close_transport }, size)))
    }

    fn patch_attributes(&mut self, id: String, patch: String) -> Answer {
        Ok(self.try_patch_attributes(id, patch))
    }

    fn custom(&mut self, io_node: Option<String>, kind: String, data: Vec<u8>) -> Answer {
        Ok(self.try_custom(io_node, kind, data))
    }
}

impl State {
    fn try_publish(
        &mut self,
        to: wit::Audience,
        event: String,
        args: wit::Payload,
        how: Delivery,
    ) -> Result<(), Error> {
        check_name(&event)?;
        let local = how.contains(Delivery::LOCAL);
        if local && !self.call.has_client {
            return Err(Error::Invalid(
                "delivery is local, and this event has no client to be local to".to_owned(),
            ));
        }
        let args = self.payload(args)?;
        let (to, size) = self.audience(to)?;
        let size = size + event.len() + args.size();
        let volatile = how.contains(Delivery::VOLATILE);
        self.note_command(
            Command::Publish {
                to,
                event: event.into(),
                args,
                volatile,
                local,
            },
            size,
        )
    }

    fn try_ack(&mut self, id: &str, args: wit::Payload) -> Result<(), Error> {
        let id: AckId = id
            .parse()
            .map_err(|words| Error::Invalid(format!("{id:?} is {words}")))?;
        let args = self.payload(args)?;
        let size = args.size();
        self.note_command(Command::Ack { id, args }, size)
    }

    fn try_request(
        &mut self,
        to: wit::Audience,
        event: String,
        args: wit::Payload,
        timeout_ms: u32,
        token: Vec<u8>,
    ) -> Result<(), Error> {
        check_name(&event)?;
        self.check_size(token.len())?;
        let args = self.payload(args)?;
        let (to, size) = self.audience(to)?;
        let size = size + event.len() + args.size() + token.len();
        self.note_command(
            Command::Request {
                to,
                event: event.into(),
                args,
                timeout_ms,
                token: token.into(),
            },
            size,
        )
    }

    fn try_patch_attributes(&mut self, id: String, patch: String) -> Result<(), Error> {
        self.check_size(patch.len())?;
        json::check_object(&patch).map_err(|words| Error::Invalid(format!("the patch {words}")))?;
        let size = id.len() + patch.len();
        let namespace = self.call.namespace.clone();
        self.note_command(
            Command::PatchAttributes {
                namespace,
                client: id.into(),
                patch: patch.into(),
            },
            size,
        )
    }

    fn try_custom(&mut self, io_node: Option<String>, kind: String, data: Vec<u8>) -> Result<(), Error> {
        if kind.starts_with("plugnode.") {
            return Err(Error::Invalid(format!(
                "{kind:?} begins with `plugnode.`, which is the host's own"
            )));
        }
        self.check_size(data.len())?;
        let size = kind.len() + data.len();
        let io_node = io_node.map(NodeId::from);
        self.note_command(
            Command::Custom {
                io_node,
                kind: kind.into(),
                data: data.into(),
            },
            size,
        )
    }

    fn note_command(&mut self, command: Command, size: usize) -> Result<(), Error> {
        if !self.call.in_event {
            let words = "there is no event that this could belong to: ask for it while one is handled";
            return Err(Error::Denied(words.to_owned()));
        }
        self.call
            .command(command, size)
            .map_err(|QuotaExceeded| Error::QuotaExceeded)
    }

    fn check_size(&self, size: usize) -> Result<(), Error> {
        if size > self.app.settings.limits.payload {
            return Err(Error::PayloadTooLarge);
        }
        Ok(())
    }

    fn payload(&self, payload: wit::Payload) -> Result<Payload, Error> {
        let payload = Payload {
            json: payload.json.into(),
            attachments: payload.attachments.into_iter().map(Into::into).collect(),
        };
        self.check_size(payload.size())?;
        json::check_args(&payload.json, payload.attachments.len())
            .map_err(|words| Error::Invalid(format!("args.json {words}")))?;
        Ok(payload)
    }

    /// The audience, and how many bytes it counts for.
    fn audience(&self, audience: wit::Audience) -> Result<(Audience, usize), Error> {
        let namespace = match audience.namespace {
            None => self.call.namespace.clone(),
            Some(name) if name.starts_with('/') => Namespace::from(name),
            Some(name) => {
                return Err(Error::Invalid(format!(
                    "the namespace {name:?} does not begin with a slash"
                )));
            }
        };
        let (except, size) = lift_selection(audience.except);
        let (to, more) = match audience.to {
            wit::Scope::All => (Scope::All, 0),
            wit::Scope::Only(selection) => {
                let (selection, size) = lift_selection(selection);
                (Scope::Only(selection), size)
            }
        };
        Ok((Audience { namespace, to, except }, size + more))
    }
}

fn check_name(event: &str) -> Result<(), Error> {
    if RESERVED.contains(&event) {
        return Err(Error::Invalid(format!(
            "{event:?} is an event of Socket.IO itself and cannot be emitted"
        )));
    }
    Ok(())
}

fn lift_selection(selection: wit::Selection) -> (Selection, usize) {
    let size = selection.clients.iter().map(String::len).sum::<usize>();
    let clients = selection.clients.into_iter().map(SessionId::from).collect();
    let (channels, more) = lift_channels(selection.channels);
    (Selection { clients, channels }, size + more)
}

fn lift_channels(channels: Vec<String>) -> (Vec<Channel>, usize) {
    let size = channels.iter().map(String::len).sum();
    (channels.into_iter().map(Channel::from).collect(), size)
}
