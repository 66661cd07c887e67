//! The embedded OSS.
