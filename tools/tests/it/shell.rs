//! Running `esker` as its own process, and what it said.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A database in a folder of its own, gone when the test ends.
pub(crate) struct Shell {
    folder: tempfile::TempDir,
}

/// What a run of `esker` said and how it ended.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The URL of the database `name` in the folder.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    /// Writes a file; its path as text.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("a file in the temporary folder");
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    /// Runs `esker` on the words, nothing on standard input.
    pub(crate) fn run(&self, words: &[&str]) -> Said {
        self.run_with(words, b"")
    }

    /// Runs `esker` on the words, `input` on standard input.
    pub(crate) fn run_with(&self, words: &[&str], input: &[u8]) -> Said {
        let mut child = esker().args(words).stdin(Stdio::piped()).spawn().expect("esker starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = input.to_vec();
        // In a thread: a command that reads nothing would leave a full pipe.
        let feed = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("esker ends");
        feed.join().expect("the input was offered");
        Said::of(output)
    }

    /// Runs `esker`, which must succeed; its standard output as text.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        self.run(words).ok(words)
    }

    /// Runs `esker`, which must end with `code` and say `sentence` in its error.
    pub(crate) fn fails(&self, words: &[&str], code: i32, sentence: &str) -> Said {
        let said = self.run(words);
        assert_eq!(said.code, code, "esker {words:?} ended with {}: {}", said.code, said.err);
        assert!(said.err.contains(sentence), "esker {words:?} said {:?}, not {sentence:?}", said.err);
        said
    }
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
    /// Standard output as text; fails the test if the command failed.
    pub(crate) fn ok(self, words: &[&str]) -> String {
        assert_eq!(self.code, 0, "esker {words:?} ended with {}: {}", self.code, self.err);
        String::from_utf8(self.out).expect("text on standard output")
    }
}

/// The built command, deaf to the settings of whoever runs the tests.
pub(crate) fn esker() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_esker"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    for setting in ["ESKER_URL", "RUST_LOG", "RUST_BACKTRACE"] {
        command.env_remove(setting);
    }
    command
}

/// All files under `folder`, sorted.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A database of many rows in SSTs and one row in the log, as a URL and as a folder.
pub(crate) fn database(shell: &Shell) -> (String, PathBuf) {
    let url = shell.url("db");
    let rows: String = (0..4000)
        .map(|n| format!("{{\"key\":\"k{n:05}\",\"value\":\"value {n} {}\"}}\n", n * 7919 % 10007))
        .collect();
    let rows = shell.file("rows.jsonl", rows);
    shell.ok(&["load", &url, &rows, "--compaction", "off"]);
    shell.ok(&["put", &url, "late", "only in the log"]);
    shell.ok(&["verify", &url]);
    (url, shell.path("db"))
}

/// The newest object whose path has `part` in it.
pub(crate) fn newest(folder: &Path, part: &str) -> PathBuf {
    files(folder)
        .into_iter()
        .rfind(|path| path.to_str().is_some_and(|p| p.contains(part)))
        .expect("such an object")
}

/// Flips a bit of the byte at `at`, or of the last one if the file is shorter.
pub(crate) fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("the object");
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 0x40;
    fs::write(path, bytes).expect("the damaged object");
}
