//! What a client is told when its event becomes a dead letter, so that it does not wait in vain.

use plugnode_message::{Command, Event, EventId, EventKind, Payload, Refusal};
use plugnode_runtime::AppSettings;

/// What a client is told that waits to be admitted when its connection cannot be handled.
const UNDECIDED: &str = "the server could not decide";

/// The commands for a client whose event could not be handled: it is refused if it waits to be admitted, and an
/// acknowledgement that it waits for is answered with the error `failed`. `app` is none where no app is bound to the
/// event's namespace.
pub(super) fn last_words(app: Option<&AppSettings>, id: EventId, event: &Event) -> Vec<Command> {
    let Some(client) = &event.client else {
        return Vec::new();
    };
    match &event.kind {
        EventKind::Connection(_) if app.is_some_and(|app| app.admission) => vec![Command::Admit {
            namespace: event.namespace.clone(),
            client: client.id.clone(),
            refusal: Some(Refusal {
                message: UNDECIDED.into(),
                data: None,
            }),
        }],
        EventKind::Message { ack: Some(ack), .. } if app.is_none_or(|app| app.failure_acks) => vec![Command::Ack {
            id: ack.clone(),
            args: failed(id),
        }],
        _ => Vec::new(),
    }
}

/// The answer to an acknowledgement whose event has failed for good.
fn failed(id: EventId) -> Payload {
    Payload {
        json: format!(r#"[{{"error":{{"code":"failed","event":"{id}"}}}}]"#).into(),
        attachments: Vec::new(),
    }
}
