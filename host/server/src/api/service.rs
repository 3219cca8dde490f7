//! Answers the requests of the API.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::service::Service;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use parking_lot::RwLock;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::time::{self, timeout, timeout_at};

use super::ApiSetup;
use super::keys::{Key, KeyRing, Permission};
use super::media::Media;
use super::member::{Heard, Member, NotAccepted, OpenCall};
use super::openapi;
use super::plan::{Plan, Work, plan};
use super::problem::Problem;
use super::request::{PresencePage, PresentClient, Wait};
use crate::http::{BoxError, whole_body};
use crate::summary;
use plugnode_message::{
    Call, CallKey, CallOutcome, Event, EventKind, KeyValueError, NodeId, Payload, SessionId, now_ms, presence_bucket,
    presence_page,
};
use plugnode_process::metrics;

const PREFIX: &str = "/api/v1/";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Bytes of an idempotency key.
const MAX_KEY: usize = 255;
/// Added to the time for io-nodes to answer, for the way of the answers.
const TRANSIT: Duration = Duration::from_millis(500);

/// Answers the requests of the API. Clones share its state.
#[derive(Clone)]
pub(super) struct ApiService(Arc<Inner>);

struct Inner {
    keys: RwLock<Arc<KeyRing>>,
    member: Member,
    setup: ApiSetup,
}

impl ApiService {
    pub(super) fn new(setup: ApiSetup, member: Member) -> Self {
        Self(Arc::new(Inner {
            keys: RwLock::new(setup.keys.clone()),
            member,
            setup,
        }))
    }

    pub(super) fn replace_keys(&self, keys: Arc<KeyRing>) -> bool {
        let before = std::mem::replace(&mut *self.0.keys.write(), keys.clone());
        !before.has_same_secrets(&keys)
    }
}

