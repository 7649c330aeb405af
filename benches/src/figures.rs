//! Numbers as people read them: thousands apart, durations in the unit that suits them.

use std::time::Duration;

/// 1234567 as `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration in the unit that suits it, three digits.
pub fn duration(d: Duration) -> String {
    let ns = d.as_nanos() as f64;
    let (value, unit) = match ns {
        n if n < 1e3 => return format!("{n:.0} ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// Three digits, thousands as k and millions as M.
pub fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        v if v >= 999_500.0 => (value / 1e6, " M"),
        v if v >= 9_995.0 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let decimals = match value.abs() {
        v if v >= 99.95 || v == 0.0 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.0995 => 2,
        _ => 4,
    };
    format!("{value:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(duration(Duration::from_nanos(950)), "950 ns");
        assert_eq!(duration(Duration::from_nanos(1_234)), "1.23 µs");
        assert_eq!(duration(Duration::from_micros(45_600)), "45.6 ms");
        assert_eq!(duration(Duration::from_secs(123)), "123 s");
    }

    #[test]
    fn figures_in_short_have_three_digits() {
        for (value, written) in [
            (0.0, "0"),
            (0.97, "0.97"),
            (0.0123, "0.0123"),
            (42.0, "42.0"),
            (9_990.0, "9990"),
            (141_234.0, "141 k"),
            (8.5e6, "8.50 M"),
        ] {
            assert_eq!(short(value), written);
        }
    }
}
