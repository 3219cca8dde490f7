//! Configuration `cluster`, in `/`: several io-nodes that act as one server. A command is acknowledged after every io-node has
//! carried it out.

use std::time::Duration;

use plugnode_sdk::prelude::*;
use plugnode_sdk::{AckId, CommandError, Payload, all, client as client_of, list_channels, settle};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

/// Timeout of requests and cluster queries.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Limit of listed clients and rooms.
const MAX_LISTED: u32 = 10_000;

/// The token of a request or query: the acknowledgement to answer with its result, and the format.
#[derive(Serialize, Deserialize)]
struct Pending {
    ack: AckId,
    format: Format,
}

#[derive(Serialize, Deserialize)]
enum Format {
    /// No arguments, after all earlier commands have been carried out.
    Empty,
    /// A list of the clients' answers.
    Answers,
    /// The answer of a single client.
    Answer,
    Rooms,
    Clients,
    /// The rooms of a single client.
    RoomsOfClient,
}

pub(crate) fn join(client: &Client) -> Result {
    for room in ["room1", "room2", "room4", "room5", client.id()] {
        client.join(room)?;
    }
    Ok(())
}

pub(crate) fn answer(client: &Client, message: &Incoming) -> Result {
    let hello = format!("hello from {}", client.id());
    let remote = || message.arg::<String>(0).map(client_of);
    match message.event.as_str() {
        "broadcast" => all().emit("broadcast", hello)?,
        "volatile_broadcast" => all().volatile().emit("volatile_broadcast", hello)?,
        "broadcast_with_ack" => ask(message, Format::Answers, |token| {
            all().collect("broadcast_with_ack", ((),), TIMEOUT, token)
        })?,
        "disconnect_socket" => all().disconnect()?,
        "rooms" => ask(message, Format::Rooms, |token| {
            list_channels(MAX_LISTED, TIMEOUT, token)
        })?,
        "fetch_sockets" => ask(message, Format::Clients, |token| {
            all().find_clients(MAX_LISTED, TIMEOUT, token)
        })?,
        "join_room" => ack_when_settled(message, all().join("room7"))?,
        "leave_room" => ack_when_settled(message, all().leave("room4"))?,
        "emit_from_remote_sock" => ack_when_settled(message, remote()?.emit("emit", hello))?,
        "emit_with_ack_from_remote_sock" => {
            let remote = remote()?;
            ask(message, Format::Answer, |token| {
                remote.request("emit", hello, TIMEOUT, token)
            })?;
        }
        "join_room_from_remote_sock" => ack_when_settled(message, remote()?.join(hello))?,
        "leave_room_from_remote_sock" => ack_when_settled(message, remote()?.leave("room4"))?,
        "get_rooms_remote_sock" => {
            let remote = remote()?;
            ask(message, Format::RoomsOfClient, |token| {
                remote.find_clients(1, TIMEOUT, token)
            })?;
        }
        "disconnect_remote_sock" => ack_when_settled(message, remote()?.disconnect())?,
        _ => {}
    }
    Ok(())
}

/// Answers the pending acknowledgement with the result.
pub(crate) fn acknowledge(reply: &Reply) -> Result {
    let Pending { ack, format } = serde_json::from_slice(&reply.token)?;
    let Some(answer) = &reply.answer else {
        return Ok(());
    };
    match format {
        // A silent io-node may not have carried out the commands.
        Format::Empty if reply.settled()?.silent.is_empty() => ack.answer(())?,
        Format::Empty => {}
        Format::Answers => ack.answer(&first_arguments(answer)?)?,
        Format::Answer => ack.answer(answer)?,
        Format::Rooms => ack.answer((Vec::from_iter(reply.channels()?.channels.keys()),))?,
        Format::Clients => {
            let clients = reply.found()?.clients;
            let clients = clients.iter().map(|client| json!({ "id": client.id, "ns": "/" }));
            ack.answer((Vec::from_iter(clients),))?;
        }
        Format::RoomsOfClient => {
            if let Some(client) = reply.found()?.clients.first() {
                ack.answer((&client.channels,))?;
            }
        }
    }
    Ok(())
}

/// Makes a request or query, if the client waits for an acknowledgement.
fn ask(message: &Incoming, format: Format, query: impl FnOnce(Vec<u8>) -> Result<(), CommandError>) -> Result {
    if let Some(ack) = message.ack_id().cloned() {
        query(serde_json::to_vec(&Pending { ack, format })?)?;
    }
    Ok(())
}

