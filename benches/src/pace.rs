//! Intended start times, for an open loop: an operation counts from when it should have started.
//!
//! A client that waits for a slow operation starts the next ones late. Counted from their actual start they would look
//! quick, and one stall would hide all that it delayed ("coordinated omission", Gil Tene). Counted from their intended start each
//! of them shows its share of the stall, which is what `HdrHistogram`'s correction estimates afterwards.

use std::time::{Duration, Instant};

/// Returns at `moment`, or at once if it is over: sleeps while it is far (the timer is a millisecond coarse), then lets
/// others run.
pub async fn wait_until(moment: Instant) {
    loop {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > Duration::from_millis(2) {
            tokio::time::sleep(left - Duration::from_millis(2)).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    #[test]
    fn counting_from_the_intended_start_is_what_the_correction_of_hdrhistogram_estimates() {
        // One operation a millisecond is intended; each takes 100 µs, but the 500th takes 100 ms.
        let (pace, quick, stall) = (1000u64, 100u64, 100_000u64);
        let mut intended = Histogram::<u64>::new(3).unwrap();
        let mut corrected = Histogram::<u64>::new(3).unwrap();
        let mut free_at = 0;
        for number in 0..1000u64 {
            let start = free_at.max(number * pace);
            let service = if number == 500 { stall } else { quick };
            free_at = start + service;
            intended.record(free_at - number * pace).unwrap();
            // A closed loop would have sent nothing meanwhile.
            if number <= 500 || start == number * pace {
                corrected.record_correct(service, pace).unwrap();
            }
        }
        for q in [0.5, 0.95, 0.99, 1.0] {
            let (a, b) = (intended.value_at_quantile(q) as f64, corrected.value_at_quantile(q) as f64);
            assert!((a / b - 1.0).abs() < 0.15 || (a - b).abs() < 1500.0, "at {q}: {a} µs, corrected {b} µs");
        }
        assert!(intended.value_at_quantile(0.95) > 40_000, "the stall does not show");
    }
}
