//! `plugnode:app/outbox`: what a handler can have done for clients. Each call is checked and noted; nothing leaves
//! before the event's effects are committed.

mod asking;
mod lift;

use wasmtime::component::HasSelf;

use self::lift::{check_name, lift_channels, lift_names};
use super::{Capability, Package};
use crate::bindings::plugnode::app::outbox::{self as wit, Delivery, Error};
use crate::bindings::plugnode::app::types;
use crate::inspect::CONTRACT;
use crate::json;
use crate::state::{QuotaExceeded, State};
use plugnode_message::{AckId, Command, NodeId, Question, RESERVED_KINDS, Refusal};

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

/// The most bytes of a refusal's message,
const MESSAGE: usize = 1 << 10;
/// and of its data.
const DATA: usize = 16 << 10;

type Answer = wasmtime::Result<Result<(), Error>>;

impl types::Host for State {}

impl wit::Host for State {
    fn publish(&mut self, to: wit::Audience, event: String, args: wit::Payload, how: Delivery) -> Answer {
        Ok(self.try_publish(to, event, args, how))
    }

    fn subscribe(&mut self, who: wit::Audience, channels: Vec<String>) -> Answer {
        Ok(self.audience(who).and_then(|(who, size)| {
            let (channels, more) = lift_names(channels)?;
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

    fn refuse(&mut self, message: String, data: Option<String>) -> Answer {
        Ok(self.try_refuse(message, data))
    }

    fn collect(
        &mut self,
        to: wit::Audience,
        event: String,
        args: wit::Payload,
        timeout_ms: u32,
        token: Vec<u8>,
    ) -> Answer {
        Ok(self.try_collect(to, event, args, timeout_ms, token))
    }

    fn find_clients(&mut self, who: wit::Audience, most: u32, timeout_ms: u32, token: Vec<u8>) -> Answer {
        Ok(self.try_find_clients(who, most, timeout_ms, token))
    }

    fn list_channels(&mut self, namespace: Option<String>, most: u32, timeout_ms: u32, token: Vec<u8>) -> Answer {
        Ok(self.try_list_channels(namespace, most, timeout_ms, token))
    }

    fn settle(&mut self, timeout_ms: u32, token: Vec<u8>) -> Answer {
        Ok(self.ask(Question::Settled, 0, timeout_ms, token))
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
        if local && self.call.client.is_none() {
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
        let own = self.call.client.as_ref().filter(|own| own.id.as_str() == id);
        let number = own.and(self.call.event).map_or(0, |event| event.sequence);
        self.note_command(
            Command::PatchAttributes {
                namespace,
                client: id.into(),
                patch: patch.into(),
                number,
            },
            size,
        )
    }

    fn try_custom(&mut self, io_node: Option<String>, kind: String, data: Vec<u8>) -> Result<(), Error> {
        if kind.starts_with(RESERVED_KINDS) {
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

    fn try_refuse(&mut self, message: String, data: Option<String>) -> Result<(), Error> {
        self.check_in_event()?;
        if !self.app.settings.admission {
            let words = "this app takes every client in: set admission = true in its [[app]] to have it asked";
            return Err(Error::Denied(words.to_owned()));
        }
        if !self.call.is_at_the_door {
            let words = "a client can be refused only while its connection is handled: disconnect it instead";
            return Err(Error::Denied(words.to_owned()));
        }
        let data_len = data.as_ref().map_or(0, String::len);
        if message.len() > MESSAGE || data_len > DATA {
            return Err(Error::PayloadTooLarge);
        }
        if let Some(data) = &data {
            json::check_value(data).map_err(|words| Error::Invalid(format!("the data {words}")))?;
        }
        let size = message.len() + data_len;
        let refusal = Refusal {
            message: message.into(),
            data: data.map(Into::into),
        };
        self.call
            .refuse(refusal, size)
            .map_err(|QuotaExceeded| Error::QuotaExceeded)
    }

    fn check_in_event(&self) -> Result<(), Error> {
        if self.call.event.is_none() {
            let words = "there is no event that this could belong to: ask for it while one is handled";
            return Err(Error::Denied(words.to_owned()));
        }
        Ok(())
    }

    fn note_command(&mut self, command: Command, size: usize) -> Result<(), Error> {
        self.check_in_event()?;
        self.call
            .command(command, size)
            .map_err(|QuotaExceeded| Error::QuotaExceeded)
    }
}
