//! The source map of a bundle, rewritten so that the runtime can look a position up by reading one line of it. Decoding a whole map
//! takes QuickJS longer than an event may take, as soon as a program bundles a few packages.
//!
//! `NAME.map` is one line of JSON, then a line for each line of the bundle: source, row and column where its segments begin, and the
//! segments as in the original. The text of source N is the file `NAME.map/N`.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Lines between two entries of `Header::offsets`.
const STRIDE: usize = 256;

/// A source map of version 3.
#[derive(Deserialize)]
struct Map {
    sources: Vec<String>,
    #[serde(default, rename = "sourcesContent")]
    contents: Vec<Option<String>>,
    mappings: String,
}

#[derive(Serialize)]
struct Header<'a> {
    sources: &'a [String],
    stride: usize,
    /// Offsets of every `stride`th line, from the end of the header's line.
    offsets: Vec<usize>,
}

/// The files to embed for the source map `text` of the file `name`.
pub(super) fn files(name: &str, text: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let map: Map = serde_json::from_slice(text).context("the source map is not of version 3")?;
    let mut offsets = Vec::new();
    let mut lines = String::with_capacity(map.mappings.len() * 2);
    // Source, row and column.
    let mut state = [0; 3];
    for (number, segments) in map.mappings.split(';').enumerate() {
        if number % STRIDE == 0 {
            offsets.push(lines.len());
        }
        let [source, row, column] = state;
        lines.push_str(&format!("{source} {row} {column} {segments}\n"));
        for segment in segments.split(',') {
            // The first number is the column in the bundle, the last may be a name.
            for (sum, delta) in state.iter_mut().zip(numbers(segment)?.into_iter().skip(1)) {
                *sum += delta;
            }
        }
    }
    let header = Header {
        sources: &map.sources,
        stride: STRIDE,
        offsets,
    };
    let header = serde_json::to_string(&header).context("cannot write the source map")?;
    let mut files = vec![(format!("{name}.map"), format!("{header}\n{lines}").into_bytes())];
    let contents = map.contents.into_iter().enumerate();
    files.extend(contents.filter_map(|(number, text)| Some((format!("{name}.map/{number}"), text?.into_bytes()))));
    Ok(files)
}

/// The numbers of a segment, in base64 VLQ.
fn numbers(segment: &str) -> Result<Vec<i64>> {
    let (mut numbers, mut number, mut shift) = (Vec::new(), 0_i64, 0);
    for digit in segment.bytes() {
        let bits = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("the source map has a segment {segment:?}, which is not base64"),
        };
        if shift > 30 {
            bail!("the source map has a segment {segment:?} with too large a number");
        }
        number |= i64::from(bits & 31) << shift;
        shift += 5;
        if bits & 32 == 0 {
            numbers.push(if number & 1 == 1 { -(number >> 1) } else { number >> 1 });
            (number, shift) = (0, 0);
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_begins_with_its_own_position() {
        let map =
            r#"{"version":3,"sources":["é.ts","b.ts"],"sourcesContent":["x",null],"mappings":"AAAA,IAAM;;ACCN,CDDEA"}"#;
        let files = files("app.bundle.mjs", map.as_bytes()).unwrap();
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["app.bundle.mjs.map", "app.bundle.mjs.map/0"]);
        let text = String::from_utf8(files[0].1.clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], r#"{"sources":["é.ts","b.ts"],"stride":256,"offsets":[0]}"#);
        assert_eq!(lines[1..], ["0 0 0 AAAA,IAAM", "0 0 6 ", "0 0 6 ACCN,CDDEA"]);
    }

    #[test]
    fn refuses_what_is_no_source_map() {
        for map in [
            "",
            "{}",
            r#"{"sources":[],"mappings":"A!"}"#,
            r#"{"sources":[],"mappings":"gggggggggggggggg"}"#,
        ] {
            assert!(files("a", map.as_bytes()).is_err(), "{map}");
        }
    }
}
