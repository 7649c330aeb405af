//! S3, as far as a proxy has to know it: what a request is about, and how S3 says no.
//!
//! ```text
//! PUT  /bucket/key                        put         PUT  …?partNumber=&uploadId=   part
//! PUT  /bucket/key, x-amz-copy-source     copy        POST …?uploads                 begin
//! GET  HEAD /bucket/key                   get         POST …?uploadId=               complete
//! GET  /bucket?list-type=2&prefix=        list        DELETE …?uploadId=             abort
//! DELETE /bucket/key                      delete      POST /bucket?delete            delete, its keys in the body
//! ```
//!
//! Always true: addresses are path-style (`/bucket/key`); what is none of these is [`Operation::Any`], which
//! only rules about every call match.

use bytes::Bytes;

use super::{
    http::{Request, Response},
    rule::Operation,
};

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) operation: Operation,
    /// The object's key; of a listing its prefix; of a deletion in bulk all keys.
    pub(super) paths: Vec<String>,
}

impl Call {
    pub(super) fn of(request: &Request) -> Self {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let (_, key) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        let key = decoded(key);
        let parameter = |name: &str| {
            query.split('&').find_map(|pair| {
                let (known, value) = pair.split_once('=').unwrap_or((pair, ""));
                (known == name).then(|| decoded(value))
            })
        };
        let has = |name: &str| parameter(name).is_some();
        let one = |operation| Self { operation, paths: vec![key.clone()] };
        match (request.method.as_str(), key.is_empty()) {
            ("PUT", false) if has("partNumber") => one(Operation::Part),
            ("PUT", false) if request.header("x-amz-copy-source").is_some() => one(Operation::Copy),
            ("PUT", false) => one(Operation::Put),
            ("GET" | "HEAD", false) => one(Operation::Get),
            ("POST", false) if has("uploads") => one(Operation::Begin),
            ("POST", false) if has("uploadId") => one(Operation::Complete),
            ("DELETE", false) if has("uploadId") => one(Operation::Abort),
            ("DELETE", false) => one(Operation::Delete),
            ("GET", true) if has("list-type") || has("prefix") => {
                let prefix = parameter("prefix").unwrap_or_default();
                let prefix = prefix.strip_suffix('/').unwrap_or(&prefix).to_owned();
                Self { operation: Operation::List, paths: vec![prefix] }
            }
            ("POST", true) if has("delete") => {
                let body = String::from_utf8_lossy(&request.body);
                Self { operation: Operation::Delete, paths: elements(&body, "Key").map(unescaped).collect() }
            }
            _ => one(Operation::Any),
        }
    }
}

/// The answer with which S3 refuses, in its XML.
pub(super) fn refusal(status: u16, key: &str) -> Response {
    let (code, reason) = match status {
        304 => ("NotModified", "Not Modified"),
        300..=399 => ("PermanentRedirect", "Moved"),
        400 => ("InvalidRequest", "Bad Request"),
        401 => ("InvalidAccessKeyId", "Unauthorized"),
        403 => ("AccessDenied", "Forbidden"),
        404 => ("NoSuchKey", "Not Found"),
        408 => ("RequestTimeout", "Request Timeout"),
        409 => ("ConditionalRequestConflict", "Conflict"),
        412 => ("PreconditionFailed", "Precondition Failed"),
        416 => ("InvalidRange", "Range Not Satisfiable"),
        429 => ("TooManyRequests", "Too Many Requests"),
        501 => ("NotImplemented", "Not Implemented"),
        503 => ("SlowDown", "Service Unavailable"),
        _ => ("InternalError", "Internal Server Error"),
    };
    Response { status, reason: reason.to_owned(), headers: xml_headers(), body: error_body(code, key) }
}

/// Success with an error in its body.
pub(super) fn error_in_success(key: &str) -> Response {
    Response {
        status: 200,
        reason: "OK".to_owned(),
        headers: xml_headers(),
        body: error_body("InternalError", key),
    }
}

/// Success of a PUT (200) or of a deletion (204; in bulk 200 with what was deleted).
pub(super) fn success(operation: Operation, paths: &[&str], in_bulk: bool) -> Response {
    if in_bulk {
        let deleted = paths.iter().map(|path| format!("<Deleted><Key>{}</Key></Deleted>", escaped(path)));
        let body = format!("<DeleteResult>{}</DeleteResult>", deleted.collect::<String>());
        return Response { status: 200, reason: "OK".to_owned(), headers: xml_headers(), body: body.into() };
    }
    let (status, reason) = if operation == Operation::Delete { (204, "No Content") } else { (200, "OK") };
    let headers = vec![("etag".to_owned(), b"\"d41d8cd98f00b204e9800998ecf8427e\"".to_vec())];
    Response { status, reason: reason.to_owned(), headers, body: Bytes::new() }
}

