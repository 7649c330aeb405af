//! The one error type: what can I do about it, where did it happen, what caused it.
//!
//! An [`Error`] is for the caller. Its [`ErrorKind`] says what the caller can do; its message names
//! the object, offset, key or version; a hint says what to try; the source keeps the cause.
//!
//! Always true: an error is cheap to clone (it is shared by every waiter of one failed upload).

use std::{fmt, sync::Arc};

/// The result of every fallible call in Esker.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another process took this role over. This handle is finished; open again to take it back.
    Fenced,
    /// A concurrent change won. Try again from fresh data.
    Conflict,
    /// The store did not answer in time or refused. Nothing is known to be lost; try again.
    Unavailable,
    /// The call or its input is wrong; it will never succeed as it is.
    Invalid,
    /// Stored bytes are not what was written. The message names the object and the offset.
    Corruption,
    /// What this snapshot or scan was reading has been collected. Start again from a new one.
    SnapshotExpired,
    /// It cannot be known whether the change was applied. Reopen and read to find out.
    OutcomeUnknown,
    /// The handle was closed, or its background work has stopped.
    Closed,
    /// Written by a newer version, or the store lacks something needed. The message names it.
    Unsupported,
}

impl ErrorKind {
    /// The kind as one lower-case word, as used in `--json` output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Invalid => "invalid",
            Self::Corruption => "corruption",
            Self::SnapshotExpired => "snapshot_expired",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Closed => "closed",
            Self::Unsupported => "unsupported",
        }
    }
}

/// What went wrong, where, and what to do about it.
#[derive(Clone)]
pub struct Error(Arc<Details>);

struct Details {
    kind: ErrorKind,
    context: String,
    object: Option<String>,
    offset: Option<u64>,
    hint: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `context` is a sentence without a full stop.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self(Arc::new(Details {
            kind,
            context: context.into(),
            object: None,
            offset: None,
            hint: None,
            source: None,
        }))
    }
    /// The call or its input is wrong.
    pub fn invalid(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, context)
    }
    /// The bytes of `object` at `offset` are not what was written.
    pub fn corruption(object: impl Into<String>, offset: u64, context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corruption, context).at(object, offset)
    }
    /// The store did not answer in time or refused.
    pub fn unavailable(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, context)
    }
    /// The handle was closed.
    pub fn closed(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Closed, context)
    }
    /// Something this version cannot do; the context names it.
    pub fn unsupported(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, context)
    }

    /// Names the object (and byte offset in it) that the error is about.
    #[must_use]
    pub fn at(self, object: impl Into<String>, offset: u64) -> Self {
        self.change(|d| {
            d.object = Some(object.into());
            d.offset = Some(offset);
        })
    }
    /// Names the object that the error is about.
    #[must_use]
    pub fn on(self, object: impl Into<String>) -> Self {
        self.change(|d| d.object = Some(object.into()))
    }
    /// Says what to try: a sentence without a full stop.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.change(|d| d.hint = Some(hint.into()))
    }
    /// Keeps the cause.
    #[must_use]
    pub fn because(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.change(|d| d.source = Some(Arc::new(source)))
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
    /// The object the error is about, if one is known.
    pub fn object(&self) -> Option<&str> {
        self.0.object.as_deref()
    }
    /// The byte offset in [`Self::object`], if one is known.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }
    /// What to try, if anything helps.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
    /// What it says without [the hint](Self::hint_text), for whoever shows that in another place.
    pub fn sentence(&self) -> String {
        let text = self.to_string();
        let without = self.hint_text().and_then(|hint| text.strip_suffix(hint)?.strip_suffix(". "));
        without.unwrap_or(&text).to_owned()
    }
    /// Whether the same call may succeed later without anything being mended first.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::Conflict | ErrorKind::SnapshotExpired)
    }

    fn change(self, f: impl FnOnce(&mut Details)) -> Self {
        let mut details = Arc::try_unwrap(self.0).unwrap_or_else(|shared| Details {
            kind: shared.kind,
            context: shared.context.clone(),
            object: shared.object.clone(),
            offset: shared.offset,
            hint: shared.hint.clone(),
            source: shared.source.clone(),
        });
        f(&mut details);
        Self(Arc::new(details))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = &*self.0;
        f.write_str(&d.context)?;
        match (&d.object, d.offset) {
            (Some(object), Some(offset)) => write!(f, " (in {object} at byte {offset})")?,
            (Some(object), None) => write!(f, " (in {object})")?,
            _ => {}
        }
        if let Some(source) = &d.source {
            write!(f, ": {source}")?;
        }
        if let Some(hint) = &d.hint {
            write!(f, ". {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as _)
    }
}
