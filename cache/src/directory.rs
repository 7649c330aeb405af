//! The directory of the SSD tier: whose it is, what is in it, and whether that can be read.
//!
//! ```text
//! DIR/esker-cache.lock                  locked (flock) while a process uses DIR, whatever its version; never deleted
//! DIR/esker-cache-v1-foyer-0.22/
//!     LAYOUT                            text: our layout, foyer's version, the sizes; written last, deleted first
//!     meta/foyer-storage-direct-fs-*    one file for each block of foyer's, reserved in full
//!     data/foyer-storage-direct-fs-*
//! ```
//!
//! foyer's layout changes between its versions and carries no version itself (0.18 read by 0.22 gives noise), so the
//! version is in the name and in LAYOUT, and what does not match is wiped.
//!
//! Always true: only files that this module names are ever deleted, in directories that this module names; the lock
//! is held before anything is read, written or deleted; files are used only under a LAYOUT that matches, so that a
//! crash in the midst of creating them ends in creating them again.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use fs4::fs_std::FileExt;

use crate::options::CacheError;

/// The version of what we store: ids and their hash, the frame of an entry, the files. Counted up when one changes.
pub(crate) const LAYOUT: u32 = 1;

/// The version of foyer whose files we keep.
pub(crate) const FOYER: &str = "0.22";

const LOCK_FILE: &str = "esker-cache.lock";
const LAYOUT_FILE: &str = "LAYOUT";
const SUBDIRECTORY_PREFIX: &str = "esker-cache-v";
const TIER_DIRECTORIES: [&str; 2] = ["meta", "data"];
const FILE_PREFIX: &str = "foyer-storage-direct-fs-";

/// A directory that this process holds, with the files of its tiers in place. Dropping it releases the directory.
#[derive(Debug)]
pub(crate) struct Directory {
    #[expect(dead_code, reason = "held for the lock, which its drop releases")]
    lock: File,
    root: PathBuf,
}

/// The size of one tier's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Number of files.
    pub(crate) blocks: u64,
    /// Bytes of each.
    pub(crate) block_bytes: u64,
}

/// Why a directory is not used.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The user must mend it; the cache does not open.
    Mend(CacheError),
    /// The disk will not have it; the cache works without it. Says why.
    Without(String),
}

impl Directory {
    /// Locks `dir` and makes it ready for tiers of these sizes: what fits is kept, what does not is wiped. Blocking.
    pub(crate) fn open(dir: &Path, meta: Extent, data: Extent) -> Result<Self, Refusal> {
        fs::create_dir_all(dir).map_err(|e| refusal(dir, "be created", &e))?;
        let lock_path = dir.join(LOCK_FILE);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|e| refusal(&lock_path, "be opened", &e))?;
        if !FileExt::try_lock_exclusive(&lock).map_err(|e| refusal(&lock_path, "be locked", &e))? {
            return Err(Refusal::Mend(CacheError::new(format!(
                "the cache directory {} is in use by another cache: give each process a directory of its own, \
                 or stop the other one",
                dir.display()
            ))));
        }
        wipe_other_versions(dir);

        let root = dir.join(subdirectory());
        let layout = layout(meta, data);
        let kept = fs::read_to_string(root.join(LAYOUT_FILE)).is_ok_and(|found| found == layout);
        if !kept {
            wipe(&root);
        }
        let directory = Self { lock, root };
        directory.create(&layout, kept, [meta, data]).inspect_err(|_| wipe(&directory.root))?;
        Ok(directory)
    }

    /// Where the files of the metadata tier are.
    pub(crate) fn meta(&self) -> PathBuf {
        self.root.join(TIER_DIRECTORIES[0])
    }

    /// Where the files of the data tier are.
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join(TIER_DIRECTORIES[1])
    }

    /// Deletes the files, for a tier that cannot be opened with them. The next [`open`](Self::open) starts afresh.
    pub(crate) fn wipe(&self) {
        wipe(&self.root);
    }

    /// Creates and reserves what is missing. Reserving finds a full disk now, and not at some write in the
    /// background, of which nobody would hear.
    fn create(&self, layout: &str, kept: bool, extents: [Extent; 2]) -> Result<(), Refusal> {
        create_private(&self.root)?;
        for (name, extent) in TIER_DIRECTORIES.iter().zip(extents) {
            let tier = self.root.join(name);
            create_private(&tier)?;
            for block in 0..extent.blocks {
                let path = tier.join(format!("{FILE_PREFIX}{block:08}"));
                reserve(&path, extent.block_bytes).map_err(|e| refusal(&path, "be reserved", &e))?;
            }
        }
        if kept {
            return Ok(());
        }
        let path = self.root.join(LAYOUT_FILE);
        fs::write(&path, layout).map_err(|e| refusal(&path, "be written", &e))
    }
}

