//! What every verb says, and where: data to stdout, logs to stderr.

use std::io::{self, BufWriter, IsTerminal as _, Write};

use clap::{ArgAction, Args};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

/// The flags that every verb has.
#[derive(Debug, Clone, Args)]
pub(crate) struct Voice {
    /// Print JSON on stdout (one object, or one per line), and on stderr errors as JSON and nothing else
    #[arg(long)]
    pub(crate) json: bool,
    /// Say more on stderr (twice: still more); RUST_LOG is honoured
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Say nothing on stderr but errors; no progress bar
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

impl Voice {
    /// Sends the engine's logs to stderr, and opens stdout.
    pub(crate) fn start(&self) -> Out {
        let level = match (self.quiet, self.verbose) {
            (true, _) => "error",
            // What a script reads on stderr is JSON, unless it asks for more.
            (false, 0) if self.json => "off",
            (false, 0) => "warn",
            (false, 1) => "info",
            (false, _) => "debug",
        };
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        // Fails only if there is a subscriber already, which then is the one to use.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(colour)
            .try_init();
        let stdout = BufWriter::with_capacity(64 << 10, io::stdout());
        Out { stdout, is_for_code: false, is_closed: false }
    }

    /// What is missing from an answer, on stderr: also for whoever asks for silence.
    pub(crate) fn warn(&self, sentence: &str) {
        // With stderr gone there is nobody to tell.
        let _ = writeln!(io::stderr(), "{sentence}");
    }

    /// A sentence for the person at the terminal, on stderr.
    pub(crate) fn note(&self, sentence: &str) {
        if !self.quiet && !self.json {
            // With stderr gone there is nobody to tell.
            let _ = writeln!(io::stderr(), "{sentence}");
        }
    }
}

/// Standard output, buffered.
#[derive(Debug)]
pub(crate) struct Out {
    stdout: BufWriter<io::Stdout>,
    is_for_code: bool,
    is_closed: bool,
}

impl Out {
    /// For a verb whose answer is its exit code: it goes on when nobody reads what it says.
    pub(crate) fn for_code(self) -> Self {
        Self { is_for_code: true, ..self }
    }

    /// Whether nobody reads what it says.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// `done`, or `nothing` if that failed because nobody reads and that is no reason to end.
    fn heard<T>(&mut self, done: io::Result<T>, nothing: T) -> io::Result<T> {
        match done {
            Err(error) if self.is_for_code && error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(nothing)
            }
            done => done,
        }
    }

    /// Writes `value` as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        Ok(self.write_all(&line)?)
    }

    /// Writes `name value` lines, the values aligned.
    pub(crate) fn fields(&mut self, fields: &[(&str, String)]) -> io::Result<()> {
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in fields {
            writeln!(self, "{name:width$}  {value}")?;
        }
        Ok(())
    }

    /// Writes rows under a header, columns aligned by the widest cell; the first row is the header.
    pub(crate) fn table(
        &mut self,
        header: &[&str],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> io::Result<()> {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
        table.set_header(header.to_vec());
        for row in rows {
            table.add_row(row);
        }
        for line in table.lines() {
            // The style without borders still pads each cell on both sides.
            writeln!(self, "{}", line.strip_prefix(' ').unwrap_or(&line).trim_end())?;
        }
        Ok(())
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stdout.write(bytes);
        self.heard(written, bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.stdout.flush();
        self.heard(flushed, ())
    }
}
