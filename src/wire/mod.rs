//! The JSON of our HTTP API and of stored rows, with conversions to and from the domain. Serde lives here and nowhere else
//! but in the backends' own wires. Nothing here does I/O.

pub mod api;
pub mod catalogue;
pub mod event;
pub mod health;
pub mod permission;
pub mod pool;
