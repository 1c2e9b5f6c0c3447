//! install: to come.
