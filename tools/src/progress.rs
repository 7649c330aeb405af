//! A bar for long work: on stderr, only if that is a terminal, silent with `--quiet`.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Voice;

/// What the bar counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of {
    /// Bytes read or written.
    Bytes,
    /// Rows, objects or steps, by this name.
    Things(&'static str),
}

/// A bar of `total` (0: unknown, drawn as a spinner), hidden unless a person is looking.
pub(crate) fn bar(voice: &Voice, total: u64, of: Of) -> ProgressBar {
    if voice.quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target((total > 0).then_some(total), ProgressDrawTarget::stderr());
    let template = match (total > 0, of) {
        (true, Of::Bytes) => "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {msg} {eta}".to_owned(),
        (false, Of::Bytes) => "{spinner} {bytes} {bytes_per_sec} {msg}".to_owned(),
        (true, Of::Things(name)) => {
            format!("{{wide_bar}} {{human_pos}}/{{human_len}} {name} {{per_sec}} {{msg}} {{eta}}")
        }
        (false, Of::Things(name)) => format!("{{spinner}} {{human_pos}} {name} {{per_sec}} {{msg}}"),
    };
    bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
