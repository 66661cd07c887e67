//! Every integration test but the soak, in one binary: the program is linked once. A file is a promise; what it proves is
//! said at its head.
//!
//! The soak measures its own process, so that it has a binary of its own.

mod common;
mod server_support;

// The program as it is typed, and the library as it is called.
mod cli_usage;
mod explain;
mod library;
mod memory;
mod tune;
mod upload;

// Nothing is lost: crashes, faults, files that change, disks that fail.
mod abandoned;
mod after_complete;
mod changing_file;
mod checkpoint_crash;
mod checkpoint_file;
mod checkpoint_trouble;
mod coarse_times;
mod damaged_log;
mod described;
mod ends_early;
mod failing_disk;
mod faults;
mod integrity;
mod kill;
mod kill_syscalls;
mod moved_file;
mod no_hang;
mod outputs;
mod process_limits;
mod put_under_faults;
mod source_readers;

// What comes from outside: answers, keys, certificates, proxies.
mod credentials;
mod fuzz_corpus;
mod hostile_answers;
mod open_uploads;
mod proxy;
mod secrets;
mod tls;

// The embedded store.
mod judges;
mod server_answers;
mod server_buckets;
mod server_connections;
mod server_damaged;
mod server_faults;
mod server_hostile;
mod server_kill;
mod server_memory;
mod server_multipart;
mod server_objects;
mod server_parameters;
mod server_protocol;
mod server_shape;
mod server_status;
mod server_tls;

// The protocol to the byte, and the project itself.
mod acceptance;
mod dependencies;
mod layers;
mod vectors_crc64;
mod vectors_store;
