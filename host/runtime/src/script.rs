//! The script of a script runtime: files that `plugnode build` appends to the component, each as a custom section.
//!
//! wasmtime does not compile custom sections, so all components with the same runtime have the same machine code, which is
//! cached under the digest of the runtime alone. The format of the files is a matter of `plugnode build` and the runtime.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use wasmparser::{Parser, Payload};

/// Name of the custom sections.
const SECTION: &str = "plugnode:script";
/// Id of custom sections in WebAssembly.
const CUSTOM: u8 = 0;

/// The files of a script, in the order in which they were appended. Clones share them.
#[derive(Clone, Default)]
pub struct Script {
    files: Arc<[ScriptFile]>,
}

struct ScriptFile {
    name: String,
    bytes: Bytes,
}

impl Script {
    /// Splits a component into its runtime and its script. None if it has no script.
    pub(crate) fn split(component: &Bytes) -> Option<(Bytes, Self)> {
        let sections = sections(component).ok()?;
        if sections.is_empty() {
            return None;
        }
        let mut code = Vec::with_capacity(component.len());
        let mut files = Vec::new();
        let mut kept = 0;
        for Section { whole, data } in sections {
            code.extend_from_slice(&component[kept..whole.start]);
            kept = whole.end;
            files.push(ScriptFile::read(component.slice(data))?);
        }
        code.extend_from_slice(&component[kept..]);
        let files = files.into();
        Some((code.into(), Self { files }))
    }

    /// The component with these files as its script, in place of any other.
    pub fn append(component: &Bytes, files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut appended = match Self::split(component) {
            Some((code, _)) => code.to_vec(),
            None => component.to_vec(),
        };
        for (name, bytes) in files {
            let mut data = Vec::with_capacity(bytes.len() + name.len() + 32);
            push_text(&mut data, SECTION);
            push_text(&mut data, name);
            data.extend_from_slice(bytes);
            appended.push(CUSTOM);
            push_number(&mut appended, data.len());
            appended.append(&mut data);
        }
        appended
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.files.iter().map(|file| file.name.clone()).collect()
    }

    pub(crate) fn read(&self, name: &str) -> Option<&Bytes> {
        let file = self.files.iter().find(|file| file.name == name);
        file.map(|file| &file.bytes)
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.files.iter().map(|file| &file.name))
            .finish()
    }
}

impl ScriptFile {
    /// Parses the content of a section: the length of the name, the name, and the content.
    fn read(data: Bytes) -> Option<Self> {
        let mut reader = wasmparser::BinaryReader::new(&data, 0);
        let name = reader.read_string().ok()?.to_owned();
        let bytes = data.slice(reader.original_position()..);
        Some(Self { name, bytes })
    }
}

/// Byte ranges of a section: with its header, and its content.
struct Section {
    whole: Range<usize>,
    data: Range<usize>,
}

/// The script sections of the outermost component, not those of nested modules and components.
fn sections(component: &[u8]) -> wasmparser::Result<Vec<Section>> {
    let mut sections = Vec::new();
    let mut depth = 0;
    // End of the previous section.
    let mut end = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { range, .. } if depth == 0 => end = range.end,
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(at) if depth > 0 => {
                depth -= 1;
                end = at;
            }
            Payload::CustomSection(section) if depth == 0 => {
                let range = section.range();
                if section.name() == SECTION {
                    let data = section.data_offset()..range.end;
                    sections.push(Section {
                        whole: end..range.end,
                        data,
                    });
                }
                end = range.end;
            }
            payload if depth == 0 => {
                if let Some((_, range)) = payload.as_section() {
                    end = range.end;
                }
            }
            _ => {}
        }
    }
    Ok(sections)
}

fn push_text(data: &mut Vec<u8>, text: &str) {
    push_number(data, text.len());
    data.extend_from_slice(text.as_bytes());
}

/// Unsigned LEB128, the number format of WebAssembly.
fn push_number(data: &mut Vec<u8>, mut number: usize) {
    loop {
        let digits = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            return data.push(digits);
        }
        data.push(digits | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component() -> Bytes {
        let text = "(component (core module (@custom \"plugnode:script\" \"\\01xinner\")) (@custom \"other\" \"1\"))";
        wat::parse_str(text).expect("it is valid").into()
    }

    #[test]
    fn split_returns_files_and_original_component() {
        let component = component();
        let text = "x".repeat(300);
        let appended = Bytes::from(Script::append(
            &component,
            &[("app.js", text.as_bytes()), ("app.js.map", b"{}")],
        ));
        let (code, script) = Script::split(&appended).expect("it has a script");
        assert_eq!(code, component);
        assert_eq!(script.names(), ["app.js", "app.js.map"]);
        assert_eq!(script.read("app.js").unwrap(), text.as_bytes());
        assert_eq!(script.read("app.js.map").unwrap(), &b"{}"[..]);
        assert!(script.read("other.js").is_none());
    }

    #[test]
    fn appended_files_replace_earlier_ones() {
        let component = component();
        let first = Bytes::from(Script::append(&component, &[("a.js", b"1"), ("b.js", b"2")]));
        let second = Bytes::from(Script::append(&first, &[("c.js", b"3")]));
        let (code, script) = Script::split(&second).expect("it has a script");
        assert_eq!(code, component);
        assert_eq!(script.names(), ["c.js"]);
    }

    #[test]
    fn other_sections_may_follow_the_script() {
        let component = component();
        let mut appended = Script::append(&component, &[("a.js", b"1")]);
        let mut expected = component.to_vec();
        let custom = [0, 3, 1, b'x', 7];
        appended.extend_from_slice(&custom);
        expected.extend_from_slice(&custom);
        let (code, script) = Script::split(&appended.into()).expect("it has a script");
        assert_eq!(code, expected);
        assert_eq!(script.names(), ["a.js"]);
    }

    #[test]
    fn component_without_script_is_not_split() {
        assert!(Script::split(&component()).is_none());
        assert!(Script::split(&Bytes::from_static(b"no component")).is_none());
    }
}
