//! part objects
use bytes::Bytes;
#[derive(Clone, PartialEq, prost::Message)]
pub struct PartRef { #[prost(bytes = "bytes", tag = "1")] pub id: Bytes, #[prost(uint64, tag = "2")] pub bytes: u64, #[prost(uint32, tag = "3")] pub ssts: u32, #[prost(bytes = "bytes", tag = "4")] pub hash: Bytes }
