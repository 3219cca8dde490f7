//! The handler: clients solve puzzles together.
//!
//! It uses only the SDK, like any handler. As a component, it would also work with any io-node that handles its custom commands.

use plugnode_sdk::prelude::*;
use plugnode_sdk::{all, context, send_custom};
use serde::Deserialize;
use serde_json::{Value, json};

/// Command to a client's io-node: sets the client's user.
pub(crate) const USER: &str = "puzzle.user/1";
/// Command to an io-node: a puzzle is solved.
pub(crate) const SOLVED: &str = "puzzle.solved/1";

/// The handler.
#[derive(Default)]
pub(crate) struct Puzzle;

/// The attributes of a client, set by the program that embeds the io-node.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Solver {
    puzzle_id: String,
    user_id: Option<String>,
}

impl Handler for Puzzle {
    fn on_connection(&mut self, client: &Client, _: &Handshake) -> Result {
        let solver: Solver = client.attributes()?;
        client.join(solver.puzzle_id)?;
        Ok(())
    }

    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        let solver: Solver = client.attributes()?;
        match message.event.as_str() {
            "sign-in" => {
                let user: String = message.arg(0)?;
                let data = json!({ "client": client.id(), "user": user }).to_string();
                send_custom(Some(client.io_node()), USER, data.as_bytes())?;
            }
            "piece" => client
                .to(solver.puzzle_id)
                .emit("piece", (solver.user_id, message.arg::<Value>(0)?))?,
            "solved" => {
                let data = json!({ "puzzle": solver.puzzle_id }).to_string();
                send_custom(Some(client.io_node()), SOLVED, data.as_bytes())?;
            }
            "where" => message.ack(json!({ "instance": context().instance, "release": context().release }))?,
            "slip" => panic!("a piece fell down"),
            _ => {}
        }
        Ok(())
    }

    fn on_custom(&mut self, custom: &Custom) -> Result {
        match (custom.kind.as_str(), &custom.client) {
            ("puzzle.user-is-set/1", Some(client)) => {
                let solver: Solver = serde_json::from_str(&client.attributes)?;
                plugnode_sdk::client(&client.id).emit("welcome", solver.user_id)?;
            }
            ("puzzle.applause/1", None) => {
                let solved: Value = serde_json::from_slice(&custom.data)?;
                all().emit("applause", &solved["puzzle"])?;
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugnode_sdk::test::{Command, Kit};

    #[test]
    fn sign_in_sends_command_to_io_node() {
        #[derive(Default)]
        struct WithPuzzle(Puzzle);
        // The kit has no io-node hook that sets the attributes.
        impl Handler for WithPuzzle {
            fn on_connection(&mut self, client: &Client, handshake: &Handshake) -> Result {
                client.set_attributes(&json!({ "puzzleId": "7" }))?;
                self.0.on_connection(client, handshake)
            }
            fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
                self.0.on_message(client, message)
            }
        }
        let mut app = Kit::<WithPuzzle>::new();
        app.connect("ada");
        let effects = app.message("ada", "sign-in", "Ada");
        let data = json!({ "client": "ada", "user": "Ada" }).to_string().into_bytes();
        let (io_node, kind) = (Some("test".to_owned()), USER.to_owned());
        assert_eq!(effects.commands, [Command::Custom { io_node, kind, data }]);
    }
}
