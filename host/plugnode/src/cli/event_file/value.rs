//! Values of a file of events: TOML as JSON. TOML has no null, so arguments can also be JSON in a string; bytes are base64.

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use plugnode_message::Payload;

/// Parses arguments. Bytes, `{ base64 = … }`, become attachments. `key` names the arguments in errors.
pub(super) fn payload(key: &str, args: Option<&toml::Value>) -> Result<Payload> {
    let mut args = match args {
        Some(args) => json_of(args).with_context(|| key.to_owned())?,
        None => json!([]),
    };
    if !args.is_array() {
        bail!("{key}: is not a list of arguments, such as [\"hello\", 1]");
    }
    let mut attachments = Vec::new();
    take_bytes(&mut args, &mut attachments).with_context(|| key.to_owned())?;
    Ok(Payload {
        json: args.to_string().into(),
        attachments,
    })
}

/// Moves bytes in `value` to `attachments`, and leaves placeholders as Socket.IO does.
fn take_bytes(value: &mut Value, attachments: &mut Vec<Bytes>) -> Result<()> {
    let bytes = value
        .as_object()
        .filter(|keys| keys.len() == 1)
        .and_then(|keys| keys.get("base64")?.as_str());
    if let Some(text) = bytes {
        let bytes = bytes_of("base64", text)?;
        *value = json!({ "_placeholder": true, "num": attachments.len() });
        attachments.push(bytes);
        return Ok(());
    }
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(|item| take_bytes(item, attachments)),
        Value::Object(keys) => keys.values_mut().try_for_each(|value| take_bytes(value, attachments)),
        _ => Ok(()),
    }
}

/// Decodes base64. `key` names the value in errors.
pub(super) fn bytes_of(key: &str, text: &str) -> Result<Bytes> {
    let bytes = BASE64.decode(text).with_context(|| format!("{key}: is not base64"))?;
    Ok(bytes.into())
}

/// Converts TOML to JSON. A string is parsed as JSON.
pub(super) fn json_of(value: &toml::Value) -> Result<Value> {
    match value {
        toml::Value::String(text) => serde_json::from_str(text).with_context(|| format!("`{text}` is not JSON")),
        value => Ok(plain_json_of(value)),
    }
}

/// Converts TOML to JSON. A string stays one, and a time becomes one.
pub(super) fn plain_json_of(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => json!(number),
        toml::Value::Boolean(is) => (*is).into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.iter().map(plain_json_of).collect(),
        toml::Value::Table(table) => {
            let keys = table.iter().map(|(key, value)| (key.clone(), plain_json_of(value)));
            keys.collect::<Map<_, _>>().into()
        }
    }
}
