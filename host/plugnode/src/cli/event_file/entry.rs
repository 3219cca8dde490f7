//! One event of a file, as its author writes it, and its conversion to an [`Event`].

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::value::{bytes_of, json_of, payload};
use plugnode_message::{
    AckId, Client, Departure, DisconnectReason, Event, EventKind, Handshake, MAX_NAME, Namespace, RESERVED_EVENTS,
    Text, now_ms,
};

/// Name of the io-node of all clients.
pub(super) const IO_NODE: &str = "io";
/// Client of an event that names none.
const DEFAULT_CLIENT: &str = "client";

/// Token of a handler's request, which the client's reply carries.
pub(super) type Token = Bytes;

/// `[[event]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(in super::super) struct Entry {
    /// Session id of the client. Default: `client`; for a custom event, none.
    client: Option<String>,
    /// Default: the namespace of the first app.
    namespace: Option<String>,
    /// Attributes of the client from now on. Default: those after its previous event.
    attributes: Option<toml::Value>,
    /// Time at which the io-node received it. Default: now.
    received_at_ms: Option<u64>,

    connection: Option<Connection>,
    message: Option<String>,
    disconnect: Option<String>,
    /// For a disconnect: the channels that the client was in.
    channels: Option<Vec<String>>,
    reply: Option<toml::Value>,
    no_reply: bool,
    custom: Option<String>,

    /// For a message: an array, or JSON in a string. Bytes are `{ base64 = "…" }`.
    args: Option<toml::Value>,
    /// For a message: whether the client waits for an acknowledgement.
    ack: bool,

    /// For a custom event.
    data: Option<String>,
    /// The same, as base64.
    base64: Option<String>,
    content_type: Option<String>,

    /// Expected effects.
    pub(in super::super) expect: Option<toml::Table>,
}

/// `connection` of an event.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Connection {
    auth: Option<toml::Value>,
    query: String,
    headers: BTreeMap<String, String>,
    remote_addr: Option<String>,
    transport: Option<String>,
    recovered: bool,
}

impl Entry {
    /// Kind, name and client, for messages.
    pub(in super::super) fn description(&self) -> String {
        let kind = match (&self.message, &self.custom) {
            (Some(name), _) => format!("message {name:?}"),
            (_, Some(kind)) => format!("custom {kind:?}"),
            _ if self.connection.is_some() => "connection".to_owned(),
            _ if self.disconnect.is_some() => "disconnect".to_owned(),
            _ => "reply".to_owned(),
        };
        match self.client() {
            Some(client) => format!("{kind} of {client}"),
            None => kind,
        }
    }

