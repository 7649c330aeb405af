//! Comma-separated values with a header: the key is a column, the value the row or another column.

use std::{io::BufRead, sync::Arc};

use ::csv::{ByteRecord, Reader, ReaderBuilder};
use anyhow::Result;
use serde_json::{Map, Value};

use super::{Record, bad_line, check};
use crate::exit::Stop;

/// The rows of a file.
pub(crate) struct Table {
    from: Reader<Box<dyn BufRead + Send>>,
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
        let mut from = ReaderBuilder::new().from_reader(from);
        let header = from.byte_headers().map_err(|e| bad_line(&file, 1, e))?;
        let header: Vec<String> =
            header.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
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
        let key = key.iter().map(|name| column(name)).collect::<Result<_, _>>()?;
        let value = value.map(column).transpose()?;
        Ok(Self { from, file, header, key, value, row: ByteRecord::new() })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Record>> {
        match self.from.read_byte_record(&mut self.row) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => {
                let line =
                    error.position().map_or_else(|| self.from.position().line(), ::csv::Position::line);
                return Err(bad_line(&self.file, line, error));
            }
        }
        let line = self.row.position().map_or(0, ::csv::Position::line);
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
