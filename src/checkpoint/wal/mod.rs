//! Write-ahead log: checksummed frames in one file.
//!
//! [`frame`] is bytes only, [`log`] is one log on a [`Storage`], [`dir`] is a storage that is a directory, [`sim`] one
//! that loses power. Payloads are opaque: what they mean is in the module above, of which nothing is known here.

use std::io;

pub mod dir;
pub mod frame;
pub mod log;
pub mod sim;

/// A place for named files: five methods, each a point where the power can fail.
pub trait Storage: Send {
    /// The whole file, or `None` if there is none.
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Adds `bytes` at the end. Survives the end of the process at once, a power loss only after [`Storage::sync`].
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything appended so far durable.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Makes `bytes` the whole file, atomically and durably: afterwards, and after any crash, it is the old or the new.
    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Removes the file durably. A file that is not there is a success.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}
