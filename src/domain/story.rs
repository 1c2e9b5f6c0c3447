//! What happened to files, turn by turn, put together: which changes made a file what it is, and who wrote which of its lines.

use std::collections::{HashMap, VecDeque};

/// One change of one file, as far as its place in the file's story.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// Changes of one number were seen at the same time.
    pub moment: Option<i64>,
    /// The path after it.
    pub path: &'a str,
    /// The path before it, where that was another.
    pub old_path: Option<&'a str>,
}

/// The steps of each file, as indexes into `steps` (which are in order), by its newest path; through renames.
pub fn stories<'a>(steps: &[Step<'a>]) -> HashMap<&'a str, Vec<usize>> {
    let mut stories: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut first = 0;
    for group in steps.chunk_by(|one, next| one.moment.is_some() && one.moment == next.moment) {
        // Taken out first: of two renames at the same time one may go where the other came from.
        let moved: Vec<Vec<usize>> = group
            .iter()
            .map(|step| step.old_path.and_then(|old| stories.remove(old)).unwrap_or_default())
            .collect();
        for (at, (step, moved)) in group.iter().zip(moved).enumerate() {
            let story = stories.entry(step.path).or_default();
            story.extend(moved);
            story.push(first + at);
        }
        first += group.len();
    }
    stories
}

/// One change of a file with its content.
#[derive(Clone, Debug)]
pub struct Edit<'a, W> {
    /// Who did it.
    pub by: W,
    /// The content before; none for a new file.
    pub old_blob: Option<&'a str>,
    /// The content after; none for a deleted file.
    pub new_blob: Option<&'a str>,
    /// A file became a link, or the reverse.
    pub other_kind: bool,
    /// What is not told for a binary or a huge file.
    pub diff: Option<&'a str>,
}

/// Neighbouring lines by the same author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines<W> {
    /// The first, from 1.
    pub first: u64,
    /// The last; none for the end of the file, wherever that is.
    pub last: Option<u64>,
    /// Who wrote them.
    pub by: W,
}

/// Who wrote which lines of a file, as its edits tell, the oldest first. Lines of nobody's (they were there before) are left out.
/// Of a file whose diff is not told, every line is the last author's.
pub fn lines<W: Clone + PartialEq>(edits: &[Edit<'_, W>]) -> Vec<Lines<W>> {
    // Contents that no later edit begins from are forgotten.
    let begun_from: HashMap<&str, usize> =
        edits.iter().enumerate().filter_map(|(at, edit)| Some((edit.old_blob?, at))).collect();
    let last = edits.len().saturating_sub(1);
    let mut known: HashMap<&str, Runs<W>> = HashMap::new();
    for (at, edit) in edits.iter().enumerate() {
        let Some(new) = edit.new_blob else { continue };
        let before = match edit.old_blob {
            None => Runs::default(),
            // Of a content that no edit made, nobody is the author.
            Some(old) => known.get(old).cloned().unwrap_or_else(|| Runs::whole(None)),
        };
        let after = match edit.diff {
            _ if edit.old_blob == edit.new_blob => before,
            Some(diff) if !edit.other_kind => before.patched(diff, &edit.by),
            _ => Runs::whole(Some(edit.by.clone())),
        };
        known.retain(|blob, _| begun_from.get(blob).is_some_and(|later| *later > at));
        if at == last || begun_from.get(new).is_some_and(|later| *later > at) {
            known.insert(new, after);
        }
    }
    let present = edits.last().and_then(|edit| edit.new_blob).and_then(|blob| known.remove(blob));
    present.map(Runs::lines).unwrap_or_default()
}

/// Neighbouring lines: how many, by whom. The last run of a file whose length is not known is endless.
#[derive(Clone, Debug)]
struct Runs<W>(VecDeque<(u64, Option<W>)>);

impl<W> Default for Runs<W> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<W: Clone + PartialEq> Runs<W> {
    fn whole(by: Option<W>) -> Self {
        Self(VecDeque::from([(u64::MAX, by)]))
    }

    fn push(&mut self, count: u64, by: Option<W>) {
        match self.0.back_mut() {
            _ if count == 0 => {}
            Some((last, whose)) if *whose == by => *last = last.saturating_add(count),
            _ => self.0.push_back((count, by)),
        }
    }

    /// Moves the first `count` lines over to `to`.
    fn pass(&mut self, mut count: u64, to: &mut Self) {
        while count > 0
            && let Some((left, by)) = self.0.front_mut()
        {
            let taken = count.min(*left);
            to.push(taken, by.clone());
            count -= taken;
            if *left != u64::MAX {
                *left -= taken;
            }
            if *left == 0 {
                self.0.pop_front();
            }
        }
    }

    /// The same after a unified diff. What is no hunk in it is passed over.
    fn patched(mut self, diff: &str, by: &W) -> Self {
        let mut after = Self::default();
        let mut old_line = 1;
        let mut lines = diff.split('\n');
        while let Some(line) = lines.next() {
            let Some(hunk) = Hunk::parse(line) else { continue };
            self.pass(hunk.old_first.saturating_sub(old_line), &mut after);
            old_line = hunk.old_first.max(old_line);
            let (mut old, mut new) = (hunk.old_count, hunk.new_count);
            while old > 0 || new > 0 {
                // Counted, not guessed: a line of the file may look like anything.
                match lines.next().and_then(|line| line.bytes().next()) {
                    Some(b'-') => {
                        self.pass(1, &mut Self::default());
                        (old, old_line) = (old.saturating_sub(1), old_line + 1);
                    }
                    Some(b'+') => {
                        after.push(1, Some(by.clone()));
                        new = new.saturating_sub(1);
                    }
                    Some(b'\\') => {}
                    Some(_) => {
                        self.pass(1, &mut after);
                        (old, new, old_line) = (old.saturating_sub(1), new.saturating_sub(1), old_line + 1);
                    }
                    None => return after,
                }
            }
        }
        for (count, by) in self.0 {
            after.push(count, by);
        }
        after
    }

    fn lines(self) -> Vec<Lines<W>> {
        let mut first = 1_u64;
        let mut lines = Vec::new();
        for (count, by) in self.0 {
            let next = first.saturating_add(count);
            if let Some(by) = by {
                lines.push(Lines { first, last: (count != u64::MAX).then(|| next - 1), by });
            }
            first = next;
        }
        lines
    }
}

/// `@@ -first,count +first,count @@`: a count of 1 is left out, and a first of nothing is the line before it.
struct Hunk {
    old_first: u64,
    old_count: u64,
    new_count: u64,
}

impl Hunk {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("@@ -")?.split(' ');
        let pair = |word: &str| {
            let (first, count) = word.split_once(',').unwrap_or((word, "1"));
            Some((first.parse::<u64>().ok()?, count.parse::<u64>().ok()?))
        };
        let (old_first, old_count) = pair(words.next()?)?;
        let (_, new_count) = pair(words.next()?.strip_prefix('+')?)?;
        let old_first = if old_count == 0 { old_first + 1 } else { old_first };
        Some(Self { old_first, old_count, new_count })
    }
}

#[cfg(test)]
mod tests;
