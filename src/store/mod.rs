//! What is said to an object store: no sockets, no clocks.
pub mod credentials;
