//! The host functions that JavaScript can call: the imports of the contract, as functions of one object. They throw errors.

use rquickjs::function::{Func, Opt};
use rquickjs::{Ctx, Exception, FromJs, Object, Result, TypedArray, Value};

use crate::bindings::plugnode::app::types::Payload;
use crate::bindings::plugnode::app::{kv, outbox, presence, schedule};
use crate::bindings::plugnode::script::source;
use crate::bindings::wasi::keyvalue::store;
use crate::bindings::wasi::logging::logging;
use crate::{engine, fetch};

/// The object with all host functions.
pub(crate) fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let host = Object::new(ctx.clone())?;
    host.set("publish", Func::from(publish))?;
    host.set("subscribe", Func::from(subscribe))?;
    host.set("unsubscribe", Func::from(unsubscribe))?;
    host.set("ack", Func::from(ack))?;
    host.set("request", Func::from(request))?;
    host.set("collect", Func::from(collect))?;
    host.set("findClients", Func::from(find_clients))?;
    host.set("disconnect", Func::from(disconnect))?;
    host.set("patchAttributes", Func::from(patch_attributes))?;
    host.set("refuse", Func::from(refuse))?;
    host.set("custom", Func::from(custom))?;
    host.set("keyGet", Func::from(key_get))?;
    host.set("keySet", Func::from(key_set))?;
    host.set("keyDelete", Func::from(key_delete))?;
    host.set("keyAdd", Func::from(key_add))?;
    host.set("keyList", Func::from(key_list))?;
    host.set("timerAt", Func::from(timer_at))?;
    host.set("timerEvery", Func::from(timer_every))?;
    host.set("timerCancel", Func::from(timer_cancel))?;
    host.set("presenceCount", Func::from(presence_count))?;
    host.set("presenceMembers", Func::from(presence_members))?;
    host.set("log", Func::from(log))?;
    host.set("read", Func::from(read))?;
    host.set("context", Func::from(context))?;
    host.set("timeLeft", Func::from(|| engine::time_left().as_secs_f64() * 1000.0))?;
    host.set("random", Func::from(random))?;
    host.set("digest", Func::from(digest))?;
    host.set("encode", Func::from(encode))?;
    host.set("decode", Func::from(decode))?;
    host.set("fetchStart", Func::from(fetch::start))?;
    host.set("fetchWait", Func::from(fetch::wait))?;
    host.set("fetchTake", Func::from(fetch::take))?;
    host.set("fetchCancel", Func::from(fetch::cancel))?;
    Ok(host)
}

/// An audience: `{ ns, all, clients, channels, exceptClients, exceptChannels }`, all optional.
struct To(outbox::Audience);

impl<'js> FromJs<'js> for To {
    fn from_js(_ctx: &Ctx<'js>, value: Value<'js>) -> Result<Self> {
        let to: Object<'js> = value.get()?;
        let list = |name: &str| Ok::<_, rquickjs::Error>(to.get::<_, Option<Vec<String>>>(name)?.unwrap_or_default());
        let scope = match to.get::<_, Option<bool>>("all")? {
            Some(true) => outbox::Scope::All,
            _ => outbox::Scope::Only(outbox::Selection {
                clients: list("clients")?,
                channels: list("channels")?,
            }),
        };
        Ok(Self(outbox::Audience {
            namespace: to.get("ns")?,
            to: scope,
            except: outbox::Selection {
                clients: list("exceptClients")?,
                channels: list("exceptChannels")?,
            },
        }))
    }
}

/// A copy of the bytes of a typed array.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl<'js> FromJs<'js> for Bytes {
    #[allow(unsafe_code, reason = "rquickjs has no safe access to the bytes of a typed array")]
    fn from_js(ctx: &Ctx<'js>, value: Value<'js>) -> Result<Self> {
        let bytes = TypedArray::<u8>::from_js(ctx, value)?;
        // SAFETY: the bytes are copied before JavaScript can run again and move or free them.
        let bytes = unsafe { bytes.as_bytes() }.map(<[u8]>::to_vec);
        bytes
            .map(Self)
            .ok_or_else(|| Exception::throw_message(ctx, "the ArrayBuffer is detached"))
    }
}