fn xml_headers() -> Vec<(String, Vec<u8>)> {
    vec![("content-type".to_owned(), b"application/xml".to_vec())]
}

fn error_body(code: &str, key: &str) -> Bytes {
    let key = escaped(key);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>on purpose</Message>\
         <Key>{key}</Key><RequestId>0</RequestId></Error>"
    )
    .into()
}

/// A listing with only some of its objects: `keep` gets each one's place in the listing and how many are newer.
pub(super) fn thinned(body: &Bytes, keep: impl Fn(usize, usize) -> bool) -> Bytes {
    const OPEN: &str = "<Contents>";
    const CLOSE: &str = "</Contents>";
    let text = String::from_utf8_lossy(body);
    let age = |entry: &str| elements(entry, "LastModified").next().unwrap_or_default().to_owned();
    let ages: Vec<String> = elements(&text, "Contents").map(age).collect();
    let mut kept = String::with_capacity(text.len());
    let mut rest: &str = &text;
    for (place, own_age) in ages.iter().enumerate() {
        let (Some(start), Some(end)) = (rest.find(OPEN), rest.find(CLOSE)) else { break };
        let end = end + CLOSE.len();
        // Among equals the later in the listing counts as the newer.
        let newer = ages.iter().enumerate().filter(|(other, age)| (*age, *other) > (own_age, place)).count();
        kept.push_str(&rest[..start]);
        if keep(place, newer) {
            kept.push_str(&rest[start..end]);
        }
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept.into()
}

/// The texts of all elements of this name, which have no attributes.
fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&open)?;
        let (text, after) = after.split_once(&close)?;
        rest = after;
        Some(text)
    })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

/// Percent-decoded; what is no UTF-8 then is shown as far as it goes.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Call {
        Call::of(&Request {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: headers.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        })
    }

    #[test]
    fn every_request_of_s3_is_known_for_what_it_is() {
        for (method, target, operation, path) in [
            ("PUT", "/b/p/wal/1", Operation::Put, "p/wal/1"),
            ("PUT", "/b/p%20q/1?partNumber=1&uploadId=x", Operation::Part, "p q/1"),
            ("GET", "/b/k", Operation::Get, "k"),
            ("HEAD", "/b/k", Operation::Get, "k"),
            ("POST", "/b/k?uploads=", Operation::Begin, "k"),
            ("POST", "/b/k?uploads", Operation::Begin, "k"),
            ("POST", "/b/k?uploadId=x", Operation::Complete, "k"),
            ("DELETE", "/b/k?uploadId=x", Operation::Abort, "k"),
            ("DELETE", "/b/k", Operation::Delete, "k"),
            ("GET", "/b?list-type=2&prefix=db%2Fmanifest%2F", Operation::List, "db/manifest"),
            ("GET", "/b/?list-type=2", Operation::List, ""),
            ("GET", "/b?location", Operation::Any, ""),
            ("GET", "/", Operation::Any, ""),
        ] {
            let found = call(method, target, &[], "");
            assert_eq!(found, Call { operation, paths: vec![path.to_owned()] }, "{method} {target}");
        }
        let copy = call("PUT", "/b/to", &[("X-Amz-Copy-Source", "/b/from")], "");
        assert_eq!(copy.operation, Operation::Copy);
        let body = "<Delete><Object><Key>a</Key></Object><Object><Key>b&amp;c</Key></Object></Delete>";
        let bulk = call("POST", "/b?delete", &[], body);
        assert_eq!(bulk, Call { operation: Operation::Delete, paths: vec!["a".into(), "b&c".into()] });
    }

    #[test]
    fn a_listing_is_thinned_by_place_and_by_age() {
        let entry = |key: &str, at: &str| {
            format!("<Contents><Key>{key}</Key><LastModified>{at}</LastModified></Contents>")
        };
        let all = [entry("a", "2026-01-03"), entry("b", "2026-01-01"), entry("c", "2026-01-02")];
        let listing = Bytes::from(format!("<R><Prefix/>{}<X/></R>", all.concat()));
        let first_two = thinned(&listing, |place, _| place < 2);
        assert_eq!(first_two, format!("<R><Prefix/>{}{}<X/></R>", all[0], all[1]));
        let without_newest = thinned(&listing, |_, newer| newer >= 1);
        assert_eq!(without_newest, format!("<R><Prefix/>{}{}<X/></R>", all[1], all[2]));
        assert_eq!(thinned(&listing, |_, _| false), "<R><Prefix/><X/></R>");
    }
}
