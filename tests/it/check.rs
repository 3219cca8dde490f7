//! The checker itself: it finds nothing wrong with a healthy build, and each fault of a deliberately broken one.

use std::process::Stdio;
use std::time::Duration;

use plugnode_tests::check::{Check, Report, Settings, ViolationKind, io_nodes};
use plugnode_tests::{Node, app, component, within};
use tokio::process::Command;

/// How long clients send.
const SENDING: Duration = Duration::from_millis(2_500);
/// How long a client stays.
const LIFETIME: Option<Duration> = Some(Duration::from_millis(800));

fn config() -> String {
    app(
        "/",
        &component("recorder"),
        "instances = 2\ngrants = { keyvalue = [\"default\"] }",
    )
}

/// With clients that leave and come as others after this time, or stay.
async fn check(node: &Node, lifetime: Option<Duration>) -> Report {
    let settings = Settings {
        clients: 16,
        lifetime,
        ..Default::default()
    };
    check_with(node, settings).await
}

/// With other settings than the usual ones.
async fn check_with(node: &Node, settings: Settings) -> Report {
    let check = Check::start(Settings {
        urls: vec![node.url()],
        channel: 4,
        patience: Duration::from_secs(2),
        quiet: Duration::from_millis(300),
        ..settings
    });
    let check = check.await.expect("the cluster can be checked");
    tokio::time::sleep(SENDING).await;
    check.finish().await
}

#[tokio::test]
async fn a_healthy_build_is_found_healthy() {
    let node = Node::run(&config()).await;
    let report = check(&node, LIFETIME).await;
    report.assert_clean();
    let tally = &report.verdict.tally;
    assert!(report.settled && report.reconnects == 0, "{report}");
    assert!(
        tally.acked > 200 && tally.clients > 20 && tally.effects > 300,
        "{report}"
    );
}

#[tokio::test]
async fn counters_attributes_and_timers_of_a_healthy_build_are_right() {
    let node = Node::run(&config()).await;
    let settings = Settings {
        clients: 16,
        lifetime: LIFETIME,
        rate: 40.0,
        counters: 1,
        attributes: true,
        timers: 0.1,
        failures: 0.02,
        ..Default::default()
    };
    let report = check_with(&node, settings).await;
    report.assert_clean();
    assert!(report.settled && report.verdict.tally.acked > 200, "{report}");
}

/// Every kind that was found is among these, and the first of them was.
async fn finds(fault: &str, kinds: &[ViolationKind]) {
    finds_with(fault, kinds, LIFETIME).await;
}

/// The same, with clients of this lifetime.
async fn finds_with(fault: &str, kinds: &[ViolationKind], lifetime: Option<Duration>) {
    let node = Node::run_broken(fault, &config()).await;
    let report = check(&node, lifetime).await;
    assert_found(fault, kinds, &report);
}

fn assert_found(fault: &str, kinds: &[ViolationKind], report: &Report) {
    let found: Vec<ViolationKind> = ViolationKind::ALL
        .into_iter()
        .filter(|kind| report.verdict.times(*kind) > 0)
        .collect();
    assert!(report.incomplete.is_none(), "{fault}: {report}");
    assert!(found.contains(&kinds[0]), "{fault} was not found:\n{report}");
    assert!(found.iter().all(|kind| kinds.contains(kind)), "{fault}:\n{report}");
}

#[tokio::test]
async fn a_lost_event_is_found() {
    finds("lose-event", &[ViolationKind::Lost]).await;
}

#[tokio::test]
async fn a_doubled_event_is_found() {
    finds("double-event", &[ViolationKind::Doubled]).await;
}

#[tokio::test]
async fn swapped_events_are_found() {
    // One that waits for a next message until its client leaves comes when nobody listens any more.
    finds(
        "swap-events",
        &[
            ViolationKind::OutOfOrder,
            ViolationKind::PartialEffects,
            ViolationKind::Lost,
        ],
    )
    .await;
}

#[tokio::test]
async fn an_event_after_the_disconnect_is_found() {
    // Until then it is missing among its client's messages, and nobody may be left to hear it.
    let kinds = [
        ViolationKind::Disconnects,
        ViolationKind::OutOfOrder,
        ViolationKind::Lost,
        ViolationKind::PartialEffects,
    ];
    finds("late-event", &kinds).await;
}

#[tokio::test]
async fn an_event_without_effects_is_found() {
    finds("lose-effects", &[ViolationKind::Lost]).await;
}

#[tokio::test]
async fn a_lost_command_is_found() {
    // Of clients that stay: of what is left of an event nobody may hear when its client leaves just then.
    finds_with("lose-command", &[ViolationKind::Lost], None).await;
}

#[tokio::test]
async fn a_doubled_command_is_found() {
    finds("double-command", &[ViolationKind::Doubled]).await;
}

#[tokio::test]
async fn swapped_commands_are_found() {
    // Of clients that stay: what comes behind another would be lost to one that leaves between the two.
    finds_with("swap-commands", &[ViolationKind::OutOfOrder], None).await;
}

#[tokio::test]
async fn a_command_for_another_is_found() {
    finds("misdirect-command", &[ViolationKind::Unexpected]).await;
}

#[tokio::test]
async fn writes_without_commands_are_found() {
    finds("writes-alone", &[ViolationKind::PartialEffects]).await;
}

#[tokio::test]
async fn commands_without_writes_are_found() {
    // Where nobody was left to hear them, they are lost as well.
    finds("commands-alone", &[ViolationKind::PartialEffects, ViolationKind::Lost]).await;
}

