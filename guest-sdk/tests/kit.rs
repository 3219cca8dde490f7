//! The public API of the SDK: handlers driven by the test kit.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use plugnode_sdk::prelude::*;
use plugnode_sdk::test::{Command, CommandLimits, Failure, Kit, Sent, handshake, recorded};
use plugnode_sdk::{AckId, Payload, all, context, kv, list_channels, log, schedule, send_custom, settle, to};
use serde_json::{Value, json};

/// Executes the command that each message names.
#[derive(Default)]
struct Puppet {
    handled: u32,
    without_connection: u32,
}

impl Handler for Puppet {
    fn on_connection(&mut self, client: &Client, handshake: &Handshake) -> Result {
        if let Some(auth) = handshake.auth::<Value>() {
            client.set_attributes(&auth)?;
        }
        Ok(())
    }

    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        self.handled += 1;
        let bucket = kv::open("default")?;
        match message.event.as_str() {
            "broadcast" => client.broadcast("heard", &message.payload)?,
            "join" => client.join(message.arg::<String>(0)?)?,
            "leave" => client.leave(message.arg::<String>(0)?)?,
            "news" => to("news").to("sport").except("muted").emit("news", ())?,
            "others" => client.to("news").emit("news", ())?,
            "elsewhere" => all().in_namespace("/elsewhere").volatile().local().emit("far", ())?,
            "builder" => {
                let message = Message::new(("a", 1)).set_type("built");
                message
                    .for_client("ada")
                    .for_channel("news")
                    .except_client("bob")
                    .send()?;
            }
            "nobody" => Message::new(()).send()?,
            "everybody" => Message::new(json!({"id": 7})).for_client("ada").for_all().send()?,
            "name" => client.patch_attributes(&json!({"name": message.arg::<String>(0)?, "old": null}))?,
            "who" => message.ack(client.attributes::<Value>()?)?,
            "where" => message.ack((context().instance, self.handled, self.without_connection))?,
            "later" => bucket.set("ack", &message.ack_id())?,
            "now" => {
                let ack: Option<AckId> = bucket.get("ack")?;
                ack.ok_or(Error::reject("no ack was kept"))?.answer("at last")?;
            }
            "remember" => {
                bucket.set_many(&(0..25).map(|n| (format!("k{n:02}"), n)).collect::<Vec<_>>())?;
                bucket.delete_many(&["k00", "k01"])?;
                message.ack((bucket.keys()?.len(), bucket.get_many::<u32>(&["k00", "k02"])?))?;
            }
            "count" => {
                bucket.add("count", message.arg(0)?)?;
                let sum = bucket.increment("count", 2)?;
                bucket.set_for("brief", &sum, Duration::from_secs(60))?;
                message.ack((sum, bucket.keys_with("br")?))?;
            }
            "half" => {
                bucket.set("half", "done")?;
                client.emit("half", ())?;
                panic!("the other half is missing");
            }
            "retry" => return Err(Error::retry("not yet")),
            "kick" => client.disconnect()?,
            "ask" => client.request("question", ("?",), Duration::from_secs(1), "t1")?,
            "log" => log::warn!("{} says {}", client.id(), message.arg::<String>(0)?),
            "reserved" => client.emit("disconnect", ())?,
            _ => {}
        }
        Ok(())
    }

    fn on_disconnect(&mut self, client: &Client, reason: &DisconnectReason) -> Result {
        all().emit("left", (client.id(), format!("{reason:?}")))?;
        Ok(())
    }

    fn on_no_client(&mut self, _: &Client) -> Result {
        self.without_connection += 1;
        Ok(())
    }

    fn on_reply(&mut self, client: &Client, reply: &Reply) -> Result {
        let answer = reply
            .answer
            .as_ref()
            .map(|answer| answer.arg::<String>(0))
            .transpose()?;
        client.emit("replied", (String::from_utf8_lossy(&reply.token), answer))?;
        Ok(())
    }
}

fn app() -> Kit<Puppet> {
    let mut app = Kit::new();
    for id in ["ada", "bob", "cyd"] {
        app.connect(id);
    }
    app
}

fn names(sent: &[Sent]) -> Vec<&str> {
    sent.iter().map(|sent| sent.event.as_str()).collect()
}

