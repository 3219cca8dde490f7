//! From the body of a request to the call to make.

use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::keys::Permission;
use super::problem::Problem;
use super::request::{AudienceFields, Disconnect, Event, Find, Join, Leave, Presence, Publish, Wait};
use plugnode_message::json::{Spelling, TooDeep, placeholders, with_placeholders_renumbered, with_sane_numbers};
use plugnode_message::{
    Audience, CallAction, Channel, Command, MAX_ATTACHMENTS, MAX_NAME, NodeId, Payload, QueryOrigin, Question,
    RESERVED_EVENTS, RESERVED_KINDS, Scope, Selection, SessionId, Text,
};
use plugnode_socket_io::RawPayload;

/// Names in one list of a request.
pub(super) const MAX_NAMES: usize = 1_000;
/// Levels of arrays and objects in arguments and data. JavaScript reads 1,000, Python 1,000 less the calls that it is in.
pub(super) const MAX_DEPTH: usize = 900;
/// Clients that an answer describes.
pub(super) const MAX_FOUND: u32 = 10_000;
/// Longest time that a request may wait.
pub(super) const MAX_TIMEOUT_MS: u32 = 60_000;

/// The call to make.
#[derive(Debug)]
pub(super) struct Plan {
    /// The namespaces that it is about; the first is that of the call's event.
    pub(super) namespaces: Vec<String>,
    /// Calls with the same value are carried out in order. None: any order.
    pub(super) order: Option<SessionId>,
    pub(super) work: Work,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Work {
    /// Carry out these commands.
    Commands(Vec<Command>),
    /// Ask all io-nodes.
    Find { who: Audience, most: u32, timeout_ms: u32 },
    /// Read a page of the clients in a channel.
    Presence { channel: String, cursor: u64 },
    /// Give this event to a handler.
    Event {
        action: CallAction,
        wait: Wait,
        timeout: Duration,
    },
}

impl Work {
    /// The action of a call with this number.
    pub(super) fn action(&self, call: u64, api_node: &NodeId, namespace: &str, order: &SessionId) -> CallAction {
        match self {
            Self::Commands(commands) => CallAction::Commands(commands.clone()),
            Self::Event { action, .. } => action.clone(),
            // It is read, not asked for.
            Self::Presence { .. } => CallAction::Commands(Vec::new()),
            Self::Find { who, most, timeout_ms } => CallAction::Commands(vec![Command::Ask {
                origin: QueryOrigin {
                    id: call.to_string().into(),
                    namespace: namespace.into(),
                    client: order.clone(),
                    io_node: api_node.clone(),
                },
                question: Question::Clients {
                    who: who.clone(),
                    most: *most,
                },
                timeout_ms: *timeout_ms,
                token: Bytes::new(),
            }]),
        }
    }
}

/// Makes the plan of a request with this body.
///
/// # Errors
/// The problem names the field.
pub(super) fn plan(permission: Permission, body: &Payload, max_batch: usize) -> Result<Plan, Problem> {
    let plan = match permission {
        Permission::Publish => batch(body, max_batch, publish),
        Permission::Join => batch(body, max_batch, |mut join: Join, _, at| {
            let (who, order) = audience(join.audience(), at)?;
            let channels = channels(join.channels, &format!("{at}channels"))?;
            Ok((Command::Subscribe { who, channels }, order))
        }),
        Permission::Leave => batch(body, max_batch, |mut leave: Leave, _, at| {
            let (who, order) = audience(leave.audience(), at)?;
            let channels = channels(leave.channels, &format!("{at}channels"))?;
            Ok((Command::Unsubscribe { who, channels }, order))
        }),
        Permission::Disconnect => batch(body, max_batch, |mut disconnect: Disconnect, _, at| {
            let close_transport = disconnect.close;
            let (who, order) = audience(disconnect.audience(), at)?;
            Ok((Command::Disconnect { who, close_transport }, order))
        }),
        Permission::Find => find(read(&body.json)?),
        Permission::Presence => presence(read(&body.json)?),
        Permission::Event => event(read(&body.json)?, body),
    }?;
    Ok(plan)
}

/// A command for each item of a batch, or for the one object.
fn batch<T: DeserializeOwned>(
    body: &Payload,
    most: usize,
    command: impl Fn(T, &Payload, &str) -> Result<(Command, SessionId), Problem>,
) -> Result<Plan, Problem> {
    let is_batch = body.json.trim_start().starts_with('[');
    let items: Vec<T> = match is_batch {
        true => read(&body.json)?,
        false => vec![read(&body.json)?],
    };
    if items.is_empty() {
        return Err(Problem::invalid("the batch is empty; send at least one item"));
    }
    if items.len() > most {
        let count = items.len();
        return Err(Problem::too_large(format!(
            "the batch has {count} items, over the limit of {most}; send several, or raise [api] max-batch"
        )));
    }
    let (mut commands, mut namespaces, mut orders) = (Vec::new(), Vec::new(), Vec::new());
    for (number, item) in items.into_iter().enumerate() {
        let at = if is_batch {
            format!("[{number}].")
        } else {
            String::new()
        };
        let (made, order) = command(item, body, &at)?;
        let namespace = namespace_of(&made).to_owned();
        if !namespaces.contains(&namespace) {
            namespaces.push(namespace);
        }
        commands.push(made);
        orders.push(order);
    }
    let first = orders.swap_remove(0);
    let order = match orders.iter().all(|order| *order == first) {
        true => first,
        false => order_of(&namespaces[0], ""),
    };
    Ok(Plan {
        namespaces,
        order: Some(order),
        work: Work::Commands(commands),
    })
}

fn namespace_of(command: &Command) -> &str {
    match command {
        Command::Publish { to: audience, .. }
        | Command::Subscribe { who: audience, .. }
        | Command::Unsubscribe { who: audience, .. }
        | Command::Disconnect { who: audience, .. } => audience.namespace.as_str(),
        _ => "/",
    }
}

fn publish(mut publish: Publish, body: &Payload, at: &str) -> Result<(Command, SessionId), Problem> {
    let (to, order) = audience(publish.audience(), at)?;
    let event = publish.event;
    let field = format!("{at}event");
    if RESERVED_EVENTS.contains(&&*event) {
        let detail = format!("the event name {event:?} is reserved by Socket.IO; choose another");
        return Err(Problem::invalid(detail).of_field(field));
    }
    name(&event, &field)?;
    let args = arguments(publish.args.as_deref(), body, &format!("{at}args"))?;
    let command = Command::Publish {
        to,
        event: event.into(),
        args,
        volatile: publish.volatile,
        local: false,
    };
    Ok((command, order))
}

fn find(mut find: Find) -> Result<Plan, Problem> {
    let (who, order) = audience(find.audience(), "")?;
    timeout(find.timeout_ms)?;
    if find.most > MAX_FOUND {
        let detail = format!("at most {MAX_FOUND} clients can be described; narrow the audience");
        return Err(Problem::invalid(detail).of_field("most"));
    }
    Ok(Plan {
        namespaces: vec![who.namespace.as_str().to_owned()],
        order: Some(order),
        work: Work::Find {
            who,
            most: find.most,
            timeout_ms: find.timeout_ms,
        },
    })
}

fn presence(presence: Presence) -> Result<Plan, Problem> {
    namespace(&presence.namespace, "namespace")?;
    name(&presence.channel, "channel")?;
    Ok(Plan {
        namespaces: vec![presence.namespace],
        order: None,
        work: Work::Presence {
            channel: presence.channel,
            cursor: presence.cursor.unwrap_or(0),
        },
    })
}

fn event(event: Event, body: &Payload) -> Result<Plan, Problem> {
    namespace(&event.namespace, "namespace")?;
    name(&event.kind, "kind")?;
    if event.kind.starts_with(RESERVED_KINDS) {
        let detail = format!("kinds that begin with `{RESERVED_KINDS}` are reserved for the host; choose another");
        return Err(Problem::invalid(detail).of_field("kind"));
    }
    timeout(event.timeout_ms)?;
    let order = event.order.map(|order| {
        name(&order, "order")?;
        Ok(format!("#event#{}#{order}", event.namespace).into())
    });
    let json = event.data.as_deref().map_or("null", RawValue::get);
    let (data, content_type) = match &body.attachments[..] {
        [] => (Bytes::from(checked(json, "data")?), "application/json"),
        [bytes] if is_placeholder(json) => (bytes.clone(), "application/octet-stream"),
        _ => {
            let detail = "must be one binary value, or a value without binary parts";
            return Err(Problem::invalid(detail).of_field("data"));
        }
    };
    let action = CallAction::Event {
        kind: event.kind.into(),
        data,
        content_type: Some(Text::from_static(content_type)),
    };
    Ok(Plan {
        namespaces: vec![event.namespace],
        order: order.transpose()?,
        work: Work::Event {
            action,
            wait: event.wait,
            timeout: Duration::from_millis(event.timeout_ms.into()),
        },
    })
}

/// A JSON value that handlers can parse, in the form that the arguments of events have.
fn checked(json: &str, field: &str) -> Result<String, Problem> {
    check_depth(json, field)?;
    let raw = RawPayload {
        json: format!("[{json}]").into(),
        attachments: Vec::new(),
    };
    let checked = raw.into_answer();
    let checked = checked.map_err(|error| Problem::invalid(error.to_string()).of_field(field))?;
    Ok(checked.json[1..checked.json.len() - 1].to_owned())
}

fn check_depth(json: &str, field: &str) -> Result<(), Problem> {
    let deep = |TooDeep| {
        let detail =
            format!("is nested deeper than {MAX_DEPTH} levels, which not every handler could read; nest it less");
        Problem::invalid(detail).of_field(field)
    };
    with_sane_numbers(json, MAX_DEPTH).map(drop).map_err(deep)
}

/// Whether a value is the placeholder of a binary value, and nothing else.
fn is_placeholder(json: &str) -> bool {
    json.starts_with(r#"{"_placeholder":true,"#) && json.matches('{').count() == 1
}

/// The arguments of an event, with their part of the attachments.
fn arguments(args: Option<&RawValue>, body: &Payload, field: &str) -> Result<Payload, Problem> {
    let json = args.map_or("[]", RawValue::get);
    if !json.starts_with('[') {
        return Err(Problem::invalid("must be an array of the event's arguments").of_field(field));
    }
    check_depth(json, field)?;
    let (mut json, mut attachments) = (Text::from(json), Vec::new());
    if !body.attachments.is_empty() {
        // MessagePack is read in order, so the numbers of a part are consecutive.
        let numbers: Vec<usize> = placeholders(&json, Spelling::Plain).flatten().collect();
        if let Some(first) = numbers.iter().min().copied() {
            attachments = body
                .attachments
                .iter()
                .skip(first)
                .take(numbers.len())
                .cloned()
                .collect();
            json = with_placeholders_renumbered(&json, |number| number.saturating_sub(first)).into();
        }
    }
    let count = attachments.len();
    if count > MAX_ATTACHMENTS {
        let detail = format!(
            "{count} binary values are over the limit of {MAX_ATTACHMENTS} of Socket.IO's own clients; send several events"
        );
        return Err(Problem::invalid(detail).of_field(field));
    }
    let raw = RawPayload {
        json: String::from(&*json).into(),
        attachments,
    };
    raw.into_answer()
        .map_err(|error| Problem::invalid(error.to_string()).of_field(field))
}

fn audience(fields: AudienceFields, at: &str) -> Result<(Audience, SessionId), Problem> {
    let field = |name: &str| format!("{at}{name}");
    namespace(&fields.namespace, &field("namespace"))?;
    let to = channels_or_none(fields.to, &field("to"))?;
    let clients = clients(fields.clients, &field("clients"))?;
    let except = Selection {
        channels: channels_or_none(fields.except.to, &field("except.to"))?,
        clients: self::clients(fields.except.clients, &field("except.clients"))?,
    };
    let is_narrowed = !to.is_empty() || !clients.is_empty();
    if fields.all == is_narrowed {
        let detail = match is_narrowed {
            true => "`all` goes with neither `to` nor `clients`; leave one out",
            false => "names nobody; give channels in `to`, session ids in `clients`, or `\"all\": true`",
        };
        return Err(Problem::invalid(detail).of_field(field("all")));
    }
    let order = match (&clients[..], &to[..]) {
        ([client], []) => client.clone(),
        (_, [channel, ..]) => order_of(&fields.namespace, channel.as_str()),
        _ => order_of(&fields.namespace, ""),
    };
    let scope = match fields.all {
        true => Scope::All,
        false => Scope::Only(Selection { clients, channels: to }),
    };
    let audience = Audience {
        namespace: fields.namespace.into(),
        to: scope,
        except,
    };
    Ok((audience, order))
}

/// The order of calls that are not for one client. It is no session id, which has no `#`, and no order of events.
fn order_of(namespace: &str, name: &str) -> SessionId {
    format!("#{namespace}#{name}").into()
}

fn channels(names: Vec<String>, field: &str) -> Result<Vec<Channel>, Problem> {
    match names.is_empty() {
        true => Err(Problem::invalid("names no channel; give at least one").of_field(field)),
        false => channels_or_none(names, field),
    }
}

fn channels_or_none(names: Vec<String>, field: &str) -> Result<Vec<Channel>, Problem> {
    count(&names, field)?;
    let checked = names.into_iter().enumerate().map(|(number, channel)| {
        name(&channel, &format!("{field}[{number}]"))?;
        Ok(Channel::from(channel))
    });
    checked.collect()
}

fn clients(ids: Vec<String>, field: &str) -> Result<Vec<SessionId>, Problem> {
    count(&ids, field)?;
    let checked = ids.into_iter().enumerate().map(|(number, id)| {
        name(&id, &format!("{field}[{number}]"))?;
        Ok(SessionId::from(id))
    });
    checked.collect()
}

fn count(names: &[String], field: &str) -> Result<(), Problem> {
    match names.len() {
        count if count > MAX_NAMES => {
            let detail = format!("has {count} entries, over the limit of {MAX_NAMES}; send several requests");
            Err(Problem::invalid(detail).of_field(field))
        }
        _ => Ok(()),
    }
}

fn name(name: &str, field: &str) -> Result<(), Problem> {
    let size = name.len();
    match (1..=MAX_NAME).contains(&size) {
        true => Ok(()),
        false => Err(Problem::invalid(format!("has {size} bytes; a name has 1 to {MAX_NAME}")).of_field(field)),
    }
}

fn namespace(namespace: &str, field: &str) -> Result<(), Problem> {
    name(namespace, field)?;
    match namespace.starts_with('/') {
        true => Ok(()),
        false => {
            let detail = format!("the namespace {namespace:?} does not begin with a slash; write \"/{namespace}\"");
            Err(Problem::invalid(detail).of_field(field))
        }
    }
}

fn timeout(timeout_ms: u32) -> Result<(), Problem> {
    match (1..=MAX_TIMEOUT_MS).contains(&timeout_ms) {
        true => Ok(()),
        false => Err(Problem::invalid(format!("must be 1 to {MAX_TIMEOUT_MS}")).of_field("timeout-ms")),
    }
}

/// Reads JSON as this type.
fn read<T: DeserializeOwned>(json: &str) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = error.path().to_string();
        let error = error.into_inner();
        match error.is_data() {
            true if error.to_string().contains(", expected struct ") => {
                Problem::invalid("must be an object").of_field(field)
            }
            true => Problem::invalid(error.to_string()).of_field(field),
            false => Problem::malformed(format!("the body is not valid JSON: {error}")),
        }
    })?;
    let end = reader.end();
    end.map_err(|error| Problem::malformed(format!("the body is not valid JSON: {error}")))?;
    Ok(read)
}
