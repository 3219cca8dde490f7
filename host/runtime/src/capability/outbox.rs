//! `plugnode:app/outbox`: the commands of a handler to clients. Each call is checked and recorded in the event's effects; nothing
//! is sent before they are committed.

mod lift;
mod queries;

use wasmtime::component::HasSelf;

use self::lift::{check_event_name, lift_channels, lift_new_channels};
use super::definition::{Capability, Package};
use crate::bindings::plugnode::app::outbox::{self as wit, Delivery, Error};
use crate::bindings::plugnode::app::types;
use crate::contract;
use crate::json;
use crate::state::{InstanceState, QuotaExceeded};
use plugnode_message::{AckId, Command, NodeId, Question, RESERVED_KINDS, Refusal};

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

/// Largest message of a refusal, in bytes.
const MAX_REFUSAL_MESSAGE: usize = 1 << 10;
/// Largest data of a refusal, in bytes.
const MAX_REFUSAL_DATA: usize = 16 << 10;

/// Outer error: the call traps. Inner error: the handler gets it.
type HostResult = wasmtime::Result<Result<(), Error>>;

impl types::Host for InstanceState {}

impl wit::Host for InstanceState {
    fn publish(&mut self, to: wit::Audience, event: String, args: wit::Payload, how: Delivery) -> HostResult {
        Ok(self.try_publish(to, event, args, how))
    }

    fn subscribe(&mut self, who: wit::Audience, channels: Vec<String>) -> HostResult {
        Ok(self.audience(who).and_then(|(who, size)| {
            let (channels, more) = lift_new_channels(channels)?;
            self.add_command(Command::Subscribe { who, channels }, size + more)
        }))
    }

    fn unsubscribe(&mut self, who: wit::Audience, channels: Vec<String>) -> HostResult {
        Ok(self.audience(who).and_then(|(who, size)| {
            let (channels, more) = lift_channels(channels);
            self.add_command(Command::Unsubscribe { who, channels }, size + more)
        }))
    }

    fn ack(&mut self, id: String, args: wit::Payload) -> HostResult {
        Ok(self.try_ack(&id, args))
    }

    fn request(
        &mut self,
        to: wit::Audience,
        event: String,
        args: wit::Payload,
        timeout_ms: u32,
        token: Vec<u8>,
    ) -> HostResult {
        Ok(self.try_request(to, event, args, timeout_ms, token))
    }

    fn disconnect(&mut self, who: wit::Audience, close_transport: bool) -> HostResult {
        Ok(self
            .audience(who)
            .and_then(|(who, size)| self.add_command(Command::Disconnect { who, close_transport }, size)))
    }

    fn patch_attributes(&mut self, id: String, patch: String) -> HostResult {
        Ok(self.try_patch_attributes(id, patch))
    }

    fn custom(&mut self, io_node: Option<String>, kind: String, data: Vec<u8>) -> HostResult {
        Ok(self.try_custom(io_node, kind, data))
    }

    fn refuse(&mut self, message: String, data: Option<String>) -> HostResult {
        Ok(self.try_refuse(message, data))
    }

    fn collect(
        &mut self,
        to: wit::Audience,
        event: String,
        args: wit::Payload,
        timeout_ms: u32,
        token: Vec<u8>,
    ) -> HostResult {
        Ok(self.try_collect(to, event, args, timeout_ms, token))
    }

    fn find_clients(&mut self, who: wit::Audience, most: u32, timeout_ms: u32, token: Vec<u8>) -> HostResult {
        Ok(self.try_find_clients(who, most, timeout_ms, token))
    }

    fn list_channels(&mut self, namespace: Option<String>, most: u32, timeout_ms: u32, token: Vec<u8>) -> HostResult {
        Ok(self.try_list_channels(namespace, most, timeout_ms, token))
    }

    fn settle(&mut self, timeout_ms: u32, token: Vec<u8>) -> HostResult {
        Ok(self.add_query(Question::Settled, 0, timeout_ms, token))
    }
}

impl InstanceState {
    fn try_publish(
        &mut self,
        to: wit::Audience,
        event: String,
        args: wit::Payload,
        how: Delivery,
    ) -> Result<(), Error> {
        check_event_name(&event)?;
        let local = how.contains(Delivery::LOCAL);
        if local && self.call.client.is_none() {
            return Err(Error::Invalid(
                "cannot deliver locally: this event has no client, and so no io-node; deliver to all io-nodes"
                    .to_owned(),
            ));
        }
        let args = self.payload(args)?;
        let (to, size) = self.audience(to)?;
        let size = size + event.len() + args.size();
        let volatile = how.contains(Delivery::VOLATILE);
        self.add_command(
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
            .map_err(|reason| Error::Invalid(format!("{id:?} is {reason}")))?;
        let args = self.payload(args)?;
        let size = args.size();
        self.add_command(Command::Ack { id, args }, size)
    }

    fn try_request(
        &mut self,
        to: wit::Audience,
        event: String,
        args: wit::Payload,
        timeout_ms: u32,
        token: Vec<u8>,
    ) -> Result<(), Error> {
        check_event_name(&event)?;
        self.check_size(token.len())?;
        let args = self.payload(args)?;
        let (to, size) = self.audience(to)?;
        let size = size + event.len() + args.size() + token.len();
        self.add_command(
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
        json::check_object(&patch).map_err(|reason| Error::Invalid(format!("the patch {reason}")))?;
        let size = id.len() + patch.len();
        let namespace = self.call.namespace.clone();
        let own = self.call.client.as_ref().filter(|own| own.id.as_str() == id);
        let number = own.and(self.call.event).map_or(0, |event| event.sequence);
        self.add_command(
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
                "invalid kind {kind:?}: the prefix `plugnode.` is reserved for the host"
            )));
        }
        self.check_size(data.len())?;
        let size = kind.len() + data.len();
        let io_node = io_node.map(NodeId::from);
        self.add_command(
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
            let reason = "this app admits every client: set admission = true in its [[app]] to refuse clients";
            return Err(Error::Denied(reason.to_owned()));
        }
        if !self.call.awaits_admission {
            let reason = "a client can be refused only while its connection is handled: disconnect it instead";
            return Err(Error::Denied(reason.to_owned()));
        }
        let data_len = data.as_ref().map_or(0, String::len);
        if message.len() > MAX_REFUSAL_MESSAGE || data_len > MAX_REFUSAL_DATA {
            return Err(Error::PayloadTooLarge);
        }
        if let Some(data) = &data {
            json::check_value(data).map_err(|reason| Error::Invalid(format!("the data {reason}")))?;
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
            let reason = "commands are denied outside of an event: call this while an event is handled";
            return Err(Error::Denied(reason.to_owned()));
        }
        Ok(())
    }

    fn add_command(&mut self, command: Command, size: usize) -> Result<(), Error> {
        self.check_in_event()?;
        self.call
            .add_command(command, size)
            .map_err(|QuotaExceeded| Error::QuotaExceeded)
    }
}
