//! Where a trial runs: a directory, or a MinIO server of our own behind the fault proxy, or a URL given.
//!
//! Always true: children of a server get its URL through the proxy; checks go round it, because what is
//! checked is what is stored.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use esker::{
    clock::SharedClock,
    testing::{FaultProxy, Minio, Rule},
};

/// A place and what stands before it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: &'static str,
    /// Round the faults.
    pub(super) url: String,
    /// Through them.
    pub(super) faulty_url: String,
    pub(super) server: Option<Minio>,
    pub(super) proxy: Option<FaultProxy>,
}

impl Place {
    pub(super) fn directory(folder: &Path) -> Self {
        let url = format!("file://{}/db", folder.display());
        Self { name: "directory", faulty_url: url.clone(), url, server: None, proxy: None }
    }

    /// A server of our own; `None` if this machine has none.
    pub(super) async fn minio(clock: &SharedClock, seed: u64, rules: &[Rule]) -> Result<Option<Self>> {
        let Some(server) = Minio::start(clock).await? else { return Ok(None) };
        let place = Self::behind_proxy("minio", server.url("bucket/soak"), clock, seed, rules).await?;
        Ok(Some(Self { server: Some(server), ..place }))
    }

    /// A URL given; through the proxy if its endpoint is plain HTTP, else as it is.
    pub(super) async fn given(url: &str, clock: &SharedClock, seed: u64, rules: &[Rule]) -> Result<Self> {
        if url.contains("endpoint=http://") {
            return Self::behind_proxy("url", url.to_owned(), clock, seed, rules).await;
        }
        let (url, faulty_url) = (url.to_owned(), url.to_owned());
        Ok(Self { name: "url", url, faulty_url, server: None, proxy: None })
    }

    async fn behind_proxy(
        name: &'static str,
        url: String,
        clock: &SharedClock,
        seed: u64,
        rules: &[Rule],
    ) -> Result<Self> {
        let endpoint = url.split_once("endpoint=").map_or("", |(_, rest)| rest);
        let endpoint = endpoint.split('&').next().unwrap_or_default();
        let proxy = FaultProxy::start(endpoint, Arc::clone(clock), seed).await?;
        rules.iter().cloned().for_each(|rule| proxy.add(rule));
        let faulty_url = proxy.url(&url)?;
        Ok(Self { name, url, faulty_url, server: None, proxy: Some(proxy) })
    }
}