#[test]
fn broadcast_reaches_all_other_clients() {
    let mut app = app();
    app.message("ada", "broadcast", ("hello", Binary(vec![1])));
    assert_eq!(app.sent_to("bob"), [Sent::new("heard", ("hello", Binary(vec![1])))]);
    assert_eq!(app.sent_to("cyd").len(), 1);
    assert!(app.sent_to("ada").is_empty());
}

#[test]
fn emits_once_per_client_and_honors_exceptions() {
    let mut app = app();
    app.message("ada", "join", "news");
    app.message("ada", "join", "sport");
    app.message("bob", "join", "news");
    app.message("bob", "join", "muted");
    app.message("cyd", "news", ());
    assert_eq!(names(app.sent_to("ada")), ["news"]);
    assert!(app.sent_to("bob").is_empty());
    app.message("ada", "leave", "news");
    assert_eq!(app.channels_of("ada"), ["sport"]);
    app.message("bob", "others", ());
    assert!(app.sent_to("bob").is_empty(), "`client.to` leaves the client out");
}

#[test]
fn message_builder_selects_recipients() {
    let mut app = app();
    app.message("bob", "join", "news");
    app.message("cyd", "join", "news");
    app.message("bob", "builder", ());
    assert_eq!(app.sent_to("ada"), [Sent::new("built", ("a", 1))]);
    assert_eq!(names(app.sent_to("cyd")), ["built"]);
    assert!(app.sent_to("bob").is_empty());
    app.message("bob", "everybody", ());
    assert_eq!(app.sent_to("bob"), [Sent::new("message", json!({"id": 7}))]);
    let failure = app.try_message("bob", "nobody", ()).unwrap_err().to_string();
    assert!(failure.contains("for_channel"), "{failure}");
}

#[test]
fn effects_contain_namespace_and_delivery_flags() {
    let mut app = app();
    let effects = app.message("ada", "elsewhere", ());
    let [
        Command::Publish {
            to,
            volatile: true,
            local: true,
            ..
        },
    ] = effects.commands.as_slice()
    else {
        panic!("{effects:?}");
    };
    assert_eq!(to.namespace.as_deref(), Some("/elsewhere"));
    assert!(app.sent_to("bob").is_empty());
}

#[test]
fn attributes_come_with_every_event_and_change_at_once() {
    let mut app = app();
    app.connect_with(
        "dee",
        Handshake {
            auth: Some(r#"{"old":1,"kept":2}"#.into()),
            ..handshake()
        },
    );
    app.message("dee", "name", "Dee");
    assert_eq!(app.attributes_of("dee"), &json!({"name": "Dee", "kept": 2}));
    let answer = app.ask("dee", "who", ()).unwrap();
    assert_eq!(answer.arg::<Value>(0).unwrap(), json!({"name": "Dee", "kept": 2}));
}

#[test]
fn later_event_can_answer_ack() {
    let mut app = app();
    assert!(app.ask("ada", "later", ()).is_none());
    let effects = app.message("bob", "now", ());
    assert!(matches!(&effects.commands[..], [Command::Ack { id, .. }] if id.contains("ada")));
}

#[test]
fn bucket_shows_own_writes_and_joins_pages() {
    let mut app = app();
    let answer = app.ask("ada", "remember", ()).unwrap();
    let (keys, values): (usize, Vec<Option<u32>>) = answer.args().unwrap();
    assert_eq!((keys, values), (23, vec![None, Some(2)]));
    assert_eq!(app.keys("default").len(), 23);
    assert_eq!(app.value::<u32>("default", "k24"), Some(24));
}

#[test]
fn adds_to_counters_and_expires_keys() {
    let mut app = app();
    for (delta, sum) in [(5, 7), (-2, 7)] {
        let answer = app.ask("ada", "count", delta).unwrap();
        assert_eq!(
            answer.args::<(u64, Vec<String>)>().unwrap(),
            (sum, vec!["brief".to_owned()])
        );
    }
    assert_eq!(app.value::<i64>("default", "count"), Some(7));
    app.advance(Duration::from_secs(59));
    assert_eq!(app.value::<u64>("default", "brief"), Some(7));
    app.advance(Duration::from_secs(1));
    assert_eq!(app.keys("default"), ["count"]);
    let mut app = app.with_value("default", "count", "many");
    let failure = app.try_message("ada", "count", 1).unwrap_err().to_string();
    assert!(
        failure.contains("cannot add to key \"count\": its value is not an integer"),
        "{failure}"
    );
}

#[test]
fn failed_event_has_no_effects() {
    let mut app = app();
    let failure = app.try_message("ada", "half", ()).unwrap_err();
    assert_eq!(failure, Failure::Panic("the other half is missing".into()));
    assert!(app.sent_to("ada").is_empty() && app.keys("default").is_empty());
    assert_eq!(
        app.try_message("ada", "retry", ()),
        Err(Failure::Error(Error::retry("not yet")))
    );
    let reserved = app.try_message("ada", "reserved", ()).unwrap_err().to_string();
    assert!(reserved.contains("reserved by Socket.IO"), "{reserved}");
    let missing = app.try_message("ada", "join", ()).unwrap_err().to_string();
    assert_eq!(missing, "rejected: event `join`: argument 0 is missing");
}

#[test]
fn round_robin_precedes_unknown_client_with_no_client() {
    let mut app = Kit::<Puppet>::with_instances(2);
    app.connect("ada");
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(app.ask("ada", "where", ()).unwrap().args::<(u32, u32, u32)>().unwrap());
    }
    assert_eq!(answers, [(1, 1, 1), (0, 1, 0), (1, 2, 1), (0, 2, 0)]);
}

