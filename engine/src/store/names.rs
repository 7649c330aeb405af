//! Object names, by a strict grammar; parsed and rebuilt, never joined from strings read back.
//!
//! ```text
//! DB                                identity, created once
//! manifest/{id:020}                 numbered, created once
//! wal/{slot:020}
//! job/{id:020}
//! sst/{hh}/{object id}              immutable, unique; hh = two hex digits of a hash of the id
//! part/{hh}/{object id}
//! blob/{hh}/{object id}
//! floor/manifest/{id:020}           created once
//! floor/job/{id:020}
//! pin/{uuid:032x}
//! checkpoint/{name}                 1 to 100 of A-Z a-z 0-9 . _ - and no dot in front
//!
//! object id = {role}{epoch:08x}-{counter:010x}-{nonce:016x}      role is w or c
//! ```
//!
//! Numbers are decimal and padded, so that the order of names is the order of numbers, and at most [`MAX_NUMBER`]:
//! what lies past that is a stranger's, like everything else outside the grammar, and is left alone. The hash
//! spreads SSTs over prefixes, because stores scale requests by prefix. No user bytes are in a name.
//!
//! Always true: `Name::parse(&name.path()) == Some(name)` for every valid name, and a path that
//! parses is exactly the path of what it parsed to: there are no two spellings.

use std::fmt;

use twox_hash::XxHash3_64;

use crate::error::{Error, Result};

/// The length in bytes of [`ObjectId::to_bytes`].
pub const OBJECT_ID_BYTES: usize = 21;

/// The longest name of a checkpoint, in bytes.
pub const MAX_CHECKPOINT_NAME_BYTES: usize = 100;

/// The largest id, slot, number or counter: nothing that counts by ones gets there, and adding to it cannot overflow.
pub const MAX_NUMBER: u64 = 1 << 62;

/// An object of a database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// The identity of the database, created once.
    Identity,
    /// A version of the manifest root.
    Manifest(u64),
    /// A slot of the write-ahead log.
    Wal(u64),
    /// An entry of the compaction job log.
    Job(u64),
    /// A sorted file of entries.
    Sst(ObjectId),
    /// A piece of the manifest.
    Part(ObjectId),
    /// Separated values.
    Blob(ObjectId),
    /// A mark: manifest ids at or under it are void.
    ManifestFloor(u64),
    /// A mark: job ids at or under it are void.
    JobFloor(u64),
    /// A reader's hold on a version.
    Pin(u128),
    /// A full copy of a manifest root under a name; make it with [`Name::checkpoint`].
    Checkpoint(String),
}

/// The folders of a database, each listed on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// `manifest/`
    Manifest,
    /// `wal/`
    Wal,
    /// `job/`
    Job,
    /// `sst/`
    Sst,
    /// `part/`
    Part,
    /// `blob/`
    Blob,
    /// `floor/manifest/`
    ManifestFloor,
    /// `floor/job/`
    JobFloor,
    /// `pin/`
    Pin,
    /// `checkpoint/`
    Checkpoint,
}

/// Who made an immutable object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The writer: letter `w`.
    Writer,
    /// The compactor: letter `c`.
    Compactor,
}

/// The never-reused id of an SST, part or blob: `{role}{epoch:08x}-{counter:010x}-{nonce:016x}`.
///
/// Epoch and counter say who may still publish it (garbage collection rests on that); the random
/// nonce keeps two processes that both believe they own an epoch from choosing the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Who made it.
    pub role: Role,
    /// The epoch of that role it was made in.
    pub epoch: u32,
    /// How many objects that epoch had made before.
    pub counter: u64,
    /// Chance.
    pub nonce: u64,
}

impl Name {
    /// The name of the checkpoint `name`. Fails with `Invalid` outside the grammar.
    pub fn checkpoint(name: impl Into<String>) -> Result<Name> {
        let name = name.into();
        if !is_checkpoint_name(&name) {
            let shown: String = name.chars().take(MAX_CHECKPOINT_NAME_BYTES).collect();
            return Err(Error::invalid(format!("{shown:?} cannot be the name of a checkpoint")).hint(format!(
                "use 1 to {MAX_CHECKPOINT_NAME_BYTES} letters, digits, '.', '_' or '-', with no dot in front"
            )));
        }
        Ok(Name::Checkpoint(name))
    }

