//! Configuration `main`, in `/` and `/custom`: the server of the protocol suites. In `/`, also events for rooms.

use plugnode_sdk::prelude::*;
use plugnode_sdk::{Payload, to};

use crate::argument::single_argument;

/// Sends the client its `auth`.
pub(crate) fn send_auth(client: &Client, handshake: &Handshake) -> Result {
    let auth = handshake.auth.as_deref().unwrap_or("{}");
    let payload = Payload {
        json: format!("[{auth}]"),
        attachments: Vec::new(),
    };
    client.emit("auth", &payload)?;
    Ok(())
}

pub(crate) fn answer(client: &Client, message: &Incoming) -> Result {
    match message.event.as_str() {
        "message" => client.emit("message-back", &message.payload)?,
        "message-with-ack" => message.ack(&message.payload)?,
        _ if client.namespace() == "/" => answer_in_main(client, message)?,
        _ => {}
    }
    Ok(())
}

fn answer_in_main(client: &Client, message: &Incoming) -> Result {
    match message.event.as_str() {
        "join" => {
            client.join(message.arg::<String>(0)?)?;
            message.ack(true)?;
        }
        "leave" => {
            client.leave(message.arg::<String>(0)?)?;
            message.ack(true)?;
        }
        "say" => {
            let room: String = message.arg(0)?;
            let text = single_argument(&message.payload, 1)?;
            to(room).except_client(client.id()).emit("said", &text)?;
        }
        "shout" => client.broadcast("shouted", &single_argument(&message.payload, 0)?)?,
        "kick-me" => client.disconnect()?,
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Conformance;
    use plugnode_sdk::test::{Kit, Sent, handshake};

    #[test]
    fn sends_client_its_auth() {
        let mut app = Kit::<Conformance>::new();
        app.connect("ada");
        assert_eq!(app.sent_to("ada")[0].payload.json, "[{}]");
        let auth = Some(r#"{"token": "123"}"#.into());
        app.connect_with("bob", Handshake { auth, ..handshake() });
        assert_eq!(app.sent_to("bob")[0].payload.json, r#"[{"token": "123"}]"#);
    }

    #[test]
    fn sends_arguments_back_and_acknowledges_them() {
        let mut app = Kit::<Conformance>::new().in_namespace("/custom");
        app.connect("ada");
        let args = || (1, "2", vec![Binary(vec![3])]);
        app.message("ada", "message", args());
        assert_eq!(app.sent_to("ada")[1..], [Sent::new("message-back", args())]);
        let answer = app.ask("ada", "message-with-ack", args()).unwrap();
        assert_eq!(
            answer.args::<(u32, String, Vec<Binary>)>().unwrap().2,
            [Binary(vec![3])]
        );
        app.message("ada", "kick-me", ());
        assert!(app.is_connected("ada"), "only `/` has `kick-me`");
    }

    #[test]
    fn say_and_shout_leave_out_their_sender() {
        let mut app = Kit::<Conformance>::new();
        for client in ["ada", "bob", "cyd"] {
            app.connect(client);
            app.take_sent_to(client);
        }
        for client in ["ada", "bob"] {
            assert_eq!(app.ask(client, "join", "room").unwrap().json, "[true]");
        }
        app.message("ada", "say", ("room", Binary(vec![7])));
        app.message("ada", "shout", "all");
        assert!(app.sent_to("ada").is_empty());
        let shouted = Sent::new("shouted", "all");
        assert_eq!(
            app.sent_to("bob"),
            [Sent::new("said", Binary(vec![7])), shouted.clone()]
        );
        assert_eq!(app.sent_to("cyd"), [shouted]);
        app.ask("bob", "leave", "room");
        app.message("ada", "say", ("room", "nobody"));
        assert_eq!(app.sent_to("bob").len(), 2);
        app.message("bob", "kick-me", ());
        assert!(!app.is_connected("bob"));
    }
}
