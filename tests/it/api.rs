//! The API that people build on: what a task says of itself, listings in pages, streams that lose nothing, and the document.

mod access;
mod changes;
mod document;
mod metrics;
mod outputs;
mod streams;
mod tasks;
mod tls;
mod usage;
