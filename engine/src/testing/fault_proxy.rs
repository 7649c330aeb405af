//! An HTTP proxy that fails on purpose, in front of an S3 server.
//!
//! [`FaultProxy`] listens on a loopback port, takes S3 requests from any client in any language, and passes
//! them on, under the same [`Rule`]s as [`FaultyStore`](super::FaultyStore). What only a network can do it does
//! with real sockets: resets, answers that break off, replies lost after the server has committed, PUTs that
//! land when their sender is dead. Requests go on exactly as they came, with their `Host`, so that
//! signatures still verify.
//!
//! ```text
//! client ──▶ 127.0.0.1:port of its node ──▶ what is it? (S3) ──▶ what does it meet? (rules) ──▶ server
//! ```
//!
//! It needs the cargo feature `testing-proxy`, so that programs which only use the library carry no
//! server's sockets.
//!
//! Always true: it listens on this machine only; all its connections end when it is dropped; without a rule
//! that fires, the bytes of both bodies go through untouched.
//!
//! ```no_run
//! use esker::{Db, clock::SystemClock, testing::{FaultProxy, Minio, parse_rules}};
//!
//! # async fn example() -> esker::Result<()> {
//! let clock = SystemClock::shared();
//! let Some(server) = Minio::start(&clock).await? else { return Ok(()) };
//! let proxy = FaultProxy::start(&server.endpoint(), clock, 42).await?;
//! for rule in parse_rules("put wal/ nth=2 -> drop_reply\nget sst/ chance=0.1 -> cut=1000")? {
//!     proxy.add(rule);
//! }
//! // Whatever speaks S3 may use this endpoint; an Esker URL has it as a parameter.
//! let db = Db::open(proxy.url(&server.url("bucket/db"))?).await?;
//! db.put("k", "v").await?;
//! assert_eq!(db.get("k").await?.as_deref(), Some(&b"v"[..]));
//! # Ok(()) }
//! ```

use std::{collections::BTreeMap, future::Future, io, net::Ipv4Addr, pin::Pin, sync::Arc, time::Duration};

use futures::{StreamExt as _, future, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};

use super::{
    http::{Ending, Request, Response, Wire},
    rule::{Fault, Operation, Rule},
    s3::{self, Call},
    script::{Script, to_usize},
};
use crate::{
    clock::{SharedClock, Task},
    error::{Error, Result},
};

/// A proxy that fails by rules.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
    /// A listener a node; each drives its connections.
    listeners: Mutex<BTreeMap<String, (u16, Task)>>,
}

#[derive(Debug)]
struct Shared {
    /// Host and port of the server.
    server: String,
    clock: SharedClock,
    script: Mutex<Script>,
    withheld: Mutex<Vec<Request>>,
    requests: Mutex<u64>,
}

impl FaultProxy {
    /// Starts one in front of `endpoint`, such as `http://127.0.0.1:9000`. Delays are by `clock`, chance by
    /// `seed`. Fails with `Invalid` if the endpoint is not plain HTTP.
    pub async fn start(endpoint: &str, clock: SharedClock, seed: u64) -> Result<FaultProxy> {
        let server = endpoint.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let Some(server) = server.filter(|server| !server.is_empty() && !server.contains('/')) else {
            return Err(Error::invalid("the fault proxy cannot stand in front of this endpoint")
                .hint("it speaks plain HTTP: write it like http://127.0.0.1:9000"));
        };
        let server = if server.contains(':') { server.to_owned() } else { format!("{server}:80") };
        let shared = Arc::new(Shared {
            server,
            clock,
            script: Mutex::new(Script::new(seed)),
            withheld: Mutex::default(),
            requests: Mutex::default(),
        });
        let proxy = FaultProxy { port: 0, shared, listeners: Mutex::default() };
        let port = proxy.listen("").await?;
        Ok(FaultProxy { port, ..proxy })
    }

    /// Its address, as `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// An address of its own for the node `label`: rules may be about one node only.
    pub async fn node(&self, label: &str) -> Result<String> {
        let known = self.listeners.lock().get(label).map(|(port, _)| *port);
        let port = match known {
            Some(port) => port,
            None => self.listen(label).await?,
        };
        Ok(format!("http://127.0.0.1:{port}"))
    }

    /// The same database through this proxy: an S3 URL with its `endpoint` replaced.
    pub fn url(&self, url: &str) -> Result<String> {
        with_endpoint(url, &self.endpoint())
    }