#[tokio::test]
async fn a_lost_connection_event_is_found() {
    finds("lose-connection", &[ViolationKind::Disconnects]).await;
}

#[tokio::test]
async fn a_doubled_connection_event_is_found() {
    finds("double-connection", &[ViolationKind::Disconnects]).await;
}

#[tokio::test]
async fn a_lost_disconnect_is_found() {
    finds("lose-disconnect", &[ViolationKind::Disconnects]).await;
}

#[tokio::test]
async fn a_doubled_disconnect_is_found() {
    finds("double-disconnect", &[ViolationKind::Disconnects]).await;
}

#[tokio::test]
async fn a_late_copy_of_a_refused_message_is_found() {
    let refuse_after = Duration::from_millis(200);
    let settings = format!("[io-node]\nrefuse-after-ms = {}\n", refuse_after.as_millis());
    let node = Node::run_broken("take-refused", &format!("{settings}{}", config())).await;
    let settings = Settings {
        clients: 16,
        lifetime: None,
        refuse_after,
        ..Default::default()
    };
    let report = check_with(&node, settings).await;
    // It comes behind what its client sent after it, and its acknowledgement is used up.
    let kinds = [
        ViolationKind::Unexpected,
        ViolationKind::OutOfOrder,
        ViolationKind::Lost,
        ViolationKind::PartialEffects,
    ];
    assert_found("take-refused", &kinds, &report);
}

#[tokio::test]
async fn a_doubled_increment_is_found() {
    let node = Node::run_broken("double-increment", &config()).await;
    let settings = Settings {
        lifetime: LIFETIME,
        clients: 16,
        rate: 40.0,
        counters: 2,
        ..Default::default()
    };
    let report = check_with(&node, settings).await;
    assert_found("double-increment", &[ViolationKind::Increments], &report);
}

#[tokio::test]
async fn a_lost_increment_is_found() {
    let node = Node::run_broken("lose-increment", &config()).await;
    let settings = Settings {
        clients: 16,
        lifetime: None,
        rate: 40.0,
        counters: 1,
        // So many that two meet for sure.
        increments: 0.6,
        ..Default::default()
    };
    let report = check_with(&node, settings).await;
    assert_found("lose-increment", &[ViolationKind::Increments], &report);
}

#[tokio::test]
async fn timers_that_are_lost_or_due_twice_are_found() {
    for (fault, kind) in [
        ("lose-timer", ViolationKind::Lost),
        ("double-timer", ViolationKind::Doubled),
    ] {
        let node = Node::run_broken(fault, &config()).await;
        let settings = Settings {
            clients: 8,
            lifetime: None,
            timers: 0.2,
            patience: Duration::from_secs(5),
            ..Default::default()
        };
        let report = check_with(&node, settings).await;
        assert_found(fault, &[kind], &report);
    }
}

#[tokio::test]
async fn stale_attributes_are_found() {
    let node = Node::run_broken("stale-attributes", &config()).await;
    let settings = Settings {
        clients: 16,
        lifetime: None,
        attributes: true,
        ..Default::default()
    };
    let report = check_with(&node, settings).await;
    assert_found("stale-attributes", &[ViolationKind::Attributes], &report);
}

#[tokio::test]
async fn a_lost_acknowledgement_of_a_failure_is_found() {
    let node = Node::run_broken("lose-failure", &config()).await;
    let settings = Settings {
        clients: 16,
        lifetime: None,
        failures: 0.1,
        ..Default::default()
    };
    let report = check_with(&node, settings).await;
    assert_found("lose-failure", &[ViolationKind::Lost], &report);
}

/// The program: its words, its JSON and its exit codes.
async fn plugnode_check(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_plugnode-check"))
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = within("plugnode-check ends", output).await.expect("it can be run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn program_reports_findings_and_exit_code() {
    let short = [
        "--clients",
        "10",
        "--seconds",
        "1.5",
        "--lifetime",
        "1",
        "--patience",
        "2",
    ];
    let node = Node::run(&config()).await;
    let url = node.url();
    let (code, said, _) = plugnode_check(&[&["--url", &url], &short[..]].concat()).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("lost          0"), "{said}");
    assert_eq!(
        io_nodes(&url).await.expect("it is a frontend, too"),
        std::slice::from_ref(&url)
    );
    let (code, said, _) = plugnode_check(&[&["--frontend", &url, "--json", "--quiet"], &short[..]].concat()).await;
    let report: serde_json::Value = serde_json::from_str(&said).expect("it is JSON");
    assert_eq!(
        (code, &report["ok"], &report["found"]["lost"]),
        (Some(0), &true.into(), &0.into()),
        "{said}"
    );

    let node = Node::run_broken("lose-event", &config()).await;
    let (code, said, _) = plugnode_check(&[&["--url", &node.url()], &short[..]].concat()).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("a message took no effect; numbers "), "{said}");
}

#[tokio::test]
async fn program_explains_incomplete_check() {
    let (code, _, said) = plugnode_check(&["--url", "http://127.0.0.1:1", "--patience", "0.5"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("cannot connect to ws://127.0.0.1:1"), "{said}");
    let (code, _, said) = plugnode_check(&["--url", "https://127.0.0.1:1"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("does not support TLS"), "{said}");
    let node = Node::app(&component("echo"), "").await;
    let (code, _, said) = plugnode_check(&["--url", &node.url(), "--patience", "1"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("handler `recorder`"), "{said}");
}
