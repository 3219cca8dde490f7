//! Placeholders: in a payload's JSON, `{"_placeholder":true,"num":N}` stands for attachment N.

use serde_json::Value;

/// The field that marks a placeholder; its value is `true`.
pub(crate) const MARKER: &str = "_placeholder";
/// The field with the index of the attachment.
pub(crate) const INDEX: &str = "num";

/// Replaces the index of each placeholder in `value`, in document order. A placeholder for which `index_of` returns none
/// stays as it is.
pub(crate) fn renumber(value: &mut Value, index_of: &mut impl FnMut(usize) -> Option<usize>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| renumber(item, index_of)),
        Value::Object(fields) if fields.get(MARKER) == Some(&Value::Bool(true)) => {
            let index = fields.get(INDEX).and_then(Value::as_u64);
            if let Some(index) = index.and_then(|index| index_of(index as usize)) {
                fields.insert(INDEX.into(), index.into());
            }
        }
        Value::Object(fields) => fields.values_mut().for_each(|field| renumber(field, index_of)),
        _ => {}
    }
}
