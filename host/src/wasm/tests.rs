//! Which components are refused, and in which words. What handlers do at work is tested from outside, with real ones.

use bytes::Bytes;
use wasmtime::component::Linker;

use super::*;

fn engine() -> Engine {
    Engine::new(EngineSettings {
        max_instances: 4,
        max_memory: 16 << 20,
        cache: None,
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

/// A component that imports this, and exports an instance under the handler's name with nothing in it.
fn importing(import: &str) -> String {
    format!(
        r#"(component
            (import "{import}" (instance))
            (instance $handler)
            (export "plugnode:app/handler@0.1.0" (instance $handler)))"#
    )
}

#[tokio::test]
async fn what_is_no_component_is_named_for_what_it_is() {
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
async fn a_damaged_component_is_refused() {
    let mut bytes = wat::parse_str(importing("wasi:cli/stdout@0.2.0")).expect("WAT");
    bytes.truncate(bytes.len() - 3);
    assert!(refusal(&bytes).await.contains("cannot be compiled"));
}

#[tokio::test]
async fn a_component_of_another_world_is_told_what_it_lacks() {
    let error = refusal_of("(component)").await;
    assert!(
        error.contains("exports nothing") && error.contains("plugnode:app/handler@0.1.0"),
        "{error}"
    );
    let error = refusal_of(r#"(component (instance $run) (export "wasi:cli/run@0.2.0" (instance $run)))"#).await;
    assert!(error.contains("it exports wasi:cli/run@0.2.0"), "{error}");
}

#[tokio::test]
async fn a_handler_of_another_version_is_told_which_is_served() {
    let error =
        refusal_of(r#"(component (instance $handler) (export "plugnode:app/handler@0.2.0" (instance $handler)))"#)
            .await;
    assert!(
        error.contains("exports plugnode:app/handler@0.2.0, this host serves plugnode:app@0.1.0"),
        "{error}"
    );
    assert!(error.contains("plugnode-sdk 0.1"), "{error}");
}

#[tokio::test]
async fn an_import_of_another_version_is_told_which_is_served() {
    let error = refusal_of(&importing("plugnode:app/outbox@0.2.0")).await;
    assert!(
        error.contains("imports plugnode:app/outbox@0.2.0, this host serves plugnode:app@0.1.0"),
        "{error}"
    );
    let error = refusal_of(&importing("wasi:cli/stdout@0.3.0")).await;
    assert!(error.contains("this host serves wasi:cli@0.2.12"), "{error}");
}

#[tokio::test]
async fn an_import_that_is_not_granted_names_the_grant() {
    let error = refusal_of(&importing("wasi:keyvalue/store@0.2.0-draft")).await;
    assert!(error.contains(r#"grants.keyvalue = ["default"]"#), "{error}");
    let error = refusal_of(&importing("wasi:http/outgoing-handler@0.2.0")).await;
    assert!(
        error.contains("wasi:http/outgoing-handler@0.2.0") && error.contains("grants.http"),
        "{error}"
    );
}

#[tokio::test]
async fn an_unknown_import_is_named() {
    for import in [
        "acme:db/sql@1.0.0",
        "wasi:keyvalue/atomics@0.2.0-draft",
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
async fn names_that_hide_something_else_are_a_mismatch() {
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

#[test]
fn every_interface_that_is_promised_is_linked() {
    let engine = wasmtime::Engine::default();
    let grants = Grants {
        keyvalue: vec!["default".into()],
        http: vec!["*".into()],
    };
    for capability in capability::ALL {
        let mut linker = Linker::new(&engine);
        (capability.link)(&mut linker).expect("it links");
        for package in capability.serves {
            for interface in package.interfaces {
                let import = format!("{}/{interface}@{}", package.name, package.version);
                let bytes = wat::parse_str(importing(&import)).expect("WAT");
                inspect::check(&bytes, &grants).expect("it is known");
                let component = wasmtime::component::Component::from_binary(&engine, &bytes).expect("it compiles");
                linker
                    .instantiate_pre(&component)
                    .unwrap_or_else(|error| panic!("{import}: {error:#}"));
            }
        }
    }
}
