//! Which components are refused, and with which errors. Running handlers is tested in `tests/`, with real ones.

use bytes::Bytes;
use wasmtime::component::Linker;

use super::*;

fn engine() -> Engine {
    Engine::new(EngineSettings {
        max_instances: 4,
        max_memory: 16 << 20,
        cache: None,
        compiler: Compiler::InProcess,
    })
    .expect("an engine")
}

async fn load(text: &str, grants: &Grants) -> Result<Component, LoadError> {
    let bytes = wat::parse_str(text).expect("WAT");
    engine().load(bytes.into(), grants).await
}

async fn refusal(bytes: &[u8]) -> String {
    refused(engine().load(Bytes::copy_from_slice(bytes), &Grants::default()).await)
}

async fn refusal_of(text: &str) -> String {
    refused(load(text, &Grants::default()).await)
}

fn refused(loaded: Result<Component, LoadError>) -> String {
    match loaded {
        Ok(_) => panic!("it was loaded"),
        Err(error) => error.to_string(),
    }
}

/// A component that imports this interface, and exports an empty instance under the handler's name.
fn importing(import: &str) -> String {
    format!(
        r#"(component
            (import "{import}" (instance))
            (instance $handler)
            (export "plugnode:app/handler@0.1.0" (instance $handler)))"#
    )
}

#[tokio::test]
async fn error_names_what_the_file_is() {
    assert!(refusal(b"").await.contains("is empty"));
    assert!(refusal(b"(component)").await.contains("WebAssembly text"));
    assert!(refusal(b"\x7fELF\x02\x01").await.contains("native binary"));
    assert!(refusal(b"console.log(1)").await.contains("this is text"));
    assert!(
        refusal(b"\xff\xd8\xff\xe0")
            .await
            .contains("not a WebAssembly component")
    );
    let module = wat::parse_str("(module)").expect("WAT");
    let error = refusal(&module).await;
    assert!(
        error.contains("core WebAssembly module") && error.contains("--target wasm32-wasip2"),
        "{error}"
    );
}

#[tokio::test]
async fn damaged_component_is_refused() {
    let mut bytes = wat::parse_str(importing("wasi:cli/stdout@0.2.0")).expect("WAT");
    bytes.truncate(bytes.len() - 3);
    assert!(refusal(&bytes).await.contains("cannot compile the component"));
}

