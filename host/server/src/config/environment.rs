//! Settings from the environment: `PLUGNODE_SECTION__KEY` overrides the file, and the file overrides the names of
//! socket.io-cluster. Any other `PLUGNODE_*` variable is an error, because it is most likely a misspelt one.
//!
//! A variable's text is read as a TOML value where the key takes one (`8`, `["a", "b"]`), else as text, else as a
//! list with commas: `PLUGNODE_ROLES=frontend,io-node`, `PLUGNODE_IO_NODE__MAX_PAYLOAD=1MB`.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::value_sources::{KeyPath, ValueSources};
use super::{Config, ConfigError, IoServerUrl, problem, shape};

const PREFIX: &str = "PLUGNODE_";
/// The variable of `roles`, the only key outside of a section.
const ROLES: &str = "PLUGNODE_ROLES";
const MAX_APPS: usize = 1024;

/// Variables that are not settings, each with its purpose: first those of plugnode, then those of its tests and scripts.
pub(super) const OTHER_VARIABLES: [(&str, &str); 13] = [
    (
        "PLUGNODE_GUEST_CARGO",
        "the cargo that builds handlers written in Rust, when it is not `cargo`",
    ),
    ("PLUGNODE_ESBUILD", "the esbuild that bundles scripts"),
    ("PLUGNODE_JS_RUNTIME", "the runtime component of JavaScript handlers"),
    ("PLUGNODE_PY_RUNTIME", "the runtime component of Python handlers"),
    ("PLUGNODE_BIN", "tests and benchmarks: the plugnode binary to run"),
    ("PLUGNODE_BREAK", "tests: the fault of plugnode-broken"),
    ("PLUGNODE_CACHE", "tests and scripts: the folder of downloaded tools"),
    ("PLUGNODE_CHROMIUM", "tests: the path of Chromium"),
    ("PLUGNODE_COMPONENTS", "benchmarks: the folder of components"),
    ("PLUGNODE_FUZZ_INPUTS", "tests: how many inputs the fuzzer sends"),
    ("PLUGNODE_FUZZ_SEED", "tests: the seed of the fuzzer"),
    ("PLUGNODE_STORM_SECONDS", "tests: how long the storm of faults lasts"),
    (
        "PLUGNODE_WASM",
        "scripts: which toolchain for wasm32 to use, `rustup` or `debian`",
    ),
];

/// Applies the environment to the table of the file: `PLUGNODE_*` overrides it, and variables of socket.io-cluster fill keys that it
/// leaves out.
pub(super) fn overlay(
    mut table: Table,
    variables: impl IntoIterator<Item = (String, String)>,
    sources: &mut ValueSources,
) -> Result<Table, ConfigError> {
    let variables: BTreeMap<String, String> = variables.into_iter().collect();
    let mut problems = Vec::new();

    for (path, variable, value) in old_names(&variables, &mut problems) {
        let path: KeyPath = path.iter().map(|part| part.to_string()).collect();
        if get(&table, &path).is_none() {
            match with(&table, &path, value) {
                Ok(changed) => table = changed,
                Err(problem) => problems.push(format!("variable {variable}: {problem}")),
            }
            sources.add_variable(path, variable);
        }
    }

    problems.extend(variables.keys().filter_map(|name| unknown(name)));
    let mut own: Vec<_> = variables.iter().filter(|(name, _)| is_own(name)).collect();
    // App 2 before app 10, so that apps are added in their order.
    own.sort_by_key(|(name, _)| {
        key_parts(name)
            .into_iter()
            .map(|part| (part.parse().unwrap_or(0), part))
            .collect::<Vec<(usize, String)>>()
    });
    for (variable, text) in own {
        let path = key_path(&table, key_parts(variable));
        match set_text(&table, &path, text) {
            Ok(changed) => {
                table = changed;
                sources.add_variable(path, variable);
            }
            Err(problem) => {
                let unknown = problem::unknown_key(&problem).and_then(|(key, _)| Some((key, nearest(variable)?)));
                let words = match unknown {
                    _ if text.is_empty() => "is empty; give it a value, or unset it".into(),
                    Some((key, nearest)) => format!("unknown key `{key}`; did you mean {nearest}?"),
                    None => problem::in_words(&problem),
                };
                problems.push(format!("variable {variable}: {}: {words}", path.join(".")));
            }
        }
    }

    if problems.is_empty() {
        Ok(table)
    } else {
        Err(ConfigError(problems))
    }
}

/// Whether the name is a setting of plugnode. Names with single underscores are not: Kubernetes sets variables such as
/// `PLUGNODE_PORT`.
fn is_own(name: &str) -> bool {
    name == ROLES || name.strip_prefix(PREFIX).is_some_and(|key| key.contains("__"))
}