fn payload(json: String, attachments: Opt<Option<Vec<Bytes>>>) -> Payload {
    let attachments = attachments.0.flatten().unwrap_or_default();
    Payload {
        json,
        attachments: attachments.into_iter().map(|bytes| bytes.0).collect(),
    }
}

/// Throws the error of a command.
fn check_command<T>(ctx: &Ctx<'_>, result: std::result::Result<T, outbox::Error>) -> Result<T> {
    result.map_err(|error| {
        let reason = match error {
            outbox::Error::Denied(reason) | outbox::Error::Invalid(reason) | outbox::Error::Other(reason) => reason,
            outbox::Error::QuotaExceeded => {
                "this event has used up its limit of commands or bytes; raise it in the app's `limits`".to_owned()
            }
            outbox::Error::PayloadTooLarge => {
                "the payload exceeds `limits.payload` of the app's configuration".to_owned()
            }
        };
        Exception::throw_message(ctx, &reason)
    })
}

/// `how` is a bit set: 1 for volatile, 2 for local.
fn publish<'js>(
    ctx: Ctx<'js>,
    to: To,
    event: String,
    json: String,
    how: u8,
    attachments: Opt<Option<Vec<Bytes>>>,
) -> Result<()> {
    let mut delivery = outbox::Delivery::empty();
    if how & 1 != 0 {
        delivery = delivery | outbox::Delivery::VOLATILE;
    }
    if how & 2 != 0 {
        delivery = delivery | outbox::Delivery::LOCAL;
    }
    check_command(
        &ctx,
        outbox::publish(&to.0, &event, &payload(json, attachments), delivery),
    )
}

fn subscribe(ctx: Ctx<'_>, who: To, channels: Vec<String>) -> Result<()> {
    check_command(&ctx, outbox::subscribe(&who.0, &channels))
}

fn unsubscribe(ctx: Ctx<'_>, who: To, channels: Vec<String>) -> Result<()> {
    check_command(&ctx, outbox::unsubscribe(&who.0, &channels))
}

fn ack(ctx: Ctx<'_>, id: String, json: String, attachments: Opt<Option<Vec<Bytes>>>) -> Result<()> {
    check_command(&ctx, outbox::ack(&id, &payload(json, attachments)))
}

fn request<'js>(
    ctx: Ctx<'js>,
    to: To,
    event: String,
    json: String,
    timeout_ms: u32,
    token: String,
    attachments: Opt<Option<Vec<Bytes>>>,
) -> Result<()> {
    let payload = payload(json, attachments);
    check_command(
        &ctx,
        outbox::request(&to.0, &event, &payload, timeout_ms, token.as_bytes()),
    )
}

fn collect<'js>(
    ctx: Ctx<'js>,
    to: To,
    event: String,
    json: String,
    timeout_ms: u32,
    token: String,
    attachments: Opt<Option<Vec<Bytes>>>,
) -> Result<()> {
    let payload = payload(json, attachments);
    check_command(
        &ctx,
        outbox::collect(&to.0, &event, &payload, timeout_ms, token.as_bytes()),
    )
}

fn find_clients(ctx: Ctx<'_>, who: To, most: u32, timeout_ms: u32, token: String) -> Result<()> {
    check_command(&ctx, outbox::find_clients(&who.0, most, timeout_ms, token.as_bytes()))
}

fn disconnect(ctx: Ctx<'_>, who: To, close: bool) -> Result<()> {
    check_command(&ctx, outbox::disconnect(&who.0, close))
}

fn patch_attributes(ctx: Ctx<'_>, id: String, patch: String) -> Result<()> {
    check_command(&ctx, outbox::patch_attributes(&id, &patch))
}

fn refuse(ctx: Ctx<'_>, message: String, data: Option<String>) -> Result<()> {
    check_command(&ctx, outbox::refuse(&message, data.as_deref()))
}

fn custom(ctx: Ctx<'_>, io_node: Option<String>, kind: String, data: Bytes) -> Result<()> {
    check_command(&ctx, outbox::custom(io_node.as_deref(), &kind, &data.0))
}

