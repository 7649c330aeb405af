//! The clouds: Amazon S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage.
//!
//! Each is a table of URL parameters and a function that lays them over the environment. The clients
//! are built twice: one that sends each request once, for everything that our own loop repeats, and
//! one that retries, for multipart uploads.
//!
//! Always true: keys come from one place, the URL or the environment, never half from each; `ring` is
//! the TLS provider unless the program chose another before.

use std::{
    collections::HashMap,
    sync::{Arc, Once},
    time::Duration,
};

use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::url::{Address, Opened, Parameter};
use crate::error::{Error, Result};

/// Makes `ring` the TLS provider of this process, unless the program has chosen one.
fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// No limit on a whole request, because ours is by attempt and by bytes; a stalled body ends.
fn client(allow_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(Duration::from_secs(5))
        .with_read_timeout(Duration::from_secs(20))
        .with_pool_max_idle_per_host(256)
        .with_allow_http(allow_http)
}

/// For everything but multipart uploads: each request goes out once, and we retry.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, ..RetryConfig::default() }
}

/// For multipart uploads, whose steps may be repeated.
fn retries() -> RetryConfig {
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
fn address(
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
fn check_endpoint(endpoint: Option<&str>, allow_http: bool) -> Result<bool> {
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
        "http" => Err(Error::invalid("the endpoint speaks plain HTTP to another machine")
            .hint("use https, or add allow_http=true (or AWS_ALLOW_HTTP=true) if the network is trusted")),
        _ => Err(wrong("is neither http nor https")),
    }
}

/// A builder's refusal. Its text may quote settings, so only what is no secret is kept.
fn unbuildable(error: &object_store::Error, secrets: &[String]) -> Error {
    let text = secrets.iter().fold(error.to_string(), |text, secret| text.replace(secret, "[secret]"));
    Error::invalid(format!("the store cannot be opened: {}", super::retry::summary(&text)))
        .hint("check the URL and the settings in the environment")
}

#[cfg(feature = "s3")]
pub(super) mod s3 {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};

    use super::{Arc, Error, Opened, Parameter, Result};
    use crate::store::url::S3_DELETE_BATCH;

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

    pub(in crate::store) fn open(rest: &str) -> Result<Opened> {
        let (address, mut given) = super::address("s3", rest, &PARAMETERS)?;
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
        let allow_http = super::check_endpoint(endpoint.as_deref(), allow_http)?;
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
        super::install_tls();
        let build = |retry| {
            let options = super::client(allow_http);
            builder.clone().with_client_options(options).with_retry(retry).build().map(Arc::new)
        };
        let failed = |error| super::unbuildable(&error, &secrets);
        Ok(Opened {
            objects: build(super::no_retries()).map_err(failed)?,
            multipart: build(super::retries()).map_err(failed)?,
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
pub(super) mod gcs {
    use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey as Key};

    use super::{Arc, Opened, Parameter, Result};

    const PARAMETERS: [Parameter; 3] =
        [Parameter::text("endpoint"), Parameter::secret("service_account"), Parameter::flag("anonymous")];

    pub(in crate::store) fn open(rest: &str) -> Result<Opened> {
        let (address, mut given) = super::address("gs", rest, &PARAMETERS)?;
        let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(&address.bucket);
        let allow_http = super::check_endpoint(given.get("endpoint").map(String::as_str), false)?;
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
        super::install_tls();
        let build = |retry| {
            let options = super::client(allow_http);
            builder.clone().with_client_options(options).with_retry(retry).build().map(Arc::new)
        };
        let failed = |error| super::unbuildable(&error, &secrets);
        Ok(Opened {
            objects: build(super::no_retries()).map_err(failed)?,
            multipart: build(super::retries()).map_err(failed)?,
            url: address.shown("gs", &PARAMETERS),
            prefix: address.prefix,
            secrets,
            delete_batch: 1,
        })
    }
}

#[cfg(feature = "azure")]
pub(super) mod azure {
    use object_store::azure::{AzureConfigKey as Key, MicrosoftAzureBuilder};

    use super::{Arc, Opened, Parameter, Result};

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

    pub(in crate::store) fn open(rest: &str) -> Result<Opened> {
        let (address, mut given) = super::address("az", rest, &PARAMETERS)?;
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
            super::check_endpoint(builder.get_config_value(&Key::Endpoint).as_deref(), allow_http)?;
        let secrets: Vec<String> = [Key::AccessKey, Key::ClientSecret, Key::SasKey, Key::Token]
            .iter()
            .filter_map(|key| builder.get_config_value(key))
            .filter(|secret| !secret.is_empty())
            .collect();
        super::install_tls();
        let build = |retry| {
            let options = super::client(allow_http);
            builder.clone().with_client_options(options).with_retry(retry).build().map(Arc::new)
        };
        let failed = |error| super::unbuildable(&error, &secrets);
        Ok(Opened {
            objects: build(super::no_retries()).map_err(failed)?,
            multipart: build(super::retries()).map_err(failed)?,
            url: address.shown("az", &PARAMETERS),
            prefix: address.prefix,
            secrets,
            delete_batch: DELETE_BATCH,
        })
    }
}
