//! What the scripted agent remembers: its conversations, and how often a task was tried. In memory, and in one small
//! JSON file a conversation where a folder is given. It plays nothing.

use super::turn_name;
use crate::backend::{Interrupted, SessionOrigin};
use crate::domain::session::SessionKey;
use crate::domain::turn::TurnRef;
use crate::domain::usage::Usage;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use uuid::Uuid;

/// Turns of a conversation that are remembered; the oldest are forgotten first.
const TURNS_MAX: usize = 200;
/// Tasks whose tries are counted at most; the oldest (task ids are ordered by time) are forgotten first.
const TRIES_MAX: usize = 1_000;

/// Why the memory does not do what is asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum MemoryError {
    #[error("conversation {0} is not open: ensure the session before prompting it")]
    NotOpen(String),
    #[error("conversation {id} already runs turn {running}: prompt it when that has ended")]
    Busy { id: String, running: String },
    #[error("{} could not be written: {source}", path.display())]
    Store { path: PathBuf, source: io::Error },
    #[error("{} could not be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
}

/// A completed turn's answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) output: String,
    pub(super) stop_reason: String,
    pub(super) usage: Usage,
}

pub(super) struct Memory {
    folder: Option<PathBuf>,
    /// Held while a file is read or written, which orders the writes of a conversation; the files are small.
    entries: Mutex<HashMap<String, Entry>>,
    /// Tries by task; only of tasks whose script asks for them.
    tries: Mutex<Option<BTreeMap<Uuid, u32>>>,
}

struct Entry {
    conversation: Conversation,
    /// It may be prompted.
    open: bool,
    /// The turn that runs in it.
    running: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Conversation {
    /// Whose: `session:agent`.
    key: String,
    #[serde(default)]
    always_allowed: BTreeSet<String>,
    #[serde(default)]
    turns: Vec<StoredTurn>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StoredTurn {
    name: String,
    prompt: String,
    completed: Option<StoredAnswer>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StoredAnswer {
    output: String,
    stop_reason: String,
    input_tokens: i64,
    output_tokens: i64,
    reasoning_tokens: i64,
}

impl Memory {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, entries: Mutex::default(), tries: Mutex::default() }
    }

    /// A new conversation, open; whatever else of its key is open is put away.
    pub(super) fn begin(&self, key: &SessionKey) -> Result<String, MemoryError> {
        let key = key.to_string();
        let mut entries = lock(&self.entries);
        for entry in entries.values_mut().filter(|entry| entry.conversation.key == key) {
            entry.open = false;
        }
        self.sweep(&mut entries);
        let id = format!("{ID_PREFIX}{}", Uuid::now_v7());
        let conversation = Conversation { key, always_allowed: BTreeSet::new(), turns: Vec::new() };
        self.store(&id, &conversation)?;
        entries.insert(id.clone(), Entry { conversation, open: true, running: None });
        Ok(id)
    }

    /// Opens a conversation of that key again and says whether it still was open; `None` when there is none.
    pub(super) fn resume(&self, id: &str, key: &SessionKey) -> Result<Option<SessionOrigin>, MemoryError> {
        let mut entries = lock(&self.entries);
        if !entries.contains_key(id)
            && let Some(conversation) = self.load(id)?
        {
            entries.insert(id.to_owned(), Entry { conversation, open: false, running: None });
        }
        let Some(entry) = entries.get_mut(id).filter(|entry| entry.conversation.key == key.to_string())
        else {
            self.sweep(&mut entries);
            return Ok(None);
        };
        let was_open = std::mem::replace(&mut entry.open, true);
        Ok(Some(if was_open { SessionOrigin::Reused } else { SessionOrigin::Resumed }))
    }

    /// What became of turns that were cut off, newest first; the conversation is cut back to before them.
    pub(super) fn settle_interrupted(&self, id: &str, turns: &[TurnRef]) -> Result<Interrupted, MemoryError> {
        let mut entries = lock(&self.entries);
        let entry = entries.get_mut(id).ok_or_else(|| MemoryError::NotOpen(id.to_owned()))?;
        let names: Vec<String> = turns.iter().map(|turn| turn_name(*turn)).collect();
        let stored = &mut entry.conversation.turns;
        let completed = names.iter().find_map(|name| {
            stored.iter().find(|turn| turn.name == *name).and_then(|turn| turn.completed.clone())
        });
        if let Some(answer) = completed {
            return Ok(Interrupted::Completed {
                usage: answer.usage(),
                output: answer.output,
                stop_reason: answer.stop_reason,
            });
        }
        if let Some(first) = stored.iter().position(|turn| names.contains(&turn.name)) {
            stored.truncate(first);
            self.store(id, &entry.conversation)?;
        }
        Ok(Interrupted::CutBack)
    }

    /// Enters a turn that begins. The guard that is returned makes room for the next one when it is dropped.
    pub(super) fn enter(
        &self,
        id: &str,
        turn: TurnRef,
        prompt: &str,
    ) -> Result<RunningTurn<'_>, MemoryError> {
        let mut entries = lock(&self.entries);
        let entry = entries
            .get_mut(id)
            .filter(|entry| entry.open)
            .ok_or_else(|| MemoryError::NotOpen(id.to_owned()))?;
        if let Some(running) = &entry.running {
            return Err(MemoryError::Busy { id: id.to_owned(), running: running.clone() });
        }
        let earlier = entry.conversation.turns.iter().map(|turn| turn.prompt.clone()).collect();
        let name = turn_name(turn);
        let stored = &mut entry.conversation.turns;
        stored.push(StoredTurn { name: name.clone(), prompt: prompt.to_owned(), completed: None });
        stored.drain(..stored.len().saturating_sub(TURNS_MAX));
        self.store(id, &entry.conversation)?;
        entry.running = Some(name.clone());
        Ok(RunningTurn { memory: self, id: id.to_owned(), name, turn, earlier, tries: OnceLock::new() })
    }

