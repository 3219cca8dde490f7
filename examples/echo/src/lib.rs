//! Sends every event back: the handler for benchmarks and external checks.
//!
//! An event is sent back to its client under the same name, with the same arguments, and acknowledged with them. Every client joins
//! channel `room`. Event `all` is emitted to that channel as `chat` instead. Arguments are not parsed.

use plugnode_sdk::prelude::*;

/// The handler.
#[derive(Default)]
pub struct Echo;

impl Handler for Echo {
    fn on_connection(&mut self, client: &Client, _: &Handshake) -> Result {
        client.join("room")?;
        Ok(())
    }

    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        match message.event.as_str() {
            "all" => plugnode_sdk::to("room").emit("chat", &message.payload)?,
            event => client.emit(event, &message.payload)?,
        }
        message.ack(&message.payload)?;
        Ok(())
    }
}

plugnode_sdk::export!(Echo);

#[cfg(test)]
mod tests {
    use super::*;
    use plugnode_sdk::Payload;
    use plugnode_sdk::test::{Kit, Sent};

    #[test]
    fn sends_events_back_to_their_client() {
        let mut app = Kit::<Echo>::new();
        app.connect("ada");
        app.connect("bob");
        app.message("ada", "hi", ("a", 1, Binary(vec![7])));
        assert_eq!(app.sent_to("ada"), [Sent::new("hi", ("a", 1, Binary(vec![7])))]);
        assert!(app.sent_to("bob").is_empty());
    }

    #[test]
    fn keeps_the_exact_text_of_arguments() {
        let mut app = Kit::<Echo>::new();
        app.connect("ada");
        let odd = Payload {
            json: r#"[ 1.0e2, "\u0041" ]"#.into(),
            attachments: Vec::new(),
        };
        assert_eq!(app.ask("ada", "odd", &odd).unwrap().json, odd.json);
        assert_eq!(app.sent_to("ada")[0].payload.json, odd.json);
    }

    #[test]
    fn all_reaches_the_room_and_is_acknowledged() {
        let mut app = Kit::<Echo>::new();
        app.connect("ada");
        app.connect("bob");
        let answer = app.ask("ada", "all", ("x",)).unwrap();
        assert_eq!(answer.json, r#"["x"]"#);
        for client in ["ada", "bob"] {
            assert_eq!(app.sent_to(client), [Sent::new("chat", ("x",))]);
        }
    }
}
