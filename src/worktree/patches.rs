//! Cuts git's one long patch into one a file while it streams by, within a bound. Knows nothing of paths.

use crate::domain::change::DIFF_BYTES_MAX;
use crate::domain::text::clean_bytes;

/// What begins a file. Lines of content begin with a blank, `+`, `-` or `\`, and names with a newline are quoted (the
/// patch is asked for without `-z`), so that no file can forge it.
const MARK: &[u8] = b"diff --git ";
/// Bytes of diffs that are held for one call; beyond it diffs are left out, as too long ones are.
const TOTAL_BYTES_MAX: usize = 64 << 20;

/// The patches so far.
#[derive(Default)]
pub(super) struct Patches {
    done: Vec<Option<String>>,
    open: Option<Patch>,
    /// Bytes of the present line while they may still become [`MARK`].
    start: Vec<u8>,
    inside_line: bool,
    total: usize,
}

#[derive(Default)]
struct Patch {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Patches {
    /// Takes the next bytes, cut anywhere.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| at + 1);
            let (piece, rest) = bytes.split_at(end);
            bytes = rest;
            let ends = piece.ends_with(b"\n");
            if self.inside_line {
                self.keep(piece);
            } else {
                self.start.extend_from_slice(piece);
                if self.start.len() >= MARK.len() || ends {
                    self.line_began();
                }
            }
            if ends {
                self.inside_line = false;
            }
        }
    }

    /// The patches, in git's order; none for one that is too long.
    pub(super) fn finish(mut self) -> Vec<Option<String>> {
        self.line_began();
        self.close();
        self.done
    }

    fn line_began(&mut self) {
        let line = std::mem::take(&mut self.start);
        if line.starts_with(MARK) {
            self.close();
            self.open = Some(Patch::default());
        }
        self.inside_line = true;
        self.keep(&line);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let Some(patch) = &mut self.open else { return };
        if patch.bytes.len() + bytes.len() > DIFF_BYTES_MAX {
            patch.too_long = true;
            patch.bytes = Vec::new();
        }
        if !patch.too_long {
            patch.bytes.extend_from_slice(bytes);
        }
    }

    fn close(&mut self) {
        let Some(patch) = self.open.take() else { return };
        // Cleaning may lengthen broken UTF-8, three bytes for one.
        let text = if patch.too_long { None } else { Some(clean_bytes(&patch.bytes)) };
        let text =
            text.filter(|text| text.len() <= DIFF_BYTES_MAX && self.total + text.len() <= TOTAL_BYTES_MAX);
        self.total += text.as_ref().map_or(0, String::len);
        self.done.push(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_cut_the_same_wherever_the_pipe_cuts() {
        let text = b"diff --git a/x b/x\n-diff --git a/y b/y\n+\n a\ndiff --git a/z b/z\nnew file\n";
        let whole = {
            let mut patches = Patches::default();
            patches.feed(text);
            patches.finish()
        };
        assert_eq!(whole.len(), 2);
        assert!(whole[1].as_deref().is_some_and(|patch| patch.ends_with("new file\n")));
        for size in 1..text.len() {
            let mut patches = Patches::default();
            text.chunks(size).for_each(|piece| patches.feed(piece));
            assert_eq!(patches.finish(), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn a_patch_above_the_limit_is_left_out_and_its_place_is_kept() {
        let mut patches = Patches::default();
        patches.feed(b"diff --git a/x b/x\n+");
        patches.feed(&vec![b'x'; DIFF_BYTES_MAX]);
        patches.feed(b"\ndiff --git a/y b/y\n");
        assert_eq!(patches.finish(), [None, Some("diff --git a/y b/y\n".to_owned())]);
    }
}
