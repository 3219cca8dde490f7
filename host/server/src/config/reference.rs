//! Writes the two references of the configuration from its structs: `docs/configuration.md` for reading, and
//! `plugnode.example.toml` for copying.
//!
//! The order of keys and their defaults come from [`Config::default`], types and doc texts from its JSON schema. The test fails
//! when a file is stale; the command that it names writes both files anew.

use std::fmt::{self, Write as _};
use std::path::Path;

use schemars::generate::SchemaSettings;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use super::environment::OTHER_VARIABLES;
use super::{Config, shape};

const RENEW: &str = "UPDATE=1 cargo test -p plugnode-server --lib config_reference";
/// The section of a key of the server API.
const API_KEY: [&str; 2] = ["api", "key"];
/// Columns of a comment in the example.
const WIDTH: usize = 116;

#[test]
fn config_reference_is_up_to_date() {
    let sections = Reference::new().sections();
    let server = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [
        (server.join("plugnode.example.toml"), example(&sections)),
        (server.join("../../docs/configuration.md"), page(&sections)),
    ];
    for (file, text) in files {
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let current = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(current == text, "{} is stale; renew it: {RENEW}", file.display());
    }
}

#[test]
fn every_key_is_documented() {
    for section in Reference::new().sections() {
        assert!(section.path.is_empty() || !section.doc.is_empty(), "{:?}", section.path);
        for key in &section.keys {
            assert!(!key.doc.is_empty(), "{:?} {}", section.path, key.name);
        }
    }
}

/// A section of the file, such as `[http]` or `[app.limits]`, in the order of the structs.
struct Section {
    /// Names from the top; empty for the keys before the first section.
    path: Vec<String>,
    doc: String,
    keys: Vec<Key>,
}

struct Key {
    name: String,
    kind: String,
    doc: String,
    /// None: the key is unset.
    default: Option<String>,
    /// A value to show in the example, when there is no default to show.
    example: Option<String>,
}

impl Section {
    /// The variable of one of its keys.
    fn variable(&self, key: &Key) -> String {
        let mut path = self.path.clone();
        if path.first().is_some_and(|first| first == "app" || first == "webhook") {
            path.insert(1, "0".into());
        }
        if path == API_KEY {
            path.push("0".into());
        }
        path.push(key.name.clone());
        format!("PLUGNODE_{}", path.join("__").to_uppercase().replace('-', "_"))
    }

    /// Whether the example has none of this section.
    fn is_off(&self) -> bool {
        self.path == ["webhook"] || self.path == API_KEY
    }

    fn head(&self) -> String {
        match self.path.join(".") {
            path if path == "app" || path == "webhook" || path == "api.key" => format!("[[{path}]]"),
            path => format!("[{path}]"),
        }
    }
}

/// The defaults in the order of the structs, and the schema of the same.
struct Reference {
    defaults: Vec<(String, Node)>,
    schema: Value,
}

impl Reference {
    fn new() -> Self {
        let complete = serde_json::to_string(&shape::complete()).unwrap();
        let Node::Table(defaults) = serde_json::from_str(&complete).unwrap() else {
            unreachable!("a struct is written as a table");
        };
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let schema = settings
            .for_serialize()
            .into_generator()
            .into_root_schema_for::<Config>()
            .to_value();
        Self { defaults, schema }
    }

    fn sections(&self) -> Vec<Section> {
        let mut sections = Vec::new();
        collect(Vec::new(), &self.schema, &self.defaults, &mut sections);
        sections
    }
}

/// Adds a section, then those within it.
fn collect(path: Vec<String>, schema: &Value, defaults: &[(String, Node)], sections: &mut Vec<Section>) {
    let position = sections.len();
    let mut keys = Vec::new();
    for (name, default) in defaults {
        let schema = &schema["properties"][name];
        // An `[[app]]` is the one item of a list.
        let (inner, default) = match default {
            Node::List(items) if matches!(items.first(), Some(Node::Table(_))) => (&schema["items"], &items[0]),
            default => (schema, default),
        };
        match default {
            Node::Table(defaults) if inner.get("properties").is_some() => {
                let path = path.iter().cloned().chain([name.clone()]).collect();
                collect(path, inner, defaults, sections);
                let added = sections.iter_mut().find(|section| section.path.last() == Some(name));
                added.expect("it was added").doc = text(schema, "description");
            }
            default => keys.push(Key {
                name: name.clone(),
                kind: kind(schema),
                doc: text(schema, "description"),
                default: toml(&default.value(), schema),
                example: schema["examples"].get(0).and_then(|example| toml(example, schema)),
            }),
        }
    }
    let section = Section {
        path,
        doc: String::new(),
        keys,
    };
    sections.insert(position, section);
}

