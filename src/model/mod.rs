//! Values and rules: no I/O, no async, no clock. Everything else in haul speaks in these terms.

pub mod cpu_share;
pub mod crc64;
pub mod event;
pub mod explain;
pub mod hedge;
pub mod object;
pub mod pace;
pub mod part;
pub mod rate;
pub mod receipt;
pub mod retry;
pub mod settings;
pub mod window;
