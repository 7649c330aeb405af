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
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use object_store::{ObjectStore, local::LocalFileSystem, memory::InMemory, path::Path};
use parking_lot::Mutex;

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
    match scheme {
        "file" => open_file(rest),
        "memory" => open_memory(rest),
        "s3" | "s3a" => s3::open(rest),
        "gs" | "gcs" => gcs::open(rest),
        "az" | "azure" => azure::open(rest),
        other => Err(Error::invalid(format!("the scheme {other:?} is not one Esker knows")).hint(format!(
            "did you mean {}://? Known are {}",
            nearest(other, SCHEMES.iter().copied()),
            SCHEMES.join(", ")
        ))),
    }
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
        Ok(path) => open_path(path),
        Err(()) => Err(Error::invalid("the file URL is not a path of this machine")),
    }
}

fn open_directory(path: &str) -> Result<Opened> {
    let path = std::path::absolute(path)
        .map_err(|e| Error::invalid(format!("{path:?} cannot be made an absolute path")).because(e))?;
    open_path(path)
}

fn open_path(path: PathBuf) -> Result<Opened> {
    if path.is_file() {
        return Err(Error::invalid(format!("{} is a file", path.display()))
            .hint("a database is a directory: give its path"));
    }
    let prefix = Path::from_absolute_path(&path).map_err(|e| {
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
struct Parameter {
    name: &'static str,
    is_secret: bool,
    is_flag: bool,
}

#[cfg_attr(
    not(any(feature = "s3", feature = "gcs", feature = "azure")),
    expect(dead_code, reason = "only clouds have parameters")
)]
impl Parameter {
    const fn text(name: &'static str) -> Self {
        Self { name, is_secret: false, is_flag: false }
    }
    const fn secret(name: &'static str) -> Self {
        Self { name, is_secret: true, is_flag: false }
    }
    const fn flag(name: &'static str) -> Self {
        Self { name, is_secret: false, is_flag: true }
    }
}

/// The pieces of `scheme://bucket/prefix?query`.
struct Address {
    bucket: String,
    prefix: Path,
    query: Vec<(String, String)>,
}

impl Address {
    fn parse(scheme: &str, rest: &str) -> Result<Self> {
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
    fn parameters(&self, known: &[Parameter]) -> Result<HashMap<&'static str, String>> {
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
    fn shown(&self, scheme: &str, known: &[Parameter]) -> String {
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

/// What all cloud clients have alike.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
mod cloud {
    use std::{sync::Once, time::Duration};

    use object_store::{BackoffConfig, ClientOptions, RetryConfig};

    use super::{Address, Error, HashMap, Parameter, Result};

    /// Makes `ring` the TLS provider of this process, unless the program has chosen one.
    pub(super) fn install_tls() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // An error says that there is one already, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
    }

    /// No limit on a whole request, because ours is by attempt and by bytes; a stalled body ends.
    pub(super) fn client(allow_http: bool) -> ClientOptions {
        ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(Duration::from_secs(5))
            .with_read_timeout(Duration::from_secs(20))
            .with_pool_max_idle_per_host(256)
            .with_allow_http(allow_http)
    }

    /// For everything but multipart uploads: each request goes out once, and we retry.
    pub(super) fn no_retries() -> RetryConfig {
        RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, ..RetryConfig::default() }
    }

    /// For multipart uploads, whose steps may be repeated.
    pub(super) fn retries() -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(50),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
            },
            max_retries: 8,
            retry_timeout: Duration::from_secs(60),
        }
    }

    /// The address, its bucket and its parameters.
    pub(super) fn address(
        scheme: &str,
        rest: &str,
        known: &[Parameter],
    ) -> Result<(Address, HashMap<&'static str, String>)> {
        let address = Address::parse(scheme, rest)?;
        if address.bucket.is_empty() {
            return Err(Error::invalid(format!("the {scheme} URL names no bucket"))
                .hint(format!("write {scheme}://bucket/prefix")));
        }
        let given = address.parameters(known)?;
        Ok((address, given))
    }

    /// Whether plain HTTP may be spoken to `endpoint`; an error if it must not be.
    pub(super) fn check_endpoint(endpoint: Option<&str>, allow_http: bool) -> Result<bool> {
        let Some(endpoint) = endpoint else { return Ok(allow_http) };
        let wrong = |what: &str| {
            Error::invalid(format!("the endpoint {what}"))
                .hint("write it like https://storage.example.com or http://127.0.0.1:9000")
        };
        let url = url::Url::parse(endpoint).map_err(|e| wrong("is not a URL").because(e))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("has a user name or password in it"));
        }
        if url.query().is_some() {
            return Err(wrong("has parameters"));
        }
        let is_local = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => return Err(wrong("names no host")),
        };
        match url.scheme() {
            "https" => Ok(allow_http),
            "http" if is_local || allow_http => Ok(true),
            "http" => Err(Error::invalid("the endpoint speaks plain HTTP to another machine").hint(
                "use https, or add allow_http=true (or AWS_ALLOW_HTTP=true) if the network is trusted",
            )),
            _ => Err(wrong("is neither http nor https")),
        }
    }

    /// A builder's refusal. Its text may quote settings, so only what is no secret is kept.
    pub(super) fn unbuildable(error: &object_store::Error, secrets: &[String]) -> Error {
        let text = secrets.iter().fold(error.to_string(), |text, secret| text.replace(secret, "[secret]"));
        Error::invalid(format!("the store cannot be opened: {}", super::super::retry::summary(&text)))
            .hint("check the URL and the settings in the environment")
    }
}