fn text(schema: &Value, key: &str) -> String {
    schema[key].as_str().unwrap_or_default().to_owned()
}

/// The type of a key, for people.
fn kind(schema: &Value) -> String {
    if let Some(names) = schema["enum"].as_array() {
        return choice(names);
    }
    if let Some(either) = schema["oneOf"].as_array() {
        let names: Vec<Value> = either.iter().map(|one| one["const"].clone()).collect();
        return choice(&names);
    }
    if let Some(either) = schema["anyOf"].as_array() {
        return kind(&either[0]);
    }
    match schema["format"].as_str() {
        Some("bytes") => return "size: `\"64MB\"`, `\"1MiB\"` or a number of bytes".into(),
        Some("milliseconds") => return "integer, milliseconds".into(),
        _ => {}
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    let types: Vec<&str> = types
        .iter()
        .filter_map(Value::as_str)
        .filter(|name| *name != "null")
        .collect();
    match types[..] {
        ["array"] => format!("list of {}", kind(&schema["items"])),
        ["object"] => "table of strings".into(),
        ["string", "object"] => "string or table".into(),
        _ => types.join(" or "),
    }
}

fn choice(names: &[Value]) -> String {
    let names: Vec<String> = names
        .iter()
        .filter(|name| !name.is_null())
        .map(|name| format!("`{name}`"))
        .collect();
    names.join(", ")
}

/// A value as it stands in the file; none for a key that is unset.
fn toml(value: &Value, schema: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Number(bytes) if schema["format"] == "bytes" => Some(size(bytes.as_u64()?)),
        value => Some(toml::Value::try_from(value).ok()?.to_string()),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes > 0 && bytes.is_multiple_of(1_000_000) => format!("\"{}MB\"", bytes / 1_000_000),
        bytes => bytes.to_string(),
    }
}

/// A JSON value whose tables keep the order in which they were written.
enum Node {
    Table(Vec<(String, Node)>),
    List(Vec<Node>),
    Leaf(Value),
}

