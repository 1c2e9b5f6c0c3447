//! embedded_postgres: to come.
