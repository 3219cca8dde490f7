//! Parsing of the command line, new projects, and selection of apps.

use std::path::Path;

use clap::{CommandFactory, Parser};

use super::*;
use plugnode_message::Namespace;
use plugnode_release::{AppReleases, Board, ComponentFile, Digest, NodeReport};
use plugnode_transport::{Memory, Transport, TransportSettings};

#[test]
fn command_line_is_consistent() {
    Arguments::command().debug_assert();
    let arguments = Arguments::parse_from(["plugnode", "run", "--role", "frontend", "--role", "io-node"]);
    let Verb::Run(run) = arguments.verb else {
        panic!("{arguments:?}")
    };
    assert_eq!(run.config, Path::new("plugnode.toml"));
    assert_eq!(run.roles.len(), 2);
    let error = Arguments::try_parse_from(["plugnode", "run", "--role", "cook"])
        .unwrap_err()
        .to_string();
    assert!(error.contains("frontend, io-node, app-node"), "{error}");
}

#[test]
fn new_project_is_complete_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (lang, files) in [
        (new::Language::Rust, &["Cargo.toml", "src/lib.rs"][..]),
        (new::Language::Js, &["server.js", "events.toml", "types/socket.io.d.ts"]),
        (new::Language::Ts, &["server.ts", "events.toml", "tsconfig.json"]),
        (new::Language::Python, &["app.py", "events.toml", "pyproject.toml"]),
    ] {
        let name = folder.path().join(format!("my-{lang:?}").to_lowercase());
        let arguments = new::NewArgs {
            name: Some(name.clone()),
            lang,
            sdk: None,
            from: None,
        };
        new::new(&arguments).unwrap();
        for file in files.iter().chain(&["README.md", ".gitignore", "public/index.html"]) {
            let text = std::fs::read_to_string(name.join(file)).unwrap();
            assert!(!text.contains("{{"), "{file}: {text}");
        }
        let again = new::new(&arguments).unwrap_err().to_string();
        assert!(again.contains("is there already"), "{again}");
    }
    for name in ["Hello", "1st", "a b", "a/.."] {
        let arguments = new::NewArgs {
            name: Some(folder.path().join("x").join(name)),
            lang: new::Language::Rust,
            sdk: None,
            from: None,
        };
        assert!(new::new(&arguments).is_err(), "{name:?}");
    }
    assert!(!folder.path().join("x").exists());
}

#[tokio::test]
async fn native_app_is_refused_with_reason() {
    let memory = Transport::from(Memory::new(TransportSettings::default()));
    let operations = memory.operations();
    let _leases = memory.events.join_app("app".into()).await.unwrap();
    let report = NodeReport {
        node: "app".into(),
        at_ms: 0,
        apps: Default::default(),
        native: vec!["/".into()],
    };
    memory.nodes.report(&report).await.unwrap();
    let board = Board::default();
    for named in [Some("/"), None] {
        let refused = rollout::select_app(&operations, &board, named)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("app / is native Rust") && refused.contains("restart that program"),
            "{refused}"
        );
    }
    let unknown = rollout::select_app(&operations, &board, Some("/other"))
        .await
        .unwrap_err()
        .to_string();
    assert!(unknown.contains("there is no app /other"), "{unknown}");
    assert!(rollout::has_app(&operations, &board, "/").await.unwrap());
}

#[tokio::test]
async fn namespace_of_a_pattern_is_of_the_app() {
    let operations = Transport::from(Memory::new(TransportSettings::default())).operations();
    let target = ComponentFile {
        digest: Digest::of(b"a"),
        file: "a".into(),
        bytes: 1,
    };
    let mut board = Board::default();
    board
        .apps
        .insert("/shop/{id}".into(), AppReleases::configured(target, 0, 10));
    for (name, is_known) in [("/shop/{id}", true), ("/shop/1", true), ("/shop", false), ("/", false)] {
        let has_app = rollout::has_app(&operations, &board, name).await.unwrap();
        assert_eq!(has_app, is_known, "{name}");
    }
}

#[tokio::test]
async fn deploy_selects_only_app_of_config_file() {
    let operations = Transport::from(Memory::new(TransportSettings::default())).operations();
    let target = ComponentFile {
        digest: Digest::of(b"a"),
        file: "a".into(),
        bytes: 1,
    };
    let mut board = Board::default();
    board.apps.insert("/".into(), AppReleases::configured(target, 0, 10));
    for (named, configured, expected) in [
        (None, &["/shop"][..], "/shop"),
        (None, &["/"], "/"),
        (None, &[], "/"),
        (Some("/shop"), &["/", "/shop"], "/shop"),
    ] {
        let configured: Vec<Namespace> = configured.iter().map(|app| Namespace::from(*app)).collect();
        let app = rollout::select_or_new_app(&operations, &board, named, &configured)
            .await
            .unwrap();
        assert_eq!(app.as_str(), expected, "{named:?} {configured:?}");
    }
    let unknown = rollout::select_or_new_app(&operations, &board, Some("/typo"), &["/".into()]).await;
    assert!(unknown.unwrap_err().to_string().contains("there is no app /typo"));
}
