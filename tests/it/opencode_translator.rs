//! opencode_translator