/// Throws the error of `wasi:keyvalue`.
fn check_store<T>(ctx: &Ctx<'_>, bucket: &str, result: std::result::Result<T, store::Error>) -> Result<T> {
    result.map_err(|error| {
        let reason = match error {
            store::Error::NoSuchStore | store::Error::AccessDenied => {
                format!("the key-value bucket {bucket:?} is not granted: add it to `keyvalue` in the app's `grants`")
            }
            store::Error::Other(reason) => reason,
        };
        Exception::throw_message(ctx, &reason)
    })
}

/// Throws the error of `kv`.
fn check_kv<T>(ctx: &Ctx<'_>, result: std::result::Result<T, kv::Error>) -> Result<T> {
    result.map_err(|error| {
        let reason = match error {
            kv::Error::Denied(reason) | kv::Error::Invalid(reason) | kv::Error::Other(reason) => reason,
            kv::Error::QuotaExceeded => {
                "this event has used up its limit of writes or bytes; raise it in the app's `limits`".to_owned()
            }
        };
        Exception::throw_message(ctx, &reason)
    })
}

fn key_get<'js>(ctx: Ctx<'js>, bucket: String, key: String) -> Result<Option<TypedArray<'js, u8>>> {
    let value = store::open(&bucket).and_then(|open| open.get(&key));
    let value = check_store(&ctx, &bucket, value)?;
    value.map(|value| TypedArray::new(ctx, value)).transpose()
}

fn key_set(ctx: Ctx<'_>, bucket: String, key: String, value: Bytes, ttl_ms: Option<f64>) -> Result<()> {
    match ttl_ms {
        Some(ttl_ms) => check_kv(&ctx, kv::set_with_ttl(&bucket, &key, &value.0, ttl_ms as u64)),
        None => {
            let set = store::open(&bucket).and_then(|open| open.set(&key, &value.0));
            check_store(&ctx, &bucket, set)
        }
    }
}

fn key_delete(ctx: Ctx<'_>, bucket: String, key: String) -> Result<()> {
    let deleted = store::open(&bucket).and_then(|open| open.delete(&key));
    check_store(&ctx, &bucket, deleted)
}

fn key_add(ctx: Ctx<'_>, bucket: String, key: String, delta: f64) -> Result<()> {
    check_kv(&ctx, kv::add(&bucket, &key, delta as i64))
}

fn key_list(ctx: Ctx<'_>, bucket: String, prefix: String) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    let mut cursor = None;
    loop {
        let page = check_kv(&ctx, kv::list_keys(&bucket, &prefix, cursor))?;
        keys.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            keys.sort_unstable();
            keys.dedup();
            return Ok(keys);
        }
    }
}

/// The timer belongs to the client if `is_client_timer`, otherwise to the app.
fn timer_at(ctx: Ctx<'_>, is_client_timer: bool, key: String, time_ms: f64, kind: String, data: Bytes) -> Result<()> {
    check_schedule(
        &ctx,
        schedule::at(owner(is_client_timer), &key, time_ms as u64, &kind, &data.0),
    )
}

fn timer_every(
    ctx: Ctx<'_>,
    is_client_timer: bool,
    key: String,
    period_ms: f64,
    kind: String,
    data: Bytes,
) -> Result<()> {
    check_schedule(
        &ctx,
        schedule::every(owner(is_client_timer), &key, period_ms as u64, &kind, &data.0),
    )
}

fn timer_cancel(ctx: Ctx<'_>, is_client_timer: bool, key: String) -> Result<()> {
    check_schedule(&ctx, schedule::cancel(owner(is_client_timer), &key))
}

fn owner(is_client_timer: bool) -> schedule::Owner {
    match is_client_timer {
        true => schedule::Owner::Client,
        false => schedule::Owner::App,
    }
}

/// Throws the error of `schedule`.
fn check_schedule<T>(ctx: &Ctx<'_>, result: std::result::Result<T, schedule::Error>) -> Result<T> {
    result.map_err(|error| {
        let reason = match error {
            schedule::Error::Denied(reason) | schedule::Error::Invalid(reason) | schedule::Error::Other(reason) => {
                reason
            }
            schedule::Error::QuotaExceeded => {
                "this event has used up its limit of writes or bytes; raise it in the app's `limits`".to_owned()
            }
        };
        Exception::throw_message(ctx, &reason)
    })
}