impl Node {
    fn value(&self) -> Value {
        match self {
            Self::Table(entries) => {
                let entries = entries.iter().map(|(key, node)| (key.clone(), node.value()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
            Self::List(items) => items.iter().map(Self::value).collect(),
            Self::Leaf(value) => value.clone(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> de::Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Table(entries))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }
}

/// `plugnode.example.toml`.
fn example(sections: &[Section]) -> String {
    let mut file = String::from(EXAMPLE_HEAD);
    for section in sections {
        if !section.path.is_empty() {
            file.push('\n');
            comment(&mut file, &section.doc);
            // Without a name and a secret, a key is refused.
            let off = if section.is_off() { "#" } else { "" };
            let _ = writeln!(file, "{off}{}", section.head());
        }
        for key in &section.keys {
            comment(&mut file, &key.doc);
            let _ = writeln!(file, "{}", key.line(section));
        }
    }
    file
}

impl Key {
    fn is_required(&self, section: &Section) -> bool {
        section.path == ["app"] && self.name == "component"
    }

    /// The key with its default; commented out with an example where unset is the default.
    fn line(&self, section: &Section) -> String {
        // Without a key to check tokens with, any key of this section is refused.
        let is_off = section.path == ["io-node", "token"]
            || section.is_off()
            || (self.example.is_some() && !self.is_required(section));
        let value = self.example.as_ref().or(self.default.as_ref());
        let value = value.unwrap_or_else(|| panic!("{} has neither a default nor an example", self.name));
        format!("{}{} = {value}", if is_off { "#" } else { "" }, self.name)
    }
}

fn comment(file: &mut String, doc: &str) {
    for paragraph in paragraphs(doc) {
        let mut line = String::from("#");
        for word in paragraph.split(' ') {
            if line.len() > 1 && line.len() + 1 + word.len() > WIDTH {
                let _ = writeln!(file, "{line}");
                line = String::from(if paragraph.starts_with("- ") { "#  " } else { "#" });
            }
            line.push(' ');
            line.push_str(word);
        }
        let _ = writeln!(file, "{line}");
    }
}

/// Paragraphs and list items, each on one line.
fn paragraphs(doc: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut begins = true;
    for line in doc.lines().map(str::trim) {
        match found.last_mut() {
            Some(last) if !begins && !line.is_empty() && !line.starts_with("- ") => {
                last.push(' ');
                last.push_str(line);
            }
            _ if !line.is_empty() => found.push(line.to_owned()),
            _ => {}
        }
        begins = line.is_empty();
    }
    found
}

/// `docs/configuration.md`.
fn page(sections: &[Section]) -> String {
    let mut page = String::from(PAGE_HEAD);
    for section in sections {
        if !section.path.is_empty() {
            let _ = writeln!(page, "\n## `{}`\n", section.head());
            write_doc(&mut page, &section.doc);
        }
        for key in &section.keys {
            let path: Vec<&str> = section.path.iter().map(String::as_str).chain([&*key.name]).collect();
            let _ = writeln!(page, "\n### `{}`\n", path.join("."));
            write_doc(&mut page, &key.doc);
            let _ = writeln!(page, "\n- Type: {}", key.kind);
            match (&key.default, &key.example) {
                (None, None) => {}
                (None, Some(example)) => _ = writeln!(page, "- Default: unset; example: `{example}`"),
                (Some(_), Some(example)) if key.is_required(section) => {
                    let _ = writeln!(page, "- Required; example: `{example}`");
                }
                (Some(default), Some(example)) => _ = writeln!(page, "- Default: `{default}`; example: `{example}`"),
                (Some(default), None) => _ = writeln!(page, "- Default: `{default}`"),
            }
            let _ = writeln!(page, "- Variable: `{}`", section.variable(key));
        }
    }
    page.push_str(OTHER_HEAD);
    for (variable, purpose) in OTHER_VARIABLES {
        let _ = writeln!(page, "| `{variable}` | {purpose} |");
    }
    page
}

fn write_doc(page: &mut String, doc: &str) {
    let mut previous_is_item = false;
    for (i, paragraph) in paragraphs(doc).iter().enumerate() {
        let is_item = paragraph.starts_with("- ");
        if i > 0 && !(is_item && previous_is_item) {
            page.push('\n');
        }
        let _ = writeln!(page, "{paragraph}");
        previous_is_item = is_item;
    }
}

const EXAMPLE_HEAD: &str = "\
# Every key of plugnode's configuration with its default. Start plugnode with: plugnode run -c plugnode.toml
#
# Written from the source: the same texts with types and variables are in docs/configuration.md.
# A line that begins with `#` directly followed by a letter is a key that is unset; remove the `#` to set it. So is `#[[api.key]]`.
# The environment overrides this file: PLUGNODE_HTTP__LISTEN is `listen` in [http], PLUGNODE_APP__0__COMPONENT is
# `component` of the first [[app]]. Relative paths start at the folder of this file. Sizes are \"64MB\", \"1MiB\" or a
# number of bytes. Keys that end with -ms are whole milliseconds.

";

const PAGE_HEAD: &str = "\
# Configuration

<!-- Written from host/server/src/config by: UPDATE=1 cargo test -p plugnode-server --lib config_reference -->

`plugnode run -c plugnode.toml` reads one TOML file.
[`plugnode.example.toml`](../host/server/plugnode.example.toml) has every key of this page, ready to copy.
`plugnode config check` reports problems with key, file and line: first those of syntax, unknown keys and types, one at a time, then all
others. `plugnode config show` prints each key that has a value, and where the value came from; without a file it shows the
environment and the defaults.

A value comes from the first of these that sets it:

1. the command line (`--role`)
2. a variable `PLUGNODE_SECTION__KEY`: two underscores between section and key, one for each dash
3. the file; relative paths start at its folder
4. the variables of socket.io-cluster: `HTTP_HOST`, `HTTP_PORT`, `CLIENT_CONFIG_URL`, `IO_SERVERS`, `REDIS_HOST`, `REDIS_PORT`,
   `REDIS_PASSWORD`, `REDIS_DB`
5. the default

A variable's text is read as a TOML value where the key takes one (`8`, `[\"a\", \"b\"]`), else as text, else as a list separated by
commas. Sizes are `\"64MB\"` (64,000,000 bytes), `\"1MiB\"` (1,048,576) or a number of bytes. Keys that end with `-ms` are whole
milliseconds.

## Roles
";

const OTHER_HEAD: &str = "
## Other variables

These begin with `PLUGNODE_` and are no keys. Any other variable that begins so is an error that names the nearest key, except for
those that Kubernetes sets for a service (`PLUGNODE_SERVICE_HOST`, `PLUGNODE_PORT_8080_TCP` and the like).

| variable | what it names |
|---|---|
";
