//! `plugnode publish`: emits an event to clients, by the server API.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use super::api_args::{ApiArgs, value};
use plugnode_server::config::Permission;

/// Arguments of `plugnode publish`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plugnode publish / news hello 7 --all
  plugnode publish /chat closing --to room-1 --to room-2 --except kJ2-x1
  plugnode publish / ping --client kJ2-x1 --api 10.0.0.7:9090 --key-file office.secret

Each ARG is JSON; what is not JSON is sent as text. The answer is printed as JSON. The exit code is 0 if the event was committed or
accepted.")]
pub struct PublishArgs {
    /// Namespace of the clients
    pub namespace: String,
    /// Name of the event
    pub event: String,
    /// Arguments of the event
    #[arg(value_name = "ARG", allow_negative_numbers = true)]
    pub args: Vec<String>,
    /// All clients in this channel; may be repeated
    #[arg(long, value_name = "CHANNEL", allow_hyphen_values = true)]
    pub to: Vec<String>,
    /// The client with this session id; may be repeated
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub client: Vec<String>,
    /// All clients of the namespace
    #[arg(long, conflicts_with_all = ["to", "client"], required_unless_present_any = ["to", "client"])]
    pub all: bool,
    /// Leave out the client with this session id; may be repeated
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub except: Vec<String>,
    /// Leave out the clients in this channel; may be repeated
    #[arg(long, value_name = "CHANNEL", allow_hyphen_values = true)]
    pub except_channel: Vec<String>,
    /// The API.
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Emits an event to clients.
pub(super) fn publish(args: &PublishArgs) -> Result<ExitCode> {
    let values: Vec<Value> = args.args.iter().map(|text| value(text)).collect();
    let body = json!({
        "namespace": args.namespace, "to": args.to, "clients": args.client, "all": args.all,
        "except": { "to": args.except_channel, "clients": args.except },
        "event": args.event, "args": values,
    });
    args.api.call("publish", Permission::Publish, &body)
}
