//! What is asked of the system in more than one place.
//!
//! | file | subject |
//! |---|---|
//! | `name.rs` | file names made of other file names, and where links lead |
//! | `threads.rs` | runtimes that have their threads before work begins |

pub mod name;
pub mod threads;
