//! The running children: started, heard, paused, killed.
//!
//! Always true: each child's lines are taken down by a thread of its own until its pipe ends; a child that
//! ended by itself is looked at: a panic is something wrong, anything else is started again; dropping the crew
//! kills everyone in it by handle.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{child::Role, history::History};

/// What a process that panicked ends with.
const PANICKED: i32 = 101;
/// How much of what a child said last is shown.
const LAST_WORDS: usize = 1500;

/// The children of one trial, and the history they tell.
#[derive(Debug)]
pub(super) struct Crew {
    members: Vec<Member>,
    history: Arc<Mutex<History>>,
    /// Every line as it was heard, for people.
    record: Arc<Mutex<BufWriter<File>>>,
    next_child: u64,
    retention: Duration,
    /// Where children's standard error goes.
    logs: PathBuf,
}

#[derive(Debug)]
struct Member {
    role: Role,
    number: u64,
    process: Child,
    listener: Option<JoinHandle<()>>,
    log: PathBuf,
    paused: bool,
}

impl Crew {
    /// A crew whose logs, and the record of all it says (`history.log`), go into the folder `logs`.
    pub(super) fn new(logs: &Path, retention: Duration) -> Result<Self> {
        let record = File::create(logs.join("history.log")).context("a file for the history")?;
        Ok(Self {
            members: Vec::new(),
            history: Arc::default(),
            record: Arc::new(Mutex::new(BufWriter::new(record))),
            next_child: 1,
            retention,
            logs: logs.to_owned(),
        })
    }

    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a child at `url`.
    pub(super) fn start(&mut self, role: Role, url: &str) -> Result<()> {
        let number = self.next_child;
        self.next_child += 1;
        let log = self.logs.join(format!("{}-{number}.log", role.as_str()));
        let mut process = Command::new(std::env::current_exe().context("the path of this program")?)
            .args(["soak-child", "--role", role.as_str(), "--url", url, "--child", &number.to_string()])
            .args(["--retention", &humantime::format_duration(self.retention).to_string()])
            .env_remove("ESKER_URL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).context("a log for a child")?)
            .spawn()
            .context("a child cannot be started")?;
        let listener = process.stdout.take().map(|output| {
            let (history, record) = (Arc::clone(&self.history), Arc::clone(&self.record));
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    history.lock().unwrap_or_else(PoisonError::into_inner).hear(number, &line);
                    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
                    // For people only: a full disk ends no soak.
                    let _ = writeln!(record, "{number} {line}");
                }
            })
        });
        self.members.push(Member { role, number, process, listener, log, paused: false });
        Ok(())
    }

    /// How many there are of a role, paused ones too.
    pub(super) fn count(&self, role: Role) -> usize {
        self.members.iter().filter(|member| member.role == role).count()
    }

    /// Kills the first of a role where it stands; whether there was one.
    pub(super) fn kill(&mut self, role: Role) -> bool {
        let Some(at) = self.members.iter().position(|member| member.role == role) else { return false };
        self.members.remove(at).end();
        true
    }

    /// Kills everyone, and waits until all they have said is taken down.
    pub(super) fn kill_all(&mut self) {
        for member in self.members.drain(..) {
            member.end();
        }
    }

    /// Stops the first of a role that runs; [`Self::resume`] lets it go on. Whether there was one.
    pub(super) fn pause(&mut self, role: Role) -> bool {
        match self.members.iter_mut().find(|member| member.role == role && !member.paused) {
            Some(member) => {
                member.paused = signal(&member.process, Signal::Stop);
                member.paused
            }
            None => false,
        }
    }

    /// Lets everyone who was paused go on.
    pub(super) fn resume(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.paused) {
            signal(&member.process, Signal::Continue);
            member.paused = false;
        }
    }

    /// Takes those out who have ended by themselves, notes a panic as wrong, and says how many of them there were.
    pub(super) fn bury(&mut self) -> u64 {
        let mut ended = 0;
        let mut at = 0;
        while at < self.members.len() {
            let Ok(Some(status)) = self.members[at].process.try_wait() else {
                at += 1;
                continue;
            };
            let member = self.members.remove(at);
            ended += 1;
            let (role, number, log) = (member.role, member.number, member.log.clone());
            member.end();
            let code = status.code();
            if code == Some(PANICKED) || code.is_none() {
                let words = last_words(&log);
                self.history().wrong(format!("{} {number} ended with {status}: {words}", role.as_str()));
            }
            let kind = format!("{} exit {}", role.as_str(), code.unwrap_or(-1));
            *self.history().counts.endings.entry(kind).or_default() += 1;
        }
        ended
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.kill_all();
    }
}

impl Member {
    fn end(mut self) {
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(listener) = self.listener.take() {
            // It ends with the pipe; a panic of its own would have been reported.
            let _ = listener.join();
        }
    }
}

/// The end of what a child said on standard error.
fn last_words(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(LAST_WORDS)..]).trim().replace('\n', " | ")
}

/// What makes a process pause and go on.
#[derive(Debug, Clone, Copy)]
enum Signal {
    Stop,
    Continue,
}

#[cfg(unix)]
fn signal(process: &Child, signal: Signal) -> bool {
    use rustix::process::{Pid, Signal as Unix, kill_process};
    let signal = match signal {
        Signal::Stop => Unix::STOP,
        Signal::Continue => Unix::CONT,
    };
    let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    id.is_some_and(|id| kill_process(id, signal).is_ok())
}

/// Elsewhere nobody is paused, and the report says so by its zero.
#[cfg(not(unix))]
fn signal(_: &Child, _: Signal) -> bool {
    false
}