impl Inner {
    async fn answer<B>(&self, request: Request<B>) -> Result<Response<Full<Bytes>>, Problem>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let operation = match request.uri().path().strip_prefix(PREFIX) {
            Some("openapi.json") if request.method() == Method::GET => {
                let document = openapi::document();
                return Ok(response(StatusCode::OK, Media::Json.header(), document.into()));
            }
            Some("openapi.json") => return Err(Problem::method_not_allowed("GET")),
            Some("publish") => Permission::Publish,
            Some("join") => Permission::Join,
            Some("leave") => Permission::Leave,
            Some("disconnect") => Permission::Disconnect,
            Some("find") => Permission::Find,
            Some("presence") => Permission::Presence,
            Some("event") => Permission::Event,
            _ => {
                let detail = format!(
                    "there is no such path; use {PREFIX} and publish, join, leave, disconnect, find, presence, event or openapi.json"
                );
                return Err(Problem::not_found(detail));
            }
        };
        if request.method() != Method::POST {
            return Err(Problem::method_not_allowed("POST"));
        }
        let keys = self.keys.read().clone();
        let key = bearer(request.headers()).and_then(|secret| keys.find(secret));
        let key = keys.get(key.ok_or_else(Problem::unauthorized)?);
        key.count(Instant::now()).map_err(Problem::too_fast)?;
        if !key.may(operation) {
            let name = word(operation);
            let detail = format!(
                "the key {:?} lacks the permission {name}; add it to its permissions",
                key.name
            );
            return Err(Problem::forbidden(detail));
        }
        let media = Media::of_body(request.headers())?;
        let answer_media = Media::for_answer(request.headers(), media)?;
        let idempotency = idempotency_key(request.headers())?.map(str::to_owned);
        // Also bounds the memory of bodies.
        let room = keys.room(key);
        let _room = room.ok_or_else(|| {
            Problem::unavailable("too many calls of this key are running; send again, or raise [api] max-calls")
        })?;
        let body = self.body(request).await?;
        let payload = media.read(&body)?;
        let plan = plan(operation, &payload, self.setup.settings.max_batch)?;
        for namespace in &plan.namespaces {
            self.check_namespace(key, namespace)?;
        }
        let idempotency = idempotency.map(|name| CallKey::new(&key.name, name.into(), digest(operation, media, &body)));
        self.carry_out(plan, &keys, key, idempotency, answer_media).await
    }

    async fn body<B>(&self, request: Request<B>) -> Result<Bytes, Problem>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let most = self.setup.settings.max_body.in_memory();
        match timeout(self.setup.http.body_timeout, whole_body(request, most)).await {
            Ok(Ok(request)) => Ok(request.into_body()),
            Ok(Err(StatusCode::PAYLOAD_TOO_LARGE)) => {
                let detail = format!("the body has more than {most} bytes; send less, or raise [api] max-body");
                Err(Problem::too_large(detail))
            }
            Ok(Err(_)) => Err(Problem::malformed("the body ended before its length")),
            Err(_) => Err(Problem::body_timeout()),
        }
    }

    fn check_namespace(&self, key: &Key, namespace: &str) -> Result<(), Problem> {
        if !key.may_use(namespace) {
            let detail = format!(
                "the key {:?} is not for the namespace {namespace:?}; add it to its namespaces",
                key.name
            );
            return Err(Problem::forbidden(detail).of_field("namespace"));
        }
        if self.setup.namespaces.find(namespace).is_none() {
            let detail =
                format!("no app serves the namespace {namespace:?}, so it has no clients; add an [[app]] for it");
            return Err(Problem::not_found(detail).of_field("namespace"));
        }
        Ok(())
    }

    async fn carry_out(
        &self,
        plan: Plan,
        keys: &KeyRing,
        caller: &Key,
        key: Option<CallKey>,
        media: Media,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let Plan {
            namespaces,
            order,
            work,
        } = plan;
        let namespace = namespaces.into_iter().next().unwrap_or_default();
        if let Work::Presence { channel, cursor } = work {
            return self.present(&namespace, &channel, cursor, media).await;
        }
        let call = self.member.open();
        let order = order.unwrap_or_else(|| SessionId::from(format!("#{}#{}", self.member.node(), call.id)));
        let event = Event {
            namespace: namespace.as_str().into(),
            client: None,
            received_at_ms: now_ms(),
            kind: EventKind::Call(Box::new(Call {
                api_node: self.member.node().clone(),
                id: call.id,
                caller: caller.name.as_str().into(),
                action: work.action(call.id, self.member.node(), &namespace, &order),
                order,
                // A question changes nothing.
                key: key.filter(|_| !matches!(work, Work::Find { .. })),
            })),
        };
        let room = keys.queue_room(caller, event.size());
        let room =
            room.ok_or_else(|| Problem::unavailable("too many bytes of calls wait to be accepted; send again"))?;
        let offered = self.member.offer(event, room, self.setup.settings.accept_timeout).await;
        offered.map_err(not_accepted)?;
        match work {
            Work::Commands(_) => self.committed(call, media).await,
            Work::Find { most, timeout_ms, .. } => self.found(call, most, timeout_ms, media).await,
            Work::Presence { .. } => Ok(accepted(media)),
            Work::Event {
                wait: Wait::Accepted, ..
            } => Ok(accepted(media)),
            Work::Event { wait, timeout, .. } => handled(call, wait, timeout, media).await,
        }
    }

    /// Reads a page of the clients in a channel.
    async fn present(
        &self,
        namespace: &str,
        channel: &str,
        cursor: u64,
        media: Media,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let patterns = self.setup.namespaces.find(namespace).map_or(&[][..], Vec::as_slice);
        if !patterns.iter().any(|pattern| pattern.matches(channel)) {
            let detail = format!(
                "the presence of channel {channel:?} is not kept; add it to presence.channels of the [[app]] of {namespace}"
            );
            return Err(Problem::not_found(detail).of_field("channel"));
        }
        let store = self.member.key_value();
        let bucket = presence_bucket(&namespace.into(), channel);
        let read = async {
            let (members, next) = presence_page(store, &bucket, cursor).await?;
            let count = store.count(&bucket).await?;
            Ok::<_, KeyValueError>((members, next, count))
        };
        let Ok(found) = timeout(self.setup.settings.accept_timeout, read).await else {
            return Err(Problem::unavailable(
                "the key-value store did not answer in time; send again",
            ));
        };
        let (members, next, count) = found.map_err(|error| Problem::unavailable(format!("{error}; send again")))?;
        let members = members.into_iter().map(|(client, record)| PresentClient {
            id: client.into(),
            since_ms: record.since_ms,
            attributes: record
                .attributes
                .and_then(|attributes| serde_json::from_str(&attributes).ok()),
        });
        let page = PresencePage {
            count,
            members: members.collect(),
            next,
        };
        let fields = match serde_json::to_value(page) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        metrics::API_CALLS.increment();
        Ok(response(StatusCode::OK, media.header(), media.write(fields, None)))
    }

    /// Waits for the commit of commands.
    async fn committed(&self, mut call: OpenCall, media: Media) -> Result<Response<Full<Bytes>>, Problem> {
        match timeout(self.setup.settings.commit_timeout, call.next()).await {
            // It will be committed: it must not be repeated.
            Err(_) => Ok(accepted(media)),
            Ok(Some(Heard::Outcome(outcome))) => match outcome {
                CallOutcome::Done { event, repeated, .. } => Ok(done(event.to_string(), repeated, None, media)),
                other => Err(not_done(other)),
            },
            Ok(_) => Err(lost()),
        }
    }

    /// Waits for the answers of all io-nodes.
    async fn found(
        &self,
        mut call: OpenCall,
        most: u32,
        timeout_ms: u32,
        media: Media,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let patience = Duration::from_millis(timeout_ms.into()) + TRANSIT;
        let deadline = time::Instant::now() + patience;
        let Some(there) = self.member.io_nodes(patience).await else {
            return Err(Problem::unavailable("the list of io-nodes cannot be read; send again"));
        };
        let mut heard = std::collections::BTreeMap::new();
        let mut is_asked = false;
        while !is_asked || !there.iter().all(|node| heard.contains_key(node)) {
            match timeout_at(deadline, call.next()).await {
                Err(_) => break,
                Ok(None) => return Err(lost()),
                Ok(Some(Heard::Outcome(CallOutcome::Done { .. }))) => is_asked = true,
                Ok(Some(Heard::Outcome(other))) => return Err(not_done(other)),
                Ok(Some(Heard::Part(node, part))) => drop(heard.insert(node, part)),
            }
        }
        if !is_asked && heard.is_empty() {
            return Err(Problem::timeout(
                "no app-node asked the io-nodes in time; send again, or raise timeout-ms",
            ));
        }
        let silent: Vec<NodeId> = there.into_iter().filter(|node| !heard.contains_key(node)).collect();
        let merged = summary::of(heard, silent, most);
        let merged: Option<[Map<String, Value>; 1]> = serde_json::from_str(&merged.json).ok();
        let mut fields = merged.map(|[fields]| fields).unwrap_or_default();
        fields.entry("count").or_insert(json!(0));
        fields.entry("clients").or_insert(json!([]));
        metrics::API_CALLS.increment();
        Ok(response(StatusCode::OK, media.header(), media.write(fields, None)))
    }
}

