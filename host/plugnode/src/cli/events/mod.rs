//! Events as handler authors write them into a TOML file, each with the effects that are expected of it: for `plugnode test` and
//! `plugnode replay`.
//!
//! A file is read here and becomes [`Event`]s; `bench` has a component handle them, `effects` says what came in the words of the
//! file, `diff` compares, `update` writes it back, and `letter` makes a file of a dead letter.

mod bench;
mod diff;
mod effects;
mod letter;
mod update;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use plugnode_message::{
    AckId, Client, Departure, DisconnectReason, Event, EventKind, Handshake, MOST_NAME, Namespace, Payload,
    RESERVED_EVENTS, Text, now_ms,
};

pub(super) use bench::{Bench, Component};
pub(super) use diff::diff;
pub(super) use effects::{Came, in_toml};
pub(super) use letter::file_of;
pub(super) use update::update;

/// The io-node that clients of a file are on.
pub(super) const IO_NODE: &str = "io";
/// The client of an event that names none.
const SOMEBODY: &str = "client";
/// The most bytes of a file.
const MOST_BYTES: u64 = 16 << 20;

/// A file of events.
pub(super) struct EventsFile {
    /// Its name, for people.
    pub(super) path: PathBuf,
    /// What is in it.
    pub(super) text: String,
    /// What is in the key-value store before the first event: buckets, keys, values.
    pub(super) keyvalue: BTreeMap<String, BTreeMap<String, String>>,
    /// The events, in their order.
    pub(super) events: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Content {
    #[serde(default)]
    keyvalue: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default, rename = "event")]
    events: Vec<Entry>,
}

/// `[[event]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Entry {
    /// The client's session id. Default: `client`; a custom event is from nobody unless it names one.
    client: Option<String>,
    /// Default: that of the app.
    namespace: Option<String>,
    /// The client's attributes from now on. Default: those that it had after its last event.
    attributes: Option<toml::Value>,
    /// When the io-node took it in. Default: now.
    received_at_ms: Option<u64>,

    connection: Option<Connection>,
    message: Option<String>,
    disconnect: Option<String>,
    /// Of a disconnect: the channels that the client was in.
    channels: Option<Vec<String>>,
    reply: Option<toml::Value>,
    no_reply: bool,
    custom: Option<String>,

    /// Of a message: an array, or JSON as a text. A binary value is `{ base64 = "…" }`.
    args: Option<toml::Value>,
    /// Whether the client of a message waits for an acknowledgement.
    ack: bool,

    /// Of a custom event.
    data: Option<String>,
    /// The same, as base64.
    base64: Option<String>,
    content_type: Option<String>,

    /// What it is to lead to.
    pub(super) expect: Option<toml::Table>,
}

/// `connection` of an event.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Connection {
    auth: Option<toml::Value>,
    query: String,
    headers: BTreeMap<String, String>,
    remote_addr: Option<String>,
    transport: Option<String>,
    recovered: bool,
}

/// What a question of a handler needs to be answered with.
pub(super) type Token = Bytes;

impl EventsFile {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let size = std::fs::metadata(path).with_context(|| {
            format!(
                "cannot read {}; name a file of events, as `plugnode test --help` shows",
                path.display()
            )
        })?;
        if size.len() > MOST_BYTES {
            bail!(
                "{} has more than {MOST_BYTES} bytes: make several files of it",
                path.display()
            );
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = Self::of_text(path, text)?;
        if file.events.is_empty() {
            bail!("{} has no [[event]]; `plugnode test --help` shows one", path.display());
        }
        Ok(file)
    }

    /// The line of each event, as far as events are written as `[[event]]`.
    pub(super) fn lines(&self) -> Vec<usize> {
        update::lines(&self.text)
    }

    fn of_text(path: &Path, text: String) -> Result<Self> {
        let Content { keyvalue, events } = toml::from_str(&text)
            .map_err(|error| anyhow::anyhow!("{}: {}", path.display(), error.to_string().trim_end()))?;
        Ok(Self {
            path: path.into(),
            text,
            keyvalue,
            events,
        })
    }
}

impl Entry {
    /// The kind of the event, and its name and client, for people.
    pub(super) fn what(&self) -> String {
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

    /// The namespace that it names.
    pub(super) fn namespace<'a>(&'a self, usual: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(usual)
    }

    /// The client that it is from.
    pub(super) fn client(&self) -> Option<&str> {
        match &self.custom {
            Some(_) => self.client.as_deref(),
            None => Some(self.client.as_deref().unwrap_or(SOMEBODY)),
        }
    }

    /// Whether it answers a question.
    pub(super) fn is_reply(&self) -> bool {
        self.reply.is_some() || self.no_reply
    }

