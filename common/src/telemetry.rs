//! Logs: one JSON object a line on standard error, or plain text for a person at a terminal.

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

const HELD_BACK: &str = "lapin=error,amq_protocol=info,sqlx=warn,h2=info,hyper=info,hyper_util=info,reqwest=info,rustls=info,tower=info";

/// Starts logging. `level` is a filter such as `info` or `info,router=debug`.
///
/// Libraries are held back where a level for all would let them tell more than they should, or more than anybody reads:
/// lapin prints whole returned messages at `warn`, sqlx tells each notice of the server at `info`, and the parts of the
/// HTTP client tell of addresses and headers at `debug` and `trace`. A filter that names them sets them free.
///
/// # Errors
/// When the filter cannot be read, or when logging was started before.
pub fn start(level: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{HELD_BACK},{level}"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Json => {
            log.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
        LogFormat::Text => log.try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging was started before: {error}"))
}

/// A wait or a duration for a field of a log line, in whole milliseconds.
#[must_use]
pub fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A `traceparent` header of the W3C Trace Context that begins a new trace.
#[must_use]
pub fn new_traceparent() -> String {
    format!("00-{:032x}-{:016x}-01", rand::random::<u128>(), rand::random::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_has_the_standard_shape() {
        let parts: Vec<_> = new_traceparent().split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2]);
        assert_ne!(new_traceparent(), new_traceparent());
    }
}