#[cfg(feature = "s3")]
mod s3 {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};

    use super::{Arc, Error, Opened, Parameter, Result, S3_DELETE_BATCH, cloud};

    const PARAMETERS: [Parameter; 8] = [
        Parameter::text("endpoint"),
        Parameter::text("region"),
        Parameter::secret("access_key_id"),
        Parameter::secret("secret_access_key"),
        Parameter::secret("session_token"),
        Parameter::flag("allow_http"),
        Parameter::flag("virtual_hosted"),
        Parameter::flag("anonymous"),
    ];

    pub(super) fn open(rest: &str) -> Result<Opened> {
        let (address, mut given) = cloud::address("s3", rest, &PARAMETERS)?;
        let own_keys = given.contains_key("access_key_id") || given.contains_key("secret_access_key");
        let mut builder = from_environment(own_keys).with_bucket_name(&address.bucket);
        if let Some(region) = given.remove("region") {
            builder = builder.with_region(region);
        }
        if own_keys {
            // Half of a pair in the URL and half in the environment would be nobody's.
            let (Some(id), Some(secret)) = (given.remove("access_key_id"), given.remove("secret_access_key"))
            else {
                return Err(Error::invalid("the URL gives only one of access_key_id and secret_access_key"));
            };
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        if let Some(token) = given.remove("session_token") {
            builder = builder.with_token(token);
        }
        if let Some(anonymous) = given.remove("anonymous") {
            builder = builder.with_config(Key::SkipSignature, anonymous);
        }
        let is_on =
            |builder: &AmazonS3Builder, key: Key| builder.get_config_value(&key).as_deref() == Some("true");
        let virtual_hosted = match given.remove("virtual_hosted") {
            Some(flag) => flag == "true",
            None => is_on(&builder, Key::VirtualHostedStyleRequest),
        };
        builder = builder.with_virtual_hosted_style_request(virtual_hosted);
        if let Some(endpoint) = given.remove("endpoint") {
            builder = builder.with_config(Key::S3Endpoint, endpoint);
        }
        let endpoint =
            builder.get_config_value(&Key::S3Endpoint).or_else(|| builder.get_config_value(&Key::Endpoint));
        let allow_http = match given.remove("allow_http") {
            Some(flag) => flag == "true",
            None => std::env::var("AWS_ALLOW_HTTP").is_ok_and(|flag| matches!(flag.as_str(), "true" | "1")),
        };
        let allow_http = cloud::check_endpoint(endpoint.as_deref(), allow_http)?;
        let secrets: Vec<String> = [Key::AccessKeyId, Key::SecretAccessKey, Key::Token]
            .iter()
            .filter_map(|key| builder.get_config_value(key))
            .filter(|secret| !secret.is_empty())
            .collect();
        if let Some(endpoint) = &endpoint {
            let machine_role = [Key::WebIdentityTokenFile, Key::ContainerCredentialsRelativeUri]
                .iter()
                .any(|key| builder.get_config_value(key).is_some())
                || builder.get_config_value(&Key::ContainerCredentialsFullUri).is_some();
            if secrets.is_empty() && !machine_role && !is_on(&builder, Key::SkipSignature) {
                return Err(Error::invalid(format!("there are no credentials for the endpoint {endpoint}"))
                    .hint(
                        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or access_key_id and \
                         secret_access_key in the URL, or anonymous=true",
                    ));
            }
            if virtual_hosted {
                builder = builder.with_config(Key::S3Endpoint, with_bucket(endpoint, &address.bucket));
            }
        }
        cloud::install_tls();
        let build = |retry| {
            let options = cloud::client(allow_http);
            builder.clone().with_client_options(options).with_retry(retry).build().map(Arc::new)
        };
        let failed = |error| cloud::unbuildable(&error, &secrets);
        Ok(Opened {
            objects: build(cloud::no_retries()).map_err(failed)?,
            multipart: build(cloud::retries()).map_err(failed)?,
            url: address.shown("s3", &PARAMETERS),
            prefix: address.prefix,
            secrets,
            delete_batch: S3_DELETE_BATCH,
        })
    }

    /// The `AWS_…` variables, as `AmazonS3Builder::from_env` reads them, but for empty ones, and for
    /// keys if the URL brings its own: a session token of other keys would spoil them.
    fn from_environment(own_keys: bool) -> AmazonS3Builder {
        let keys = [Key::AccessKeyId, Key::SecretAccessKey, Key::Token];
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty())
            .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse::<Key>().ok()?, value)))
            .filter(|(key, _)| !(own_keys && keys.contains(key)))
            .fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value))
    }

    /// The endpoint with the bucket in its host, as virtual-hosted requests want it.
    fn with_bucket(endpoint: &str, bucket: &str) -> String {
        match endpoint.split_once("://") {
            Some((scheme, host)) if !host.starts_with(&format!("{bucket}.")) => {
                format!("{scheme}://{bucket}.{host}")
            }
            _ => endpoint.to_owned(),
        }
    }
}