#[test]
fn sticky_keeps_client_on_one_instance() {
    let mut app = Kit::<Puppet>::with_instances(2).sticky();
    app.connect("ada");
    app.connect("bob");
    for turn in 1..4 {
        let ada = app.ask("ada", "where", ()).unwrap().args::<(u32, u32, u32)>().unwrap();
        let bob = app.ask("bob", "where", ()).unwrap().args::<(u32, u32, u32)>().unwrap();
        assert_eq!((ada, bob), ((0, turn, 0), (1, turn, 0)));
    }
}

#[test]
fn disconnect_command_leads_to_disconnect_event() {
    let mut app = app();
    app.message("ada", "kick", ());
    assert!(!app.is_connected("ada"));
    assert_eq!(names(app.sent_to("bob")), ["left"]);
    app.disconnect("bob", DisconnectReason::PingTimeout);
    assert_eq!(
        app.take_sent_to("cyd")[1],
        Sent::new("left", ("bob", "DisconnectReason::PingTimeout"))
    );
    assert!(app.sent_to("cyd").is_empty());
}

#[test]
fn reply_carries_token() {
    let mut app = app();
    app.message("ada", "ask", ());
    assert_eq!(app.take_sent_to("ada"), [Sent::new("question", "?")]);
    app.reply("ada", "t1", Some(plugnode_sdk::Payload::new("yes").unwrap()));
    app.reply("ada", "t1", None);
    let replies = [
        Sent::new("replied", ("t1", "yes")),
        Sent::new("replied", ("t1", None::<String>)),
    ];
    assert_eq!(app.sent_to("ada"), replies);
}

#[test]
fn records_log_lines() {
    let mut app = app();
    app.message("ada", "log", "hi");
    assert_eq!(app.log()[0].message, "ada says hi");
}

/// Keeps texts in memory, and returns them on request.
#[derive(Default)]
struct Keeper {
    kept: Vec<String>,
    greeting: String,
    met: u32,
}

impl Handler for Keeper {
    fn on_start(&mut self) -> Result {
        self.greeting = plugnode_sdk::config::get("greeting")?.unwrap_or_default();
        if self.greeting == "none" {
            return Err(Error::reject("no greeting"));
        }
        Ok(())
    }

    fn on_message(&mut self, _: &Client, message: &Incoming) -> Result {
        match message.event.as_str() {
            "keep" => self.kept.push(message.arg(0)?),
            _ => message.ack((&self.kept, &self.greeting, self.met))?,
        }
        Ok(())
    }

    fn on_no_client(&mut self, _: &Client) -> Result {
        self.met += 1;
        Ok(())
    }

    fn on_stop(&mut self) {
        self.kept.push("stopped".into());
    }

    fn save(&self) -> Result<Option<Snapshot>> {
        match self.kept[0].as_str() {
            "nothing" => return Ok(None),
            "command" => all().emit("saved", ())?,
            "write" => kv::open("default")?.set("saved", &true)?,
            "context" => drop(context()),
            _ => {}
        }
        Ok(Some(Snapshot::json("keeper/1", &self.kept)?))
    }

