//! The configuration `cluster`, in `/`: clients on several io-nodes that are to be one server to them. What is
//! acknowledged here has been carried out on every io-node.

use std::time::Duration;

use plugnode_sdk::prelude::*;
use plugnode_sdk::{AckId, CommandError, Payload, all, client as client_of, list_channels, settle};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

/// How long clients and io-nodes may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many clients and rooms are named.
const MOST: u32 = 10_000;

/// What is to be acknowledged once something was answered, and how: the token of what is asked.
#[derive(Serialize, Deserialize)]
struct Pending {
    ack: AckId,
    with: With,
}

#[derive(Serialize, Deserialize)]
enum With {
    /// Nothing, once everything before it holds everywhere.
    Nothing,
    /// The answers of many clients, as one list.
    Answers,
    /// The answer of one client.
    Answer,
    Rooms,
    Clients,
    /// The rooms of one client.
    RoomsOfOne,
}

pub(crate) fn join(client: &Client) -> Result {
    for room in ["room1", "room2", "room4", "room5", client.id()] {
        client.join(room)?;
    }
    Ok(())
}

pub(crate) fn answer(client: &Client, message: &Incoming) -> Result {
    let hello = format!("hello from {}", client.id());
    let one = || message.arg::<String>(0).map(client_of);
    match message.event.as_str() {
        "broadcast" => all().emit("broadcast", hello)?,
        "volatile_broadcast" => all().volatile().emit("volatile_broadcast", hello)?,
        "broadcast_with_ack" => ask(message, With::Answers, |token| {
            all().collect("broadcast_with_ack", ((),), PATIENCE, token)
        })?,
        "disconnect_socket" => all().disconnect()?,
        "rooms" => ask(message, With::Rooms, |token| list_channels(MOST, PATIENCE, token))?,
        "fetch_sockets" => ask(message, With::Clients, |token| {
            all().find_clients(MOST, PATIENCE, token)
        })?,
        "join_room" => settled(message, all().join("room7"))?,
        "leave_room" => settled(message, all().leave("room4"))?,
        "emit_from_remote_sock" => settled(message, one()?.emit("emit", hello))?,
        "emit_with_ack_from_remote_sock" => {
            let one = one()?;
            ask(message, With::Answer, |token| {
                one.request("emit", hello, PATIENCE, token)
            })?;
        }
        "join_room_from_remote_sock" => settled(message, one()?.join(hello))?,
        "leave_room_from_remote_sock" => settled(message, one()?.leave("room4"))?,
        "get_rooms_remote_sock" => {
            let one = one()?;
            ask(message, With::RoomsOfOne, |token| one.find_clients(1, PATIENCE, token))?;
        }
        "disconnect_remote_sock" => settled(message, one()?.disconnect())?,
        _ => {}
    }
    Ok(())
}

/// Acknowledges what was asked for, now that it is known.
pub(crate) fn told(reply: &Reply) -> Result {
    let Pending { ack, with } = serde_json::from_slice(&reply.token)?;
    let Some(answer) = &reply.answer else {
        return Ok(());
    };
    match with {
        // Where an io-node is silent, nobody can say that it holds there.
        With::Nothing if reply.settled()?.silent.is_empty() => ack.answer(())?,
        With::Nothing => {}
        With::Answers => ack.answer(&flat(answer)?)?,
        With::Answer => ack.answer(answer)?,
        With::Rooms => ack.answer((Vec::from_iter(reply.channels()?.channels.keys()),))?,
        With::Clients => {
            let clients = reply.found()?.clients;
            let clients = clients.iter().map(|client| json!({ "id": client.id, "ns": "/" }));
            ack.answer((Vec::from_iter(clients),))?;
        }
        With::RoomsOfOne => {
            if let Some(client) = reply.found()?.clients.first() {
                ack.answer((&client.channels,))?;
            }
        }
    }
    Ok(())
}

/// Asks, when there is somebody who waits for an acknowledgement.
fn ask(message: &Incoming, with: With, question: impl FnOnce(Vec<u8>) -> Result<(), CommandError>) -> Result {
    if let Some(ack) = message.ack_id().cloned() {
        question(serde_json::to_vec(&Pending { ack, with })?)?;
    }
    Ok(())
}

/// Acknowledges once what was just done holds on every io-node.
fn settled(message: &Incoming, done: Result<(), CommandError>) -> Result {
    done?;
    ask(message, With::Nothing, |token| settle(PATIENCE, token))
}

/// The first argument of each answer, all of them one argument. Their attachments are numbered throughout already.
fn flat(collected: &Payload) -> Result<Payload> {
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
        let answer = app.ask("ada", event, args).expect("it is acknowledged");
        serde_json::from_str(&answer.json).unwrap()
    }

    #[test]
    fn all_are_told_who_there_is() {
        let mut app = app();
        let rooms = json!([["ada", "bob", "room1", "room2", "room4", "room5"]]);
        assert_eq!(ask(&mut app, "rooms", ()), rooms);
        let clients = json!([[{ "id": "ada", "ns": "/" }, { "id": "bob", "ns": "/" }]]);
        assert_eq!(ask(&mut app, "fetch_sockets", ()), clients);
        let rooms = json!([["bob", "room1", "room2", "room4", "room5"]]);
        assert_eq!(ask(&mut app, "get_rooms_remote_sock", "bob"), rooms);
    }

    #[test]
    fn rooms_are_joined_and_left() {
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
    fn answers_are_gathered_in_one_list() {
        let mut app = app();
        app.will_answer("ada", "broadcast_with_ack", (Binary(vec![1]), "more"));
        app.will_answer("bob", "broadcast_with_ack", Binary(vec![2]));
        let answer = app.ask("ada", "broadcast_with_ack", ()).unwrap();
        let (gathered,): (Vec<Binary>,) = answer.args().unwrap();
        assert_eq!(gathered, [Binary(vec![1]), Binary(vec![2])]);
        assert_eq!(app.sent_to("bob"), [Sent::new("broadcast_with_ack", ((),))]);
    }

    #[test]
    fn one_is_reached_wherever_it_is() {
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