/// The error for an unknown `PLUGNODE_*` variable, with the most similar setting. None: the variable is known or not of plugnode.
fn unknown(name: &str) -> Option<String> {
    let is_other = OTHER_VARIABLES.iter().any(|(other, _)| *other == name);
    if is_own(name) || is_other || !name.starts_with(PREFIX) || is_of_kubernetes(name) {
        return None;
    }
    let remedy = match nearest(name) {
        Some(nearest) => format!("did you mean {nearest}? Unset it or rename it if it is not for plugnode"),
        None => "unset it, or rename it if it is not for plugnode; docs/configuration.md has every setting".into(),
    };
    Some(format!("variable {name}: is no setting; {remedy}"))
}

/// The name of the most similar setting: smallest edit distance, with `__` read as `_`. None if more than a third differs.
fn nearest(name: &str) -> Option<String> {
    let plain = |name: &str| name.trim_start_matches(PREFIX).replace("__", "_");
    let distances = known_names()
        .into_iter()
        .map(|known| (strsim::levenshtein(&plain(name), &plain(&known)), known));
    let (distance, nearest) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= plain(name).len() / 3).then_some(nearest)
}

/// Whether Kubernetes sets such a variable for a service named `plugnode…`.
fn is_of_kubernetes(name: &str) -> bool {
    let of_service = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT_"];
    name.ends_with("_PORT") || of_service.iter().any(|part| name.contains(part))
}

/// The variables of all keys; for the keys of an app or of an API key, those of the first.
fn known_names() -> Vec<String> {
    fn collect(value: &serde_json::Value, name: &str, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(keys) if !keys.is_empty() => {
                for (key, value) in keys {
                    let key = key.to_uppercase().replace('-', "_");
                    collect(value, &format!("{name}__{key}"), found);
                }
            }
            serde_json::Value::Array(items) if items.first().is_some_and(|item| item.is_object()) => {
                collect(&items[0], &format!("{name}__0"), found);
            }
            _ => found.push(name.into()),
        }
    }
    let mut found = Vec::new();
    collect(&shape::shape(), "PLUGNODE", &mut found);
    found
        .iter()
        .map(|name| name.replacen("PLUGNODE__", PREFIX, 1))
        .collect()
}

fn key_parts(variable: &str) -> Vec<String> {
    let key = variable.strip_prefix(PREFIX).unwrap_or(variable);
    key.split("__")
        .map(|part| part.to_lowercase().replace('_', "-"))
        .collect()
}

/// The path of a key. The tables `app.N.config` and `io-node.attributes` have names chosen by the user: there, a variable matches a key of
/// the file regardless of case and of `-` or `_`.
fn key_path(table: &Table, mut path: KeyPath) -> KeyPath {
    let Some((key, place)) = path.split_last_mut() else {
        return path;
    };
    let free = match place {
        [app, _, config] => app == "app" && config == "config",
        [io_node, attributes] => io_node == "io-node" && attributes == "attributes",
        _ => false,
    };
    if free
        && let Some(Value::Table(own)) = get(table, place)
        && let Some(known) = own.keys().find(|known| known.to_lowercase().replace('_', "-") == *key)
    {
        *key = known.clone();
    }
    path
}

fn set_text(table: &Table, path: &[String], text: &str) -> Result<Table, String> {
    let as_toml = format!("value = {text}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1);
    let as_toml = as_toml.and_then(|mut table| table.remove("value"));
    let as_list = text.split(',').map(|item| Value::String(item.trim().into())).collect();
    let readings = as_toml
        .into_iter()
        .chain([Value::String(text.into()), Value::Array(as_list)]);
    let mut problems = Vec::new();
    for reading in readings {
        match with(table, path, reading) {
            Ok(changed) => return Ok(changed),
            Err(problem) => problems.push(problem),
        }
    }
    // A reading of the key's type has the problem that matters.
    let of_type = problems.iter().position(|problem| !problem.starts_with("invalid type"));
    Err(problems.swap_remove(of_type.unwrap_or_default()))
}

/// The table with one value changed.
///
/// # Errors
/// If the result is not a valid configuration.
fn with(table: &Table, path: &[String], value: Value) -> Result<Table, String> {
    let mut changed = table.clone();
    set(&mut changed, path, value)?;
    if let Some((_, problem)) = shape::mismatch(&changed) {
        return Err(problem);
    }
    match changed.clone().try_into::<Config>() {
        Ok(_) => Ok(changed),
        Err(error) => Err(error.message().to_owned()),
    }
}

/// A list of tables in the file, with words for its errors.
#[derive(Clone, Copy)]
struct List {
    key: &'static str,
    noun: &'static str,
    head: &'static str,
    variable: &'static str,
}

const APPS: List = List {
    key: "app",
    noun: "app",
    head: "[[app]]",
    variable: "PLUGNODE_APP",
};

const WEBHOOKS: List = List {
    key: "webhook",
    noun: "webhook",
    head: "[[webhook]]",
    variable: "PLUGNODE_WEBHOOK",
};

const API_KEYS: List = List {
    key: "key",
    noun: "key",
    head: "[[api.key]]",
    variable: "PLUGNODE_API__KEY",
};

/// Sets a key of an item of a list, which may be a new one at its end.
fn set_item(table: &mut Table, list: List, index: &str, rest: &[String], value: Value) -> Result<(), String> {
    let List {
        key,
        noun,
        head,
        variable,
    } = list;
    let items = table.entry(key).or_insert_with(|| Value::Array(Vec::new()));
    let Value::Array(items) = items else {
        return Err(format!("is not a list of {noun}s"));
    };
    let number = index.parse::<usize>().ok().filter(|number| *number < MAX_APPS);
    let Some(number) = number else {
        let article = if noun == "app" { "an" } else { "a" };
        return Err(format!(
            "`{index}` is not the number of {article} {noun}; the first {head} is {variable}__0__…"
        ));
    };
    if number > items.len() {
        return Err(format!(
            "there is no {noun} {}; number {noun}s from 0 without gaps",
            number - 1
        ));
    }
    if number == items.len() {
        items.push(Value::Table(Table::new()));
    }
    match &mut items[number] {
        Value::Table(item) if !rest.is_empty() => set(item, rest, value),
        _ => Err(format!("names no key of the {noun}")),
    }
}

fn get<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(table.get(first)?, |value, key| match value {
        Value::Table(table) => table.get(key),
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    })
}

