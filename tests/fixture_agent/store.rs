//! Conversations, each in a JSON file below `$HOME/.fixture-agent`. A turn is written when it begins and when it ends, so
//! that a killed process forgets nothing but what it was about to say.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Conversation {
    pub id: String,
    pub cwd: PathBuf,
    pub title: Option<String>,
    /// Tools that need not be asked for again.
    #[serde(default)]
    pub always_allowed: BTreeSet<String>,
    #[serde(default)]
    pub turns: Vec<Exchange>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exchange {
    pub prompt: String,
    /// What was said; `None` while the turn runs, and for ever when it was cut off.
    pub answer: Option<String>,
}

pub struct Store {
    folder: PathBuf,
}

impl Store {
    pub fn at_home() -> Self {
        let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
        Self { folder: home.join(".fixture-agent") }
    }

    /// Writes aside and renames: a reader after a kill finds the old or the new.
    pub fn save(&self, conversation: &Conversation) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let path = self.path(&conversation.id);
        let aside = path.with_extension(format!("{}.new", std::process::id()));
        std::fs::write(&aside, serde_json::to_vec(conversation)?)?;
        std::fs::rename(aside, path)
    }

    pub fn load(&self, id: &str) -> Option<Conversation> {
        if id.contains(['/', '.']) {
            return None;
        }
        serde_json::from_slice(&std::fs::read(self.path(id)).ok()?).ok()
    }

    /// Every conversation, by id.
    pub fn all(&self) -> Vec<Conversation> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let mut found: Vec<Conversation> = entries
            .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
            .filter_map(|id| self.load(&id))
            .collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }
}
