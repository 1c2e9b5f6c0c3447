//! The program as people and scripts meet it. Here: what services of the tests answer.

mod client;
mod configuration;
mod following;
mod machine;

use crate::support::cli::{Ended, User, nobody, serve};
use crate::support::cluster::fresh_database;
use crate::support::repos::Repos;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::StreamExt;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

const TASK: Uuid = Uuid::from_u128(0x0197_0000_0000_7000_8000_0000_0000_0001);
const SESSION: Uuid = Uuid::from_u128(0x0197_0000_0000_7000_8000_0000_0000_0002);
const AT: &str = "2026-01-01T00:00:00Z";

fn task() -> Value {
    json!({
        "id": TASK, "session_id": SESSION, "agent": "play", "prompt": "do\u{1b}[2J it", "model": null,
        "priority": 0, "run_at": null, "status": "running", "attempt": 1, "failures": 0, "max_failures": 3,
        "cancel_requested_at": null, "output": null, "error": null, "failure_reason": null,
        "created_at": AT, "started_at": null, "finished_at": null,
    })
}

fn permission() -> Value {
    json!({
        "id": Uuid::from_u128(3), "session_id": SESSION, "task_id": TASK, "agent": "play", "kind": "tool",
        "title": "bash: ls", "payload": {}, "status": "pending", "answer": null, "answered_by": null,
        "deadline": null, "created_at": AT,
    })
}

fn message(pos: i64, kind: &str, content: &str) -> String {
    let event = json!({
        "pos": pos, "task_id": TASK, "seq": pos, "type": kind, "content": content, "created_at": AT,
    });
    format!("id: e:{pos}\nevent: message\ndata: {event}\n\n")
}

fn end(status: &str) -> String {
    let end = json!({"status": status, "failure_reason": null, "error": null, "last_pos": 9});
    format!("event: end\ndata: {end}\n\n")
}

fn sse(text: String) -> Response {
    ([("content-type", "text/event-stream")], text).into_response()
}

fn problem(status: u16, detail: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, Json(json!({"status": status.as_u16(), "code": "x", "detail": detail}))).into_response()
}

/// A service with one task whose stream is what the test says.
fn service_with(stream: impl Fn(HeaderMap) -> Response + Clone + Send + Sync + 'static) -> Router {
    Router::new()
        .route(&format!("/api/tasks/{TASK}"), get(async || Json(task())))
        .route(
            &format!("/api/tasks/{TASK}/events"),
            get(async move |headers: HeaderMap| stream(headers)),
        )
        .route("/api/tasks", get(async || Json(json!([task()]))).post(async || (StatusCode::CREATED, Json(task()))))
        .route("/api/agents", get(async || {
            Json(json!([{"name": "play", "backend": "scripted", "default_model": null, "state": "up", "detail": ""}]))
        }))
        .route("/api/permissions", get(async || Json(json!([permission()]))))
}
