//! HTTP/1.1 messages, read whole and written as told, even wrongly.
//!
//! A server made to keep to the rules refuses to announce ten bytes and send nine. The proxy has to, so it
//! stands on sockets and on `httparse`, which reads heads, and nothing more.
//!
//! ```text
//! start line CRLF {name: value CRLF} CRLF body      body: Content-Length bytes, or chunks, or up to the end
//! ```
//!
//! Always true: no head is longer than [`MAX_HEAD_BYTES`], no body than [`MAX_BODY_BYTES`]; bodies are held
//! without their chunk framing, and written with a length.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 100;
/// A multipart part, or an object in one PUT, is well under this.
const MAX_BODY_BYTES: usize = 512 << 20;
/// Headers about one connection, which a proxy does not pass on; lengths are written anew.
const OWN_HEADERS: [&str; 6] =
    ["connection", "keep-alive", "transfer-encoding", "content-length", "expect", "proxy-connection"];

/// Names and values, in order.
type Headers = Vec<(String, Vec<u8>)>;

/// What a client asks.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Headers,
    pub(super) body: Bytes,
}

/// What a server answers.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) headers: Headers,
    pub(super) body: Bytes,
}

/// How much of a response is sent, and how the connection fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// All of it.
    Whole,
    /// This many bytes of the body, then the connection closes.
    Closed(usize),
    /// This many bytes of the body, then the connection is reset.
    Reset(usize),
}

