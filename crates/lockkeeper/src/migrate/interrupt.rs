//! Ctrl-C and SIGTERM while something of ours runs that must not go on without us.

use super::stop::Stop;
use crate::exit::Failure;

/// Runs `work` to its end. When a person or an orchestrator interrupts, it is dropped, which ends the programs that it
/// has started.
pub(super) async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let done = Stop::listen(None)?.before(work).await;
    done.map_err(|cause| {
        let text = format!("{}; the programs that were running are ended", cause.text());
        Failure::new(cause.exit(), text)
    })
}