    fn load(&mut self, snapshot: Snapshot) -> Result {
        self.kept = snapshot.parse()?;
        match self.kept[0].as_str() {
            "refuse" => Err(Error::reject("it refuses")),
            _ => Ok(()),
        }
    }
}

type Known = (Vec<String>, String, u32);

fn keep(text: &str) -> Kit<Keeper> {
    let mut app = Kit::<Keeper>::new().with_config("greeting", "hello");
    app.connect("ada");
    app.message("ada", "keep", text);
    app
}

fn known(app: &mut Kit<Keeper>) -> Known {
    app.ask("ada", "known", ()).unwrap().args().unwrap()
}

#[test]
fn swap_hands_state_over() {
    let mut app = keep("a");
    app.swap();
    assert_eq!(known(&mut app), (vec!["a".into(), "stopped".into()], "hello".into(), 0));
    assert!(app.states_refused().is_empty());
}

#[test]
fn reports_failed_hand_over_and_sends_no_client() {
    for (text, reason) in [
        ("refuse", "load: it refuses"),
        ("command", "save: denied: no event is being handled"),
        ("write", "save: bucket"),
        (
            "context",
            "save: the handler panicked: the context is available only while",
        ),
    ] {
        let mut app = keep(text);
        app.swap();
        let refused = app.states_refused().to_vec();
        let expected = format!("instance 0: {reason}");
        assert!(
            matches!(&refused[..], [only] if only.starts_with(&expected)),
            "{text}: {refused:?}"
        );
        assert_eq!(known(&mut app), (vec![], "hello".into(), 1));
    }
    let mut app = keep("nothing");
    app.swap();
    assert!(app.states_refused().is_empty());
    assert_eq!(known(&mut app).2, 1);
}

#[test]
fn handler_without_load_refuses_state() {
    let app = keep("a").swap_to::<Puppet>();
    let expected = "instance 0: load: this release cannot load state `keeper/1`: it does not implement `load`";
    assert_eq!(app.states_refused(), [expected]);
    assert!(app.is_connected("ada"));
}

#[test]
fn failed_start_returns_reason() {
    let mut app = Kit::<Keeper>::new().with_config("greeting", "none");
    assert_eq!(app.try_start(), Err(Failure::Error(Error::reject("no greeting"))));
}

/// Refuses clients without the password, and makes cluster queries.
#[derive(Default)]
struct Host;

impl Handler for Host {
    fn on_connection(&mut self, client: &Client, handshake: &Handshake) -> Result {
        match handshake.auth::<String>().as_deref() {
            Some("please") => client.join("guests")?,
            Some("break") => return Err(Error::reject("it is broken")),
            Some("long") => client.refuse(&"x".repeat(1025))?,
            _ => {
                kv::open("default")?.set("refused", client.id())?;
                client.emit("lost", ())?;
                client.refuse("at first")?;
                client.refuse_with("not today", &json!({"code": 7}))?;
                client.join("guests")?;
            }
        }
        Ok(())
    }

    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        let soon = Duration::from_secs(1);
        match message.event.as_str() {
            "collect" => to("guests").collect("guess", Binary(vec![9]), soon, "collect")?,
            "reserved" => to("guests").collect("newListener", (), soon, "reserved")?,
            "find" => client.others().find_clients(1, soon, "find")?,
            "channels" => list_channels(10, soon, "channels")?,
            "settle" => settle(soon, "settle")?,
            _ => client.refuse("too late")?,
        }
        Ok(())
    }

    fn on_reply(&mut self, client: &Client, reply: &Reply) -> Result {
        match reply.token.as_slice() {
            b"collect" => {
                let collected = reply.collected()?;
                for answer in &collected.answers {
                    client.emit("guessed", (&answer.id, answer.payload.arg::<Binary>(0)?))?;
                }
                client.emit("missing", (collected.missing,))?;
            }
            b"find" => {
                let found = reply.found()?;
                let first = &found.clients[0];
                client.emit("found", (found.count, &first.id, first.attributes::<Value>()?))?;
            }
            b"channels" => client.emit("channels", (reply.channels()?.channels,))?,
            _ => client.emit("settled", (reply.settled()?.nodes,))?,
        }
        Ok(())
    }

    fn on_custom(&mut self, _: &plugnode_sdk::Custom) -> Result {
        settle(Duration::ZERO, "")?;
        Ok(())
    }
}

