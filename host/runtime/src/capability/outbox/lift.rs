//! Lifts payloads, audiences and names from the contract's types to the host's: checks them, and counts their bytes.

use crate::bindings::plugnode::app::outbox::{self as wit, Error};
use crate::json;
use crate::state::InstanceState;
use plugnode_message::{
    Audience, Channel, MOST_ATTACHMENTS, MOST_NAME, Namespace, Payload, RESERVED_EVENTS, Scope, Selection, SessionId,
};

impl InstanceState {
    pub(super) fn check_size(&self, size: usize) -> Result<(), Error> {
        if size > self.app.settings.limits.payload {
            return Err(Error::PayloadTooLarge);
        }
        Ok(())
    }

    pub(super) fn payload(&self, payload: wit::Payload) -> Result<Payload, Error> {
        let payload = Payload {
            json: payload.json.into(),
            attachments: payload.attachments.into_iter().map(Into::into).collect(),
        };
        let (count, max) = (payload.attachments.len(), self.app.settings.limits.attachments);
        if count > max {
            return Err(Error::Invalid(format!(
                "{count} attachments are over the limit of {max}: Socket.IO's own clients close their connection over more than \
                 {MOST_ATTACHMENTS}, so send several events, or join the binary values (only where all clients take more: raise \
                 `attachments` in the app's `limits`)"
            )));
        }
        self.check_size(payload.size())?;
        json::check_args(&payload.json, &payload.attachments)
            .map_err(|reason| Error::Invalid(format!("args.json {reason}")))?;
        self.check_size(json::size_sent(&payload.json, &payload.attachments))?;
        Ok(payload)
    }

    /// The namespace with this name; without one, that of the event.
    pub(super) fn namespace(&self, name: Option<String>) -> Result<Namespace, Error> {
        match name {
            None => Ok(self.call.namespace.clone()),
            Some(name) if name.starts_with('/') => {
                check_length("namespace", &name)?;
                Ok(Namespace::from(name))
            }
            Some(name) => Err(Error::Invalid(format!(
                "the namespace {name:?} does not begin with a slash"
            ))),
        }
    }

    /// The audience, and the bytes that it counts for.
    pub(super) fn audience(&self, audience: wit::Audience) -> Result<(Audience, usize), Error> {
        let namespace = self.namespace(audience.namespace)?;
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

/// Channels to subscribe to, with names of checked length, and the bytes that they count for.
pub(super) fn lift_new_channels(channels: Vec<String>) -> Result<(Vec<Channel>, usize), Error> {
    for channel in &channels {
        check_length("channel", channel)?;
    }
    Ok(lift_channels(channels))
}

fn check_length(what: &str, name: &str) -> Result<(), Error> {
    if name.len() > MOST_NAME {
        return Err(Error::Invalid(format!(
            "the name of the {what} has {} bytes; a name may have {MOST_NAME}",
            name.len()
        )));
    }
    Ok(())
}

pub(super) fn check_event_name(event: &str) -> Result<(), Error> {
    check_length("event", event)?;
    if RESERVED_EVENTS.contains(&event) {
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

pub(super) fn lift_channels(channels: Vec<String>) -> (Vec<Channel>, usize) {
    let size = channels.iter().map(String::len).sum();
    (channels.into_iter().map(Channel::from).collect(), size)
}
