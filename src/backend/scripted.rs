//! Plays scenarios from a file.