    /// The same database through this proxy, as the node `label`.
    pub async fn node_url(&self, label: &str, url: &str) -> Result<String> {
        with_endpoint(url, &self.node(label).await?)
    }

    /// Adds a rule, after those there are.
    pub fn add(&self, rule: Rule) {
        self.shared.script.lock().add(rule);
    }

    /// Takes all rules away.
    pub fn clear(&self) {
        self.shared.script.lock().clear();
    }

    /// How many requests have met a fault.
    pub fn faults(&self) -> u64 {
        self.shared.script.lock().faults()
    }

    /// How many requests have met each kind of fault, by its word in a rule's text.
    pub fn met(&self) -> BTreeMap<&'static str, u64> {
        self.shared.script.lock().met()
    }

    /// How many requests have come.
    pub fn requests(&self) -> u64 {
        *self.shared.requests.lock()
    }

    /// Sends on the PUTs that were withheld, in order. Returns how many. The server may refuse those that are
    /// older than their signature allows (15 minutes).
    pub async fn release_withheld(&self) -> usize {
        let withheld = std::mem::take(&mut *self.shared.withheld.lock());
        let number = withheld.len();
        for request in withheld {
            // The sender is long gone: nobody hears the answer.
            let _ = self.shared.exchange(&mut None, &request).await;
        }
        number
    }

    async fn listen(&self, label: &str) -> Result<u16> {
        let failed = |e: io::Error| Error::unavailable("the fault proxy cannot listen").because(e);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let node: Arc<str> = Arc::from(label);
        let task = Task::spawn(serve(listener, Arc::clone(&self.shared), node));
        self.listeners.lock().insert(label.to_owned(), (port, task));
        Ok(port)
    }
}

fn with_endpoint(url: &str, endpoint: &str) -> Result<String> {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let mut replaced = false;
    let pairs: Vec<String> = query
        .split('&')
        .map(|pair| match pair.strip_prefix("endpoint=") {
            Some(_) => {
                replaced = true;
                format!("endpoint={endpoint}")
            }
            None => pair.to_owned(),
        })
        .collect();
    if !replaced {
        return Err(Error::invalid("the URL has no endpoint that the fault proxy could replace")
            .hint("write it like s3://bucket/prefix?endpoint=http://127.0.0.1:9000"));
    }
    Ok(format!("{place}?{}", pairs.join("&")))
}

/// Takes connections and drives them, until the task is dropped.
async fn serve(listener: TcpListener, shared: Arc<Shared>, node: Arc<str>) {
    let mut connections: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>> = FuturesUnordered::new();
    connections.push(Box::pin(future::pending()));
    loop {
        tokio::select! {
            biased;
            _ = connections.next() => {}
            accepted = listener.accept() => {
                // What fails here is one connection that came to nothing.
                if let Ok((stream, _)) = accepted {
                    let (shared, node) = (Arc::clone(&shared), Arc::clone(&node));
                    connections.push(Box::pin(async move {
                        // A connection that ends with an error is what the client must bear anyway.
                        let _ = shared.connection(Wire::new(stream), &node).await;
                    }));
                }
            }
        }
    }
}

