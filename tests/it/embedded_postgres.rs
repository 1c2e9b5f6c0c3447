//! embedded_postgres