fn subdirectory() -> String {
    format!("{SUBDIRECTORY_PREFIX}{LAYOUT}-foyer-{FOYER}")
}

fn layout(meta: Extent, data: Extent) -> String {
    format!(
        "Blocks cached by Esker. It can be deleted while nobody uses it.\n\
         layout {LAYOUT}\nfoyer {FOYER}\nmeta {} x {}\ndata {} x {}\n",
        meta.blocks, meta.block_bytes, data.blocks, data.block_bytes
    )
}

/// Wipes the subdirectories of other versions of this cache in `dir`. What cannot be deleted stays: it is only space.
fn wipe_other_versions(dir: &Path) {
    let Ok(found) = fs::read_dir(dir) else { return };
    for entry in found.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name != subdirectory() && is_subdirectory_name(name) && entry.path().join(LAYOUT_FILE).is_file() {
            wipe(&entry.path());
        }
    }
}

/// Whether `name` is `esker-cache-vN-foyer-N.N`.
fn is_subdirectory_name(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    name.strip_prefix(SUBDIRECTORY_PREFIX)
        .and_then(|rest| rest.split_once("-foyer-"))
        .and_then(|(version, foyer)| Some((version, foyer.split_once('.')?)))
        .is_some_and(|(version, (major, minor))| number(version) && number(major) && number(minor))
}

/// Deletes our files under `root`, then the directories that are empty by then.
fn wipe(root: &Path) {
    if !fs::symlink_metadata(root).is_ok_and(|found| found.is_dir()) {
        return;
    }
    let _ = fs::remove_file(root.join(LAYOUT_FILE));
    for tier in TIER_DIRECTORIES.map(|name| root.join(name)) {
        if fs::symlink_metadata(&tier).is_ok_and(|found| found.is_dir())
            && let Ok(files) = fs::read_dir(&tier)
        {
            for file in files.flatten() {
                if file.file_name().to_str().is_some_and(|name| name.starts_with(FILE_PREFIX)) {
                    let _ = fs::remove_file(file.path());
                }
            }
        }
        let _ = fs::remove_dir(&tier);
    }
    let _ = fs::remove_dir(root);
}

/// Creates a directory that only its owner can enter, if it is not there: cached bytes are the user's data.
fn create_private(path: &Path) -> Result<(), Refusal> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        created => created.map_err(|e| refusal(path, "be created", &e)),
    }
}

fn reserve(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match FileExt::allocate(&file, bytes) {
        // A file system without reservations; the disk may then be found full later, which is a fault and a miss.
        Err(e) if e.kind() == ErrorKind::Unsupported => file.set_len(bytes),
        reserved => reserved,
    }
}

/// A path that is not what the user thinks is theirs to mend; a disk that refuses is not.
fn refusal(path: &Path, cannot: &str, error: &io::Error) -> Refusal {
    let what = format!("{} of the SSD cache cannot {cannot}: {error}", path.display());
    match error.kind() {
        ErrorKind::NotADirectory
        | ErrorKind::AlreadyExists
        | ErrorKind::IsADirectory
        | ErrorKind::InvalidInput => {
            Refusal::Mend(CacheError::new(format!("{what}; name a directory that exists or can be created")))
        }
        _ => Refusal::Without(what),
    }
}