fn presence_count(ctx: Ctx<'_>, channel: String) -> Result<f64> {
    check_presence(&ctx, presence::count(&channel)).map(|count| count as f64)
}

/// The clients in a channel: for each its id, when it joined, and its attributes as JSON.
fn presence_members<'js>(ctx: Ctx<'js>, channel: String) -> Result<Vec<Object<'js>>> {
    let mut members = Vec::new();
    let mut cursor = None;
    loop {
        let page = check_presence(&ctx, presence::members(&channel, cursor))?;
        for member in page.members {
            let object = Object::new(ctx.clone())?;
            object.set("id", member.client)?;
            object.set("since", member.since_ms as f64)?;
            object.set("attributes", member.attributes)?;
            members.push(object);
        }
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(members);
        }
    }
}

/// Throws the error of `presence`.
fn check_presence<T>(ctx: &Ctx<'_>, result: std::result::Result<T, presence::Error>) -> Result<T> {
    result.map_err(|error| match error {
        presence::Error::Denied(reason) | presence::Error::Other(reason) => Exception::throw_message(ctx, &reason),
    })
}

/// Levels: 0 debug, 1 info, 2 warning, 3 error.
fn log(level: u8, context: String, message: String) {
    let level = match level {
        0 => logging::Level::Debug,
        1 => logging::Level::Info,
        2 => logging::Level::Warn,
        _ => logging::Level::Error,
    };
    logging::log(level, &context, &message);
}

/// A file of the program, as text.
fn read(name: String) -> Option<String> {
    String::from_utf8(source::read(&name)?).ok()
}

fn context<'js>(ctx: Ctx<'js>) -> Result<Option<Object<'js>>> {
    let Some(call) = engine::call() else { return Ok(None) };
    let context = Object::new(ctx)?;
    context.set("id", call.id)?;
    context.set("attempt", call.attempt)?;
    context.set("receivedAt", call.received_at_ms as f64)?;
    context.set("budget", call.budget_ms)?;
    context.set("node", call.node)?;
    context.set("instance", call.instance)?;
    context.set("release", call.release)?;
    for (name, value) in call.extra {
        match name.strip_prefix("timer-") {
            Some(fact) => context.set(fact, value)?,
            None if name == "ack-id" => context.set(name, value)?,
            None => {}
        }
    }
    Ok(Some(context))
}

fn random(ctx: Ctx<'_>, len: u32) -> Result<TypedArray<'_, u8>> {
    TypedArray::new(ctx, wasip2::random::random::get_random_bytes(len.into()))
}

/// The digest of all bytes in one call.
fn digest<'js>(ctx: Ctx<'js>, algorithm: String, bytes: Bytes) -> Result<TypedArray<'js, u8>> {
    use sha2::Digest as _;
    let digest = match algorithm.as_str() {
        "md5" => md5::Md5::digest(&bytes.0).to_vec(),
        "sha1" => sha1::Sha1::digest(&bytes.0).to_vec(),
        "sha256" => sha2::Sha256::digest(&bytes.0).to_vec(),
        "sha384" => sha2::Sha384::digest(&bytes.0).to_vec(),
        "sha512" => sha2::Sha512::digest(&bytes.0).to_vec(),
        other => {
            return Err(Exception::throw_message(
                &ctx,
                &format!("digest {other:?} is not supported"),
            ));
        }
    };
    TypedArray::new(ctx, digest)
}

/// Encodes a well-formed string as UTF-8.
fn encode(ctx: Ctx<'_>, text: String) -> Result<TypedArray<'_, u8>> {
    TypedArray::new(ctx, text.into_bytes())
}

/// Decodes UTF-8. Invalid bytes throw if `strict`, and become U+FFFD otherwise.
fn decode(ctx: Ctx<'_>, bytes: Bytes, strict: bool) -> Result<String> {
    match String::from_utf8(bytes.0) {
        Ok(text) => Ok(text),
        Err(_) if strict => Err(Exception::throw_type(&ctx, "the bytes are not valid UTF-8")),
        Err(error) => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}
