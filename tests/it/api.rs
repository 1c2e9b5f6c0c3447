//! The API that people build on: what a task says of itself, listings in pages, streams that lose nothing, and the document.

mod access;
mod changes;
mod document;
mod logs;
mod metrics;
mod outputs;
mod streams;
mod taking_back;
mod tasks;
mod tls;
mod usage;
