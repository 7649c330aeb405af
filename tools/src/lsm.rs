//! `esker lsm`: the tree, drawn.
//!
//! ```text
//! L0  3 runs   3 SSTs   12.0 MiB
//!  7 │░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░│
//!  6 │   ░░░░░░░░░░░░░░░░           │
//! L1  1 run    4 SSTs  200.0 MiB
//!  5 │░░░░░░░▒▒▒▒▒▒▒▒░░░░░░░░▒▒▒▒▒▒▒│
//! ```
//!
//! Left to right is key order, stretched so that width is size: a column stands for about as many
//! stored bytes as its neighbour. Neighbouring SSTs of a run alternate in shade; `█` is a column that
//! holds several, and `×` one where a repair has marked what was lost.

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;
use esker::{
    manifest::{RunView, View},
    stats::Cause,
};
use serde_json::json;

use crate::{
    describe::{self, Totals},
    output::Voice,
    show,
    target::Target,
};

const EXAMPLES: &str = "\
Examples:
  esker lsm file:///tmp/demo
  esker lsm s3://bucket/prefix --version 120 --width 100
  esker lsm s3://bucket/prefix --json

Newest data is at the top. A line is a sorted run; left to right is key order, width is size.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Columns of the drawing
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(8..=1000))]
    width: u16,
    /// Draw this version instead of the latest
    #[arg(long, value_name = "ID")]
    version: Option<u64>,
    /// Draw with # = . instead of shades
    #[arg(long)]
    ascii: bool,
    #[command(flatten)]
    voice: Voice,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    let manifest = args.target.manifest().await?;
    let view = match args.version {
        Some(id) => crate::manifest::version(&manifest, id).await?,
        None => manifest.latest(Cause::Admin).await?,
    };
    if args.voice.json {
        let levels: Vec<_> = describe::levels(&view)
            .into_iter()
            .map(|level| {
                let mut object = Totals::of(&view, Some(level)).json();
                object["level"] = level.into();
                object
            })
            .collect();
        out.json(&json!({ "version": view.id(), "levels": levels, "runs": describe::version(&view, true)["runs"] }))?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let axis = Axis::new(&view, args.width.into());
    let shades = if args.ascii { ['=', '-', '#', ' ', 'x'] } else { ['░', '▒', '█', ' ', '×'] };
    for level in describe::levels(&view) {
        let totals = Totals::of(&view, Some(level));
        writeln!(
            out,
            "L{level}  {}, {}, {}, {}",
            show::counted(totals.runs as u64, "run"),
            show::counted(totals.ssts as u64, "SST"),
            show::size(totals.bytes),
            if totals.entries == 1 {
                "1 entry".to_owned()
            } else {
                format!("{} entries", show::count(totals.entries))
            },
        )?;
        for run in view.runs.iter().filter(|run| run.level == level) {
            writeln!(out, "{:>6} │{}│", run.id, axis.draw(run, shades))?;
        }
    }
    let totals = Totals::of(&view, None);
    writeln!(
        out,
        "{}{} in {}, {}",
        if totals.ssts + totals.holes == 0 { "The tree is empty: " } else { "" },
        show::counted(totals.ssts as u64, "SST"),
        show::counted(totals.runs as u64, "run"),
        show::size(totals.bytes)
    )?;
    for hole in describe::holes(&view) {
        writeln!(out, "lost: {hole}")?;
    }
    if let (Some(first), Some(last)) = (axis.keys.first(), axis.keys.last()) {
        writeln!(out, "from {} to {}", describe::key(first, 40), describe::key(last, 40))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Key order laid out by size: every key at which an SST begins or ends, and its column.
struct Axis<'a> {
    keys: Vec<&'a [u8]>,
    /// The position of each key, 0.0 to `width`.
    at: Vec<f64>,
    width: usize,
}

impl<'a> Axis<'a> {
    fn new(view: &'a View, width: usize) -> Self {
        let ssts = || view.runs.iter().flat_map(|run| run.ssts.iter()).map(|open| &open.meta);
        let mut keys: Vec<&[u8]> =
            ssts().flat_map(|meta| [&meta.first_key[..], &meta.last_key[..]]).collect();
        keys.sort_unstable();
        keys.dedup();
        let places = places(&keys);
        // An SST's bytes are spread over the gaps it covers as if its keys lay evenly: the best guess
        // there is without reading it.
        let mut weight = vec![0.0_f64; keys.len()];
        for meta in ssts() {
            let (first, last) = (place(&keys, &meta.first_key), place(&keys, &meta.last_key));
            let length = places[last] - places[first];
            if length > 0.0 {
                for gap in first..last {
                    weight[gap] += meta.bytes as f64 * (places[gap + 1] - places[gap]) / length;
                }
            } else {
                weight[first] += meta.bytes as f64;
            }
        }
        let total: f64 = weight.iter().sum();
        let mut before = 0.0;
        let at = weight
            .iter()
            .map(|w| {
                let here = if total > 0.0 { before / total * width as f64 } else { 0.0 };
                before += w;
                here
            })
            .collect();
        Self { keys, at, width }
    }

    fn draw(&self, run: &RunView, shades: [char; 5]) -> String {
        let mut columns = vec![(shades[3], 0_u32); self.width];
        for (nth, open) in run.ssts.iter().enumerate() {
            let first = self.at[place(&self.keys, &open.meta.first_key)];
            let last = self.at[place(&self.keys, &open.meta.last_key)];
            let from = (first.round() as usize).min(self.width - 1);
            let to = (last.round() as usize).clamp(from + 1, self.width);
            for (shade, count) in &mut columns[from..to] {
                *count += 1;
                *shade = match *count {
                    _ if run.is_hole() => shades[4],
                    1 => shades[nth % 2],
                    _ => shades[2],
                };
            }
        }
        columns.into_iter().map(|(shade, _)| shade).collect()
    }
}

/// Where each key lies on a line, by the bytes that follow what all of them share.
fn places(keys: &[&[u8]]) -> Vec<f64> {
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return Vec::new() };
    let shared = first.iter().zip(*last).take_while(|(a, b)| a == b).count();
    keys.iter()
        .map(|key| {
            key[shared.min(key.len())..]
                .iter()
                .take(6)
                .rev()
                .fold(0.0, |place, byte| (place + f64::from(*byte)) / 256.0)
        })
        .collect()
}

/// The index of `key`, which is one of `keys`.
fn place(keys: &[&[u8]], key: &[u8]) -> usize {
    keys.partition_point(|k| *k < key).min(keys.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn keys_lie_on_a_line_by_what_tells_them_apart() {
        let keys: [&[u8]; 4] = [b"user:", b"user:\x40", b"user:\x80", b"user:\x80\x80"];
        assert_eq!(places(&keys), [0.0, 0.25, 0.5, 0.5 + 0.5 / 256.0]);
        assert_eq!(places(&[]), Vec::<f64>::new());
        assert_eq!(places(&[b"same"]), [0.0]);
    }
}
