//! Clients at the door.

use super::*;
use plugnode_message::Refusal;

const PATIENCE: Duration = Duration::from_millis(300);

async fn fixture() -> Fixture {
    Fixture::with(MemorySettings::default(), |settings| {
        settings.apps[0].admission = Some(PATIENCE);
    })
    .await
}

/// A websocket that has asked to be let in.
async fn knock(fixture: &Fixture) -> Client {
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
async fn who_is_admitted_is_connected_and_not_before() {
    let fixture = fixture().await;
    let mut app = fixture.app().await;
    let mut client = knock(&fixture).await;
    client.say("42[\"too early\"]").await;
    sleep(MOMENT / 4).await;
    app.handle(|event| verdict(event, None)).await;
    assert!(client.hear().await.unwrap().starts_with("40{\"sid\":"));
    client.say("42[\"hello\"]").await;
    // What it said too early may come by itself, or with its connection.
    while !app.read().await.last().unwrap().ends_with(" hello") {}
    fixture.stop().await;
    assert!(app.read().await[0].ends_with(" disconnect"));
}

#[tokio::test]
async fn who_is_refused_hears_why_and_is_not_heard_of_again() {
    let fixture = fixture().await;
    let mut app = fixture.app().await;
    let mut client = knock(&fixture).await;
    app.handle(|event| verdict(event, Some(refusal()))).await;
    assert_eq!(
        client.hear().await.unwrap(),
        r#"44{"message":"not you","data":{"code":7}}"#
    );
    // It may ask again over the same connection.
    client.say("40").await;
    app.handle(|event| verdict(event, None)).await;
    assert!(client.hear().await.unwrap().starts_with("40{\"sid\":"));
    fixture.stop().await;
    assert_eq!(app.read().await.len(), 1, "the disconnect of the second alone");
    app.reads_nothing().await;
}

#[tokio::test]
async fn no_verdict_in_time_is_a_refusal_and_the_handler_is_told_if_it_lets_the_client_in_after_all() {
    let fixture = fixture().await;
    let mut app = fixture.app().await;
    let mut client = knock(&fixture).await;
    assert_eq!(client.hear().await.unwrap(), r#"44{"message":"timeout"}"#);
    app.handle(|event| verdict(event, None)).await;
    assert!(app.read().await[0].ends_with(" disconnect"));
    let mut other = knock(&fixture).await;
    assert_eq!(other.hear().await.unwrap(), r#"44{"message":"timeout"}"#);
    app.handle(|event| verdict(event, Some(refusal()))).await;
    app.reads_nothing().await;
    fixture.stop().await;
}

#[tokio::test]
async fn who_leaves_before_the_verdict_is_disconnected_by_it_if_at_all() {
    let fixture = fixture().await;
    let mut app = fixture.app().await;
    for (refusal, heard) in [(None, 1), (Some(refusal()), 0)] {
        let mut client = knock(&fixture).await;
        // The connection is in the log before the client is gone.
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
async fn who_asks_again_before_a_late_verdict_is_not_ended_by_it() {
    let fixture = fixture().await;
    let mut app = fixture.app().await;
    let mut client = knock(&fixture).await;
    assert_eq!(client.hear().await.unwrap(), r#"44{"message":"timeout"}"#);
    client.say("40").await;
    sleep(MOMENT / 4).await;
    // The verdict on the one that was let go comes first.
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
