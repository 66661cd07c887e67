//! What the soak is made of: the uploads it draws, how the processes are watched, and a second way to ask the store.

pub mod draw;
pub mod oracle;
pub mod tally;
pub mod watch;