impl Shared {
    /// One client's connection, request after request.
    async fn connection(&self, mut client: Wire, node: &str) -> io::Result<()> {
        let mut server = None;
        while let Some(request) = client.request().await? {
            *self.requests.lock() += 1;
            let call = Call::of(&request);
            match self.one(&mut client, &mut server, &request, &call, node).await? {
                Fate::GoesOn => {}
                Fate::Closes => return Ok(()),
                Fate::IsReset => {
                    client.reset();
                    return Ok(());
                }
                Fate::Hangs => {
                    client.until_closed().await;
                    return Ok(());
                }
                Fate::IsLate(time) => {
                    client.reset();
                    self.clock.sleep(time).await;
                    self.exchange(&mut None, &request).await?;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// One request, under what it meets.
    async fn one(
        &self,
        client: &mut Wire,
        server: &mut Option<Wire>,
        request: &Request,
        call: &Call,
        node: &str,
    ) -> io::Result<Fate> {
        let paths: Vec<&str> = call.paths.iter().map(String::as_str).collect();
        let path = paths.first().copied().unwrap_or_default();
        let fault = self.script.lock().meet(call.operation, &paths, node, self.clock.monotonic());
        let mut answer = None;
        match fault {
            Some(Fault::FailBefore) => return Ok(Fate::IsReset),
            Some(Fault::Hang) => return Ok(Fate::Hangs),
            Some(Fault::Late(time)) => return Ok(Fate::IsLate(time)),
            Some(Fault::Withhold) => {
                if call.operation == Operation::Put {
                    self.withheld.lock().push(request.clone());
                }
                return Ok(Fate::IsReset);
            }
            Some(Fault::Reset(bytes)) if is_write(call.operation) && bytes < request.body.len() as u64 => {
                return Ok(Fate::IsReset);
            }
            Some(Fault::Delay(time)) => self.clock.sleep(time).await,
            Some(Fault::Duplicate) => drop(self.exchange(server, request).await?),
            Some(Fault::FalseConflict) => answer = Some(s3::refusal(409, path)),
            Some(Fault::FalseMissing) if call.operation != Operation::List => {
                answer = Some(s3::refusal(404, path));
            }
            Some(Fault::Refuse) => answer = Some(s3::refusal(403, path)),
            Some(Fault::Status(status)) => answer = Some(s3::refusal(status, path)),
            Some(Fault::FalseSuccess) => {
                answer = Some(s3::success(call.operation, &paths, request.method == "POST"));
            }
            Some(Fault::ErrorBody) => answer = Some(s3::error_in_success(path)),
            _ => {}
        }
        if let Some(mut answer) = answer {
            if request.method == "HEAD" || answer.status == 304 {
                answer.body.clear();
            }
            client.answer(&request.method, &answer, Ending::Whole).await?;
            return Ok(Fate::GoesOn);
        }
        let Ok(mut response) = self.exchange(server, request).await else {
            // The server is not there, or went away: its client would have seen the same.
            *server = None;
            return Ok(Fate::IsReset);
        };
        let ending = match fault {
            Some(Fault::DropReply) => return Ok(Fate::Closes),
            Some(Fault::HangReply) => return Ok(Fate::Hangs),
            Some(Fault::Reset(_)) if is_write(call.operation) => return Ok(Fate::IsReset),
            Some(Fault::Reset(bytes)) => Ending::Reset(to_usize(bytes)),
            Some(Fault::Cut(bytes)) => Ending::Closed(to_usize(bytes)),
            _ => Ending::Whole,
        };
        self.spoil(&mut response, request, call, fault);
        client.answer(&request.method, &response, ending).await?;
        Ok(match ending {
            Ending::Whole => Fate::GoesOn,
            Ending::Closed(_) => Fate::Closes,
            Ending::Reset(_) => Fate::IsReset,
        })
    }

    /// Spoils the body of an answer, and remembers sound ones.
    fn spoil(&self, response: &mut Response, request: &Request, call: &Call, fault: Option<Fault>) {
        if !matches!(response.status, 200 | 206) {
            return;
        }
        match (call.operation, fault) {
            (Operation::List, Some(Fault::Truncate(objects))) => {
                response.body = s3::thinned(&response.body, |place, _| place < to_usize(objects));
            }
            (Operation::List, Some(Fault::StaleList(newest))) => {
                response.body = s3::thinned(&response.body, |_, newer| newer >= to_usize(newest));
            }
            (Operation::List, Some(Fault::FalseMissing)) => {
                response.body = s3::thinned(&response.body, |_, _| false);
            }
            (Operation::Get, _) if request.method == "GET" => {
                let Some(path) = call.paths.first() else { return };
                let script = &mut *self.script.lock();
                let whole = response.body.clone();
                if let Some(fault) = fault {
                    response.body = script.spoil(fault, path, whole.clone());
                }
                if script.wants_bodies() {
                    script.remember(path, &whole);
                }
            }
            _ => {}
        }
    }

    /// Sends a request to the server, over the connection there is, and waits for the answer.
    async fn exchange(&self, server: &mut Option<Wire>, request: &Request) -> io::Result<Response> {
        let mut wire = match server.take().filter(|wire| !wire.is_stale()) {
            Some(wire) => wire,
            None => Wire::new(TcpStream::connect(&self.server).await?),
        };
        wire.send(request).await?;
        let response = wire.response(&request.method).await?;
        if !response.closes() {
            *server = Some(wire);
        }
        Ok(response)
    }
}

/// How a connection fares after a request.
enum Fate {
    GoesOn,
    Closes,
    IsReset,
    Hangs,
    /// It is reset, and the request goes on after this time.
    IsLate(Duration),
}

fn is_write(operation: Operation) -> bool {
    !matches!(operation, Operation::Get | Operation::List | Operation::Any)
}
