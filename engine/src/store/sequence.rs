//! A numbered sequence of immutable objects, each created once by put-if-absent: the commit rule.
//!
//! Manifest, log and job log are such sequences. To follow one costs a GET of the next number; a 404
//! is the cheap answer. To append, a process creates the next slot:
//!
//! ```text
//! create slot with PutMode::Create ──Ok──► ours
//!   │ anything else: 409, 412, 5xx, timeout, reset
//!   ▼
//! GET slot ── absent ──► wait, create again with the same bytes
//!          ── our bytes ──► ours          (token at 8..24 and all the rest)
//!          ── other bytes ──► theirs
//! ```
//!
//! A store can apply a PUT and lose the answer, say 409 though nothing was written, or apply a PUT
//! minutes after its sender gave up. Hence, always true: **win or lose is decided by the bytes in the
//! slot, never by an error**; while a slot is absent, only the same bytes are offered for it again.
//!
//! The idea of a create-only log as the one compare-and-swap every store has is shared with Delta Lake
//! and SlateDB; the token in the body (rather than in metadata) is Trino's and works everywhere.

use std::time::Duration;

use bytes::Bytes;
use object_store::{PutMode, PutOptions, PutPayload};

use super::{
    Folder, MAX_NUMBER, Name, Store,
    retry::{Failure, Patience},
};
use crate::{
    chaos::{self, Bug, bug},
    clock::Clock,
    error::{Error, Result},
    stats::Cause,
};

/// Where the token lies in a body: after an 8-byte magic.
const TOKEN_AT: std::ops::Range<usize> = 8..24;

/// How often a slot with our token and other bytes is read before it is called corrupt.
const ODD_READS: u32 = 3;

/// Sixteen fresh random bytes in every body, by which a writer knows its own object again. They lie
/// at bytes 8..24, after an 8-byte magic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub [u8; 16]);

impl Token {
    /// A new token.
    pub fn fresh(clock: &dyn Clock) -> Token {
        Token(clock.random().to_le_bytes())
    }

    /// The token in `body`; `None` if it is too short to have one.
    pub fn of(body: &[u8]) -> Option<Token> {
        body.get(TOKEN_AT)?.try_into().ok().map(Token)
    }
}

/// Whose bytes are in the slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// Ours: the append happened.
    Ours,
    /// Another's, with these bytes: ours did not happen and never will.
    Theirs(Bytes),
}

/// One sequence: manifest, WAL, job log, or floors.
#[derive(Debug, Clone)]
pub struct Sequence {
    store: Store,
    folder: Folder,
}

impl Sequence {
    /// The sequence in `folder`, which must be one whose objects are numbered: an operation on
    /// another fails with `Invalid`.
    pub fn new(store: Store, folder: Folder) -> Sequence {
        Sequence { store, folder }
    }

    /// The store it lies in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The body of slot `id`, `None` while it is absent.
    pub async fn get(&self, id: u64, cause: Cause) -> Result<Option<Bytes>> {
        self.store.get(&self.name(id)?, cause).await
    }

    /// The highest id present. `hint` is an id that was present once: the listing starts there, and
    /// only if nothing is left from there on at the beginning.
    pub async fn latest(&self, hint: u64, cause: Cause) -> Result<Option<u64>> {
        if let Some(before) = hint.checked_sub(1) {
            let after = self.name(before)?;
            let listed = self.store.list(self.folder, Some(&after), cause).await?;
            if let Some(last) = listed.last() {
                return Ok(last.name.number());
            }
        }
        let listed = self.store.list(self.folder, None, cause).await?;
        Ok(listed.last().and_then(|last| last.name.number()))
    }

    /// Creates slot `id` with `body`: [`Store::create`] of a numbered object.
    pub async fn create(
        &self,
        id: u64,
        body: Vec<Bytes>,
        cause: Cause,
        give_up: Option<Duration>,
    ) -> Result<Slot> {
        self.store.create(&self.name(id)?, body, cause, give_up).await
    }

