//! The engine: claims, runs, reports. Five rooms, one direction: the dispatcher claims and finishes, an executor runs one
//! turn, the event writer stores what it says, the leases keep it alive, the rescuer frees what others left behind.

pub mod dispatcher;
pub mod event_writer;
pub mod executor;
mod interview;
pub mod leases;
pub mod pg_source;
pub mod rescuer;
pub mod task_source;
mod verdict;
