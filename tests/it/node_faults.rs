//! The rows of a node's own faults (F01 to F18, F110): crashes between any two commits, signals in every state, panics,
//! stalls, stopped clocks and stepped ones, and two nodes of which one is lost. On the real program.

mod clocks;
mod crashes;
mod leaks;
mod signals;
mod stalls;
mod two_nodes;
