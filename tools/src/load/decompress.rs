//! The bytes of a file or of standard input, decompressed by their first bytes.
//!
//! ```text
//! 1f 8b          gzip          28 b5 2f fd         zstd
//! 04 22 4d 18    lz4 frame     fd 37 7a 58 5a 00   xz
//! ```
//!
//! Always true: several compressed members one after the other read as one file, as `zcat` does.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result};

use crate::exit::Stop;

/// Bytes read at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// A file on its way in, and how far it has been read.
pub(crate) struct Input {
    name: Arc<str>,
    reader: Option<Box<dyn BufRead + Send>>,
    compressed: bool,
    total_bytes: u64,
    read_bytes: Arc<AtomicU64>,
}

impl Input {
    /// Opens `file` (`-`: standard input).
    pub(crate) fn open(file: &str) -> Result<Self> {
        let (raw, total_bytes): (Box<dyn Read + Send>, u64) = if file == "-" {
            (Box::new(io::stdin()), 0)
        } else {
            let opened = File::open(file).with_context(|| format!("{file} cannot be opened"))?;
            let about = opened.metadata().with_context(|| format!("{file} cannot be read"))?;
            if about.is_dir() {
                return Err(Stop::failed(format!("{file} is a directory")).hint("name a file").into());
            }
            (Box::new(opened), about.len())
        };
        let name: Arc<str> = if file == "-" { "standard input".into() } else { file.into() };
        let read_bytes = Arc::new(AtomicU64::new(0));
        let counted = Counted { from: raw, read_bytes: Arc::clone(&read_bytes) };
        let (reader, compressed) = decompressed(counted).with_context(|| format!("{name} cannot be read"))?;
        Ok(Self { name, reader: Some(reader), compressed, total_bytes, read_bytes })
    }

    /// What to call the file in errors.
    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }
    /// The file's size; 0 if it is not known.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }
    /// Bytes read from the file so far, before decompression.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }
    /// The first decompressed bytes, without consuming them.
    pub(crate) fn peek(&mut self) -> Result<&[u8]> {
        match &mut self.reader {
            Some(reader) => reader.fill_buf().with_context(|| format!("{} cannot be read", self.name)),
            None => Ok(&[]),
        }
    }
    /// The decompressed bytes. Once.
    pub(crate) fn reader(&mut self) -> Result<Box<dyn BufRead + Send>> {
        self.reader.take().ok_or_else(|| Stop::failed("the input has already been read").into())
    }
    /// The file itself, for a format that is read from its end.
    pub(crate) fn seekable(&mut self) -> Result<File> {
        self.reader = None;
        if &*self.name == "standard input" || self.compressed {
            return Err(Stop::usage("Parquet is read from its end, so it must be a plain file")
                .hint("save it to a file first, uncompressed; Parquet compresses inside")
                .into());
        }
        File::open(&*self.name).with_context(|| format!("{} cannot be opened", self.name))
    }
}

/// Looks at the first bytes of `raw` and undoes the compression they announce.
fn decompressed(raw: impl Read + Send + 'static) -> io::Result<(Box<dyn BufRead + Send>, bool)> {
    let mut head = Vec::with_capacity(6);
    let mut raw = raw;
    raw.by_ref().take(6).read_to_end(&mut head)?;
    let magic: &[u8] = &head.clone();
    let whole = BufReader::with_capacity(BUFFER_BYTES, io::Cursor::new(head).chain(raw));
    fn buffered(from: impl Read + Send + 'static) -> Box<dyn BufRead + Send> {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, from))
    }
    Ok(match magic {
        [0x1f, 0x8b, ..] => (buffered(flate2::bufread::MultiGzDecoder::new(whole)), true),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => (buffered(zstd::stream::read::Decoder::with_buffer(whole)?), true),
        [0x04, 0x22, 0x4d, 0x18, ..] => {
            (buffered(Lz4Frames { frame: Some(lz4_flex::frame::FrameDecoder::new(whole)) }), true)
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0x00] => {
            (buffered(liblzma::bufread::XzDecoder::new_multi_decoder(whole)), true)
        }
        _ => (Box::new(whole), false),
    })
}

/// All lz4 frames of a file, one after the other.
struct Lz4Frames<R: BufRead> {
    frame: Option<lz4_flex::frame::FrameDecoder<R>>,
}

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(mut frame) = self.frame.take() {
            match frame.read(into) {
                Ok(0) if !into.is_empty() => {
                    let mut rest = frame.into_inner();
                    if rest.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    self.frame = Some(lz4_flex::frame::FrameDecoder::new(rest));
                }
                done => {
                    self.frame = Some(frame);
                    return done;
                }
            }
        }
        Ok(0)
    }
}

/// Counts what passes.
struct Counted<R> {
    from: R,
    read_bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(into)?;
        self.read_bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
