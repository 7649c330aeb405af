//! SSTs on their way into the store, one after another, each sent while it is built.
//!
//! A merge and a flush both build SSTs on a CPU thread and hand over blocks as they are ready; this is where they go.
//!
//! Always true: an SST counts only when its object is complete in the store, with the size that its entry says; one
//! that broke off leaves no upload open.

use bytes::Bytes;

use crate::{
    error::{Error, Result},
    memory::Account,
    sst::SstMeta,
    stats::Cause,
    store::{Name, ObjectId, Store, Upload},
};

/// The SSTs of one merge or flush.
#[derive(Debug)]
pub struct Outputs {
    store: Store,
    cause: Cause,
    account: Option<Account>,
    open: Option<Upload>,
    complete: Vec<SstMeta>,
}

impl Outputs {
    /// None yet; they will go to `store`, metered under `cause`.
    pub fn new(store: &Store, cause: Cause) -> Self {
        Self { store: store.clone(), cause, account: None, open: None, complete: Vec::new() }
    }

    /// Charges what is on its way to `account`.
    #[must_use]
    pub fn charging(mut self, account: Account) -> Self {
        self.account = Some(account);
        self
    }

    /// Sends more of the SST `id`; `end` is its entry, with the last of its bytes. Fails as the store does, or
    /// with `Corruption` if the store took another number of bytes than were built.
    pub async fn push(&mut self, id: ObjectId, chunks: Vec<Bytes>, end: Option<SstMeta>) -> Result<()> {
        let mut upload = self.open.take().unwrap_or_else(|| {
            let upload = self.store.upload(&Name::Sst(id), self.cause);
            self.account.iter().fold(upload, Upload::charging)
        });
        if let Err(error) = upload.write(chunks).await {
            upload.abort().await;
            return Err(error);
        }
        let Some(meta) = end else {
            self.open = Some(upload);
            return Ok(());
        };
        let bytes = upload.finish().await?;
        if bytes != meta.bytes {
            return Err(Error::corruption(
                Name::Sst(id).path(),
                bytes,
                format!("{bytes} bytes were stored of an SST of {}", meta.bytes),
            ));
        }
        self.complete.push(meta);
        Ok(())
    }

    /// The SSTs that are complete so far, in the order they were sent.
    pub fn complete(&self) -> &[SstMeta] {
        &self.complete
    }

    /// The SSTs that are complete, in the order they were sent, and whether one more broke off.
    pub async fn finish(self) -> (Vec<SstMeta>, bool) {
        let broke_off = self.open.is_some();
        if let Some(upload) = self.open {
            upload.abort().await;
        }
        (self.complete, broke_off)
    }
}
