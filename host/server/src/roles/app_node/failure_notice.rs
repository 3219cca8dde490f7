//! Tells a client, or a caller of the server API, that its event became a dead letter, so that it stops waiting.

use plugnode_message::{CallOutcome, Command, Event, EventId, EventKind, Payload, Refusal};
use plugnode_runtime::AppSettings;

/// The refusal of a client whose connection event could not be handled.
const UNDECIDED: &str = "the server could not decide";

/// The commands for the client of a failed event: it is refused if it waits for admission; an acknowledgement that it waits for
/// is answered with the error `failed`, and so is a call of the server API. `app` is None if no app is bound to the event's namespace.
pub(super) fn failure_notice(app: Option<&AppSettings>, id: EventId, event: &Event) -> Vec<Command> {
    if let EventKind::Call(call) = &event.kind {
        return vec![call.answer(CallOutcome::Failed(id))];
    }
    let Some(client) = &event.client else {
        return Vec::new();
    };
    match &event.kind {
        EventKind::Connection(_) if app.is_some_and(|app| app.handler.admission) => vec![Command::Admit {
            namespace: event.namespace.clone(),
            client: client.id.clone(),
            refusal: Some(Refusal {
                message: UNDECIDED.into(),
                data: None,
            }),
        }],
        EventKind::Message { ack: Some(ack), .. } if app.is_none_or(|app| app.handler.failure_acks) => {
            vec![Command::Ack {
                id: ack.clone(),
                args: failed(id),
            }]
        }
        _ => Vec::new(),
    }
}

/// The arguments of the acknowledgement.
fn failed(id: EventId) -> Payload {
    Payload {
        json: format!(r#"[{{"error":{{"code":"failed","event":"{id}"}}}}]"#).into(),
        attachments: Vec::new(),
    }
}
