//! The checker itself: it finds no violation in a healthy build, and each fault of the deliberately broken build.

use std::process::Stdio;
use std::time::Duration;

use plugnode_tests::check::{Check, Report, Settings, ViolationKind, io_nodes};
use plugnode_tests::{Node, app, component, within};
use tokio::process::Command;

use crate::api::{KEY, api_section};

/// How long clients send.
const SENDING: Duration = Duration::from_millis(2_500);
/// Lifetime of clients, in tests whose clients do not stay to the end.
const LIFETIME: Duration = Duration::from_millis(800);
/// Time after which the broken build `take-refused` refuses messages.
const REFUSE_AFTER: Duration = Duration::from_millis(200);

fn config() -> String {
    let app = app(
        "/",
        &component("recorder"),
        "instances = 2\ngrants = { keyvalue = [\"default\"] }",
    );
    // A call that is not carried out is answered soon.
    let api = api_section(&["publish"], "calls-per-second = 1000").replace("[api]", "[api]\ncommit-timeout-ms = 200");
    format!("{api}\n{app}")
}

/// Clients that stay to the end.
fn staying() -> Settings {
    Settings {
        clients: 16,
        lifetime: None,
        ..Default::default()
    }
}

/// Clients that disconnect and are replaced.
fn changing() -> Settings {
    Settings {
        lifetime: Some(LIFETIME),
        ..staying()
    }
}

async fn check(node: &Node, settings: Settings) -> Report {
    let check = Check::start(Settings {
        urls: vec![node.url()],
        channel: 4,
        quiet: Duration::from_millis(300),
        patience: Duration::from_secs(2),
        ..settings
    });
    let mut check = check.await.expect("the cluster can be checked");
    check.add_api(&node.api_url().await);
    check.publish(KEY);
    tokio::time::sleep(SENDING).await;
    check.finish().await
}

#[tokio::test]
async fn healthy_build_has_no_violations() {
    let node = Node::run(&config()).await;
    let report = check(&node, changing()).await;
    report.assert_clean();
    let counts = &report.verdict.counts;
    assert!(report.settled && report.reconnects == 0, "{report}");
    assert!(
        counts.acked > 200 && counts.clients > 20 && counts.effects > 300 && counts.publishes > 50,
        "{report}"
    );
}

#[tokio::test]
async fn healthy_build_keeps_counters_attributes_and_timers() {
    let node = Node::run(&config()).await;
    let settings = Settings {
        rate: 40.0,
        counters: 1,
        attributes: true,
        timers: 0.1,
        failures: 0.02,
        ..changing()
    };
    let report = check(&node, settings).await;
    report.assert_clean();
    assert!(report.settled && report.verdict.counts.acked > 200, "{report}");
}

/// Asserts that the checker finds a fault of the broken build: a violation of the first kind, and none of any other kind than these.
async fn assert_found(fault: &str, kinds: &[ViolationKind], settings: Settings) {
    let refuse_after = format!("[io-node]\nrefuse-after-ms = {}\n", settings.refuse_after.as_millis());
    let node = Node::run_broken(fault, &format!("{refuse_after}{}", config())).await;
    let report = check(&node, settings).await;
    let found: Vec<ViolationKind> = ViolationKind::ALL
        .into_iter()
        .filter(|kind| report.verdict.times(*kind) > 0)
        .collect();
    assert!(report.incomplete.is_none(), "{fault}: {report}");
    assert!(found.contains(&kinds[0]), "{fault} was not found:\n{report}");
    assert!(found.iter().all(|kind| kinds.contains(kind)), "{fault}:\n{report}");
}

macro_rules! faults {
    ($($(#[doc = $why:literal])? $test:ident: $fault:literal is [$($kind:ident),+] with $settings:expr;)*) => {
        $(
            $(#[doc = $why])?
            #[tokio::test]
            async fn $test() {
                assert_found($fault, &[$(ViolationKind::$kind),+], $settings).await;
            }
        )*
    };
}

faults! {
    finds_lost_event: "lose-event" is [Lost] with changing();
    finds_doubled_event: "double-event" is [Doubled] with changing();
    /// An event held back until its client disconnects comes when no client is left to receive it.
    finds_swapped_events: "swap-events" is [OutOfOrder, PartialEffects, Lost] with changing();
    /// Until it is handled the event is missing, and then no client may be left to receive it.
    finds_event_after_disconnect: "late-event" is [Disconnects, OutOfOrder, Lost, PartialEffects] with changing();
    finds_event_without_effects: "lose-effects" is [Lost] with changing();
    /// With clients that stay: one that disconnects may miss the other commands as well.
    finds_lost_command: "lose-command" is [Lost] with staying();
    finds_doubled_command: "double-command" is [Doubled] with changing();
    /// With clients that stay: one that disconnects between the two commands would miss the second.
    finds_swapped_commands: "swap-commands" is [OutOfOrder] with staying();
    finds_misdirected_command: "misdirect-command" is [Unexpected] with changing();
    finds_writes_without_commands: "writes-alone" is [PartialEffects] with changing();
    /// Commands that no client is left to receive are lost as well.
    finds_commands_without_writes: "commands-alone" is [PartialEffects, Lost] with changing();
    finds_lost_connection: "lose-connection" is [Disconnects] with changing();
    finds_doubled_connection: "double-connection" is [Disconnects] with changing();
    finds_lost_disconnect: "lose-disconnect" is [Disconnects] with changing();
    finds_doubled_disconnect: "double-disconnect" is [Disconnects] with changing();
    /// The copy comes after its client's next messages, and its acknowledgement id is used up.
    finds_late_copy_of_refused_message: "take-refused" is [Unexpected, OutOfOrder, Lost, PartialEffects]
        with Settings { refuse_after: REFUSE_AFTER, ..staying() };
    finds_doubled_increment: "double-increment" is [Increments]
        with Settings { rate: 40.0, counters: 2, ..changing() };
    /// With enough increments that two overlap.
    finds_lost_increment: "lose-increment" is [Increments]
        with Settings { rate: 40.0, counters: 1, increments: 0.6, ..staying() };
    finds_lost_timer: "lose-timer" is [Lost] with Settings { clients: 8, timers: 0.2, ..staying() };
    finds_doubled_timer: "double-timer" is [Doubled] with Settings { clients: 8, timers: 0.2, ..staying() };
    finds_lost_publish: "lose-call" is [Lost] with staying();
    finds_publish_doubled_by_repetition: "double-call" is [Doubled] with staying();
    /// With one publisher, whose next call is then the next of its order. The last may be held back to the end.
    finds_swapped_publishes: "swap-calls" is [OutOfOrder, Lost] with Settings { publishers: 1, ..staying() };
    finds_stale_attributes: "stale-attributes" is [Attributes] with Settings { attributes: true, ..staying() };
    finds_lost_acknowledgement_of_failure: "lose-failure" is [Lost] with Settings { failures: 0.1, ..staying() };
}

/// Runs `plugnode-check`; returns its exit code, standard output and standard error.
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