/// Waits until a handler has handled or acknowledged an event.
async fn handled(
    mut call: OpenCall,
    wait: Wait,
    patience: Duration,
    media: Media,
) -> Result<Response<Full<Bytes>>, Problem> {
    let deadline = time::Instant::now() + patience;
    let (mut done_by, mut early) = (None, None);
    loop {
        let heard = match timeout_at(deadline, call.next()).await {
            Ok(heard) => heard.ok_or_else(lost)?,
            Err(_) => {
                let detail = match done_by {
                    None => {
                        "the event was accepted and will be handled; it was not in time. Repeat the request with its Idempotency-Key to learn the outcome"
                    }
                    Some(_) => {
                        "the handler has handled the event and has not acknowledged it; see whether it answers the ack-id"
                    }
                };
                return Err(Problem::timeout(detail));
            }
        };
        match heard {
            Heard::Outcome(CallOutcome::Done {
                event,
                answer,
                repeated,
            }) => {
                let answer = answer.or(early.take());
                if answer.is_some() || wait == Wait::Handled || repeated {
                    return Ok(done(event.to_string(), repeated, answer, media));
                }
                done_by = Some(event.to_string());
            }
            // Through another shard it can overtake the outcome.
            Heard::Outcome(CallOutcome::Acknowledged(answer)) => match done_by.take() {
                Some(event) => return Ok(done(event, false, Some(answer), media)),
                None => early = early.or(Some(answer)),
            },
            Heard::Outcome(other) => return Err(not_done(other)),
            Heard::Part(..) => {}
        }
    }
}

