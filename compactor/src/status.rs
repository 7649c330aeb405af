//! The status page: `/healthz` for a supervisor, `/status` for people and dashboards.
//!
//! Always true: it only reads; a stuck page never holds up a merge.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use esker::clock::Task;
use serde::Serialize;

use crate::{desk::Desk, event::Totals};

/// What `/status` answers.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Status {
    /// The database, without secrets.
    pub(crate) url: String,
    /// Who this is.
    pub(crate) name: String,
    /// What it does at this moment.
    pub(crate) doing: String,
    /// The newest manifest version it has seen.
    pub(crate) version: u64,
    /// Runs and bytes of each level.
    pub(crate) levels: Vec<Level>,
    /// Bytes that wait to be merged.
    pub(crate) debt_bytes: u64,
    /// The last thing that failed, if nothing has succeeded since.
    pub(crate) failing: Option<String>,
    /// Everything since the start.
    pub(crate) totals: Totals,
}

/// One level of the tree.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Level {
    pub(crate) level: u32,
    pub(crate) runs: usize,
    pub(crate) ssts: usize,
    pub(crate) bytes: u64,
}

/// Serves the page until the task is dropped. The address actually bound is returned (port 0 is any).
pub(crate) async fn serve(address: SocketAddr, desk: Arc<Desk>) -> anyhow::Result<(Task, SocketAddr)> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("the status page cannot listen on {address}"))?;
    let bound = listener.local_addr()?;
    let router = Router::new().route("/healthz", get(health)).route("/status", get(status)).with_state(desk);
    let task = Task::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "the status page has stopped");
        }
    });
    Ok((task, bound))
}

async fn health(State(desk): State<Arc<Desk>>) -> (StatusCode, String) {
    match desk.status().failing {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(failing) => (StatusCode::SERVICE_UNAVAILABLE, format!("{failing}\n")),
    }
}

async fn status(State(desk): State<Arc<Desk>>) -> Json<Status> {
    Json(desk.status())
}
