//! A marker in the compiled file that selects a fault. By default there is none.
//!
//! Tests of live replacement need many defective builds, without running a compiler. They patch the marker in the compiled file with
//! another word of the same length. Ordinary handlers need nothing like this.

use std::hint::black_box;

/// The marker. The text after the word makes it unique in the file.
static MARK: [u8; 32] = *b"fault:none; tests write it here.";
/// The event of an instance from which on `later` fails.
const LATER: u32 = 20;

/// Called when an instance starts.
pub(crate) fn on_start() {
    assert!(word() != b"start", "this build fails when it starts");
}

/// Called for each event of an instance; the first has number 1.
pub(crate) fn on_event(number: u32) {
    match word() {
        b"first" => panic!("this build fails at every event"),
        b"later" if number >= LATER => panic!("this build fails from its event {LATER} on"),
        b"loops" => loop {
            black_box(());
        },
        _ => {}
    }
}

fn word() -> &'static [u8] {
    // Keeps the compiler from inlining the constant.
    let mark: &'static [u8; 32] = black_box(&MARK);
    let word = &mark["fault:".len()..];
    let end = word.iter().position(|byte| *byte == b';').unwrap_or(word.len());
    &word[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_build_has_no_fault() {
        assert_eq!(word(), b"none");
        on_start();
        on_event(LATER);
    }
}
