//! Admission of clients by the handler.

use super::*;
use plugnode_message::Refusal;

const PATIENCE: Duration = Duration::from_millis(300);

async fn fixture() -> Fixture {
    Fixture::with(TransportSettings::default(), |setup| {
        setup.apps[0].admission = Some(PATIENCE);
    })
    .await
}

/// A websocket whose client has asked to connect.
async fn connecting(fixture: &Fixture) -> Client {
    let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", fixture.address);
    let (socket, _) = connect_async(url).await.unwrap();
    let id = String::new();
    let mut client = Client { socket, id };
    assert!(client.hear().await.unwrap().starts_with('0'));
    client.say("40").await;
    client
}

fn verdict(event: &Event, refusal: Option<Refusal>) -> Vec<Command> {
    match &event.kind {
        EventKind::Connection(_) => vec![Command::Admit {
            namespace: event.namespace.clone(),
            client: event.client.as_ref().unwrap().id.clone(),
            refusal,
        }],
        _ => Vec::new(),
    }
}

fn refusal() -> Refusal {
    Refusal {
        message: "not you".into(),
        data: Some(r#"{"code":7}"#.into()),
    }
}

#[tokio::test]
async fn client_connects_only_after_admission() {
    let fixture = fixture().await;
    let mut app = fixture.app().await;
    let mut client = connecting(&fixture).await;
    client.say("42[\"too early\"]").await;
    sleep(MOMENT / 4).await;
    app.handle(|event| verdict(event, None)).await;
    assert!(client.hear().await.unwrap().starts_with("40{\"sid\":"));
    client.say("42[\"hello\"]").await;
    // What it sent too early may arrive in a batch of its own.
    while !app.read().await.last().unwrap().ends_with(" hello") {}
    fixture.stop().await;
    assert!(app.read().await[0].ends_with(" disconnect"));
}

#[tokio::test]
async fn refused_client_gets_reason_and_no_disconnect_event() {
    let fixture = fixture().await;
    let mut app = fixture.app().await;
    let mut client = connecting(&fixture).await;
    app.handle(|event| verdict(event, Some(refusal()))).await;
    assert_eq!(
        client.hear().await.unwrap(),
        r#"44{"message":"not you","data":{"code":7}}"#
    );
    // It may ask again on the same connection.
    client.say("40").await;
    app.handle(|event| verdict(event, None)).await;
    assert!(client.hear().await.unwrap().starts_with("40{\"sid\":"));
    fixture.stop().await;
    assert_eq!(app.read().await.len(), 1, "the disconnect of the second alone");
    app.reads_nothing().await;
}

#[tokio::test]
async fn admission_times_out_and_late_admission_gets_disconnect() {
    let fixture = fixture().await;
    let mut app = fixture.app().await;
    let mut client = connecting(&fixture).await;
    assert_eq!(client.hear().await.unwrap(), r#"44{"message":"timeout"}"#);
    app.handle(|event| verdict(event, None)).await;
    assert!(app.read().await[0].ends_with(" disconnect"));
    let mut other = connecting(&fixture).await;
    assert_eq!(other.hear().await.unwrap(), r#"44{"message":"timeout"}"#);
    app.handle(|event| verdict(event, Some(refusal()))).await;
    app.reads_nothing().await;
    fixture.stop().await;
}

#[tokio::test]
async fn client_that_leaves_pending_disconnects_only_if_admitted() {
    let fixture = fixture().await;
    let mut app = fixture.app().await;
    for (refusal, heard) in [(None, 1), (Some(refusal()), 0)] {
        let mut client = connecting(&fixture).await;
        // Lets the connection event reach the log first.
        sleep(MOMENT / 4).await;
        client.socket.close(None).await.unwrap();
        sleep(MOMENT / 4).await;
        app.handle(|event| verdict(event, refusal.clone())).await;
        match heard {
            0 => app.reads_nothing().await,
            _ => assert!(app.read().await[0].ends_with(" disconnect")),
        }
    }
    fixture.stop().await;
}

#[tokio::test]
async fn late_verdict_does_not_end_a_second_attempt() {
    let fixture = fixture().await;
    let mut app = fixture.app().await;
    let mut client = connecting(&fixture).await;
    assert_eq!(client.hear().await.unwrap(), r#"44{"message":"timeout"}"#);
    client.say("40").await;
    sleep(MOMENT / 4).await;
    // The late verdict on the first attempt comes first.
    let mut connections = 0;
    while connections < 2 {
        connections += app.handle(|event| verdict(event, None)).await.len();
    }
    let connected = client.hear().await.unwrap();
    assert!(connected.starts_with("40{\"sid\":"), "{connected}");
    assert!(app.read().await[0].ends_with(" disconnect"), "of the first");
    client.say("42[\"hello\"]").await;
    assert!(app.read().await[0].ends_with(" hello"));
    client.socket.close(None).await.unwrap();
    assert!(app.read().await[0].ends_with(" disconnect"));
    app.reads_nothing().await;
    fixture.stop().await;
}
