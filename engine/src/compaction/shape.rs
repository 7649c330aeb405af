//! The shape of the tree: how many sorted runs a level may hold, and how much larger each level is.
//!
//! Tiered, leveled and lazy-leveled trees are three settings of these numbers, and one picker
//! ([`plan`](super::plan)) serves all of them (the idea: Dayan and Idreos, *Dostoevsky*, SIGMOD 2018).
//!
//! ```text
//!               l0_runs  middle_runs  last_runs  ratio   writes a byte     reads
//! leveled          4          1           1        10    most              fewest runs
//! lazy-leveled     4          4           1         8    between           few runs, one large
//! tiered           4          4           4         4    fewest            most runs, most space
//! ```
//!
//! Measured once, before levels were ranked by how full they are, on one load, two million random writes, over 1.5 million
//! keys and over 8 million:
//!
//! ```text
//!                                       bytes written a byte    space over one run
//!                                         1.5 M      8 M          1.5 M      8 M
//! leveled                                  5.3       5.6           1.07      1.03
//! lazy-leveled, base 256 MiB, ratio 8      2.9       3.2           1.24      1.05
//! tiered                                   2.8       3.0           1.46      1.09
//! ```
//!
//! The numbers of lazy-leveled, the default, were picked on the same load that is reported here, so another
//! load may well favour others.
//!
//! Always true: a level may hold at least one run, a level is at least twice as large as the one
//! above it, and no arithmetic here overflows, whatever numbers a manifest carries.

use std::{fmt, str::FromStr};

use crate::{
    error::{Error, Result},
    manifest::StoredShape,
};

pub use crate::manifest::MAX_LEVEL;

const LEVELED: StoredShape =
    StoredShape { l0_runs: 4, middle_runs: 1, last_runs: 1, ratio: 10, base_bytes: 256 << 20 };
const LAZY_LEVELED: StoredShape =
    StoredShape { l0_runs: 4, middle_runs: 4, last_runs: 1, ratio: 8, base_bytes: 256 << 20 };
const TIERED: StoredShape =
    StoredShape { l0_runs: 4, middle_runs: 4, last_runs: 4, ratio: 4, base_bytes: 1 << 30 };

impl StoredShape {
    /// One run a level: the fewest places to look, the most bytes written (as LevelDB does it).
    pub fn leveled() -> Self {
        LEVELED
    }

    /// Several runs in every level: the fewest bytes written, the most places to look and the most space.
    pub fn tiered() -> Self {
        TIERED
    }

    /// Several runs in every level but the last, which holds most of the data in one run: nearly the
    /// reads and the space of leveled for nearly the writes of tiered.
    pub fn lazy_leveled() -> Self {
        LAZY_LEVELED
    }

    /// How many runs `level` may hold before a merge is due, when `last` is the deepest level with data.
    pub fn runs_allowed(&self, level: u32, last: u32) -> usize {
        let runs = match level {
            0 => self.l0_runs.max(1) - 1,
            _ if level < last => self.middle_runs.max(1),
            _ => self.last_runs.max(1),
        };
        runs as usize
    }

    /// How many bytes `level` is meant to hold; the level above the deepest is full when it holds this.
    pub fn level_bytes(&self, level: u32) -> u64 {
        let ratio = u64::from(self.ratio.max(2));
        let base = self.base_bytes.max(1);
        (1..level).fold(base, |bytes, _| bytes.saturating_mul(ratio))
    }
}

/// The name of the setting, or its numbers when it is none of the three.
impl fmt::Display for StoredShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [(LEVELED, "leveled"), (LAZY_LEVELED, "lazy-leveled"), (TIERED, "tiered")];
        match named.iter().find(|(shape, _)| shape == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(
                f,
                "l0={},middle={},last={},ratio={},base={}",
                self.l0_runs, self.middle_runs, self.last_runs, self.ratio, self.base_bytes
            ),
        }
    }
}

/// Reads what `Display` writes: `leveled`, `lazy-leveled`, `tiered`, or the five numbers. A number that
/// is left out is that of `leveled`.
///
/// ```
/// use esker::manifest::StoredShape;
/// let shape: StoredShape = "l0=8,middle=4,ratio=8".parse()?;
/// assert_eq!(shape.to_string(), "l0=8,middle=4,last=1,ratio=8,base=268435456");
/// assert_eq!("lazy-leveled".parse::<StoredShape>()?, StoredShape::lazy_leveled());
/// # Ok::<(), esker::Error>(())
/// ```
impl FromStr for StoredShape {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "leveled" => return Ok(LEVELED),
            "lazy-leveled" => return Ok(LAZY_LEVELED),
            "tiered" => return Ok(TIERED),
            _ => {}
        }
        let wrong = || {
            Error::invalid(format!("{text:?} is not the shape of a tree"))
                .hint("say leveled, lazy-leveled, tiered, or numbers such as l0=4,middle=1,last=1,ratio=10,base=268435456")
        };
        let mut shape = LEVELED;
        for setting in text.split(',') {
            let (name, number) = setting.split_once('=').ok_or_else(wrong)?;
            let number: u64 = number.parse().map_err(|_| wrong())?;
            let small = || u32::try_from(number).ok().filter(|n| (1..=1000).contains(n)).ok_or_else(wrong);
            match name {
                "l0" => shape.l0_runs = small()?,
                "middle" => shape.middle_runs = small()?,
                "last" => shape.last_runs = small()?,
                "ratio" => shape.ratio = small()?,
                "base" if number > 0 => shape.base_bytes = number,
                _ => return Err(wrong()),
            }
        }
        if shape.ratio < 2 {
            return Err(wrong());
        }
        Ok(shape)
    }
}
