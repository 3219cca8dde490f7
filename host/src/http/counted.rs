//! Counted: following a stream of WebSocket frames. See `crate::counted`.

use super::frames::Frames;

#[test]
fn frames_of_a_client() {
    let small = [&[0x81, 0x80 | 24, 1, 2, 3, 4][..], &[b'x'; 24]].concat();
    let chunk = small.repeat(64);
    let mut frames = Frames::new(0);
    assert_eq!(counted_frames_of_a_client(&mut frames, &chunk), 32);
    assert!(!frames.is_broken());
}

/// How often the reader could have been stopped at the end of a chunk.
#[inline(never)]
fn counted_frames_of_a_client(frames: &mut Frames, chunk: &[u8]) -> usize {
    let mut stops = 0;
    for _ in 0..32 {
        frames.saw(chunk);
        stops += usize::from(frames.rest().is_none());
    }
    stops
}
