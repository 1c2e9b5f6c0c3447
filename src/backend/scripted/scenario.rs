//! Scenarios: named lists of steps in JSON files. Reads them once; plays nothing.

use super::script::Step;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Longest scenario file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most scenarios of one folder.
const SCENARIOS_MAX: usize = 1_000;

/// Scenarios by name: the file's name without `.json`. A file is a list of steps, each one of
/// `{"say": "…"}`, `{"think": "…"}`, `{"plan": [["what", "status"], …]}`, `{"slow": tokens}`, `{"sleep_ms": n}`,
/// `{"tool_write": {"path": "…", "content": "…"}}`, `{"ask": "title"}`, `{"question": "title"}`, `{"notice": "…"}`,
/// `{"retry": "what the provider said"}`, `{"fail": {"reason": "…", "tries": n or null, "retry_after_secs": n}}`, `{"crash": {"tries": n or null}}`,
/// `"crash_late"`, `"recall"`, `"settings"`, `"hang"`, `"hang_deaf"`, `"refuse"`, `"empty"`.
#[derive(Clone, Debug, Default)]
pub struct Scenarios {
    steps: BTreeMap<String, Vec<Step>>,
}

/// Why scenarios could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The folder or a file in it could not be read.
    #[error("{} could not be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no list of steps.
    #[error("{} is no scenario: write a json list of steps", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// There is more than is read.
    #[error("{} is too large: at most 1,000 scenarios of 1 MiB each are read", .0.display())]
    TooLarge(PathBuf),
}

impl Scenarios {
    /// Those that come with the program.
    pub fn built_in() -> Self {
        let files = [
            ("long_turn", include_str!("../../../fixtures/scripted/long_turn.json")),
            ("rate_limited", include_str!("../../../fixtures/scripted/rate_limited.json")),
            ("tour", include_str!("../../../fixtures/scripted/tour.json")),
        ];
        let steps = files.map(|(name, text)| {
            let steps = serde_json::from_str(text).expect("a test reads every built-in scenario");
            (name.to_owned(), steps)
        });
        Self { steps: BTreeMap::from(steps) }
    }

    /// All `*.json` of a folder. Blocking.
    ///
    /// # Errors
    /// When the folder or one of the files cannot be read or is no scenario.
    pub fn from_folder(folder: &Path) -> Result<Self, ScenarioError> {
        let read = |path: &Path| {
            let path = path.to_owned();
            move |source| ScenarioError::Read { path, source }
        };
        let mut steps = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(read(folder))? {
            let path = entry.map_err(read(folder))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let size = fs::metadata(&path).map_err(read(&path))?.len();
            if size > FILE_BYTES_MAX || steps.len() == SCENARIOS_MAX {
                return Err(ScenarioError::TooLarge(path));
            }
            let text = fs::read(&path).map_err(read(&path))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let parsed = serde_json::from_slice(&text)
                .map_err(|source| ScenarioError::Parse { path: path.clone(), source })?;
            steps.insert(name, parsed);
        }
        Ok(Self { steps })
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.steps.keys().map(String::as_str)
    }

    pub(super) fn steps(&self, name: &str) -> Option<&[Step]> {
        self.steps.get(name).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_is_the_file_of_its_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/scripted");
        let read = Scenarios::from_folder(&folder).unwrap();
        assert_eq!(read.steps, Scenarios::built_in().steps);
    }

    #[test]
    fn a_file_that_is_no_scenario_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("odd.json"), r#"[{"sing": "la"}]"#).unwrap();
        let error = Scenarios::from_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("odd.json"), "{error}");
    }
}
