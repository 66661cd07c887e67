//! haul uploads big files to Alibaba Cloud OSS by resumable multipart upload.
//!
//! The map of this folder, from the caller inwards:
//!
//! | module | what it is |
//! |---|---|
//! | [`client`], [`blocking`] | the two faces: async and blocking |
//! | `engine` | the transfer: one upload from top to bottom |
//! | [`error`] | why a transfer stopped |
//! | `checkpoint` | the durable memory of a transfer: a write-ahead log |
//! | `net` | exchanges with an endpoint: connections, TLS, deadlines |
//! | `store` | what is said to an object store: operations, signatures, answers |
//! | `source` | where the bytes come from: mmap, io_uring, pread |
//! | `os` | what is asked of the system in more than one place |
//! | [`model`] | values and rules |
//! | [`server`] | the embedded OSS |
//!
//! One upload in ten lines:
//!
//! ```no_run
//! use haul::blocking::Client;
//! use haul::model::object::{Bucket, Key};
//! use haul::model::settings::{ClientSettings, UploadRequest};
//! use haul::store::credentials::Credentials;
//!
//! # fn main() -> Result<(), haul::error::Error> {
//! let credentials = Credentials::new("my-key-id", "my-secret");
//! let client = Client::new(ClientSettings::new("oss-cn-hangzhou.aliyuncs.com"), Some(credentials))?;
//! let request = UploadRequest::new("backup.tar", Bucket::new("my-bucket")?, Key::new("backup.tar")?);
//! let done = client.upload(request).wait()?;
//! println!("{} bytes, ETag {}, CRC64 {}", done.bytes, done.etag, done.crc64);
//! # Ok(())
//! # }
//! ```
//!
//! Unsafe code is in three files: `source/buffer.rs`, `source/mmap.rs`, `source/uring.rs`.

#![deny(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

pub mod blocking;
#[doc(hidden)]
pub mod checkpoint;
pub mod client;
mod engine;
pub mod error;
pub mod model;
#[doc(hidden)]
pub mod net;
#[doc(hidden)]
pub mod os;
pub mod server;
#[doc(hidden)]
pub mod source;
pub mod store;
