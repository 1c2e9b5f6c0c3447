//! process: to come.
