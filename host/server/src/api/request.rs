//! The bodies of requests and of answers. The OpenAPI document is written from these types and their doc texts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::plan::{MAX_FOUND, MAX_TIMEOUT_MS};
use super::schema::{ChannelNames, EventName, Kind, Name, Names, NamespaceName, audiences};

/// The clients of a namespace that a request is for. It names channels or clients, or says `all`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Except {
    /// All clients in these channels.
    #[serde(default)]
    #[schemars(with = "Names")]
    pub(super) to: Vec<String>,
    /// These clients, by session id.
    #[serde(default)]
    #[schemars(with = "Names")]
    pub(super) clients: Vec<String>,
}

/// Declares a request with the fields of an audience, which serde cannot flatten: raw JSON cannot be buffered.
macro_rules! with_audience {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        #[schemars(extend("anyOf" = audiences()))]
        pub(super) struct $name {
            /// The namespace. Default: `/`.
            #[serde(default = "root")]
            #[schemars(with = "NamespaceName")]
            pub(super) namespace: String,
            /// All clients in these channels.
            #[serde(default)]
            #[schemars(with = "Names")]
            pub(super) to: Vec<String>,
            /// These clients, by session id.
            #[serde(default)]
            #[schemars(with = "Names")]
            pub(super) clients: Vec<String>,
            /// All clients of the namespace; only without `to` and `clients`.
            #[serde(default)]
            pub(super) all: bool,
            /// The clients to leave out.
            #[serde(default)]
            pub(super) except: Except,
            $($(#[$field_doc])* pub(super) $field: $kind,)*
        }

        impl $name {
            pub(super) fn audience(&mut self) -> AudienceFields {
                AudienceFields {
                    namespace: std::mem::take(&mut self.namespace),
                    to: std::mem::take(&mut self.to),
                    clients: std::mem::take(&mut self.clients),
                    all: self.all,
                    except: std::mem::take(&mut self.except),
                }
            }
        }
    };
}

/// The fields of an audience.
pub(super) struct AudienceFields {
    pub(super) namespace: String,
    pub(super) to: Vec<String>,
    pub(super) clients: Vec<String>,
    pub(super) all: bool,
    pub(super) except: Except,
}

with_audience! {
    /// Emits an event to clients.
    Publish {
        /// The name of the event.
        #[schemars(with = "EventName")]
        event: String,
        /// The arguments of the event.
        #[serde(default)]
        #[schemars(with = "Vec<Value>")]
        args: Option<Box<RawValue>>,
        /// Skip clients that are not ready to receive.
        #[serde(default)]
        volatile: bool,
    }
}

with_audience! {
    /// Subscribes clients to channels.
    Join {
        /// The channels.
        #[schemars(with = "ChannelNames")]
        channels: Vec<String>,
    }
}

with_audience! {
    /// Unsubscribes clients from channels.
    Leave {
        /// The channels.
        #[schemars(with = "ChannelNames")]
        channels: Vec<String>,
    }
}

with_audience! {
    /// Disconnects clients.
    Disconnect {
        /// Close the whole connection, after which a JavaScript client reconnects, instead of leaving the namespace.
        #[serde(default)]
        close: bool,
    }
}

with_audience! {
    /// Finds clients.
    Find {
        /// Number of clients to describe; all are counted. At most 10,000.
        #[serde(default = "most")]
        #[schemars(range(max = MAX_FOUND))]
        most: u32,
        /// Time for all io-nodes to answer, in milliseconds; at most 60,000.
        #[serde(default = "find_timeout")]
        #[schemars(range(min = 1, max = MAX_TIMEOUT_MS))]
        timeout_ms: u32,
    }
}

/// Reads who is in a channel whose presence is kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Presence {
    /// The namespace. Default: `/`.
    #[serde(default = "root")]
    #[schemars(with = "NamespaceName")]
    pub(super) namespace: String,
    /// The channel.
    #[schemars(with = "Name")]
    pub(super) channel: String,
    /// `next` of the page before; missing for the first.
    #[serde(default)]
    pub(super) cursor: Option<u64>,
}