impl Request {
    /// The value of a header, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

impl Response {
    /// Whether the server closes the connection after it.
    pub(super) fn closes(&self) -> bool {
        header(&self.headers, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
            || (self.headers.iter().all(|(name, _)| {
                !name.eq_ignore_ascii_case("content-length")
                    && !name.eq_ignore_ascii_case("transfer-encoding")
            }) && !matches!(self.status, 204 | 304))
    }
}

fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .and_then(|(_, value)| std::str::from_utf8(value).ok())
}

/// One connection, and what has been read of it but not used.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Fails only on a socket that is gone, which the next call finds out.
        let _ = stream.set_nodelay(true);
        Self { stream, buffer: BytesMut::new() }
    }

    /// Whether the other side has closed this idle connection, or said something out of turn.
    pub(super) fn is_stale(&self) -> bool {
        let mut byte = [0];
        !self.buffer.is_empty()
            || !matches!(self.stream.try_read(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Ends the connection with a reset instead of a good-bye.
    pub(super) fn reset(self) {
        // On failure it closes in the ordinary way, which is a fault as well.
        let _ = self.stream.set_zero_linger();
    }

    /// Waits until the other side gives up.
    pub(super) async fn until_closed(&mut self) {
        while self.fill().await.is_ok_and(|bytes| bytes > 0) {
            self.buffer.clear();
        }
    }

    /// The next request; `None` if the client is done.
    pub(super) async fn request(&mut self) -> io::Result<Option<Request>> {
        let Some(head) = self.head().await? else { return Ok(None) };
        let mut space = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut space);
        parsed.parse(&head).map_err(io::Error::other)?;
        let mut request = Request {
            method: parsed.method.unwrap_or_default().to_owned(),
            target: parsed.path.unwrap_or_default().to_owned(),
            headers: owned(parsed.headers),
            body: Bytes::new(),
        };
        if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        request.body = self.body(&request.headers, false).await?;
        Ok(Some(request))
    }

    /// The answer to a request with this method.
    pub(super) async fn response(&mut self, method: &str) -> io::Result<Response> {
        loop {
            let head = self.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let mut space = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut parsed = httparse::Response::new(&mut space);
            parsed.parse(&head).map_err(io::Error::other)?;
            let mut response = Response {
                status: parsed.code.unwrap_or_default(),
                reason: parsed.reason.unwrap_or_default().to_owned(),
                headers: owned(parsed.headers),
                body: Bytes::new(),
            };
            if response.status < 200 {
                continue;
            }
            if method != "HEAD" && !matches!(response.status, 204 | 304) {
                response.body = self.body(&response.headers, true).await?;
            }
            return Ok(response);
        }
    }

    /// Sends a request as it came.
    pub(super) async fn send(&mut self, request: &Request) -> io::Result<()> {
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target).into_bytes();
        put_headers(&mut head, &request.headers);
        if !request.body.is_empty() || header(&request.headers, "content-length").is_some() {
            head.extend_from_slice(format!("content-length: {}\r\n", request.body.len()).as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        self.stream.write_all(&head).await?;
        self.stream.write_all(&request.body).await
    }

    /// Sends a response to a request with this method, as far as `ending` says. The length announced is that of
    /// the whole body.
    pub(super) async fn answer(
        &mut self,
        method: &str,
        response: &Response,
        ending: Ending,
    ) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", response.status, response.reason).into_bytes();
        put_headers(&mut head, &response.headers);
        let announced = match header(&response.headers, "content-length") {
            // The length of what a GET would have brought.
            Some(length) if method == "HEAD" => Some(length.to_owned()),
            _ if matches!(response.status, 204 | 304) => None,
            _ => Some(response.body.len().to_string()),
        };
        if let Some(length) = announced {
            head.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        self.stream.write_all(&head).await?;
        let bytes = match ending {
            Ending::Whole => response.body.len(),
            Ending::Closed(bytes) | Ending::Reset(bytes) => bytes.min(response.body.len()),
        };
        self.stream.write_all(&response.body[..bytes]).await?;
        self.stream.flush().await
    }

    /// The bytes up to and with the empty line; `None` at the end of the connection.
    async fn head(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok(Some(self.buffer.split_to(at + 4).freeze()));
            }
            if self.buffer.len() > MAX_HEAD_BYTES {
                return Err(io::Error::other("the head of an HTTP message is too long"));
            }
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    async fn body(&mut self, headers: &Headers, may_end_it: bool) -> io::Result<Bytes> {
        if header(headers, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return self.chunks().await;
        }
        match header(headers, "content-length") {
            Some(length) => {
                let length = length.trim().parse().map_err(io::Error::other)?;
                self.exactly(length).await
            }
            None if may_end_it => {
                while self.fill().await? > 0 {
                    within_limit(self.buffer.len())?;
                }
                Ok(self.buffer.split().freeze())
            }
            None => Ok(Bytes::new()),
        }
    }

    async fn chunks(&mut self) -> io::Result<Bytes> {
        let mut body = BytesMut::new();
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            within_limit(body.len().saturating_add(size))?;
            if size == 0 {
                // Trailers, up to an empty line.
                while !self.line().await?.is_empty() {}
                return Ok(body.freeze());
            }
            body.extend_from_slice(&self.exactly(size).await?);
            self.line().await?;
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = self.buffer.split_to(at + 2);
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if self.buffer.len() > MAX_HEAD_BYTES {
                return Err(io::Error::other("a line of an HTTP message is too long"));
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn exactly(&mut self, bytes: usize) -> io::Result<Bytes> {
        within_limit(bytes)?;
        self.buffer.reserve(bytes.saturating_sub(self.buffer.len()));
        while self.buffer.len() < bytes {
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.split_to(bytes).freeze())
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(8 << 10);
        self.stream.read_buf(&mut self.buffer).await
    }
}

fn within_limit(bytes: usize) -> io::Result<()> {
    if bytes > MAX_BODY_BYTES {
        return Err(io::Error::other("the body of an HTTP message is too long for this proxy"));
    }
    Ok(())
}

fn owned(headers: &[httparse::Header<'_>]) -> Headers {
    headers.iter().map(|header| (header.name.to_owned(), header.value.to_vec())).collect()
}

fn put_headers(head: &mut Vec<u8>, headers: &Headers) {
    for (name, value) in headers {
        if OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            continue;
        }
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    }
}