    fn name(&self, id: u64) -> Result<Name> {
        self.folder.numbered(id).ok_or_else(|| {
            Error::invalid(format!("the objects of the folder {} are not numbered", self.folder.path()))
        })
    }
}

impl Store {
    /// Creates the object `name` with `body` (magic, token, rest), and tries until it is there.
    ///
    /// `Err(Unavailable)` comes only after `give_up` (`None`: never), and means that the outcome is
    /// not known: the bytes may be there, or may still arrive. `Err` of another kind that comes before
    /// anything can have been written (no bucket, no permission) means that they are not; without `give_up` only
    /// the local file system ends it so.
    pub async fn create(
        &self,
        name: &Name,
        body: Vec<Bytes>,
        cause: Cause,
        give_up: Option<Duration>,
    ) -> Result<Slot> {
        let location = self.place.location(name)?;
        // No listing would show it.
        if name.number().is_some_and(|number| number > MAX_NUMBER) {
            return Err(Error::invalid("no object can have a number this large").on(name.path()));
        }
        let payload = PutPayload::from_iter(body);
        if payload.content_length() < TOKEN_AT.end {
            return Err(
                Error::invalid("the body of a numbered object needs a magic and a token").on(name.path())
            );
        }
        let mut patience = Patience::new(&self.place, "create", &name.path(), give_up);
        // Whether an earlier attempt may have left its bytes on their way.
        let mut uncertain = false;
        let mut odd_reads = 0;
        loop {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let created = self.place.put_once(&location, &payload, options, &patience, cause).await;
            let failure = match created {
                Ok(()) if chaos::rare("the answer to a create is forgotten") => {
                    Failure::failed("the answer was forgotten, on purpose")
                }
                Ok(()) => return Ok(Slot::Ours),
                Err(refused @ Failure::Refused { .. })
                    if !uncertain && (give_up.is_some() || refused.is_of_disk()) =>
                {
                    return Err(patience.error(refused));
                }
                Err(failure) => failure,
            };
            uncertain |= !matches!(failure, Failure::Refused { .. });
            let contested = matches!(failure, Failure::Contested);
            match self.place.get_whole_once(&location, name.most_bytes(), &patience, cause).await {
                // slatedb #766: the error decided who owns the slot.
                Ok(found) if contested && bug(Bug::OwnPutIsDefeat) => return Ok(Slot::Theirs(found)),
                Ok(found) if is_same(&found, &payload) => return Ok(Slot::Ours),
                Ok(found) if Token::of(&found) == token_of(&payload) => {
                    odd_reads += 1;
                    if odd_reads >= ODD_READS {
                        let offset = first_difference(&found, &payload);
                        return Err(Error::corruption(
                            name.path(),
                            offset,
                            "the object carries our token, but not the bytes we sent",
                        ));
                    }
                    patience.wait_despite_refusal(Failure::failed("the slot reads back other bytes")).await?;
                }
                Ok(found) => return Ok(Slot::Theirs(found)),
                // ydb #49947, fdb #14027: in doubt, done.
                Err(Failure::Missing) if uncertain && bug(Bug::AbsentSlotIsOurs) => return Ok(Slot::Ours),
                Err(Failure::Missing) => patience.wait_despite_refusal(failure).await?,
                Err(unread) => patience.wait_despite_refusal(unread).await?,
            }
        }
    }
}

fn is_same(found: &[u8], payload: &PutPayload) -> bool {
    found.len() == payload.content_length() && first_difference(found, payload) == found.len() as u64
}

/// The offset of the first byte that differs, or the length of the shorter.
fn first_difference(found: &[u8], payload: &PutPayload) -> u64 {
    let sent = payload.iter().flatten();
    found.iter().zip(sent).take_while(|(found, sent)| found == sent).count() as u64
}

fn token_of(payload: &PutPayload) -> Option<Token> {
    let mut head = payload.iter().flatten().copied().skip(TOKEN_AT.start);
    let mut token = [0; 16];
    for byte in &mut token {
        *byte = head.next()?;
    }
    Some(Token(token))
}
