//! Parquet: the columns of our own export, or any file with a key column.
//!
//! ```text
//! keyspace Utf8?   key Binary   value Binary   seq UInt64 (read past)   expire_at_ms UInt64?
//! ```
//!
//! With `--key COLUMN` the value is `--value COLUMN`, or the row as a JSON object.

use std::{fs::File, sync::Arc};

use anyhow::{Context as _, Result};
use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray as _, types};
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde_json::{Map, Value};

use super::{Record, check};
use crate::{exit::Stop, show};

/// Rows decoded at a time.
const BATCH_ROWS: usize = 1024;

/// The rows of a file.
pub(crate) struct Columns {
    from: ParquetRecordBatchReader,
    file: Arc<str>,
    picked: Picked,
    batch: Option<RecordBatch>,
    next: usize,
    row: u64,
}

/// Which columns mean what, by index.
struct Picked {
    keyspace: Option<usize>,
    key: Vec<usize>,
    value: Option<usize>,
    expire_at_ms: Option<usize>,
}

impl Columns {
    pub(crate) fn new(from: File, file: Arc<str>, key: &[String], value: Option<&str>) -> Result<Self> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(from)
            .with_context(|| format!("{file} cannot be read as Parquet"))?
            .with_batch_size(BATCH_ROWS);
        let picked = Picked::new(builder.schema(), &file, key, value)?;
        let from = builder.build().with_context(|| format!("{file} cannot be read as Parquet"))?;
        Ok(Self { from, file, picked, batch: None, next: 0, row: 0 })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Record>> {
        loop {
            if let Some(batch) = &self.batch
                && self.next < batch.num_rows()
            {
                let record = self.picked.record(batch, self.next);
                self.next += 1;
                self.row += 1;
                let record = record
                    .map_err(|what| Stop::failed(format!("{}, row {}: {what}", self.file, self.row)))?;
                return check(record, &self.file, self.row).map(Some);
            }
            match self.from.next() {
                None => return Ok(None),
                Some(batch) => {
                    let after = || format!("{} cannot be read after row {}", self.file, self.row);
                    self.batch = Some(batch.with_context(after)?);
                    self.next = 0;
                }
            }
        }
    }
}

impl Picked {
    fn new(schema: &SchemaRef, file: &str, key: &[String], value: Option<&str>) -> Result<Self> {
        let names =
            || schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
        let column = |name: &str| {
            schema.index_of(name).map_err(|_| {
                Stop::usage(format!("{file} has no column {name:?}"))
                    .hint(format!("it has: {}; say --key COLUMN to choose", names()))
            })
        };
        if key.is_empty() {
            return Ok(Self {
                keyspace: schema.index_of("keyspace").ok(),
                key: vec![column("key")?],
                value: Some(column("value")?),
                expire_at_ms: schema.index_of("expire_at_ms").ok(),
            });
        }
        Ok(Self {
            keyspace: None,
            key: key.iter().map(|name| column(name)).collect::<Result<_, _>>()?,
            value: value.map(column).transpose()?,
            expire_at_ms: None,
        })
    }

    fn record(&self, batch: &RecordBatch, row: usize) -> Result<Record, String> {
        let mut key = Vec::new();
        for (at, column) in self.key.iter().enumerate() {
            if at > 0 {
                key.push(b'/');
            }
            key.extend_from_slice(
                &bytes(batch.column(*column), row).map_err(|what| format!("the key {what}"))?,
            );
        }
        let value = match self.value {
            Some(column) => bytes(batch.column(column), row).map_err(|what| format!("the value {what}"))?,
            None => object(batch, row)?,
        };
        let keyspace = match self.keyspace {
            Some(column) if batch.column(column).is_valid(row) => {
                let name = bytes(batch.column(column), row).map_err(|what| format!("the keyspace {what}"))?;
                Some(String::from_utf8(name).map_err(|_| "the keyspace is not UTF-8".to_owned())?)
            }
            _ => None,
        };
        let expire_at_ms = match self.expire_at_ms {
            Some(column) if batch.column(column).is_valid(row) => match cell(batch.column(column), row)? {
                Value::Number(ms) => ms.as_u64().ok_or("expire_at_ms is negative or no whole number")?,
                _ => return Err("expire_at_ms is no number".to_owned()),
            },
            _ => 0,
        };
        Ok(Record { keyspace, key, value, expire_at_ms })
    }
}

/// A cell as the bytes of a key or value: binary and text as they are, numbers as their decimal text.
fn bytes(column: &ArrayRef, row: usize) -> Result<Vec<u8>, String> {
    if column.is_null(row) {
        return Err("is null".to_owned());
    }
    Ok(match column.data_type() {
        DataType::Binary => column.as_binary::<i32>().value(row).to_vec(),
        DataType::LargeBinary => column.as_binary::<i64>().value(row).to_vec(),
        DataType::BinaryView => column.as_binary_view().value(row).to_vec(),
        DataType::FixedSizeBinary(_) => column.as_fixed_size_binary().value(row).to_vec(),
        _ => match cell(column, row)? {
            Value::String(text) => text.into_bytes(),
            other => other.to_string().into_bytes(),
        },
    })
}

/// A whole row as a JSON object, columns in the order of the file; binary cells as hex.
fn object(batch: &RecordBatch, row: usize) -> Result<Vec<u8>, String> {
    let mut object = Map::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let value = cell(column, row).map_err(|what| format!("column {:?} {what}", field.name()))?;
        object.insert(field.name().clone(), value);
    }
    serde_json::to_vec(&object).map_err(|error| error.to_string())
}

/// A cell as JSON.
fn cell(column: &ArrayRef, row: usize) -> Result<Value, String> {
    macro_rules! number {
        ($kind:ty) => {
            Value::from(column.as_primitive::<$kind>().value(row))
        };
    }
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).into(),
        DataType::Utf8View => column.as_string_view().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int8 => number!(types::Int8Type),
        DataType::Int16 => number!(types::Int16Type),
        DataType::Int32 => number!(types::Int32Type),
        DataType::Int64 => number!(types::Int64Type),
        DataType::UInt8 => number!(types::UInt8Type),
        DataType::UInt16 => number!(types::UInt16Type),
        DataType::UInt32 => number!(types::UInt32Type),
        DataType::UInt64 => number!(types::UInt64Type),
        DataType::Float32 => number!(types::Float32Type),
        DataType::Float64 => number!(types::Float64Type),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            show::hex(&bytes(column, row)?).into()
        }
        other => return Err(format!("is of type {other}, which cannot become JSON; choose --value COLUMN")),
    })
}
