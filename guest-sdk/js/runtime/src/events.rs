//! Converts an event to the arguments of `dispatch` in `../../src/internal.js`.

use rquickjs::function::Args;
use rquickjs::{Ctx, Exception, Null, Result, TypedArray, Undefined};

use crate::bindings::plugnode::app::types::{Client, DisconnectReason, Event, Payload};
use crate::engine;

/// Nesting limit of arguments. QuickJS parses JSON recursively, without checking the stack.
const MAX_DEPTH: usize = 1_000;

/// Pushes the kind; the client's id, io-node, namespace and attributes, or four times undefined; then the fields of the kind.
pub(crate) fn push<'js>(ctx: &Ctx<'js>, args: &mut Args<'js>, event: Event) -> Result<()> {
    match event {
        Event::Connection((client, handshake)) => {
            push_client(args, "connection", client)?;
            args.push_arg(handshake.auth)?;
            args.push_arg(handshake.query)?;
            let headers: Vec<String> = handshake
                .headers
                .into_iter()
                .flat_map(|(name, value)| [name, value])
                .collect();
            args.push_arg(headers)?;
            args.push_arg(handshake.remote_addr)?;
            args.push_arg(handshake.transport)?;
            args.push_arg(handshake.recovered)
        }
        Event::Message((client, message)) => {
            push_client(args, "message", client)?;
            args.push_arg(message.event)?;
            push_payload(ctx, args, message.args)?;
            args.push_arg(message.ack)
        }
        Event::Disconnect((client, reason)) => {
            push_client(args, "disconnect", client)?;
            args.push_arg(reason_text(reason))?;
            // The client's rooms as JSON, if the host knows them.
            let extra = engine::call().map(|call| call.extra).unwrap_or_default();
            args.push_arg(
                extra
                    .into_iter()
                    .find_map(|(name, rooms)| (name == "channels").then_some(rooms)),
            )
        }
        Event::NoClient(client) => push_client(args, "no-client", client),
        Event::Reply((client, reply)) => {
            push_client(args, "reply", client)?;
            args.push_arg(String::from_utf8_lossy(&reply.token).into_owned())?;
            match reply.answer {
                Some(answer) => push_payload(ctx, args, answer),
                None => args.push_arg(Null),
            }
        }
        Event::Custom(custom) => {
            match custom.client {
                Some(client) => push_client(args, "custom", client)?,
                None => {
                    args.push_arg("custom")?;
                    for _ in 0..4 {
                        args.push_arg(Undefined)?;
                    }
                }
            }
            if custom.content_type.as_deref() == Some("application/json") {
                check_depth(ctx, &custom.data)?;
            }
            args.push_arg(custom.kind)?;
            args.push_arg(TypedArray::<u8>::new(ctx.clone(), custom.data)?)?;
            args.push_arg(custom.content_type)
        }
    }
}

fn push_client(args: &mut Args<'_>, kind: &str, client: Client) -> Result<()> {
    args.push_arg(kind)?;
    args.push_arg(client.id)?;
    args.push_arg(client.io_node)?;
    args.push_arg(client.namespace)?;
    args.push_arg(client.attributes)
}

fn push_payload<'js>(ctx: &Ctx<'js>, args: &mut Args<'js>, payload: Payload) -> Result<()> {
    check_depth(ctx, payload.json.as_bytes())?;
    args.push_arg(payload.json)?;
    if payload.attachments.is_empty() {
        return args.push_arg(Undefined);
    }
    let attachments = payload.attachments.into_iter();
    let attachments: Vec<_> = attachments
        .map(|attachment| TypedArray::<u8>::new(ctx.clone(), attachment))
        .collect::<Result<_>>()?;
    args.push_arg(attachments)
}

/// The reason as Socket.IO's server formats it.
fn reason_text(reason: DisconnectReason) -> String {
    let text = match reason {
        DisconnectReason::ClientDisconnect => "client namespace disconnect",
        DisconnectReason::ServerDisconnect => "server namespace disconnect",
        DisconnectReason::TransportClose => "transport close",
        DisconnectReason::TransportError => "transport error",
        DisconnectReason::PingTimeout => "ping timeout",
        DisconnectReason::ParseError => "parse error",
        DisconnectReason::ServerShutdown => "server shutting down",
        DisconnectReason::NodeLost => "node lost",
        DisconnectReason::Other(text) => return text,
    };
    text.to_owned()
}

fn check_depth(ctx: &Ctx<'_>, json: &[u8]) -> Result<()> {
    if depth(json) > MAX_DEPTH {
        let reason = format!("the arguments are nested more than {MAX_DEPTH} levels deep");
        return Err(Exception::throw_range(ctx, &reason));
    }
    Ok(())
}

/// The nesting depth of JSON.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