fn asking(auth: &str) -> Handshake {
    Handshake {
        auth: Some(json!(auth).to_string()),
        ..handshake()
    }
}

fn party() -> Kit<Host> {
    let mut app = Kit::new().with_admission();
    for id in ["ada", "bob", "cyd"] {
        app.connect_with(id, asking("please"));
        assert_eq!(app.refusal_of(id), None);
    }
    app
}

#[test]
fn refusal_keeps_writes_and_drops_commands() {
    let mut app = party();
    let eve = app.connect("eve");
    let refusal = app.refusal_of(&eve).expect("it is refused");
    assert_eq!(
        (refusal.message.as_str(), refusal.data.as_deref()),
        ("not today", Some(r#"{"code":7}"#))
    );
    assert!(!app.is_connected(&eve));
    assert!(app.sent_to(&eve).is_empty() && app.channels_of(&eve).is_empty());
    assert_eq!(app.value::<String>("default", "refused").as_deref(), Some("eve"));
    assert!(app.try_connect("fay", asking("break")).is_err());
    assert_eq!(app.refusal_of("fay").unwrap().message, "the server could not decide");
}

#[test]
fn refusal_needs_admission_connection_event_and_small_message() {
    let mut app = party();
    let failure = app.try_message("ada", "refuse", ()).unwrap_err().to_string();
    assert!(failure.contains("only while its connection"), "{failure}");
    let failure = app.try_connect("eve", asking("long")).unwrap_err().to_string();
    assert!(failure.contains("payload exceeds"), "{failure}");
    let mut app = Kit::<Host>::new();
    let failure = app.try_connect("ada", handshake()).unwrap_err().to_string();
    assert!(failure.contains("admits every client"), "{failure}");
}

#[test]
fn collects_acknowledgements() {
    let mut app = party();
    app.will_answer("ada", "guess", Binary(vec![1]));
    app.will_answer("cyd", "guess", Binary(vec![2, 3]));
    app.message("ada", "collect", ());
    assert_eq!(app.sent_to("bob"), [Sent::new("guess", Binary(vec![9]))]);
    let expected = [
        Sent::new("guess", Binary(vec![9])),
        Sent::new("guessed", ("ada", Binary(vec![1]))),
        Sent::new("guessed", ("cyd", Binary(vec![2, 3]))),
        Sent::new("missing", (["bob"],)),
    ];
    assert_eq!(app.sent_to("ada"), expected);
    let failure = app.try_message("ada", "reserved", ()).unwrap_err().to_string();
    assert!(failure.contains(r#""newListener" is reserved"#), "{failure}");
}

#[test]
fn finds_clients_and_channels() {
    let mut app = party();
    for event in ["find", "channels", "settle"] {
        app.message("cyd", event, ());
    }
    let expected = [
        Sent::new("found", (2, "ada", json!({}))),
        Sent::new("channels", (json!({"guests": 3}),)),
        Sent::new("settled", (["test"],)),
    ];
    assert_eq!(app.sent_to("cyd"), expected);
}

#[test]
#[should_panic(expected = "no client to receive the reply")]
fn denies_query_in_event_without_client() {
    let (kind, client, data, content_type) = ("acme.tick/1".into(), None, Vec::new(), None);
    party().custom(plugnode_sdk::Custom {
        kind,
        client,
        data,
        content_type,
    });
}

/// Makes cluster queries for disconnecting clients, and stores the replies.
#[derive(Default)]
struct Archivist;

impl Handler for Archivist {
    fn on_message(&mut self, client: &Client, _: &Incoming) -> Result {
        client.disconnect()?;
        settle(Duration::from_secs(1), client.id())?;
        Ok(())
    }

    fn on_disconnect(&mut self, client: &Client, _: &DisconnectReason) -> Result {
        all().find_clients(10, Duration::from_secs(1), client.id())?;
        Ok(())
    }

    fn on_late_reply(&mut self, client_id: &str, reply: &Reply) -> Result {
        assert_eq!(reply.token, client_id.as_bytes());
        let kind = match reply.found() {
            Ok(found) => format!("found {}", found.count),
            Err(_) => format!("settled on {}", reply.settled()?.nodes.join(" ")),
        };
        kv::open("default")?.set(&format!("{client_id} {kind}"), &true)?;
        Ok(())
    }
}

#[test]
fn query_of_disconnected_client_replies_late() {
    let mut app = Kit::<Archivist>::new();
    for id in ["ada", "bob", "cyd"] {
        app.connect(id);
    }
    app.disconnect("ada", DisconnectReason::TransportClose);
    // Disconnects between query and reply.
    app.message("bob", "leave", ());
    assert_eq!(
        app.keys("default"),
        ["ada found 2", "bob found 1", "bob settled on test"]
    );
}

/// Sets and cancels timers as each message says, and tells which came.
#[derive(Default)]
struct Clock;

impl Handler for Clock {
    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        let second = Duration::from_secs(1);
        match message.event.as_str() {
            "ask" => schedule::of_client().after("late", 30 * second, "quiz.late/1", &message.arg::<u32>(0)?)?,
            "answer" => schedule::of_client().cancel("late")?,
            "start" => schedule::of_app().every("tick", second, "quiz.tick/1", &())?,
            "stop" => schedule::of_app().cancel("tick")?,
            "leave" => {
                schedule::of_client().after("late", second, "quiz.late/1", &0)?;
                client.disconnect()?;
            }
            _ => {
                schedule::of_client().after("late", second, "quiz.late/1", &0)?;
                return Err(Error::reject("it fails"));
            }
        }
        Ok(())
    }

    fn on_timer(&mut self, due: &schedule::Due) -> Result {
        match (due.kind.as_str(), &due.client) {
            ("quiz.late/1", Some(client)) => {
                client.emit("too late", due.data::<u32>()?)?;
                schedule::of_client().after("later", Duration::from_secs(1), "quiz.later/1", &())?;
            }
            ("quiz.later/1", Some(_)) => return Err(Error::reject("it fails")),
            _ => {
                let since = due.at.duration_since(UNIX_EPOCH).expect("it is after 1970");
                let late = Duration::from_millis(context().received_at_ms) - since;
                all().emit("tick", (&due.key, due.missed, late.as_secs()))?;
            }
        }
        Ok(())
    }
}

fn clock() -> Kit<Clock> {
    let mut app = Kit::with_instances(2);
    app.connect("ada");
    app.connect("bob");
    app
}

#[test]
fn fires_timer_of_client_once() {
    let mut app = clock();
    app.message("ada", "ask", 7);
    app.message("bob", "ask", 8);
    app.message("bob", "ask", 9);
    assert_eq!(app.timers_of("ada"), ["late"]);
    let effects = app.fire_of("ada", "late");
    assert_eq!(effects.commands.len(), 2);
    assert_eq!(app.take_sent_to("ada"), [Sent::new("too late", 7)]);
    assert!(app.sent_to("bob").is_empty());
    // Setting the key again replaced the timer.
    app.swap();
    app.fire_of("bob", "late");
    assert_eq!(app.take_sent_to("bob"), [Sent::new("too late", 9)]);
    assert_eq!(app.timers_of("ada"), ["later"]);
}

#[test]
fn fires_periodic_timer_and_counts_missed_periods() {
    let mut app = clock();
    app.message("ada", "start", ());
    app.advance(Duration::from_secs(1));
    app.fire("tick");
    app.advance(Duration::from_millis(3500));
    app.fire("tick");
    app.advance(Duration::from_secs(1));
    app.fire("tick");
    let ticks = [0, 2, 0].map(|missed| Sent::new("tick", ("tick", missed, missed)));
    assert_eq!(app.sent_to("ada"), ticks);
    assert_eq!(app.timers(), ["tick"]);
    app.message("bob", "stop", ());
    assert!(app.timers().is_empty());
}

#[test]
fn cancel_disconnect_and_failure_leave_no_timer() {
    let mut app = clock();
    app.message("ada", "ask", 1);
    app.message("ada", "answer", ());
    assert!(app.try_message("ada", "fail", ()).is_err());
    assert!(app.timers_of("ada").is_empty());
    app.message("ada", "ask", 1);
    app.disconnect("ada", DisconnectReason::PingTimeout);
    app.message("bob", "leave", ());
    assert!(app.timers_of("ada").is_empty() && app.timers_of("bob").is_empty());
}

#[test]
#[should_panic(expected = "client `ada` has no timer `late`: its timers are `later`")]
fn firing_unset_timer_panics() {
    let mut app = clock();
    app.message("ada", "ask", 1);
    app.fire_of("ada", "late");
    app.fire_of("ada", "late");
}

#[test]
#[should_panic(expected = "event `later` failed: rejected: it fails")]
fn failed_timer_event_panics() {
    let mut app = clock();
    app.message("ada", "ask", 1);
    app.fire_of("ada", "late");
    app.fire_of("ada", "later");
}

/// Why a command of an event with a client is refused.
fn refusal(part: impl FnOnce() -> Result) -> String {
    recorded(part).expect_err("it is refused").to_string()
}

#[test]
fn refuses_invalid_names_and_kinds() {
    let long = "x".repeat(1_025);
    let too_long = "has 1025 bytes; a name may have 1024";
    assert!(refusal(|| Ok(all().emit(&long, ())?)).contains(too_long));
    assert!(refusal(|| Ok(all().join(&long)?)).contains(too_long));
    assert!(refusal(|| Ok(all().in_namespace(format!("/{long}")).emit("e", ())?)).contains("the namespace has 1026"));
    assert!(refusal(|| Ok(all().in_namespace("chat").emit("e", ())?)).contains("does not begin with a slash"));
    assert!(refusal(|| Ok(send_custom(None, "plugnode.stop/1", b"")?)).contains("reserved for the host"));
    let forged: AckId = serde_json::from_str(r#""forged""#).unwrap();
    assert!(refusal(|| Ok(forged.answer(())?)).contains("not an ack-id of this host"));
}

#[test]
fn refuses_payloads_that_no_client_can_receive() {
    let large = "x".repeat(4_000_000);
    assert!(refusal(|| Ok(all().emit("e", &large)?)).contains("payload exceeds"));
    assert!(refusal(|| Ok(settle(Duration::ZERO, format!("{large}x"))?)).contains("payload exceeds"));
    let binary = vec![Binary(vec![1]); 11];
    assert!(refusal(|| Ok(all().emit("e", &binary)?)).contains("11 attachments are over the limit of 10"));
    let payload = |json: &str, attachments| Payload {
        json: json.into(),
        attachments,
    };
    let object = payload("{}", Vec::new());
    assert!(refusal(|| Ok(all().emit("e", &object)?)).contains("args.json is not a JSON array"));
    let dangling = payload(r#"[{"_placeholder":true,"num":1}]"#, vec![vec![1]]);
    assert!(refusal(|| Ok(all().emit("e", &dangling)?)).contains("placeholder number 1, but there are 1"));
}

#[test]
fn refuses_invalid_timers() {
    let (timers, second) = (schedule::of_app(), Duration::from_secs(1));
    assert!(refusal(|| Ok(timers.after("", second, "a/1", &())?)).contains("invalid key"));
    assert!(refusal(|| Ok(timers.after("k", second, "", &())?)).contains("invalid kind"));
    assert!(refusal(|| Ok(timers.after("k", second, "plugnode.a/1", &())?)).contains("invalid kind"));
    assert!(refusal(|| Ok(timers.every("k", Duration::from_millis(49), "a/1", &())?)).contains("at least 50 ms"));
    let data = "x".repeat(4_000_000);
    assert!(refusal(|| Ok(timers.after("k", second, "a/1", &data)?)).contains("over the app's limit"));
}

/// Sends what needs a client, in events that have none or lose it.
#[derive(Default)]
struct Absent;

impl Handler for Absent {
    fn on_message(&mut self, client: &Client, _: &Incoming) -> Result {
        (0..3).try_for_each(|_| Ok(client.emit("e", ())?))
    }

    fn on_disconnect(&mut self, _: &Client, _: &DisconnectReason) -> Result {
        Ok(schedule::of_client().cancel("k")?)
    }

    fn on_custom(&mut self, _: &Custom) -> Result {
        Ok(all().local().emit("e", ())?)
    }
}

#[test]
#[should_panic(expected = "cannot deliver locally")]
fn denies_local_delivery_without_client() {
    Kit::<Absent>::new().custom(Custom {
        kind: "acme.tick/1".into(),
        client: None,
        data: Vec::new(),
        content_type: None,
    });
}

#[test]
#[should_panic(expected = "which ends its timers")]
fn denies_client_timers_in_disconnect() {
    let mut app = Kit::<Absent>::new();
    app.connect("ada");
    app.disconnect("ada", DisconnectReason::TransportClose);
}

#[test]
fn event_over_its_limit_of_commands_fails() {
    for (limits, fits) in [
        (
            CommandLimits {
                commands: 3,
                ..CommandLimits::default()
            },
            true,
        ),
        (
            CommandLimits {
                commands: 2,
                ..CommandLimits::default()
            },
            false,
        ),
        // A command counts 6 bytes: the id, the event and the JSON.
        (
            CommandLimits {
                bytes: 18,
                ..CommandLimits::default()
            },
            true,
        ),
        (
            CommandLimits {
                bytes: 17,
                ..CommandLimits::default()
            },
            false,
        ),
    ] {
        let mut app = Kit::<Absent>::new().with_limits(limits);
        app.connect("ada");
        let handled = app.try_message("ada", "send", ());
        match fits {
            true => assert_eq!(handled.unwrap().commands.len(), 3),
            false => assert!(handled.unwrap_err().to_string().contains("limit of commands or bytes")),
        }
    }
}

/// Tries what each message names and answers with the refusal.
#[derive(Default)]
struct Daring;

impl Handler for Daring {
    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        let (long, period) = ("x".repeat(1_025), Duration::from_secs(1));
        let timers = schedule::of_client();
        let tried: Result<(), Error> = match message.event.as_str() {
            "timer with a period of 49 ms" => {
                let short = Duration::from_millis(49);
                timers.every("key", short, "test.due/1", &()).map_err(Error::from)
            }
            "timer without a key" => timers.every("", period, "test.due/1", &()).map_err(Error::from),
            "timer with a long key" => timers.every(&long, period, "test.due/1", &()).map_err(Error::from),
            "cancelled timer without a key" => timers.cancel("").map_err(Error::from),
            "timer without a kind" => timers.every("key", period, "", &()).map_err(Error::from),
            "timer with a reserved kind" => {
                let kind = "plugnode.mine/1";
                timers.every("key", period, kind, &()).map_err(Error::from)
            }
            "timer with large data" => {
                let data = "x".repeat(4_000_000);
                timers.every("key", period, "test.due/1", &data).map_err(Error::from)
            }
            "event with a reserved name" => client.emit("connect", ()).map_err(Error::from),
            "event with a long name" => client.emit(&long, ()).map_err(Error::from),
            "channel with a long name" => client.join(format!("{long}y")).map_err(Error::from),
            "event with 11 attachments" => {
                let json = (0..11).map(|num| json!({ "_placeholder": true, "num": num }));
                let payload = Payload {
                    json: Value::from_iter(json).to_string(),
                    attachments: vec![vec![0]; 11],
                };
                client.emit("bytes", &payload).map_err(Error::from)
            }
            "message with a reserved kind" => {
                plugnode_sdk::send_custom(None, "plugnode.mine/1", &[]).map_err(Error::from)
            }
            "value over the limit" => kv::open("default")?
                .set_bytes("key", &vec![0; 1_000_001])
                .map_err(Error::from),
            "addition to a text" => kv::open("default")?.add("text", 1).map_err(Error::from),
            other => panic!("there is no {other:?}: add it here, and to the tests of the other kits"),
        };
        let refusal = tried.expect_err("it must be refused").to_string();
        Ok(message.ack(refusal)?)
    }
}

#[test]
fn refuses_in_the_words_of_the_host() {
    let refusals = serde_json::from_str::<BTreeMap<String, String>>(include_str!("refusals.json")).unwrap();
    let mut app = Kit::<Daring>::new().with_value("default", "text", "no number");
    app.connect("ada");
    for (attempt, words) in refusals {
        let answer = app.ask("ada", &attempt, ()).unwrap();
        let [refusal] = serde_json::from_str::<[String; 1]>(&answer.json).unwrap();
        assert!(refusal.ends_with(&words), "{attempt}: {refusal}");
    }
}
