//! A test in one thread and in virtual time, which passes when nobody has anything to do.

use esker::testing::single_threaded;

/// Runs `test` to its end. (`budget` builds such a runtime by itself, for it enters one several times.)
pub(crate) fn simulated<T>(test: impl Future<Output = T>) -> T {
    let _one = single_threaded();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(test)
}
