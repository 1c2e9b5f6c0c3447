//! Machinery of the tests.
