//! Reads and writes of files of events.

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use serde_json::json;

use super::*;
use plugnode_message::{Effects, Event, EventKind, Partition, Timer};

fn file(text: &str) -> EventFile {
    EventFile::parse(Path::new("events.toml"), text.to_owned()).unwrap()
}

fn event(text: &str) -> Result<Event> {
    let file = file(text);
    file.events[0].event(1, "/", &json!({ "a": 1 }), Some(Bytes::from_static(b"token")))
}

#[test]
fn written_events_are_read_back_unchanged() {
    for text in [
        "connection = { auth = '{\"a\":null}', query = \"x=1\", headers = { cookie = \"c\" }, transport = \"polling\" }",
        "connection = { auth = '\"word\"', transport = \"websocket\", recovered = true }",
        "message = \"a b\"\nargs = [1, 1.5, \"ä\\n\\u0000\", { x = [true], \"y z\" = {} }]\nack = true",
        "message = \"a\"\nargs = '[null,\"don\"]'",
        "message = \"a\"\nargs = [{ base64 = \"AP8=\" }, [{ base64 = \"\" }]]",
        "disconnect = \"ping timeout\"",
        "disconnect = \"as it likes\"\nchannels = [\"a\", \"b c\"]",
        "custom = \"clock/1\"\ndata = \"tick\"\ncontent-type = \"text/plain\"",
        "custom = \"clock/1\"\nbase64 = \"/w==\"",
    ] {
        let client = if text.contains("custom") {
            ""
        } else {
            "client = \"c\"\n"
        };
        let text = format!("[[event]]\n{client}received-at-ms = 7\n{text}\n");
        let event = event(&text).unwrap();
        let written = file_of_event(&event).unwrap();
        assert_eq!(super::tests::event(&written).unwrap(), event, "{text}\n{written}");
    }
    let reply = event("[[event]]\nreply = [1]\n").unwrap();
    assert!(matches!(&reply.kind, EventKind::Reply { token, answer: Some(_) } if token == "token"));
    let none = event("[[event]]\nno-reply = true\n").unwrap();
    assert!(matches!(none.kind, EventKind::Reply { answer: None, .. }));
}

#[test]
fn update_changes_only_expectations() {
    let outcome = |toml: &str| Some(EventOutcome::expected(&toml.parse().unwrap()).unwrap());
    let text = "\
# [[event]] is no event here
[[event]] # one
message = '''
[[event]]
expect = 1'''
args = [ # ]
  \"]\\\"\", '[', # expect
]
expect = { ack = [
  1 ] }
client = \"a\"

# two
[[event]]
message = \"\"\"a\"\"\"\"
[event.expect]
# a comment
commands = [
  { emit = \"b\" },
]
[[event.expect.writes]]
bucket = \"x\"

# three
[[event]]
message = \"c\"
expect.ack = [1]
";
    let updated = "\
# [[event]] is no event here
[[event]] # one
message = '''
[[event]]
expect = 1'''
args = [ # ]
  \"]\\\"\", '[', # expect
]
client = \"a\"
[event.expect]
ack = [2]

# two
[[event]]
message = \"\"\"a\"\"\"\"
[event.expect]
commands = [
  { emit = \"c\", args = [] },
]

# three
[[event]]
message = \"c\"
expect.ack = [1]
";
    let file = file(text);
    assert_eq!(file.lines(), [2, 14, 25]);
    let second = "commands = [{ emit = \"c\" }]";
    let done = update(&file, &[outcome("ack = [2]"), outcome(second), None]).unwrap();
    // The comment on the replaced expectation stays too.
    assert_eq!(
        done.replace("\"\"\"\"\n# a comment\n", "\"\"\"\"\n"),
        updated.replace("\"\"\"\"\n# a comment\n", "")
    );
    let again = super::tests::file(&done);
    assert_eq!(
        update(&again, &[outcome("ack = [2]"), outcome(second), None]).unwrap(),
        done
    );
    let inline = super::tests::file("event = [{ message = \"a\" }]\n");
    assert!(
        update(&inline, &[outcome("")])
            .unwrap_err()
            .to_string()
            .contains("[[event]]")
    );
}

#[test]
fn wildcards_match_and_are_kept() {
    let expected = |toml: &str| EventOutcome::expected(&toml.parse().unwrap()).unwrap();
    let pattern = expected("ack = [\"<any>\", 1]\ncommands = [{ emit = \"a\", args = \"<any>\" }]\nerror = \"<any>\"");
    let actual = expected("ack = [{ x = 2 }, 1.0]\ncommands = [{ emit = \"a\", args = [1] }]\nerror = \"no\"");
    assert!(pattern.is_met_by(&actual));
    let other = expected("ack = [5, 2]\ncommands = [{ emit = \"b\", args = [1] }]\nerror = \"no\"");
    assert!(!pattern.is_met_by(&other));
    let kept = expected("ack = [\"<any>\", 2]\ncommands = [{ emit = \"b\", args = \"<any>\" }]\nerror = \"<any>\"");
    assert_eq!(other.with_wildcards_of(&pattern), kept);
}

#[test]
fn timers_are_shown_relative_to_the_event() {
    let event = event("[[event]]\nclient = \"ada\"\nreceived-at-ms = 7000\nmessage = \"a\"\n").unwrap();
    let timer = |client: Option<&str>, key: &str, period_ms| Timer {
        namespace: "/".into(),
        client: client.map(Into::into),
        key: key.into(),
        kind: "quiz.late/1".into(),
        data: Bytes::from_static(b"[1]"),
        period_ms,
    };
    let (app, partition) = ("/".into(), Partition(3));
    let outcome = |handling_ms: u64| {
        let writes = vec![
            timer(Some("ada"), "answer 1", None).set(&app, partition, 37_000 + handling_ms),
            timer(None, "tick", Some(50)).set(&app, partition, 7_050 + handling_ms),
            timer(None, "once", None).set(&app, partition, 5),
            timer(Some("ada"), "answer 1", None).cancel(&app, partition),
            timer(None, "tick", None).cancel(&app, partition),
        ];
        let effects = Effects {
            writes,
            ..Effects::default()
        };
        EventOutcome::handled(&event, &effects)
    };
    let expected = "writes = [
        { timer = { key = \"answer 1\", client = \"ada\", after-ms = 30000, kind = \"quiz.late/1\", data = \"[1]\" } },
        { timer = { key = \"tick\", every-ms = 50, kind = \"quiz.late/1\", data = \"[1]\" } },
        { timer = { key = \"once\", at-ms = 5, kind = \"quiz.late/1\", data = \"[1]\" } },
        { timer = { key = \"answer 1\", client = \"ada\", cancel = true } },
        { timer = { key = \"tick\", cancel = true } },
    ]";
    let expected = EventOutcome::expected(&expected.parse().unwrap()).unwrap();
    for handling_ms in [0, 3, 900] {
        let actual = outcome(handling_ms);
        assert!(expected.is_met_by(&actual), "{actual:?}");
        assert_eq!(actual.with_wildcards_of(&expected), expected);
    }
    assert!(!expected.is_met_by(&outcome(1_001)));
}

#[test]
fn event_without_effects_has_no_lines() {
    let event = event("[[event]]\nmessage = \"a\"\n").unwrap();
    assert!(EventOutcome::handled(&event, &Effects::default()).to_toml().is_empty());
}

#[test]
fn diff_marks_expected_and_actual_lines() {
    let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        diff(&lines("a b c d"), &lines("a x c")),
        ["  a", "- b", "+ x", "  c", "- d"]
    );
    assert_eq!(diff(&[], &lines("a")), ["+ a"]);
}
