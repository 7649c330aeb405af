//! Comma-separated values with a header: the key is a column, the value the row or another column.

use std::{
    io::{self, BufRead, Read},
    sync::Arc,
};

use ::csv::{ByteRecord, Position, Reader, ReaderBuilder};
use anyhow::Result;
use serde_json::{Map, Value};

use super::{Record, bad_line, check};
use crate::exit::Stop;

const LEFT_OPEN: &str = "a quote is opened in this row and never closed";

/// The rows of a file.
pub(crate) struct Table {
    from: Reader<Quotes>,
    file: Arc<str>,
    header: Vec<String>,
    key: Vec<usize>,
    value: Option<usize>,
    row: ByteRecord,
}

impl Table {
    /// Reads the header; fails if a named column is not in it, or none is named as the key.
    pub(crate) fn new(
        from: Box<dyn BufRead + Send>,
        file: Arc<str>,
        key: &[String],
        value: Option<&str>,
    ) -> Result<Self> {
        let mut from = ReaderBuilder::new().from_reader(Quotes { from, at: At::Start(0), ended: false });
        let header = from.byte_headers().map_err(|e| bad_line(&file, 1, e))?;
        let header: Vec<String> =
            header.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        if from.get_ref().left_open() {
            return Err(bad_line(&file, 1, LEFT_OPEN));
        }
        if header.is_empty() {
            // No rows, whatever their columns.
            return Ok(Self { from, file, header, key: Vec::new(), value: None, row: ByteRecord::new() });
        }
        let column = |name: &str| {
            header.iter().position(|is| is == name).ok_or_else(|| {
                Stop::usage(format!("{file} has no column {name:?}"))
                    .hint(format!("it has: {}", header.join(", ")))
            })
        };
        if key.is_empty() {
            return Err(Stop::usage("a csv file needs --key COLUMN")
                .hint(format!("{file} has: {}", header.join(", ")))
                .into());
        }
        if let Some((_, twice)) = header.iter().enumerate().find(|(at, name)| header[..*at].contains(name)) {
            return Err(bad_line(&file, 1, format!("two columns are named {twice:?}")));
        }
        let key = key.iter().map(|name| column(name)).collect::<Result<_, _>>()?;
        let value = value.map(column).transpose()?;
        Ok(Self { from, file, header, key, value, row: ByteRecord::new() })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Record>> {
        match self.from.read_byte_record(&mut self.row) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => {
                let line = error.position().map_or_else(|| self.from.position().line(), Position::line);
                return Err(bad_line(&self.file, line, error));
            }
        }
        let line = self.row.position().map_or(0, Position::line);
        // The parser takes the end of the file for the end of the quote, and the row for whole.
        if self.from.get_ref().left_open() {
            return Err(bad_line(&self.file, line, LEFT_OPEN));
        }
        let mut key = Vec::new();
        for (at, column) in self.key.iter().enumerate() {
            if at > 0 {
                key.push(b'/');
            }
            key.extend_from_slice(&self.row[*column]);
        }
        let value = match self.value {
            Some(column) => self.row[column].to_vec(),
            None => self.object().map_err(|what| bad_line(&self.file, line, what))?,
        };
        check(Record { keyspace: None, key, value, expire_at_ms: 0 }, &self.file, line).map(Some)
    }

    /// The row as a JSON object, columns in the order of the header.
    fn object(&self) -> Result<Vec<u8>, String> {
        let mut object = Map::new();
        for (name, cell) in self.header.iter().zip(&self.row) {
            let text = std::str::from_utf8(cell).map_err(|_| format!("column {name:?} is not UTF-8"))?;
            object.insert(name.clone(), Value::from(text));
        }
        serde_json::to_vec(&object).map_err(|error| error.to_string())
    }
}

/// The bytes on their way to the parser, and whether they end inside a quote, which it does not tell.
struct Quotes {
    from: Box<dyn BufRead + Send>,
    at: At,
    ended: bool,
}

/// Where in a row the last byte was, by the parser's own rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So many bytes of a byte-order mark have passed.
    Start(usize),
    /// Before a cell: only here does a quote open.
    Cell,
    Plain,
    Quoted,
    /// After a quote in a quoted cell: the next byte says whether it closed the cell.
    Quote,
}

impl Quotes {
    /// Whether the end has been reached, inside a quote. The row that was read then is the last.
    fn left_open(&self) -> bool {
        self.ended && self.at == At::Quoted
    }
}

impl Read for Quotes {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(into)?;
        self.ended = n == 0 && !into.is_empty();
        self.at = into[..n].iter().fold(self.at, |at, byte| at.after(*byte));
        Ok(n)
    }
}

impl At {
    fn after(self, byte: u8) -> Self {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        match (self, byte) {
            (Self::Start(passed), _) if MARK.get(passed) == Some(&byte) => Self::Start(passed + 1),
            (Self::Quoted, b'"') => Self::Quote,
            (Self::Quoted, _) => Self::Quoted,
            (_, b',' | b'\n' | b'\r') => Self::Cell,
            (Self::Start(0 | 3) | Self::Cell | Self::Quote, b'"') => Self::Quoted,
            _ => Self::Plain,
        }
    }
}
