//! What our programs have in common: the runtime, logs on standard error, and the signals that stop them.

/// The runtime of Esker's programs: a worker for each processor, and few threads for blocking work (see
/// [`esker::blocking_threads`]).
///
/// # Errors
///
/// The system gives no more threads.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(esker::blocking_threads())
        .build()
}

/// Sends logs to standard error, as readable lines. `RUST_LOG` chooses what; the default is `info` for Esker
/// and `warn` for the rest. Does nothing if the process logs already.
pub fn log_to_stderr() {
    use std::io::{IsTerminal as _, stderr};
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,esker=info,esker_compactor=info"));
    let colour = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    // Fails only if logging has been set up already, which is then how it shall be.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(colour)
        .with_target(false)
        .try_init();
}

/// Ready when SIGTERM or SIGINT has come; from the call on, they no longer end the process by themselves.
///
/// # Errors
///
/// The system refuses to have them caught.
#[cfg(unix)]
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Ready when Ctrl-C has been pressed.
///
/// # Errors
///
/// None here.
#[cfg(not(unix))]
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a handler there is no signal either: then it runs until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
