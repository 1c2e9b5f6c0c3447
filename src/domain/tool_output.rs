//! Tool outputs that are longer than a row should be: a preview for every reader, and the whole, compressed, for whoever asks.

use super::text::cut;
use std::io;
use std::sync::Arc;

/// Longest output that its row holds whole, in bytes. More than agents tell their own models (opencode and Claude Code cut at some
/// 30 to 50 KB), a thousand lines; and a page of 500 such rows is still no more than a reader can take.
pub const PREVIEW_BYTES_MAX: usize = 64 << 10;
/// Longest output that is kept whole, in bytes; the rest is cut with a mark.
pub const OUTPUT_BYTES_MAX: usize = 64 << 20;
/// Longest output as it is kept, compressed, in bytes: it goes with the events of all turns in one statement, which must not take so long
/// that a connection of a few Mbit/s is given up over it. A log of 50 MB has 10.
pub const PACKED_BYTES_MAX: usize = 12 << 20;
/// zstd's own default: a log of 50 MB takes a quarter of a second, and a fifth of the room (measured).
const LEVEL: i32 = 3;

/// What is known of a long output besides its preview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongOutput {
    /// Its bytes as a whole.
    pub bytes: u64,
    /// The whole, as [`pack`] makes it. `None`: more of it is still to come, or it is kept with an earlier event.
    pub packed: Option<Arc<[u8]>>,
}

/// Beginning and end, with a line between that says how much is left out. `None` for a text that a row can hold.
pub fn preview(text: &str) -> Option<String> {
    if text.len() <= PREVIEW_BYTES_MAX {
        return None;
    }
    // What went wrong stands at the end, what was done at the beginning.
    let beginning = text.floor_char_boundary(PREVIEW_BYTES_MAX / 2);
    let end = text.ceil_char_boundary(text.len() - PREVIEW_BYTES_MAX / 2);
    let left_out = end - beginning;
    Some(format!("{}\n… [{left_out} bytes left out] …\n{}", &text[..beginning], &text[end..]))
}

/// The text, compressed, up to [`OUTPUT_BYTES_MAX`]; of one that does not compress, the first [`PACKED_BYTES_MAX`] bytes.
pub fn pack(text: String) -> Arc<[u8]> {
    let text = cut(text, OUTPUT_BYTES_MAX);
    let packed = compressed(&text);
    if packed.len() <= PACKED_BYTES_MAX {
        return packed;
    }
    // With room for what a frame adds to what does not compress.
    compressed(&cut(text, PACKED_BYTES_MAX - (64 << 10)))
}

fn compressed(text: &str) -> Arc<[u8]> {
    zstd::bulk::compress(text.as_bytes(), LEVEL)
        .expect("a buffer of the bound that zstd gives has room")
        .into()
}

/// The text that was packed.
///
/// # Errors
/// When the bytes are none that [`pack`] made.
pub fn unpack(packed: &[u8]) -> io::Result<String> {
    // With room for the mark of a cut; more than that nobody packed.
    let bytes = zstd::bulk::decompress(packed, OUTPUT_BYTES_MAX + 1024)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_has_both_ends_and_splits_no_character() {
        assert_eq!(preview(&"x".repeat(PREVIEW_BYTES_MAX)), None);
        for lead in 0..5 {
            let text = format!("{}{}", "a".repeat(lead), "😀é".repeat(20_000));
            let preview = preview(&text).expect("it is long");
            let (beginning, rest) = preview.split_once("\n… [").expect("it says what is left out");
            let (left_out, end) = rest.split_once(" bytes left out] …\n").expect("and how much");
            assert!(text.starts_with(beginning) && text.ends_with(end));
            assert_eq!(
                beginning.len() + end.len() + left_out.parse::<usize>().expect("a number"),
                text.len()
            );
            assert!(preview.len() <= PREVIEW_BYTES_MAX + 64);
        }
    }

    #[test]
    fn what_is_packed_comes_back_up_to_the_limit() {
        for text in ["é😀".repeat(100_000), String::new()] {
            assert_eq!(unpack(&pack(text.clone())).expect("it was packed"), text);
        }
        let long = unpack(&pack("é".repeat(OUTPUT_BYTES_MAX / 2 + 5))).expect("it was packed");
        assert!(long.ends_with("é… [10 bytes cut]"), "{}", &long[long.len() - 40..]);
        assert!(unpack(b"no frame").is_err());
        // Letters without a pattern.
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[(state >> 58) as usize],
            )
        });
        let packed = pack(noise.take(20 << 20).collect());
        assert!(packed.len() <= PACKED_BYTES_MAX);
        assert!(unpack(&packed).expect("it was packed").ends_with("bytes cut]"));
    }
}
