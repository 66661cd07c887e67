//! What is asked of the system in more than one place.
//!
//! | file | subject |
//! |---|---|
//! | `name.rs` | file names made of other file names, and where links lead |
//! | `read.rs` | files that are read whole, once |

pub mod name;
pub mod read;
