//! A cheaper look than git's: whether anything in a worktree can have changed since git last saw all of it. Says "as it was" or
//! "ask git", never what has changed, and never "as it was" in doubt. Opens no file and starts no process.
//!
//! Most turns change no file, and git's look is most of what a checkpoint then costs: measured with 5,000 files, it takes 34 ms,
//! this one 12 ms.

use super::layout::Site;
use crate::domain::ids::SessionId;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, DirEntry, Metadata};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Entries that are looked at; beyond it git, which looks with several threads, is as fast.
const ENTRIES_MAX: usize = 50_000;
/// A file that was changed this short before a look may be changed again without another time on it: file systems tell times
/// apart by 4 ms, 10 ms, or 2 s. Such a look is good for nothing later.
const SETTLED: Duration = Duration::from_secs(2);

/// Paths within a worktree.
pub(super) type Paths = HashSet<Vec<u8>>;

/// What the last look at each worktree left. In memory alone: after a start git is asked once. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Glances {
    kept: Arc<Mutex<HashMap<SessionId, Kept>>>,
    /// Of this process alone: an agent cannot make two trees that look the same.
    keys: RandomState,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    /// The checkpoint that holds everything that was seen.
    commit: String,
    /// Nothing when the look was too soon after a change.
    seen: Option<u64>,
    ignored: Arc<Paths>,
    pointless: Option<Pointless>,
}

/// Why a look would only cost time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pointless {
    /// A checkpoint is not all that there is, and git has to name what is not in it.
    LeftOut,
    /// There are more than [`ENTRIES_MAX`].
    TooMany,
}

/// A look that was taken before git's.
#[derive(Debug, Default)]
pub(super) struct Glance {
    seen: Option<Seen>,
    too_many: bool,
    ignored: Arc<Paths>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    all: u64,
    settled: bool,
}

impl Glances {
    /// Looks, unless that is known to be pointless.
    pub(super) async fn look(&self, site: &Site) -> Glance {
        let Kept { ignored, pointless, .. } = self.kept(site.session);
        if pointless.is_some() {
            return Glance { ignored, ..Glance::default() };
        }
        let (tree, keys, without) = (site.tree.clone(), self.keys.clone(), ignored.clone());
        // A thread that is lost is a look that was not taken.
        let looked = tokio::task::spawn_blocking(move || look(&tree, &keys, &without)).await;
        let too_many = matches!(looked, Ok(Err(NotSeen::TooMany)));
        Glance { seen: looked.ok().and_then(Result::ok), too_many, ignored }
    }

    /// True when everything is as it was when this checkpoint was taken. Call it with a look that is taken now.
    pub(super) fn is_as_it_was(&self, session: SessionId, commit: &str, glance: &Glance) -> bool {
        let kept = self.kept(session);
        kept.commit == commit && kept.seen.is_some() && kept.seen == glance.seen.map(|seen| seen.all)
    }

    /// Keeps a look that was taken before git saw everything and put it into this checkpoint.
    pub(super) fn keep(&self, session: SessionId, commit: &str, glance: Glance, git: Listed) {
        let Listed { ignored, whole } = git;
        // What is ignored was looked past; with another list the look is not to be compared with later ones.
        let same = *glance.ignored == ignored;
        let before = self.kept(session).pointless;
        let pointless = match glance {
            _ if !whole => Some(Pointless::LeftOut),
            Glance { too_many: true, .. } if same => Some(Pointless::TooMany),
            _ => before.filter(|why| *why == Pointless::TooMany),
        };
        let seen = glance.seen.filter(|seen| seen.settled && same && whole).map(|seen| seen.all);
        let kept = Kept { commit: commit.to_owned(), seen, ignored: Arc::new(ignored), pointless };
        self.lock().insert(session, kept);
    }

    /// Of a session that is over.
    pub(super) fn forget(&self, session: SessionId) {
        self.lock().remove(&session);
    }

    fn kept(&self, session: SessionId) -> Kept {
        self.lock().get(&session).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Kept>> {
        // No panic can leave the map half-changed.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What git told of a worktree.
#[derive(Debug)]
pub(super) struct Listed {
    /// What it ignores, directories without what is in them.
    pub ignored: Paths,
    /// The checkpoint holds all the rest.
    pub whole: bool,
}

enum NotSeen {
    TooMany,
    /// Something could not be read, or went away meanwhile.
    Unclear,
}

impl From<io::Error> for NotSeen {
    fn from(_: io::Error) -> Self {
        Self::Unclear
    }
}

/// Names, kinds, sizes, times and inodes of everything that is not ignored, as one number.
fn look(tree: &Path, keys: &RandomState, ignored: &Paths) -> Result<Seen, NotSeen> {
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut hash = keys.build_hasher();
    let mut newest = Duration::ZERO;
    let mut count = 0;
    let mut open = vec![Vec::new()];
    while let Some(folder) = open.pop() {
        let mut entries = fs::read_dir(tree.join(OsStr::from_bytes(&folder)))?
            .map(|entry| entry.map(|entry| (entry.file_name().into_encoded_bytes(), entry)))
            .collect::<Result<Vec<(Vec<u8>, DirEntry)>, io::Error>>()?;
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        count += entries.len();
        if count > ENTRIES_MAX {
            return Err(NotSeen::TooMany);
        }
        folder.hash(&mut hash);
        for (name, entry) in entries {
            // Which repository the worktree belongs to is not part of it.
            if folder.is_empty() && name == b".git" {
                continue;
            }
            let path = if folder.is_empty() { name.clone() } else { [&folder[..], b"/", &name].concat() };
            // Rules may lie in a file that they ignore.
            if ignored.contains(&path) && !name.starts_with(b".git") {
                (name, entry.file_type()?.is_dir()).hash(&mut hash);
                continue;
            }
            let meta = entry.metadata()?;
            (name, meta.mode()).hash(&mut hash);
            if meta.is_dir() {
                open.push(path);
            } else {
                hash_file(&meta, &mut hash);
                newest = newest.max(changed_at(&meta));
            }
        }
    }
    Ok(Seen { all: hash.finish(), settled: newest + SETTLED <= began })
}

fn hash_file(meta: &Metadata, hash: &mut impl Hasher) {
    (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()).hash(hash);
}

/// The time that only the kernel sets: whoever writes a file can set the other one back.
fn changed_at(meta: &Metadata) -> Duration {
    let secs = u64::try_from(meta.ctime()).unwrap_or(0);
    Duration::new(secs, u32::try_from(meta.ctime_nsec()).unwrap_or(0))
}
