//! How fresh a read must be, and the token that carries a write's place across processes.
use crate::{error::Result, key::Seq};
/// A write's place: its sequence number, and the epoch of its writer. Printable and parseable, to pass between processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token { pub epoch: u32, pub seq: Seq }
impl std::fmt::Display for Token { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { todo!() } }
impl std::str::FromStr for Token { type Err = crate::Error; fn from_str(s: &str) -> Result<Token> { todo!() } }
