//! From a URL to an object store: schemes, parameters, environment, redaction.
//!
//! Settings come from the environment as each provider's own tools read it (`AWS_…`, `GOOGLE_…`,
//! `AZURE_…`); a parameter in the URL wins. The parameters of each scheme are a table below: a name
//! that is not in it is an error that suggests the nearest, because a setting silently ignored is
//! found out in production.
//!
//! Always true: opening sends nothing and creates nothing; a secret is in no error and not in the
//! URL that is shown; plain HTTP is spoken only to this machine, or where `allow_http` asks for it.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use object_store::{ObjectStore, local::LocalFileSystem, memory::InMemory, path::Path};
use parking_lot::Mutex;

#[cfg(feature = "azure")]
use super::cloud::azure;
#[cfg(feature = "gcs")]
use super::cloud::gcs;
#[cfg(feature = "s3")]
use super::cloud::s3;
use crate::error::{Error, Result};

/// How many objects S3 deletes by one request.
pub(super) const S3_DELETE_BATCH: usize = 1000;

const SCHEMES: [&str; 5] = ["file", "memory", "s3", "gs", "az"];

/// What a URL opens.
pub(super) struct Opened {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) multipart: Arc<dyn ObjectStore>,
    pub(super) prefix: Path,
    pub(super) url: String,
    pub(super) secrets: Vec<String>,
    pub(super) delete_batch: usize,
}

/// Opens `url`; see [`super::Store::open`].
pub(super) fn open(url: &str) -> Result<Opened> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return if url.is_empty() {
            Err(Error::invalid("the URL is empty").hint("give a directory, or s3://bucket/prefix"))
        } else if let Some(path) = url.strip_prefix("file:") {
            open_directory(path)
        } else {
            open_directory(url)
        };
    };
    match opener(scheme) {
        Some(open) => open(rest),
        None => Err(Error::invalid(format!("the scheme {scheme:?} is not one Esker knows")).hint(format!(
            "did you mean {}://? Known are {}",
            nearest(scheme, SCHEMES.iter().copied()),
            SCHEMES.join(", ")
        ))),
    }
}

/// Whether `text` begins as a URL of a store does: with a scheme that is known, in any of its spellings.
///
/// ```
/// # use esker::store::url::is_url;
/// assert!(is_url("s3://bucket/prefix") && is_url("file:///tmp/db"));
/// assert!(!is_url("https://example.com") && !is_url("/tmp/db"));
/// ```
pub fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| opener(scheme).is_some())
}

/// What opens a URL of `scheme`, given what comes behind `://`.
fn opener(scheme: &str) -> Option<fn(&str) -> Result<Opened>> {
    Some(match scheme {
        "file" => open_file,
        "memory" => open_memory,
        "s3" | "s3a" => s3::open,
        "gs" | "gcs" => gcs::open,
        "az" | "azure" => azure::open,
        _ => return None,
    })
}

/// All memory stores of this process that have a name.
static MEMORY: LazyLock<Mutex<HashMap<String, Arc<InMemory>>>> = LazyLock::new(Mutex::default);

fn open_memory(rest: &str) -> Result<Opened> {
    let address = Address::parse("memory", rest)?;
    address.parameters(&[])?;
    let store = match address.bucket.as_str() {
        "" => Arc::default(),
        name => Arc::clone(MEMORY.lock().entry(name.to_owned()).or_default()),
    };
    Ok(Opened {
        objects: Arc::clone(&store) as Arc<dyn ObjectStore>,
        multipart: store,
        url: address.shown("memory", &[]),
        prefix: address.prefix,
        secrets: Vec::new(),
        delete_batch: S3_DELETE_BATCH,
    })
}

fn open_file(rest: &str) -> Result<Opened> {
    if !rest.starts_with('/') {
        return Err(Error::invalid("a file URL names no absolute path")
            .hint("write file:///absolute/path with three slashes, or the plain path"));
    }
    if rest.contains('?') {
        return Err(
            Error::invalid("a file URL takes no parameters").hint("for a path with '?' give it plainly")
        );
    }
    let url = ::url::Url::parse(&format!("file://{rest}"))
        .map_err(|e| Error::invalid("the file URL cannot be read").because(e))?;
    match url.to_file_path() {
        Ok(path) => open_path(&path),
        Err(()) => Err(Error::invalid("the file URL is not a path of this machine")),
    }
}

fn open_directory(path: &str) -> Result<Opened> {
    let path = std::path::absolute(path)
        .and_then(|absolute| without_parents(&absolute))
        .map_err(|e| Error::invalid(format!("{path:?} cannot be made an absolute path")).because(e))?;
    open_path(&path)
}

/// The path without `..`. What comes before one is resolved as the system does, symbolic links included.
fn without_parents(path: &std::path::Path) -> std::io::Result<std::path::PathBuf> {
    let mut resolved = std::path::PathBuf::new();
    for part in path.components() {
        if part == std::path::Component::ParentDir {
            resolved = resolved.canonicalize()?;
            resolved.pop();
        } else {
            resolved.push(part);
        }
    }
    Ok(resolved)
}