    /// The path under the database's prefix, `/` between its pieces.
    pub fn path(&self) -> String {
        self.to_string()
    }

    /// The name that `path` is the path of; `None` for anything the grammar does not produce.
    pub fn parse(path: &str) -> Option<Name> {
        let name = match path.split_once('/') {
            None if path == "DB" => Name::Identity,
            None => return None,
            Some(("manifest", id)) => Name::Manifest(id.parse().ok()?),
            Some(("wal", slot)) => Name::Wal(slot.parse().ok()?),
            Some(("job", id)) => Name::Job(id.parse().ok()?),
            Some(("sst", rest)) => Name::Sst(ObjectId::parse(rest.split_once('/')?.1)?),
            Some(("part", rest)) => Name::Part(ObjectId::parse(rest.split_once('/')?.1)?),
            Some(("blob", rest)) => Name::Blob(ObjectId::parse(rest.split_once('/')?.1)?),
            Some(("floor", rest)) => match rest.split_once('/')? {
                ("manifest", id) => Name::ManifestFloor(id.parse().ok()?),
                ("job", id) => Name::JobFloor(id.parse().ok()?),
                _ => return None,
            },
            Some(("pin", uuid)) => Name::Pin(u128::from_str_radix(uuid, 16).ok()?),
            Some(("checkpoint", name)) => Name::Checkpoint(name.to_owned()),
            Some(_) => return None,
        };
        // One spelling only: signs, missing padding, capitals and a wrong hash all end here.
        (name.is_valid() && name.path() == path).then_some(name)
    }

    /// The folder the object lies in; `None` for the identity, which lies at the top.
    pub fn folder(&self) -> Option<Folder> {
        Some(match self {
            Name::Identity => return None,
            Name::Manifest(_) => Folder::Manifest,
            Name::Wal(_) => Folder::Wal,
            Name::Job(_) => Folder::Job,
            Name::Sst(_) => Folder::Sst,
            Name::Part(_) => Folder::Part,
            Name::Blob(_) => Folder::Blob,
            Name::ManifestFloor(_) => Folder::ManifestFloor,
            Name::JobFloor(_) => Folder::JobFloor,
            Name::Pin(_) => Folder::Pin,
            Name::Checkpoint(_) => Folder::Checkpoint,
        })
    }

    /// More bytes than an object of this kind ever has; see [`Folder::most_object_bytes`].
    pub fn most_bytes(&self) -> u64 {
        self.folder().map_or(4 << 10, Folder::most_object_bytes)
    }

    /// The number of a numbered object (manifest, WAL, job, floor).
    pub fn number(&self) -> Option<u64> {
        match self {
            Name::Manifest(n) | Name::Wal(n) | Name::Job(n) | Name::ManifestFloor(n) | Name::JobFloor(n) => {
                Some(*n)
            }
            _ => None,
        }
    }

    /// The id of an immutable, uniquely named object (SST, part, blob).
    pub fn object_id(&self) -> Option<ObjectId> {
        match self {
            Name::Sst(id) | Name::Part(id) | Name::Blob(id) => Some(*id),
            _ => None,
        }
    }

    /// Whether the grammar has this name; only a checkpoint's, and one with a number past [`MAX_NUMBER`], can be
    /// outside it.
    pub fn is_valid(&self) -> bool {
        match self {
            Name::Checkpoint(name) => is_checkpoint_name(name),
            name => name.number().is_none_or(|number| number <= MAX_NUMBER),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(folder) = self.folder() {
            write!(f, "{}/", folder.path())?;
        }
        match self {
            Name::Identity => f.write_str("DB"),
            Name::Manifest(n) | Name::Wal(n) | Name::Job(n) | Name::ManifestFloor(n) | Name::JobFloor(n) => {
                write!(f, "{n:020}")
            }
            Name::Sst(id) | Name::Part(id) | Name::Blob(id) => write!(f, "{:02x}/{id}", id.seed() as u8),
            Name::Pin(uuid) => write!(f, "{uuid:032x}"),
            Name::Checkpoint(name) => f.write_str(name),
        }
    }
}

impl Folder {
    /// Every folder.
    pub const ALL: [Folder; 10] = [
        Folder::Manifest,
        Folder::Wal,
        Folder::Job,
        Folder::Sst,
        Folder::Part,
        Folder::Blob,
        Folder::ManifestFloor,
        Folder::JobFloor,
        Folder::Pin,
        Folder::Checkpoint,
    ];

