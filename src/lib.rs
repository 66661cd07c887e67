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
//! | [`model`] | values and rules |
//! | [`server`] | the embedded OSS |

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
pub mod server;
#[doc(hidden)]
pub mod source;
#[doc(hidden)]
pub mod store;
