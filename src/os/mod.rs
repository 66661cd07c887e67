//! What is asked of the system in more than one place.
//!
//! | file | subject |
//! |---|---|
//! | `name.rs` | file names made of other file names, and where links lead |
//! | `read.rs` | files that are read whole, once |
//! | `replace.rs` | a file that takes the place of another, durably |
//! | `output.rs` | files that are written for whoever asked for them |
//! | `threads.rs` | runtimes that have their threads before work begins |

pub mod name;
pub mod output;
pub mod read;
pub mod replace;
pub mod threads;
