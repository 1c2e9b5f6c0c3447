//! What the variable FIXTURE asks for: `word,word=value,…`. Its table is in main.rs.

use std::collections::BTreeMap;

/// The words with their values.
#[derive(Clone, Debug, Default)]
pub struct Faults(BTreeMap<String, String>);

impl Faults {
    pub fn from_environment() -> Self {
        Self::parse(&std::env::var("FIXTURE").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        Self(
            words
                .map(|word| word.split_once('=').unwrap_or((word, "")))
                .map(|(word, value)| (word.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    pub fn has(&self, word: &str) -> bool {
        self.0.contains_key(word)
    }

    /// The word's value; `None` when the word is not there.
    pub fn value(&self, word: &str) -> Option<&str> {
        self.0.get(word).map(String::as_str)
    }

    /// The word's value as a number; `None` when the word is not there, 1 when it has none.
    pub fn number(&self, word: &str) -> Option<u64> {
        self.value(word).map(|value| value.parse().unwrap_or(1))
    }
}
