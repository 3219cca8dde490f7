//! For property tests: strategies for arbitrary and nearly valid input, and measurement of the memory that parsing takes.
//!
//! The tests are in modules `arbitrary` beside the code they test. `PROPTEST_CASES=100000 cargo test --lib arbitrary` runs many more
//! cases than the default. proptest shrinks and prints a failing case, and keeps its seed in `proptest-regressions/` to run it first
//! the next time.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::Union;
use serde_json::{Map, Value};
use tokio::time::timeout;

/// Up to `max` arbitrary bytes.
pub fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=max)
}

/// Text, often with characters that parsers treat specially.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,8}",
        "[\"\\\\/,:{}\\[\\]\u{0}-\u{1f}\u{7f}éπ😀\u{1e}\u{2028}]{0,8}",
        any::<String>(),
        Just("_placeholder".to_owned()),
        Just("num".to_owned()),
    ]
}

/// Any JSON, with placeholders for attachments and objects that resemble them.
pub fn json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-5_i64..5).prop_map(Value::from),
        // Few digits, because `serde_json` may read the last of many digits wrong.
        (any::<i32>(), 1_i32..1_000).prop_map(|(above, below)| Value::from(f64::from(above / below) / 8.0)),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        text().prop_map(Value::from),
        (0_u64..4).prop_map(placeholder),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((text(), inner), 0..6).prop_map(|fields| Value::Object(Map::from_iter(fields))),
        ]
    })
}

/// The placeholder of an attachment.
pub fn placeholder(number: u64) -> Value {
    serde_json::json!({ "_placeholder": true, "num": number })
}

/// JSON text, compact or indented.
pub fn json_text() -> impl Strategy<Value = String> {
    (json(), any::<bool>()).prop_map(|(value, is_wide)| match is_wide {
        true => serde_json::to_string_pretty(&value).expect("a value is JSON"),
        false => value.to_string(),
    })
}

/// A change to valid input.
#[derive(Debug, Clone)]
enum Edit {
    Change(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Cut(Index),
}

/// Nearly valid input: values of `valid` with up to three edits.
pub fn nearly(valid: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let place = any::<Index>;
    let edit = prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, byte)| Edit::Change(at, byte)),
        (place(), bytes(6)).prop_map(|(at, some)| Edit::Insert(at, some)),
        (place(), 1_usize..8).prop_map(|(at, length)| Edit::Remove(at, length)),
        (place(), 1_usize..40).prop_map(|(at, length)| Edit::Repeat(at, length)),
        place().prop_map(Edit::Cut),
    ];
    (valid, vec(edit, 0..4)).prop_map(|(mut bytes, edits)| {
        for edit in edits {
            edit.apply(&mut bytes);
        }
        bytes
    })
}

/// Nearly valid text: like [`nearly`], with invalid UTF-8 replaced.
pub fn nearly_text(valid: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    nearly(valid.prop_map(String::into_bytes)).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// One of these texts.
pub fn one_of(texts: &[&'static str]) -> impl Strategy<Value = String> + use<> {
    Union::new(texts.iter().map(|text| Just((*text).to_owned())).collect::<Vec<_>>())
}

impl Edit {
    fn apply(self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        let span = |at: Index, most: usize| {
            let from = at.index(length);
            from..length.min(from + most)
        };
        match self {
            Self::Change(at, byte) => bytes[at.index(length)] = byte,
            Self::Insert(at, some) => _ = bytes.splice(span(at, 0), some),
            Self::Remove(at, most) => _ = bytes.drain(span(at, most)),
            Self::Repeat(at, most) => {
                let span = span(at, most);
                let again = bytes[span.clone()].to_vec();
                _ = bytes.splice(span.start..span.start, again);
            }
            Self::Cut(at) => bytes.truncate(at.index(length)),
        }
    }
}

/// Lengths for [`pieces`].
pub fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1_usize..4, 1_usize..200, 1_usize..5_000], 0..40)
}

/// Splits bytes into pieces of these lengths and the rest.
pub fn pieces<'a>(mut bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, rest) = bytes.split_at((*cut).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// Runs `work`, and returns its result and its peak of allocated bytes.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let mut done = None;
    let allocated = allocation_counter::measure(|| done = Some(work()));
    (done.expect("measure runs the closure"), allocated.bytes_max)
}

/// Runs a future to its end on a runtime of its own.
///
/// # Panics
/// If it takes longer than ten seconds.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    const SOON: Duration = Duration::from_secs(10);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let work = async { timeout(SOON, work).await.expect("the future completes in time") };
    runtime.expect("a runtime can be built").block_on(work)
}
