//! The put path: one short lock, no task hop.
use std::{future::{Future, IntoFuture}, pin::Pin, time::Duration};
use crate::{error::Result, read::Token};
/// `db.put(k, v)`: await it to make it durable, or `.accepted()`.
#[derive(Debug)] #[must_use = "a put does nothing until it is awaited"]
pub struct Put<'a, K, V> { p: std::marker::PhantomData<(&'a (), K, V)> }
impl<'a, K: AsRef<[u8]>, V: AsRef<[u8]>> Put<'a, K, V> {
    pub fn ttl(self, ttl: Duration) -> Self { todo!() }
    /// Visible when this returns; durable later: `accepted.durable().await`.
    pub async fn accepted(self) -> Result<Accepted> { todo!() }
}
impl<'a, K: AsRef<[u8]> + Send + 'a, V: AsRef<[u8]> + Send + 'a> IntoFuture for Put<'a, K, V> { type Output = Result<Token>; type IntoFuture = Pin<Box<dyn Future<Output = Result<Token>> + Send + 'a>>; fn into_future(self) -> Self::IntoFuture { todo!() } }
#[derive(Debug)] #[must_use = "a delete does nothing until it is awaited"]
pub struct Delete<'a, K> { p: std::marker::PhantomData<(&'a (), K)> }
impl<'a, K: AsRef<[u8]>> Delete<'a, K> { pub async fn accepted(self) -> Result<Accepted> { todo!() } }
impl<'a, K: AsRef<[u8]> + Send + 'a> IntoFuture for Delete<'a, K> { type Output = Result<Token>; type IntoFuture = Pin<Box<dyn Future<Output = Result<Token>> + Send + 'a>>; fn into_future(self) -> Self::IntoFuture { todo!() } }
#[derive(Debug)] #[must_use = "a write does nothing until it is awaited"]
pub struct Write<'a> { p: std::marker::PhantomData<&'a ()> }
impl<'a> Write<'a> { pub async fn accepted(self) -> Result<Accepted> { todo!() } }
impl<'a> IntoFuture for Write<'a> { type Output = Result<Token>; type IntoFuture = Pin<Box<dyn Future<Output = Result<Token>> + Send + 'a>>; fn into_future(self) -> Self::IntoFuture { todo!() } }
/// A write that is visible and not yet known to be durable.
#[derive(Debug, Clone)]
pub struct Accepted {}
impl Accepted {
    pub fn token(&self) -> Token { todo!() }
    /// Returns when the write can no longer be lost.
    pub async fn durable(&self) -> Result<Token> { todo!() }
}
