//! Answers every event with itself: what benchmarks and outside checks run against.
//!
//! Any event comes back to its sender under its own name with the same arguments, and is acknowledged with them when
//! an acknowledgement is asked for. Every client joins channel `room`. The one exception is event `all`: it is
//! published to that channel as `chat`, and does not come back under its own name. Arguments are never parsed.

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
    fn any_event_comes_back_as_it_was() {
        let mut app = Kit::<Echo>::new();
        app.connect("ada");
        app.connect("bob");
        app.message("ada", "hi", ("a", 1, Binary(vec![7])));
        assert_eq!(app.sent_to("ada"), [Sent::new("hi", ("a", 1, Binary(vec![7])))]);
        assert!(app.sent_to("bob").is_empty());
    }

    #[test]
    fn arguments_keep_their_very_text() {
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
    fn all_is_published_to_the_room_and_acknowledged() {
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
