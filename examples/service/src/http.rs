//! The service: routes, statuses, metrics, and shutdown.

use std::{
    error::Error, fmt::Write, future, io, net::SocketAddr, sync::Arc, task::Poll, time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tracing::Level;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};
use vmffi::{
    CallError, Failure, Peer,
    host::GuestExit,
    machine::{Backend, Pool},
};

use crate::{
    TERMS,
    interface::{Attack, Finding, Report, ScanError, ScannerClient},
};

/// The longest document, in bytes.
pub const MAX_BODY: usize = 256 << 10;
/// How long a request waits for a guest and for the result.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints the events of the pool and of this program.
pub fn log_events() {
    let targets = [("vmffi::pool", Level::DEBUG), ("service", Level::INFO)];
    let output = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    tracing_subscriber::registry().with(output).with(Targets::new().with_targets(targets)).init();
}

/// Serves until SIGINT or SIGTERM; then pending requests are answered, and the pool closes.
pub fn serve(pool: Pool, address: SocketAddr, backend: Backend) -> Result<(), Box<dyn Error>> {
    let pool = Arc::new(pool);
    let router = Router::new()
        .route("/parse", post(parse))
        .route("/attack/{attack}", post(attack))
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(pool.clone());
    Runtime::new()?.block_on(async {
        let listener = TcpListener::bind(address).await?;
        println!("service: listens on {}, runs on {backend}", listener.local_addr()?);
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let end = future::poll_fn(move |context| {
            let ended =
                interrupt.poll_recv(context).is_ready() || terminate.poll_recv(context).is_ready();
            if ended { Poll::Ready(()) } else { Poll::Pending }
        });
        axum::serve(listener, router).with_graceful_shutdown(end).await
    })?;
    pool.close();
    println!("service: closed");
    Ok(())
}

/// Parses a document in a guest. If the client disconnects, axum drops this future, and with it the call.
async fn parse(State(pool): State<Arc<Pool>>, document: Bytes) -> Response {
    let scan = move |guest: &Peer| {
        let Report { values, depth, findings } = ScannerClient::from(guest).scan(&document[..])?;
        // Copied, since the reset of the guest releases it.
        Ok((values, depth, findings.read_vec()?))
    };
    match call(&pool, scan).await {
        Ok((values, depth, findings)) => {
            let term = |found: &Finding| {
                // A guest may say any number.
                let term = TERMS.lines().nth(found.term as usize)?;
                Some(json!({ "term": term, "strings": found.strings }))
            };
            let findings: Vec<_> = findings.iter().filter_map(term).collect();
            Json(json!({ "values": values, "depth": depth, "findings": findings })).into_response()
        }
        Err(response) => response,
    }
}

/// Makes a guest misbehave. A real service does not offer this.
async fn attack(State(pool): State<Arc<Pool>>, Path(attack): Path<String>) -> Response {
    let attack = match attack.as_str() {
        "loop" => Attack::Loop,
        "panic" => Attack::Panic,
        "overflow" => Attack::Overflow,
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let result = call(&pool, move |guest| Ok(ScannerClient::from(guest).attack(attack)?)).await;
    result.map_or_else(|response| response, |()| StatusCode::NO_CONTENT.into_response())
}

/// Calls a guest of the pool; maps an error to a response.
async fn call<R: Send + 'static>(
    pool: &Pool,
    call: impl FnOnce(&Peer) -> Result<R, Failure<ScanError>> + Send + 'static,
) -> Result<R, Response> {
    let (status, text) = match timeout(PATIENCE, pool.call_async(call)).await {
        Ok(Ok(Ok(result))) => return Ok(result),
        Ok(Ok(Err(Failure::App(error)))) => return Err(rejected(error)),
        Ok(Ok(Err(Failure::Call(error)))) => failed(&error),
        Ok(Err(error)) => {
            tracing::error!(%error, "no guest");
            (StatusCode::SERVICE_UNAVAILABLE, "there is no guest for this document")
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "no guest has answered in time"),
    };
    Err((status, Json(json!({ "error": text }))).into_response())
}

/// Maps an error in the document to a response, with the place that the guest reports.
fn rejected(error: ScanError) -> Response {
    let (text, line, column) = match error {
        ScanError::Syntax { line, column } => ("this is not JSON", line, column),
        ScanError::Truncated { line, column } => ("the document ends too early", line, column),
        ScanError::NotConfigured => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    let body = json!({ "error": text, "line": line, "column": column });
    (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
}

/// Maps a failure of the guest to a response. The guest's own message goes to the log, not to the client.
fn failed(error: &CallError) -> (StatusCode, &'static str) {
    match error.guest_exit() {
        Some(GuestExit::CpuTime) => {
            (StatusCode::REQUEST_TIMEOUT, "the document takes too much time")
        }
        Some(GuestExit::Deadline) => (StatusCode::SERVICE_UNAVAILABLE, "the service is too busy"),
        _ => {
            tracing::error!(%error, "a call failed");
            (StatusCode::INTERNAL_SERVER_ERROR, "the document could not be parsed")
        }
    }
}

/// The pool's metrics in the text format of Prometheus.
async fn metrics(State(pool): State<Arc<Pool>>) -> impl IntoResponse {
    let now = pool.metrics();
    let exits = &now.exits;
    let other = exits.too_many_calls + exits.unfit + exits.protocol + exits.lost;
    let samples = [
        ("calls_total", now.leases as f64),
        ("call_seconds_total", now.lease_time.as_secs_f64()),
        ("resets_total", now.resets as f64),
        ("made_total", now.made as f64),
        ("discarded_total", now.discarded as f64),
        ("failures_total", now.failures as f64),
        ("exits_total{exit=\"exited\"}", exits.exited as f64),
        ("exits_total{exit=\"fault\"}", exits.fault as f64),
        ("exits_total{exit=\"stopped\"}", exits.stopped as f64),
        ("exits_total{exit=\"deadline\"}", exits.deadline as f64),
        ("exits_total{exit=\"cpu_time\"}", exits.cpu_time as f64),
        ("exits_total{exit=\"other\"}", other as f64),
        ("guests{state=\"in_use\"}", now.in_use as f64),
        ("guests{state=\"idle\"}", now.idle as f64),
        ("guests{state=\"resetting\"}", now.resetting as f64),
        ("waiting", now.waiting as f64),
    ];
    let (mut text, mut family) = (String::new(), "");
    for (name, value) in samples {
        let (of, _) = name.split_once('{').unwrap_or((name, ""));
        if of != family {
            family = of;
            let kind = if of.ends_with("_total") { "counter" } else { "gauge" };
            let _ = writeln!(text, "# TYPE vmffi_pool_{of} {kind}");
        }
        let _ = writeln!(text, "vmffi_pool_{name} {value}");
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
