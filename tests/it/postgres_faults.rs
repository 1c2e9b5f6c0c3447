//! Postgres killed, restarted, away, silent, read-only, behind a pooler, too busy; and what is wrong with it from the start.

mod busy;
mod half_open;
mod killed;
mod outages;
mod poolers;
mod read_only;
mod starts;
mod texts;