/// A page of the clients in a channel.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct PresencePage {
    /// Number of clients in the channel.
    pub(super) count: u64,
    /// Some of them, in no particular order; possibly none before the last page.
    pub(super) members: Vec<PresentClient>,
    /// The cursor of the next page; null after the last.
    pub(super) next: Option<u64>,
}

/// A client in a channel.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct PresentClient {
    /// The session id.
    pub(super) id: String,
    /// When it joined, in milliseconds since the Unix epoch.
    pub(super) since_ms: u64,
    /// Its attributes when it joined; null if they had more than 4096 bytes.
    pub(super) attributes: Option<Value>,
}

/// Gives a custom event to the handler of the app that serves a namespace.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Event {
    /// The namespace. Default: `/`.
    #[serde(default = "root")]
    #[schemars(with = "NamespaceName")]
    pub(super) namespace: String,
    /// The kind of the event, with a version at the end, such as `acme.price-change/1`.
    #[schemars(with = "Kind")]
    pub(super) kind: String,
    /// The content: any JSON. In MessagePack, a binary value is passed on as these bytes.
    #[serde(default)]
    #[schemars(with = "Value")]
    pub(super) data: Option<Box<RawValue>>,
    /// Events with the same text here are handled in order, one at a time. Without it, no order is promised.
    #[serde(default)]
    #[schemars(with = "Option<Name>")]
    pub(super) order: Option<String>,
    /// What to wait for.
    #[serde(default)]
    pub(super) wait: Wait,
    /// Time to wait, in milliseconds; at most 60,000.
    #[serde(default = "event_timeout")]
    #[schemars(range(min = 1, max = MAX_TIMEOUT_MS))]
    pub(super) timeout_ms: u32,
}

/// What the answer to an event waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Wait {
    /// Nothing: the event will be handled. The answer is 202.
    Accepted,
    /// The handler has handled the event. The answer has its acknowledgement, if it made one.
    #[default]
    Handled,
    /// The acknowledgement, which the handler may also make in a later event.
    Acknowledged,
}

fn root() -> String {
    "/".into()
}

fn most() -> u32 {
    1_000
}

fn find_timeout() -> u32 {
    2_000
}

fn event_timeout() -> u32 {
    10_000
}

/// The request was carried out.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Done {
    /// The id of the event that carried it out.
    pub(super) event: String,
    /// Whether an earlier request with the same idempotency key had done it.
    pub(super) repeated: bool,
}

/// The event was handled.
#[derive(Debug, Serialize, JsonSchema)]
#[allow(dead_code, reason = "describes what `media` writes")]
pub(super) struct Handled {
    /// The id of the event.
    pub(super) event: String,
    /// Whether an earlier request with the same idempotency key had done it.
    pub(super) repeated: bool,
    /// The arguments of the acknowledgement; missing without one. In JSON, `{"_placeholder":true,"num":N}` stands for a binary value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) args: Option<Vec<Value>>,
    /// In JSON: the binary values of `args`, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attachments: Option<Vec<String>>,
}

/// The transport has accepted the request: it will be carried out once, and was not in time for this answer.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Accepted {
    /// True.
    pub(super) accepted: bool,
}

/// The clients that were found.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(dead_code, reason = "describes what `summary` writes")]
pub(super) struct Found {
    /// Number of matching clients.
    pub(super) count: u32,
    /// Up to `most` of them.
    pub(super) clients: Vec<FoundClient>,
    /// The io-nodes that answered.
    pub(super) nodes: Vec<String>,
    /// The io-nodes that did not answer in time. The rest of the answer does not cover them.
    pub(super) silent: Vec<String>,
}

/// A client that was found.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct FoundClient {
    /// Its session id.
    pub(super) id: String,
    /// The io-node that holds its connection.
    pub(super) io_node: String,
    /// Its attributes.
    pub(super) attributes: Value,
    /// The channels that it is in.
    pub(super) channels: Vec<String>,
}
