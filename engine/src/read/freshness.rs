//! How fresh a read must be: the token that carries a write's place across processes.
//!
//! ```text
//! 3-12345      epoch of the writer, sequence number; both decimal, no leading zeros
//! ```
//!
//! A token is a word to pass in a header or a cookie: the process that wrote hands it out, and a
//! [`Reader`](crate::Reader) elsewhere waits until it has got there (read-your-writes across processes).
//!
//! Always true: **a token counts only once its write is durable**. No two durable writes have the same
//! number, whatever the epoch, so the number alone orders their tokens; the epoch says which writer to
//! blame. A write that was accepted and never became durable leaves its number to the next writer: a
//! reader that waits for such a token is satisfied by the other write, or never.

use std::{fmt, str::FromStr};

use crate::{
    error::{Error, Result},
    key::Seq,
};

/// A write's place: the epoch of its writer, and its sequence number.
///
/// ```
/// let token: esker::Token = "3-12345".parse()?;
/// assert_eq!((token.epoch, token.seq), (3, 12345));
/// assert_eq!(token.to_string(), "3-12345");
/// # Ok::<(), esker::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The epoch of the writer.
    pub epoch: u32,
    /// The sequence number of the write.
    pub seq: Seq,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

impl FromStr for Token {
    type Err = Error;

    /// Reads what `Display` writes, and nothing else; fails with `Invalid`.
    fn from_str(text: &str) -> Result<Self> {
        text.split_once('-')
            .and_then(|(epoch, seq)| Some(Self { epoch: epoch.parse().ok()?, seq: seq.parse().ok()? }))
            .filter(|token| token.to_string() == text)
            .ok_or_else(|| {
                Error::invalid(format!("{:?} is not a token", text.chars().take(64).collect::<String>()))
                    .hint("a token looks like 3-12345 and is what a durable write returned")
            })
    }
}