fn done(event: String, repeated: bool, answer: Option<Payload>, media: Media) -> Response<Full<Bytes>> {
    metrics::API_CALLS.increment();
    let fields = Map::from_iter([("event".into(), event.into()), ("repeated".into(), repeated.into())]);
    let body = media.write(fields, answer.as_ref().map(|answer| ("args", answer)));
    response(StatusCode::OK, media.header(), body)
}

fn accepted(media: Media) -> Response<Full<Bytes>> {
    metrics::API_CALLS.increment();
    let fields = Map::from_iter([("accepted".into(), true.into())]);
    response(StatusCode::ACCEPTED, media.header(), media.write(fields, None))
}

fn not_accepted(reason: NotAccepted) -> Problem {
    Problem::unavailable(match reason {
        NotAccepted::NotJoined => "this node is no member of the cluster at present; send again, or to another node",
        NotAccepted::BacklogFull => "too many events wait to be handled; send again",
        NotAccepted::Away => {
            "the transport did not answer in time, and the call may still take effect; repeat it with the same Idempotency-Key"
        }
    })
}

fn not_done(outcome: CallOutcome) -> Problem {
    match outcome {
        CallOutcome::KeyReused => Problem::key_reused(),
        CallOutcome::Refused(reason) => Problem::unavailable(format!("nothing was done: {reason}")),
        CallOutcome::Failed(event) => Problem::handler_failed(format!(
            "event {event} became a dead letter; `plugnode dead show {event}` tells why"
        )),
        CallOutcome::Done { .. } | CallOutcome::Acknowledged(_) => lost(),
    }
}

fn lost() -> Problem {
    Problem::unavailable(
        "this node lost its membership in the cluster, and the answer with it; the call may have taken effect: repeat it with the same Idempotency-Key",
    )
}

/// The secret of `Authorization: Bearer KEY`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    let (scheme, secret) = value.split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && values.next().is_none()).then(|| secret.trim_ascii())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    // Beyond that, a header may have tabs.
    let is_printable = |text: &&str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let text = value.to_str().ok().filter(is_printable);
    let text = text.filter(|text| (1..=MAX_KEY).contains(&text.len()) && values.next().is_none());
    let invalid = || {
        let detail = format!("must be one text of 1 to {MAX_KEY} printable ASCII characters");
        Problem::invalid(detail).of_field("Idempotency-Key")
    };
    text.map(Some).ok_or_else(invalid)
}

fn digest(operation: Permission, media: Media, body: &[u8]) -> [u8; 32] {
    let head = format!("{} {media:?}\n", word(operation));
    Sha256::new_with_prefix(head).chain_update(body).finalize().into()
}

fn word(permission: Permission) -> &'static str {
    match permission {
        Permission::Publish => "publish",
        Permission::Join => "join",
        Permission::Leave => "leave",
        Permission::Disconnect => "disconnect",
        Permission::Find => "find",
        Permission::Presence => "presence",
        Permission::Event => "event",
    }
}

fn response(status: StatusCode, media_type: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl<B> Service<Request<B>> for ApiService
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let service = self.0.clone();
        let has_body = !request.body().is_end_stream();
        Box::pin(async move {
            let refused = |problem: Problem| {
                let mut response = problem.into_response();
                // The body may be unread: a caller that keeps the connection would write its next request behind it.
                if has_body && response.status().is_client_error() {
                    response
                        .headers_mut()
                        .insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            };
            Ok(service.answer(request).await.unwrap_or_else(refused))
        })
    }
}