#[tokio::test]
async fn component_of_another_world_is_refused_with_missing_export() {
    let error = refusal_of("(component)").await;
    assert!(
        error.contains("exports nothing") && error.contains("plugnode:app/handler@0.1.2"),
        "{error}"
    );
    let error = refusal_of(r#"(component (instance $run) (export "wasi:cli/run@0.2.0" (instance $run)))"#).await;
    assert!(error.contains("it exports wasi:cli/run@0.2.0"), "{error}");
}

#[tokio::test]
async fn handler_of_another_version_is_refused_with_served_version() {
    let error =
        refusal_of(r#"(component (instance $handler) (export "plugnode:app/handler@0.2.0" (instance $handler)))"#)
            .await;
    assert!(
        error.contains("exports plugnode:app/handler@0.2.0, this host serves plugnode:app@0.1.2"),
        "{error}"
    );
    assert!(error.contains("plugnode-sdk 0.1"), "{error}");
}

#[tokio::test]
async fn import_of_another_version_is_refused_with_served_version() {
    let error = refusal_of(&importing("plugnode:app/outbox@0.2.0")).await;
    assert!(
        error.contains("imports plugnode:app/outbox@0.2.0, this host serves plugnode:app@0.1.2"),
        "{error}"
    );
    let error = refusal_of(&importing("wasi:cli/stdout@0.3.0")).await;
    assert!(error.contains("this host serves wasi:cli@0.2.12"), "{error}");
}

#[tokio::test]
async fn import_not_granted_is_refused_with_grant() {
    let error = refusal_of(&importing("wasi:keyvalue/store@0.2.0-draft")).await;
    assert!(error.contains(r#"grants.keyvalue = ["default"]"#), "{error}");
    let error = refusal_of(&importing("wasi:http/outgoing-handler@0.2.0")).await;
    assert!(
        error.contains("wasi:http/outgoing-handler@0.2.0") && error.contains("grants.http"),
        "{error}"
    );
}

#[tokio::test]
async fn unknown_import_is_named() {
    for import in [
        "acme:db/sql@1.0.0",
        "wasi:keyvalue/watch@0.2.0-draft",
        "wasi:http/incoming-handler@0.2.0",
        "env",
    ] {
        let error = refusal_of(&importing(import)).await;
        assert!(
            error.contains(&format!("imports {import}, which this host does not know")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn right_name_with_wrong_type_is_a_mismatch() {
    let error = refusal_of(&importing("wasi:cli/stdout@0.2.0")).await;
    assert!(
        error.contains("does not fit this host") && error.contains("handle"),
        "{error}"
    );
    let newer = r#"(component
        (import "plugnode:app/outbox@0.1.7" (instance (export "shout" (func))))
        (instance $handler)
        (export "plugnode:app/handler@0.1.0" (instance $handler)))"#;
    let error = refusal_of(newer).await;
    assert!(error.contains("shout") && error.contains("update the host"), "{error}");
}

/// A function or resource of each interface. `plugnode:app/types` has types alone.
const CONTENTS: &[(&str, &str)] = &[
    ("plugnode:app/outbox", "publish"),
    ("wasi:keyvalue/store", "open"),
    ("wasi:keyvalue/batch", "get-many"),
    ("wasi:keyvalue/atomics", "increment"),
    ("plugnode:app/schedule", "cancel"),
    ("plugnode:app/presence", "count"),
    ("plugnode:app/kv", "add"),
    ("wasi:config/store", "get"),
    ("wasi:logging/logging", "log"),
    ("wasi:http/types", "fields"),
    ("wasi:http/outgoing-handler", "handle"),
    ("wasi:io/error", "error"),
    ("wasi:io/poll", "poll"),
    ("wasi:io/streams", "input-stream"),
    ("wasi:clocks/monotonic-clock", "now"),
    ("wasi:clocks/wall-clock", "now"),
    ("wasi:random/random", "get-random-bytes"),
    ("wasi:random/insecure", "get-insecure-random-bytes"),
    ("wasi:random/insecure-seed", "insecure-seed"),
    ("wasi:cli/environment", "get-environment"),
    ("wasi:cli/exit", "exit"),
    ("wasi:cli/stdin", "get-stdin"),
    ("wasi:cli/stdout", "get-stdout"),
    ("wasi:cli/stderr", "get-stderr"),
    ("wasi:cli/terminal-input", "terminal-input"),
    ("wasi:cli/terminal-output", "terminal-output"),
    ("wasi:cli/terminal-stdin", "get-terminal-stdin"),
    ("wasi:cli/terminal-stdout", "get-terminal-stdout"),
    ("wasi:cli/terminal-stderr", "get-terminal-stderr"),
    ("wasi:filesystem/types", "descriptor"),
    ("wasi:filesystem/preopens", "get-directories"),
    ("plugnode:script/source", "names"),
    ("wasi:sockets/network", "network"),
    ("wasi:sockets/instance-network", "instance-network"),
    ("wasi:sockets/ip-name-lookup", "resolve-addresses"),
    ("wasi:sockets/tcp", "tcp-socket"),
    ("wasi:sockets/tcp-create-socket", "create-tcp-socket"),
    ("wasi:sockets/udp", "udp-socket"),
    ("wasi:sockets/udp-create-socket", "create-udp-socket"),
];

/// The interfaces of the table above that are linked with these grants. A linked function cannot be defined again.
fn linked(grants: &Grants) -> Vec<&'static str> {
    let mut linker = Linker::new(&wasmtime::Engine::default());
    capability::link(&mut linker, grants, false).expect("it links");
    let mut is_linked = |import: &str, item: &str| {
        let (package, _) = import.split_once('/').expect("an interface of a package");
        let mut packages = capability::ALL.iter().flat_map(|capability| capability.serves);
        let package = packages.find(|served| served.name == package).expect("it is served");
        let mut instance = linker
            .instance(&format!("{import}@{}", package.version))
            .expect("a name");
        instance.func_wrap(item, |_, (): ()| Ok(())).is_err()
    };
    CONTENTS
        .iter()
        .filter(|(import, item)| is_linked(import, item))
        .map(|(import, _)| *import)
        .collect()
}

#[test]
fn every_listed_interface_is_linked() {
    let grants = Grants {
        keyvalue: vec!["default".into()],
        http: vec!["*".into()],
    };
    let linked = linked(&grants);
    let types_alone = ["plugnode:app/types"];
    for package in capability::ALL.iter().flat_map(|capability| capability.serves) {
        for interface in package.interfaces {
            let import = format!("{}/{interface}", package.name);
            assert!(
                linked.contains(&&*import) || types_alone.contains(&&*import),
                "{import} is not linked"
            );
            let bytes = wat::parse_str(importing(&format!("{import}@{}", package.version))).expect("WAT");
            inspect::check(&bytes, true, &grants).expect("it is known and granted");
        }
    }
}

#[test]
fn interfaces_not_granted_are_not_linked() {
    let linked = linked(&Grants::default());
    assert!(linked.contains(&"plugnode:app/outbox"));
    assert!(
        !linked
            .iter()
            .any(|import| import.starts_with("wasi:http") || import.starts_with("wasi:keyvalue"))
    );
}

#[test]
fn compile_cache_uses_its_own_subdirectory() {
    // The cache removes files that it does not know, so it must not share a directory.
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("of somebody else"), "kept").expect("it can be written");
    let cache = Some(dir.path().to_owned());
    let settings = EngineSettings {
        max_instances: 4,
        max_memory: 16 << 20,
        cache,
        compiler: Compiler::InProcess,
    };
    Engine::new(settings).expect("an engine");
    let entries = std::fs::read_dir(dir.path()).expect("it can be listed");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["compiled", "of somebody else"]);
}

#[test]
fn served_contract_matches_wit_file() {
    let contract = include_str!("../wit/app.wit");
    let (package, version) = (contract::PACKAGE, contract::VERSION);
    assert!(contract.contains(&format!("\npackage {package}@{version};\n")));
}

#[tokio::test]
async fn optional_exports_of_another_type_are_a_mismatch() {
    // An empty handler, and a function under the name of an optional export.
    let with = |name: &str, export: &str| {
        format!(
            r#"(component
                (core module $m (func (export "f")))
                (core instance $m (instantiate $m))
                (func $f (canon lift (core func $m "f")))
                (instance $more (export "{export}" (func $f)))
                (export "{name}" (instance $more))
                (instance $handler)
                (export "plugnode:app/handler@0.1.0" (instance $handler)))"#
        )
    };
    let error = refusal_of(&with("plugnode:app/lifecycle@0.2.0", "stop")).await;
    assert!(
        error.contains("exports plugnode:app/lifecycle@0.2.0, this host serves"),
        "{error}"
    );
    let error = refusal_of(&with("plugnode:app/snapshot@0.1.1", "save")).await;
    assert!(
        error.contains("`save` of plugnode:app/snapshot@0.1.2 has another type"),
        "{error}"
    );
    let error = refusal_of(&with("plugnode:app/lifecycle@0.1.0", "stop")).await;
    assert!(
        error.contains("plugnode:app/lifecycle@0.1.2 has no function `start`"),
        "{error}"
    );
}

#[test]
fn runtime_needs_a_script_and_is_linked_without_grants() {
    let runtime = r#"(component
        (import "plugnode:script/source@0.1.0" (instance))
        (import "wasi:keyvalue/store@0.2.0-draft" (instance))
        (instance $handler)
        (export "plugnode:app/handler@0.1.0" (instance $handler)))"#;
    let bytes = wat::parse_str(runtime).expect("WAT");
    let grants = Grants::default();
    let error = inspect::check(&bytes, false, &grants).expect_err("there is no script");
    assert!(error.to_string().contains("plugnode build"), "{error}");
    inspect::check(&bytes, true, &grants).expect("it may never call what is not granted");
    assert!(ComponentInfo::read(&bytes).expect("it is a component").is_runtime());

    let mut linker = Linker::new(&wasmtime::Engine::default());
    capability::link(&mut linker, &grants, true).expect("all of it can be linked");
    let mut store = linker.instance("wasi:keyvalue/store@0.2.0-draft").expect("a name");
    let again = store.func_wrap("open", |_, (): ()| Ok(()));
    assert!(again.is_err(), "it is linked already");
}

#[test]
fn sdk_and_host_have_the_same_limits_and_reserved_names() {
    use plugnode_message::MAX_ATTACHMENTS;
    use plugnode_sdk::native::{CommandLimits, MAX_NAME, RESERVED_EVENTS, RESERVED_KINDS};
    assert_eq!(MAX_NAME, plugnode_message::MAX_NAME);
    assert_eq!(RESERVED_EVENTS, plugnode_message::RESERVED_EVENTS);
    assert_eq!(RESERVED_KINDS, plugnode_message::RESERVED_KINDS);
    let limits = Limits::default();
    let CommandLimits {
        commands,
        bytes,
        payload,
        attachments,
        value,
    } = CommandLimits::default();
    assert_eq!(attachments, MAX_ATTACHMENTS);
    assert_eq!(
        (commands, bytes, payload, attachments, value),
        (
            limits.commands,
            limits.bytes,
            limits.payload,
            limits.attachments,
            limits.value
        )
    );
}