fn set(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    match path {
        [] => Ok(()),
        [key] => {
            table.insert(key.clone(), value);
            Ok(())
        }
        [app, index, rest @ ..] if app == "app" => set_item(table, APPS, index, rest, value),
        [webhook, index, rest @ ..] if webhook == "webhook" => set_item(table, WEBHOOKS, index, rest, value),
        [api, key, index, rest @ ..] if api == "api" && key == "key" => {
            match table.entry(api).or_insert_with(|| Value::Table(Table::new())) {
                Value::Table(api) => set_item(api, API_KEYS, index, rest, value),
                _ => Err(format!("`{api}` is not a section")),
            }
        }
        [key, rest @ ..] => match table.entry(key).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => set(inner, rest, value),
            _ => Err(format!("`{key}` is not a section")),
        },
    }
}

/// The values of socket.io-cluster's variables, under the keys of this configuration.
fn old_names(
    variables: &BTreeMap<String, String>,
    problems: &mut Vec<String>,
) -> Vec<(&'static [&'static str], &'static str, Value)> {
    let text = |name: &str| variables.get(name).filter(|text| !text.is_empty()).map(String::as_str);
    let mut found: Vec<(&'static [&'static str], &'static str, Value)> = Vec::new();

    match (text("HTTP_HOST"), text("HTTP_PORT")) {
        (None, None) => {}
        (host, port) => {
            let name = if port.is_some() { "HTTP_PORT" } else { "HTTP_HOST" };
            let (host, port) = (host.unwrap_or("0.0.0.0"), port.unwrap_or("8080"));
            let host = bracketed(host);
            found.push((&["http", "listen"], name, format!("{host}:{port}").into()));
        }
    }
    if let Some(url) = text("CLIENT_CONFIG_URL") {
        found.push((&["frontend", "client-config-url"], "CLIENT_CONFIG_URL", url.into()));
    }
    if let Some(servers) = text("IO_SERVERS") {
        match io_servers(servers) {
            Ok(value) => found.push((&["frontend", "io-servers"], "IO_SERVERS", value)),
            Err(problem) => problems.push(format!("variable IO_SERVERS: {problem}")),
        }
    }
    if let Some(host) = text("REDIS_HOST") {
        let password = text("REDIS_PASSWORD")
            .map(|password| format!(":{}@", escaped(password)))
            .unwrap_or_default();
        let port = text("REDIS_PORT").unwrap_or("6379");
        let database = text("REDIS_DB").map(|number| format!("/{number}")).unwrap_or_default();
        let host = bracketed(host);
        let url = format!("redis://{password}{host}:{port}{database}");
        let is_number = |name: &str| text(name).is_none_or(|number| number.parse::<u16>().is_ok());
        let faulty = ["REDIS_PORT", "REDIS_DB"].into_iter().find(|name| !is_number(name));
        found.push((&["transport", "url"], faulty.unwrap_or("REDIS_HOST"), url.into()));
    }
    found
}

/// Adds the brackets that an IPv6 address needs before a port.
fn bracketed(host: &str) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.into(),
    }
}

/// Percent-encodes a password for a URL.
fn escaped(password: &str) -> String {
    let escape = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    password.bytes().map(escape).collect()
}

/// A JSON list of `{"host":…,"port":…}`, or `host:port,host:port`.
fn io_servers(text: &str) -> Result<Value, String> {
    let servers: Vec<IoServerUrl> = if text.trim_start().starts_with('[') && text.contains('{') {
        serde_json::from_str(text).map_err(|error| format!("not a JSON list of {{\"host\", \"port\"}}: {error}"))?
    } else {
        text.split(',').map(IoServerUrl::parse).collect::<Result<_, _>>()?
    };
    Value::try_from(servers).map_err(|error| error.to_string())
}