    /// The attributes that it gives its client, if it does.
    pub(super) fn attributes(&self) -> Result<Option<Value>> {
        let Some(given) = &self.attributes else { return Ok(None) };
        let given = value_of(given).context("attributes")?;
        if !given.is_object() {
            bail!("attributes: is no table, such as {{ name = \"ada\" }}");
        }
        Ok(Some(given))
    }

    /// The event, number `number` of its file. What it cannot be is an error in words.
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
        self.only_of(kind, &["message"], "args", self.args.is_some())?;
        self.only_of(kind, &["message"], "ack", self.ack)?;
        self.only_of(kind, &["disconnect"], "channels", self.channels.is_some())?;
        for (key, is_given) in [
            ("data", self.data.is_some()),
            ("base64", self.base64.is_some()),
            ("content-type", self.content_type.is_some()),
        ] {
            self.only_of(kind, &["custom"], key, is_given)?;
        }
        if let Some(connection) = &self.connection {
            return Ok(EventKind::Connection(Box::new(connection.handshake()?)));
        }
        if let Some(name) = &self.message {
            if RESERVED_EVENTS.contains(&name.as_str()) || name.len() > MOST_NAME {
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
        let token = token.context("answers a question, and no event before it has asked its client one")?;
        Ok(EventKind::Reply { token, answer })
    }

    fn only_of(&self, kind: &str, kinds: &[&str], key: &str, is_given: bool) -> Result<()> {
        if is_given && !kinds.contains(&kind) {
            bail!("{key}: a {kind} has none; it belongs to a {}", kinds.join(" or a "));
        }
        Ok(())
    }
}

/// Arguments, of which binary values are `{ base64 = … }`.
fn payload(key: &str, args: Option<&toml::Value>) -> Result<Payload> {
    let mut args = match args {
        Some(args) => value_of(args).with_context(|| key.to_owned())?,
        None => json!([]),
    };
    if !args.is_array() {
        bail!("{key}: is not a list of arguments, such as [\"hello\", 1]");
    }
    let mut attachments = Vec::new();
    take_bytes(&mut args, &mut attachments).with_context(|| key.to_owned())?;
    Ok(Payload {
        json: args.to_string().into(),
        attachments,
    })
}

fn take_bytes(value: &mut Value, attachments: &mut Vec<Bytes>) -> Result<()> {
    let bytes = value
        .as_object()
        .filter(|keys| keys.len() == 1)
        .and_then(|keys| keys.get("base64")?.as_str());
    if let Some(text) = bytes {
        let bytes = bytes_of("base64", text)?;
        *value = json!({ "_placeholder": true, "num": attachments.len() });
        attachments.push(bytes);
        return Ok(());
    }
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(|item| take_bytes(item, attachments)),
        Value::Object(keys) => keys.values_mut().try_for_each(|value| take_bytes(value, attachments)),
        _ => Ok(()),
    }
}

impl Connection {
    fn handshake(&self) -> Result<Handshake> {
        let auth = self.auth.as_ref().map(value_of).transpose().context("auth")?;
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

/// The reasons that have a name of their own, and their names.
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

fn reason_of(name: &str) -> DisconnectReason {
    let known = REASONS.iter().find(|(known, _)| *known == name);
    known.map_or_else(|| DisconnectReason::Other(name.into()), |(_, reason)| reason.clone())
}

fn reason_name(reason: &DisconnectReason) -> &str {
    match reason {
        DisconnectReason::Other(words) => words,
        reason => REASONS
            .iter()
            .find(|(_, known)| known == reason)
            .map_or("", |(name, _)| name),
    }
}

fn bytes_of(key: &str, text: &str) -> Result<Bytes> {
    let bytes = BASE64.decode(text).with_context(|| format!("{key}: is no base64"))?;
    Ok(bytes.into())
}

/// What TOML says, as JSON; a text is JSON, too, as TOML has no null.
fn value_of(value: &toml::Value) -> Result<Value> {
    match value {
        toml::Value::String(text) => serde_json::from_str(text).with_context(|| format!("`{text}` is no JSON")),
        value => Ok(plain_value(value)),
    }
}

/// What TOML says, as JSON. A time is a text.
fn plain_value(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => json!(number),
        toml::Value::Boolean(is) => (*is).into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.iter().map(plain_value).collect(),
        toml::Value::Table(table) => {
            let keys = table.iter().map(|(key, value)| (key.clone(), plain_value(value)));
            keys.collect::<Map<_, _>>().into()
        }
    }
}

/// The attributes of clients, as the events of a file leave them.
pub(super) type Attributes = HashMap<(Namespace, String), Value>;

#[cfg(test)]
mod tests;