fn open_path(path: &std::path::Path) -> Result<Opened> {
    if path.is_file() {
        return Err(Error::invalid(format!("{} is a file", path.display()))
            .hint("a database is a directory: give its path"));
    }
    let prefix = Path::from_absolute_path(path).map_err(|e| {
        Error::invalid(format!("{} cannot be the path of a database", path.display())).because(e)
    })?;
    // From the root, and not from the directory, which may not exist yet and must not be made here.
    let store = Arc::new(LocalFileSystem::new().with_fsync(true));
    Ok(Opened {
        objects: Arc::clone(&store) as Arc<dyn ObjectStore>,
        multipart: store,
        prefix,
        url: format!("file://{}", path.display()),
        secrets: Vec::new(),
        delete_batch: S3_DELETE_BATCH,
    })
}

/// A parameter of a scheme.
pub(super) struct Parameter {
    name: &'static str,
    is_secret: bool,
    is_flag: bool,
}

#[cfg_attr(
    not(any(feature = "s3", feature = "gcs", feature = "azure")),
    expect(dead_code, reason = "only clouds have parameters")
)]
impl Parameter {
    pub(super) const fn text(name: &'static str) -> Self {
        Self { name, is_secret: false, is_flag: false }
    }
    pub(super) const fn secret(name: &'static str) -> Self {
        Self { name, is_secret: true, is_flag: false }
    }
    pub(super) const fn flag(name: &'static str) -> Self {
        Self { name, is_secret: false, is_flag: true }
    }
}

/// The pieces of `scheme://bucket/prefix?query`.
pub(super) struct Address {
    pub(super) bucket: String,
    pub(super) prefix: Path,
    query: Vec<(String, String)>,
}

impl Address {
    pub(super) fn parse(scheme: &str, rest: &str) -> Result<Self> {
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.contains('@') {
            return Err(Error::invalid(format!("the {scheme} URL has a user name or password in it"))
                .hint("give credentials in the environment, or as parameters of the URL"));
        }
        if place.contains('#') {
            return Err(Error::invalid(format!("the {scheme} URL has a '#' in it"))
                .hint("write %23 if a prefix contains one"));
        }
        let prefix = Path::from_url_path(prefix)
            .map_err(|e| Error::invalid(format!("the prefix in the {scheme} URL is not one")).because(e))?;
        let query = ::url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Ok(Self { bucket: bucket.to_owned(), prefix, query })
    }

    /// The parameters, checked against those that `known` lists.
    pub(super) fn parameters(&self, known: &[Parameter]) -> Result<HashMap<&'static str, String>> {
        let mut given = HashMap::new();
        for (name, value) in &self.query {
            let Some(parameter) = known.iter().find(|parameter| parameter.name == name) else {
                let error = Error::invalid(format!("the URL has an unknown parameter {name:?}"));
                return Err(match known {
                    [] => error.hint("this scheme takes no parameters"),
                    _ => error.hint(format!(
                        "did you mean {}? Known are {}",
                        nearest(name, known.iter().map(|parameter| parameter.name)),
                        known.iter().map(|parameter| parameter.name).collect::<Vec<_>>().join(", ")
                    )),
                });
            };
            let value = match (parameter.is_flag, value.as_str()) {
                (true, "" | "1" | "true" | "yes" | "on") => "true".to_owned(),
                (true, "0" | "false" | "no" | "off") => "false".to_owned(),
                (true, _) => {
                    return Err(Error::invalid(format!("the parameter {name} is neither true nor false")));
                }
                (false, "") => return Err(Error::invalid(format!("the parameter {name} is empty"))),
                (false, text) => text.to_owned(),
            };
            if given.insert(parameter.name, value).is_some() {
                return Err(Error::invalid(format!("the URL gives the parameter {name} twice")));
            }
        }
        Ok(given)
    }

    /// The URL as it may be shown: built from what is no secret.
    pub(super) fn shown(&self, scheme: &str, known: &[Parameter]) -> String {
        let mut shown = format!("{scheme}://{}", self.bucket);
        if !self.prefix.is_root() {
            shown.push('/');
            shown.push_str(self.prefix.as_ref());
        }
        let public =
            |name: &str| known.iter().any(|parameter| parameter.name == name && !parameter.is_secret);
        let mut mark = '?';
        for (name, value) in self.query.iter().filter(|(name, _)| public(name)) {
            shown.push(mark);
            shown.push_str(name);
            shown.push('=');
            shown.push_str(value);
            mark = '&';
        }
        shown
    }
}

fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    known.min_by_key(|candidate| strsim::damerau_levenshtein(word, candidate)).unwrap_or_default()
}

#[cfg(not(feature = "s3"))]
mod s3 {
    pub(super) fn open(_: &str) -> super::Result<super::Opened> {
        Err(super::feature_is_off("s3", "s3"))
    }
}

#[cfg(not(feature = "gcs"))]
mod gcs {
    pub(super) fn open(_: &str) -> super::Result<super::Opened> {
        Err(super::feature_is_off("gs", "gcs"))
    }
}

#[cfg(not(feature = "azure"))]
mod azure {
    pub(super) fn open(_: &str) -> super::Result<super::Opened> {
        Err(super::feature_is_off("az", "azure"))
    }
}

#[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
fn feature_is_off(scheme: &str, feature: &str) -> Error {
    Error::unsupported(format!("this build cannot open {scheme}:// URLs"))
        .hint(format!("build esker with its cargo feature `{feature}`"))
}