    /// Namespace, or the default one.
    pub(super) fn namespace<'a>(&'a self, default: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(default)
    }

    /// Session id of the client, if it is from one.
    pub(super) fn client(&self) -> Option<&str> {
        match &self.custom {
            Some(_) => self.client.as_deref(),
            None => Some(self.client.as_deref().unwrap_or(DEFAULT_CLIENT)),
        }
    }

    /// Whether it is a reply to a handler's request.
    pub(super) fn is_reply(&self) -> bool {
        self.reply.is_some() || self.no_reply
    }

    /// Attributes, if it sets some.
    pub(super) fn attributes(&self) -> Result<Option<Value>> {
        let Some(given) = &self.attributes else { return Ok(None) };
        let given = json_of(given).context("attributes")?;
        if !given.is_object() {
            bail!("attributes: is not a table such as {{ name = \"ada\" }}");
        }
        Ok(Some(given))
    }

    /// Converts to an event. `number` counts from 1 in the file; `token` is of the request that a reply answers.
    ///
    /// # Errors
    /// When it is not a valid event, with the key at fault.
    pub(super) fn event(
        &self,
        number: usize,
        namespace: &str,
        attributes: &Value,
        token: Option<Token>,
    ) -> Result<Event> {
        let namespace = Namespace::from(namespace);
        let client = self.client().map(|id| Client {
            id: id.into(),
            io_node: IO_NODE.into(),
            attributes: attributes.to_string().into(),
            patched: 0,
        });
        if client.as_ref().is_some_and(|client| client.id.as_str().is_empty()) {
            bail!("client: is empty; leave it out, or give the client a name");
        }
        Ok(Event {
            kind: self.kind(number, &namespace, token)?,
            namespace,
            client,
            received_at_ms: self.received_at_ms.unwrap_or_else(now_ms),
        })
    }

    fn kind(&self, number: usize, namespace: &Namespace, token: Option<Token>) -> Result<EventKind> {
        let kinds = [
            ("connection", self.connection.is_some()),
            ("message", self.message.is_some()),
            ("disconnect", self.disconnect.is_some()),
            ("reply", self.reply.is_some()),
            ("no-reply", self.no_reply),
            ("custom", self.custom.is_some()),
        ];
        let named: Vec<_> = kinds.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        let [kind] = named[..] else {
            let found = if named.is_empty() { "none" } else { &named.join(" and ") };
            bail!("has to be one of connection, message, disconnect, reply, no-reply and custom, and is {found}");
        };
        self.check_key(kind, &["message"], "args", self.args.is_some())?;
        self.check_key(kind, &["message"], "ack", self.ack)?;
        self.check_key(kind, &["disconnect"], "channels", self.channels.is_some())?;
        for (key, is_given) in [
            ("data", self.data.is_some()),
            ("base64", self.base64.is_some()),
            ("content-type", self.content_type.is_some()),
        ] {
            self.check_key(kind, &["custom"], key, is_given)?;
        }
        if let Some(connection) = &self.connection {
            return Ok(EventKind::Connection(Box::new(connection.handshake()?)));
        }
        if let Some(name) = &self.message {
            if RESERVED_EVENTS.contains(&name.as_str()) || name.len() > MAX_NAME {
                bail!("message: no client can emit {name:?}: its name is reserved, or too long");
            }
            let ack = self.ack.then(|| AckId {
                namespace: namespace.clone(),
                client: self.client().unwrap_or_default().into(),
                number: number as i64,
            });
            return Ok(EventKind::Message {
                event: name.as_str().into(),
                args: payload("args", self.args.as_ref())?,
                ack,
            });
        }
        if let Some(reason) = &self.disconnect {
            let channels = self
                .channels
                .as_ref()
                .map(|channels| json!(channels).to_string().into());
            return Ok(EventKind::Disconnect(Departure {
                reason: reason_of(reason),
                channels,
            }));
        }
        if let Some(kind) = &self.custom {
            let data = match (&self.data, &self.base64) {
                (Some(_), Some(_)) => bail!("has both data and base64; leave one out"),
                (Some(text), None) => Bytes::from(text.clone()),
                (None, Some(text)) => bytes_of("base64", text)?,
                (None, None) => Bytes::new(),
            };
            return Ok(EventKind::Custom {
                kind: kind.as_str().into(),
                data,
                content_type: self.content_type.as_deref().map(Text::from),
            });
        }
        let answer = match &self.reply {
            Some(answer) => Some(payload("reply", Some(answer))?),
            None => None,
        };
        let token = token.context("is a reply, and no event before it has asked its client for one")?;
        Ok(EventKind::Reply { token, answer })
    }

    /// Refuses a key that belongs to other kinds of events.
    fn check_key(&self, kind: &str, kinds: &[&str], key: &str, is_given: bool) -> Result<()> {
        if is_given && !kinds.contains(&kind) {
            bail!("{key}: a {kind} has none; it belongs to a {}", kinds.join(" or a "));
        }
        Ok(())
    }
}

impl Connection {
    pub(super) fn handshake(&self) -> Result<Handshake> {
        let auth = self.auth.as_ref().map(json_of).transpose().context("auth")?;
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (name.to_lowercase(), value.clone()));
        Ok(Handshake {
            auth: auth.map(|auth| auth.to_string().into()),
            query: self.query.as_str().into(),
            headers: headers.collect::<Vec<_>>().into(),
            remote_addr: self.remote_addr.clone(),
            transport: self.transport.as_deref().unwrap_or("websocket").into(),
            recovered: self.recovered,
        })
    }
}

/// Disconnect reasons by name.
const REASONS: [(&str, DisconnectReason); 8] = [
    ("client", DisconnectReason::Client),
    ("server", DisconnectReason::Server),
    ("transport close", DisconnectReason::TransportClose),
    ("transport error", DisconnectReason::TransportError),
    ("ping timeout", DisconnectReason::PingTimeout),
    ("parse error", DisconnectReason::ParseError),
    ("server shutdown", DisconnectReason::ServerShutdown),
    ("node lost", DisconnectReason::NodeLost),
];

/// The disconnect reason with this name.
fn reason_of(name: &str) -> DisconnectReason {
    let known = REASONS.iter().find(|(known, _)| *known == name);
    known.map_or_else(|| DisconnectReason::Other(name.into()), |(_, reason)| reason.clone())
}

/// Name of a disconnect reason.
pub(super) fn reason_name(reason: &DisconnectReason) -> &str {
    match reason {
        DisconnectReason::Other(words) => words,
        reason => REASONS
            .iter()
            .find(|(_, known)| known == reason)
            .map_or("", |(name, _)| name),
    }
}
