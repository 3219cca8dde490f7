//! `plugnode event`: gives a custom event to the handler of an app, by the server API.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use super::api_args::{ApiArgs, value};
use plugnode_server::config::Permission;

/// Arguments of `plugnode event`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plugnode event / acme.price-change/1 '{ \"sku\": 7, \"price\": 12 }'
  plugnode event /shop acme.reindex/1 --timeout-ms 60000

The answer is printed as JSON, with the handler's acknowledgement in `args`. The exit code is 0 if the event was handled.")]
pub struct EventArgs {
    /// Namespace of the app
    pub namespace: String,
    /// Kind of the event, with a version at the end
    pub kind: String,
    /// Content: JSON, or what is sent as text [default: null]
    #[arg(allow_negative_numbers = true)]
    pub data: Option<String>,
    /// Time to wait for the handler, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub timeout_ms: u32,
    /// The API.
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Gives an event to a handler.
pub(super) fn event(args: &EventArgs) -> Result<ExitCode> {
    let data = args.data.as_deref().map_or(Value::Null, value);
    let body = json!({
        "namespace": args.namespace, "kind": args.kind, "data": data, "timeout-ms": args.timeout_ms,
    });
    args.api.call("event", Permission::Event, &body)
}