    /// The folder's path, without a slash at the end.
    pub fn path(self) -> &'static str {
        match self {
            Folder::Manifest => "manifest",
            Folder::Wal => "wal",
            Folder::Job => "job",
            Folder::Sst => "sst",
            Folder::Part => "part",
            Folder::Blob => "blob",
            Folder::ManifestFloor => "floor/manifest",
            Folder::JobFloor => "floor/job",
            Folder::Pin => "pin",
            Folder::Checkpoint => "checkpoint",
        }
    }

    /// More bytes than a whole object of this folder ever has: an object beyond it is not one of ours. What encodes
    /// objects asserts that it stays below.
    pub const fn most_object_bytes(self) -> u64 {
        match self {
            // Roots, and copies of roots.
            Folder::Manifest | Folder::Pin | Folder::Checkpoint => 260 << 20,
            Folder::Part | Folder::Job => 65 << 20,
            Folder::Wal => (1 << 30) + (64 << 10),
            Folder::ManifestFloor | Folder::JobFloor => 4 << 10,
            Folder::Sst | Folder::Blob => 1 << 41,
        }
    }

    /// The object with number `id` in this folder; `None` if its objects are not numbered.
    pub fn numbered(self, id: u64) -> Option<Name> {
        match self {
            Folder::Manifest => Some(Name::Manifest(id)),
            Folder::Wal => Some(Name::Wal(id)),
            Folder::Job => Some(Name::Job(id)),
            Folder::ManifestFloor => Some(Name::ManifestFloor(id)),
            Folder::JobFloor => Some(Name::JobFloor(id)),
            Folder::Sst | Folder::Part | Folder::Blob | Folder::Pin | Folder::Checkpoint => None,
        }
    }
}

impl Role {
    /// The letter in names and bytes: `w` or `c`.
    pub fn letter(self) -> char {
        match self {
            Role::Writer => 'w',
            Role::Compactor => 'c',
        }
    }

    fn from_letter(letter: u8) -> Option<Role> {
        match letter {
            b'w' => Some(Role::Writer),
            b'c' => Some(Role::Compactor),
            _ => None,
        }
    }
}

impl ObjectId {
    /// The id that `text` spells; `None` for anything [`fmt::Display`] does not produce.
    pub fn parse(text: &str) -> Option<ObjectId> {
        let role = Role::from_letter(*text.as_bytes().first()?)?;
        let mut fields = text.get(1..)?.split('-');
        let epoch = u32::from_str_radix(fields.next()?, 16).ok()?;
        let counter = u64::from_str_radix(fields.next()?, 16).ok()?;
        let nonce = u64::from_str_radix(fields.next()?, 16).ok()?;
        let id = ObjectId { role, epoch, counter, nonce };
        (id.to_string() == text).then_some(id)
    }

    /// The seed of checksums inside the object, so that right bytes in a wrong place are an error.
    pub fn seed(&self) -> u64 {
        XxHash3_64::oneshot(&self.to_bytes())
    }

    /// The id in 21 bytes: role letter, then epoch (u32), counter (u64) and nonce (u64), little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(OBJECT_ID_BYTES);
        bytes.push(self.role.letter() as u8);
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.counter.to_le_bytes());
        bytes.extend_from_slice(&self.nonce.to_le_bytes());
        bytes
    }

    /// The id whose [`Self::to_bytes`] are `bytes`; `None` for another length or an unknown role.
    pub fn from_bytes(bytes: &[u8]) -> Option<ObjectId> {
        let (role, rest) = bytes.split_first()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (counter, rest) = rest.split_first_chunk()?;
        let nonce = rest.try_into().ok()?;
        Some(ObjectId {
            role: Role::from_letter(*role)?,
            epoch: u32::from_le_bytes(*epoch),
            counter: u64::from_le_bytes(*counter),
            nonce: u64::from_le_bytes(nonce),
        })
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectId { role, epoch, counter, nonce } = self;
        write!(f, "{}{epoch:08x}-{counter:010x}-{nonce:016x}", role.letter())
    }
}

fn is_checkpoint_name(name: &str) -> bool {
    (1..=MAX_CHECKPOINT_NAME_BYTES).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