/// Acknowledges after every io-node has carried out the command.
fn ack_when_settled(message: &Incoming, sent: Result<(), CommandError>) -> Result {
    sent?;
    ask(message, Format::Empty, |token| settle(TIMEOUT, token))
}

/// One argument: a list of the first argument of each answer. Their attachments already have distinct numbers.
fn first_arguments(collected: &Payload) -> Result<Payload> {
    #[derive(Deserialize)]
    struct Collected<'a> {
        #[serde(borrow)]
        answers: Vec<Answer<'a>>,
    }
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        args: Vec<&'a RawValue>,
    }
    let (Collected { answers },) = serde_json::from_str(&collected.json)?;
    let firsts = answers
        .iter()
        .map(|answer| answer.args.first().map_or("null", |argument| argument.get()));
    Ok(Payload {
        json: format!("[[{}]]", Vec::from_iter(firsts).join(",")),
        attachments: collected.attachments.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Conformance;
    use plugnode_sdk::test::{Kit, Sent};
    use serde_json::Value;

    fn app() -> Kit<Conformance> {
        let mut app = Kit::with_instances(2)
            .with_admission()
            .with_config("configuration", "cluster");
        app.connect("ada");
        app.connect("bob");
        app
    }

    fn ask(app: &mut Kit<Conformance>, event: &str, args: impl plugnode_sdk::Args) -> Value {
        let answer = app.ask("ada", event, args).expect("the event is acknowledged");
        serde_json::from_str(&answer.json).unwrap()
    }

    #[test]
    fn lists_rooms_and_clients() {
        let mut app = app();
        let rooms = json!([["ada", "bob", "room1", "room2", "room4", "room5"]]);
        assert_eq!(ask(&mut app, "rooms", ()), rooms);
        let clients = json!([[{ "id": "ada", "ns": "/" }, { "id": "bob", "ns": "/" }]]);
        assert_eq!(ask(&mut app, "fetch_sockets", ()), clients);
        let rooms = json!([["bob", "room1", "room2", "room4", "room5"]]);
        assert_eq!(ask(&mut app, "get_rooms_remote_sock", "bob"), rooms);
    }

    #[test]
    fn joins_and_leaves_rooms() {
        let mut app = app();
        assert_eq!(ask(&mut app, "join_room", ()), json!([]));
        assert_eq!(ask(&mut app, "leave_room_from_remote_sock", "bob"), json!([]));
        assert_eq!(ask(&mut app, "join_room_from_remote_sock", "bob"), json!([]));
        assert_eq!(
            app.channels_of("ada"),
            ["ada", "room1", "room2", "room4", "room5", "room7"]
        );
        let of_bob = ["bob", "hello from ada", "room1", "room2", "room5", "room7"];
        assert_eq!(app.channels_of("bob"), of_bob);
        assert_eq!(ask(&mut app, "leave_room", ()), json!([]));
        assert_eq!(app.channels_of("ada"), ["ada", "room1", "room2", "room5", "room7"]);
    }

    #[test]
    fn collects_answers_in_one_list() {
        let mut app = app();
        app.will_answer("ada", "broadcast_with_ack", (Binary(vec![1]), "more"));
        app.will_answer("bob", "broadcast_with_ack", Binary(vec![2]));
        let answer = app.ask("ada", "broadcast_with_ack", ()).unwrap();
        let (gathered,): (Vec<Binary>,) = answer.args().unwrap();
        assert_eq!(gathered, [Binary(vec![1]), Binary(vec![2])]);
        assert_eq!(app.sent_to("bob"), [Sent::new("broadcast_with_ack", ((),))]);
    }

    #[test]
    fn reaches_single_client_on_any_node() {
        let mut app = app();
        assert_eq!(ask(&mut app, "emit_from_remote_sock", "bob"), json!([]));
        assert_eq!(app.take_sent_to("bob"), [Sent::new("emit", "hello from ada")]);
        assert!(app.sent_to("ada").is_empty());
        assert_eq!(ask(&mut app, "disconnect_remote_sock", "bob"), json!([]));
        assert!(!app.is_connected("bob"));
        app.message("ada", "disconnect_socket", ());
        assert!(!app.is_connected("ada"));
    }
}