    /// Closes the door, keeps the conversation; one that is not known is put away already.
    pub(super) fn put_away(&self, id: &str) {
        let mut entries = lock(&self.entries);
        if let Some(entry) = entries.get_mut(id) {
            entry.open = false;
        }
        self.sweep(&mut entries);
    }

    pub(super) fn put_all_away(&self) {
        let mut entries = lock(&self.entries);
        entries.values_mut().for_each(|entry| entry.open = false);
        self.sweep(&mut entries);
    }

    /// Forgets a conversation for ever.
    pub(super) fn forget(&self, id: &str) -> Result<(), MemoryError> {
        let mut entries = lock(&self.entries);
        entries.remove(id);
        let Some(path) = self.path(id) else { return Ok(()) };
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(MemoryError::Store { path, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Count of conversations that may be prompted.
    pub(super) fn open(&self) -> usize {
        lock(&self.entries).values().filter(|entry| entry.open).count()
    }

    /// Counts one more try of a task; 1 is the first.
    fn count_try(&self, task: Uuid) -> Result<u32, MemoryError> {
        let mut tries = lock(&self.tries);
        let path = self.folder.as_ref().map(|folder| folder.join("tries.json"));
        let tries = match &mut *tries {
            Some(tries) => tries,
            empty => empty.insert(path.as_deref().map(read).transpose()?.flatten().unwrap_or_default()),
        };
        let count = tries.entry(task).or_insert(0);
        *count += 1;
        let count = *count;
        while tries.len() > TRIES_MAX {
            tries.pop_first();
        }
        if let Some(path) = path {
            write(&path, tries)?;
        }
        Ok(count)
    }

    /// Takes out of memory what neither is open nor runs, when a file remembers it.
    fn sweep(&self, entries: &mut HashMap<String, Entry>) {
        if self.folder.is_some() {
            entries.retain(|_, entry| entry.open || entry.running.is_some());
        }
    }

    fn load(&self, id: &str) -> Result<Option<Conversation>, MemoryError> {
        self.path(id).map_or(Ok(None), |path| read(&path))
    }

    fn store(&self, id: &str, conversation: &Conversation) -> Result<(), MemoryError> {
        self.path(id).map_or(Ok(()), |path| write(&path, conversation))
    }

    /// The conversation's file; none without a folder, and none for what is no id of ours: an id becomes a file name.
    fn path(&self, id: &str) -> Option<PathBuf> {
        let uuid = Uuid::parse_str(id.strip_prefix(ID_PREFIX)?).ok()?;
        Some(self.folder.as_ref()?.join(format!("{ID_PREFIX}{uuid}.json")))
    }
}

const ID_PREFIX: &str = "scripted-";

/// A turn that runs. Dropping it ends the turn, completed or not.
pub(super) struct RunningTurn<'a> {
    memory: &'a Memory,
    id: String,
    name: String,
    turn: TurnRef,
    earlier: Vec<String>,
    tries: OnceLock<u32>,
}

impl RunningTurn<'_> {
    /// Prompts of the conversation before this one, oldest first.
    pub(super) fn earlier(&self) -> &[String] {
        &self.earlier
    }

    /// Which try of its task this is, 1 for the first; counted once a turn, and only if somebody asks.
    pub(super) fn tries(&self) -> Result<u32, MemoryError> {
        if let Some(tries) = self.tries.get() {
            return Ok(*tries);
        }
        let tries = self.memory.count_try(self.turn.task.0)?;
        Ok(*self.tries.get_or_init(|| tries))
    }

    /// Remembers the turn's answer.
    pub(super) fn complete(&self, answer: Answer) -> Result<(), MemoryError> {
        self.change(|conversation| {
            if let Some(turn) = conversation.turns.iter_mut().rfind(|turn| turn.name == self.name) {
                turn.completed = Some(answer.into());
            }
        })
    }

    /// True when a person allowed the like for the whole conversation.
    pub(super) fn is_always_allowed(&self, title: &str) -> bool {
        let entries = lock(&self.memory.entries);
        entries.get(&self.id).is_some_and(|entry| entry.conversation.always_allowed.contains(title))
    }

    pub(super) fn allow_always(&self, title: &str) -> Result<(), MemoryError> {
        self.change(|conversation| {
            conversation.always_allowed.insert(title.to_owned());
        })
    }

    fn change(&self, change: impl FnOnce(&mut Conversation)) -> Result<(), MemoryError> {
        let mut entries = lock(&self.memory.entries);
        let entry = entries.get_mut(&self.id).ok_or_else(|| MemoryError::NotOpen(self.id.clone()))?;
        change(&mut entry.conversation);
        self.memory.store(&self.id, &entry.conversation)
    }
}

impl Drop for RunningTurn<'_> {
    fn drop(&mut self) {
        let mut entries = lock(&self.memory.entries);
        if let Some(entry) = entries.get_mut(&self.id) {
            entry.running = None;
        }
        self.memory.sweep(&mut entries);
    }
}

impl StoredAnswer {
    fn usage(&self) -> Usage {
        Usage {
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            reasoning_tokens: self.reasoning_tokens,
            ..Usage::default()
        }
    }
}

impl From<Answer> for StoredAnswer {
    fn from(answer: Answer) -> Self {
        Self {
            output: answer.output,
            stop_reason: answer.stop_reason,
            input_tokens: answer.usage.input_tokens,
            output_tokens: answer.usage.output_tokens,
            reasoning_tokens: answer.usage.reasoning_tokens,
        }
    }
}

/// A file's JSON; none when there is no file. A file that is no JSON of ours is an error: nobody else writes there.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, MemoryError> {
    let failed = |source| MemoryError::Read { path: path.to_owned(), source };
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Whole or not at all: a reader never sees half a file, whenever we are killed.
fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), MemoryError> {
    let failed = |source| MemoryError::Store { path: path.to_owned(), source };
    let bytes = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
    let beside = path.with_extension("tmp");
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
    fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path)).map_err(failed)
}

/// The maps are whole between any two statements that hold a lock, so a panic elsewhere cannot have torn them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
