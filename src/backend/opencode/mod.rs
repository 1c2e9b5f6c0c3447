//! backend/opencode: to come.