#[cfg(feature = "gcs")]
mod gcs {
    use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey as Key};

    use super::{Arc, Opened, Parameter, Result, cloud};

    const PARAMETERS: [Parameter; 3] =
        [Parameter::text("endpoint"), Parameter::secret("service_account"), Parameter::flag("anonymous")];

    pub(super) fn open(rest: &str) -> Result<Opened> {
        let (address, mut given) = cloud::address("gs", rest, &PARAMETERS)?;
        let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(&address.bucket);
        let allow_http = cloud::check_endpoint(given.get("endpoint").map(String::as_str), false)?;
        if let Some(endpoint) = given.remove("endpoint") {
            builder = builder.with_base_url(&endpoint);
        }
        if let Some(path) = given.remove("service_account") {
            builder = builder.with_service_account_path(path);
        }
        if let Some(anonymous) = given.remove("anonymous") {
            builder = builder.with_skip_signature(anonymous == "true");
        }
        let secrets: Vec<String> = [Key::ServiceAccountKey, Key::BearerToken]
            .iter()
            .filter_map(|key| builder.get_config_value(key))
            .filter(|secret| !secret.is_empty())
            .collect();
        cloud::install_tls();
        let build = |retry| {
            let options = cloud::client(allow_http);
            builder.clone().with_client_options(options).with_retry(retry).build().map(Arc::new)
        };
        let failed = |error| cloud::unbuildable(&error, &secrets);
        Ok(Opened {
            objects: build(cloud::no_retries()).map_err(failed)?,
            multipart: build(cloud::retries()).map_err(failed)?,
            url: address.shown("gs", &PARAMETERS),
            prefix: address.prefix,
            secrets,
            delete_batch: 1,
        })
    }
}

#[cfg(feature = "azure")]
mod azure {
    use object_store::azure::{AzureConfigKey as Key, MicrosoftAzureBuilder};

    use super::{Arc, Opened, Parameter, Result, cloud};

    const PARAMETERS: [Parameter; 6] = [
        Parameter::text("account"),
        Parameter::secret("access_key"),
        Parameter::text("endpoint"),
        Parameter::flag("allow_http"),
        Parameter::flag("emulator"),
        Parameter::flag("anonymous"),
    ];

    /// Blob batches take this many deletions.
    const DELETE_BATCH: usize = 256;

    pub(super) fn open(rest: &str) -> Result<Opened> {
        let (address, mut given) = cloud::address("az", rest, &PARAMETERS)?;
        let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(&address.bucket);
        if let Some(account) = given.remove("account") {
            builder = builder.with_account(account);
        }
        if let Some(key) = given.remove("access_key") {
            builder = builder.with_access_key(key);
        }
        if let Some(emulator) = given.remove("emulator") {
            builder = builder.with_use_emulator(emulator == "true");
        }
        if let Some(anonymous) = given.remove("anonymous") {
            builder = builder.with_skip_signature(anonymous == "true");
        }
        if let Some(endpoint) = given.remove("endpoint") {
            builder = builder.with_endpoint(endpoint);
        }
        let allow_http = given.remove("allow_http").is_some_and(|flag| flag == "true")
            || builder.get_config_value(&Key::UseEmulator).as_deref() == Some("true");
        let allow_http =
            cloud::check_endpoint(builder.get_config_value(&Key::Endpoint).as_deref(), allow_http)?;
        let secrets: Vec<String> = [Key::AccessKey, Key::ClientSecret, Key::SasKey, Key::Token]
            .iter()
            .filter_map(|key| builder.get_config_value(key))
            .filter(|secret| !secret.is_empty())
            .collect();
        cloud::install_tls();
        let build = |retry| {
            let options = cloud::client(allow_http);
            builder.clone().with_client_options(options).with_retry(retry).build().map(Arc::new)
        };
        let failed = |error| cloud::unbuildable(&error, &secrets);
        Ok(Opened {
            objects: build(cloud::no_retries()).map_err(failed)?,
            multipart: build(cloud::retries()).map_err(failed)?,
            url: address.shown("az", &PARAMETERS),
            prefix: address.prefix,
            secrets,
            delete_batch: DELETE_BATCH,
        })
    }
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
