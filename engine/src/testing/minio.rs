//! A MinIO server of one's own, for as long as a test or a run takes.
//!
//! MinIO is the S3-compatible server that can be had without a cloud: one binary, built by one
//! command ([`INSTALL_COMMAND`]). It is started on a free loopback port over a fresh folder in the
//! system's temporary directory.
//!
//! Always true: the server and its folder are gone when the [`Minio`] is dropped; it listens on this
//! machine only; its keys are random.

use std::{
    env,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    clock::SharedClock,
    error::{Error, Result},
};

/// The command that builds the server, for people who have none.
pub const INSTALL_COMMAND: &str = "go install github.com/minio/minio@latest";

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How often a start is tried: between finding a free port and using it, another may take it.
const STARTS: usize = 3;

/// A running MinIO server with one bucket, `bucket`.
#[derive(Debug)]
pub struct Minio {
    server: Child,
    place: Place,
}

/// All that a server is started from; it outlives the process.
#[derive(Debug)]
struct Place {
    binary: PathBuf,
    folder: PathBuf,
    port: u16,
    key: String,
    secret: String,
}

impl Minio {
    /// Starts a server and waits until it answers; `None` if this machine has no `minio` binary (in
    /// `PATH`, `$GOBIN`, `$GOPATH/bin` or `~/go/bin`).
    pub async fn start(clock: &SharedClock) -> Result<Option<Minio>> {
        let Some(binary) = find_binary() else { return Ok(None) };
        let mut last = None;
        for _ in 0..STARTS {
            match Self::start_once(&binary, clock).await {
                Ok(minio) => return Ok(Some(minio)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::unavailable("minio was not started")))
    }

    /// The URL of `place`, a bucket and a prefix, with all that is needed to open it.
    pub fn url(&self, place: &str) -> String {
        format!(
            "s3://{place}?endpoint={}&region=us-east-1&access_key_id={}&secret_access_key={}",
            self.endpoint(),
            self.place.key,
            self.place.secret
        )
    }

    /// The server's address, as `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.place.port)
    }

    /// Makes another bucket. A server over one folder takes its sub-folders as buckets.
    pub fn create_bucket(&self, bucket: &str) -> Result<()> {
        fs::create_dir(self.place.folder.join("data").join(bucket))
            .map_err(|e| Error::invalid(format!("the bucket {bucket:?} cannot be made")).because(e))
    }

    /// Where the server keeps its data: a folder a bucket.
    pub fn data_folder(&self) -> PathBuf {
        self.place.folder.join("data")
    }

    /// The process of the server now running, for who wants to pause it.
    pub fn process_id(&self) -> u32 {
        self.server.id()
    }

    /// Kills the server where it stands (SIGKILL on Unix). Its folder stays, for [`Self::restart`].
    pub fn kill(&mut self) -> Result<()> {
        let failed = |e| Error::unavailable("minio cannot be stopped").because(e);
        self.server.kill().map_err(failed)?;
        self.server.wait().map(drop).map_err(failed)
    }

    /// Starts the server again after [`Self::kill`], on the same folder, port and keys, and waits until it
    /// answers.
    pub async fn restart(&mut self, clock: &SharedClock) -> Result<()> {
        let mut last = None;
        for _ in 0..STARTS {
            // Of no effect after a kill; after a start that failed it makes room for the next.
            let _ = self.kill();
            self.server = self.place.spawn()?;
            match self.until_ready(clock).await {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::unavailable("minio was not started again")))
    }

    async fn start_once(binary: &Path, clock: &SharedClock) -> Result<Minio> {
        let folder = env::temp_dir().join(format!("esker-minio-{:032x}", clock.random()));
        fs::create_dir_all(folder.join("data").join("bucket")).map_err(not_started)?;
        let port = free_port().map_err(not_started)?;
        let (key, secret) = (format!("k{:016x}", clock.random() as u64), format!("s{:032x}", clock.random()));
        let place = Place { binary: binary.to_owned(), folder, port, key, secret };
        let server = place.spawn()?;
        // From here on, dropping it stops the server and removes the folder.
        let mut minio = Minio { server, place };
        minio.until_ready(clock).await?;
        Ok(minio)
    }

    async fn until_ready(&mut self, clock: &SharedClock) -> Result<()> {
        let started = clock.monotonic();
        while !self.is_ready() {
            let exited = self.server.try_wait().map_err(not_started)?;
            if exited.is_some() || clock.monotonic() - started > START_LIMIT {
                let log = fs::read_to_string(self.place.folder.join("log")).unwrap_or_default();
                let said = log.lines().rev().take(5).collect::<Vec<_>>().join(" | ");
                return Err(Error::unavailable(format!("minio did not come up; it said: {said}")));
            }
            clock.sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Whether the server says that it is ready.
    fn is_ready(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.place.port));
        let ask = || -> std::io::Result<bool> {
            let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
            connection.set_read_timeout(Some(Duration::from_secs(2)))?;
            connection.write_all(
                b"GET /minio/health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            )?;
            let mut status = [0; 12];
            connection.read_exact(&mut status)?;
            Ok(&status == b"HTTP/1.1 200")
        };
        ask().unwrap_or(false)
    }
}

impl Place {
    fn spawn(&self) -> Result<Child> {
        let log =
            File::options().create(true).append(true).open(self.folder.join("log")).map_err(not_started)?;
        Command::new(&self.binary)
            .arg("server")
            .arg("--quiet")
            .args(["--address", &format!("127.0.0.1:{}", self.port)])
            .arg(self.folder.join("data"))
            .env("MINIO_ROOT_USER", &self.key)
            .env("MINIO_ROOT_PASSWORD", &self.secret)
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(not_started)?)
            .stderr(log)
            .spawn()
            .map_err(not_started)
    }
}

fn not_started(error: std::io::Error) -> Error {
    Error::unavailable("minio cannot be started").because(error)
}

impl Drop for Minio {
    fn drop(&mut self) {
        // Both fail only if the server is gone already.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.place.folder);
    }
}

fn find_binary() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let go_path = env::var_os("GOPATH").map(|folder| PathBuf::from(folder).join("bin"));
    let home = env::var_os("HOME").map(|folder| PathBuf::from(folder).join("go").join("bin"));
    env::split_paths(&path)
        .chain(env::var_os("GOBIN").map(PathBuf::from))
        .chain(go_path)
        .chain(home)
        .map(|folder| folder.join(if cfg!(windows) { "minio.exe" } else { "minio" }))
        .find(|file| file.is_file())
}

fn free_port() -> std::io::Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr().map(|address| address.port())
}
