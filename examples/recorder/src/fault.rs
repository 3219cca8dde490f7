//! A place in the compiled file where a test can say what is to go wrong; nothing does as long as nobody writes there.
//!
//! Tests of live replacement need builds that do not work, many of them and without a compiler. So they take the file that
//! was built and write another word of the same length over this one. A handler of your own needs nothing like it.

use std::hint::black_box;

/// What is written over. The rest is there to make it known among all that is in the file.
static MARK: [u8; 32] = *b"fault:none; tests write it here.";
/// From this event of an instance on, `later` is now.
const LATER: u32 = 20;

/// An instance comes to be.
pub(crate) fn when_it_starts() {
    assert!(word() != b"start", "this build fails when it starts");
}

/// An instance is given its event of this number; the first is 1.
pub(crate) fn when_it_handles(number: u32) {
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
    // Without this the compiler would know what stands there, and not look.
    let mark: &'static [u8; 32] = black_box(&MARK);
    let word = &mark["fault:".len()..];
    let end = word.iter().position(|byte| *byte == b';').unwrap_or(word.len());
    &word[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_it_is_built_nothing_goes_wrong() {
        assert_eq!(word(), b"none");
        when_it_starts();
        when_it_handles(LATER);
    }
}
