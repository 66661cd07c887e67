//! What was typed, and nothing of what it means. There is no option for a secret: secrets on a command line are seen by
//! every user of the machine.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use haul::model::object::{ObjectUrl, UploadId};
use haul::model::settings::{Parallel, PartSize};

use super::serve::ServeArgs;
use super::tune::TuneArgs;
use super::values;

const EXAMPLES: &str = "\
Examples:
  Try it without an account; objects are kept in ./haul-store:
    haul put disk.img oss://demo/ --endpoint local:./haul-store
  Upload to the service, key in OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET; after any failure run it again:
    haul put disk.img oss://backups/2026/ --endpoint oss-cn-hangzhou.aliyuncs.com
  Compare file and object, nothing is downloaded:
    haul verify disk.img oss://backups/2026/disk.img --endpoint oss-cn-hangzhou.aliyuncs.com
  Clean up what nobody will go on with:
    haul uploads abort oss://backups/2026/ --older-than 7d --endpoint oss-cn-hangzhou.aliyuncs.com

Exit codes: 0 done; 2 usage; 3 source file; 4 credentials or permission; 5 the store refused; 6 integrity;
7 network or throttling, run the same command later; 8 checkpoint; 130 interrupted; 1 anything else.";

/// Resumable uploads to Alibaba Cloud OSS: run the same command again and it goes on where it stopped.
#[derive(Debug, Parser)]
#[command(name = "haul", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more on stderr: retries and where the checkpoint is; twice for everything that happens
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Upload a file
    Put(Box<Put>),
    /// Show size, ETag, CRC64, type and metadata of an object
    Stat {
        /// oss://BUCKET/KEY
        url: ObjectUrl,
        #[command(flatten)]
        connect: Connect,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Compare the CRC64 of a file with the object's, or with a receipt; nothing is downloaded
    ///
    /// Ends with 0 if they are equal, 6 if they differ, 5 if the store names no checksum for the object. With --receipt
    /// and no URL nothing is asked of any store.
    Verify {
        /// The file to compare
        file: PathBuf,
        /// oss://BUCKET/KEY; a KEY that is empty or ends in / gets the file's name appended
        #[arg(required_unless_present = "receipt")]
        url: Option<ObjectUrl>,
        /// Receipt that haul put wrote: names the first part that differs
        #[arg(long, value_name = "PATH")]
        receipt: Option<PathBuf>,
        #[command(flatten)]
        connect: Connect,
    },
    /// Look into checkpoint files
    #[command(subcommand)]
    Checkpoint(Checkpoint),
    /// List or abort unfinished uploads
    #[command(subcommand)]
    Uploads(Uploads),
    /// Say whose key signs, where it comes from and until when it is good; never the secret
    ///
    /// The source is asked as for an upload; nothing is sent to the store.
    Credentials {
        #[command(flatten)]
        connect: Connect,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Find the settings that carry most to an endpoint, and save them for haul put
    Tune(Box<TuneArgs>),
    /// Run the embedded store
    Serve(ServeArgs),
}

#[derive(Debug, Subcommand)]
pub enum Checkpoint {
    /// Show what a checkpoint remembers
    Show {
        /// The checkpoint, such as FILE.cp
        path: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum Uploads {
    /// List the unfinished uploads of keys that start with the key of URL
    List {
        /// oss://BUCKET or oss://BUCKET/PREFIX
        url: ObjectUrl,
        #[command(flatten)]
        connect: Connect,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Abort unfinished uploads; their parts are deleted
    #[command(group = clap::ArgGroup::new("which").required(true))]
    Abort {
        /// oss://BUCKET/KEY with --upload-id, oss://BUCKET/PREFIX with --older-than
        url: ObjectUrl,
        #[command(flatten)]
        connect: Connect,
        /// Abort this upload of exactly the key of URL; exit code 5 if there is none
        #[arg(long, value_name = "ID", group = "which", value_parser = values::upload_id)]
        upload_id: Option<UploadId>,
        /// Abort all that were begun longer ago than this, such as 7d or 12h
        #[arg(long, value_name = "AGE", group = "which", value_parser = humantime::parse_duration)]
        older_than: Option<std::time::Duration>,
    },
}

/// How to reach the store.
#[derive(Debug, Clone, Args)]
pub struct Connect {
    /// Host or URL of the store, or local:DIR for the embedded store [env: HAUL_ENDPOINT, OSS_ENDPOINT]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Region for signature V4; else derived from the endpoint [env: OSS_REGION]
    #[arg(long)]
    pub region: Option<String>,
    /// Signature version; v1 is no longer offered to new accounts
    #[arg(long, value_enum, default_value = "v4")]
    pub signature: Signature,
    /// Where the bucket stands in a request; path by itself for IP addresses and localhost
    #[arg(long, value_enum)]
    pub addressing: Option<Addressing>,
    /// ossutil configuration file to read instead of ~/.ossutilconfig
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// PEM file of the authorities to trust instead of the system's
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    /// Proxy for every request; a password belongs into the variables, where others do not see it [env: HTTPS_PROXY,
    /// HTTP_PROXY, ALL_PROXY, NO_PROXY]
    #[arg(long, value_name = "URL")]
    pub proxy: Option<ProxyUrl>,
    /// Time for name, TCP and TLS together
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub connect_timeout: std::time::Duration,
    /// Longest time without progress before a request is tried again, from 1s
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::idle_timeout)]
    pub idle_timeout: std::time::Duration,
    /// Tries of a request in all, 1 to 100; being throttled does not count
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub attempts: u32,
    /// Worker threads, 1 to 256; else one per core, at most 4
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
}

/// A proxy's URL, which may hold a password and is therefore never shown.
#[derive(Clone)]
pub struct ProxyUrl(pub String);

impl From<String> for ProxyUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl std::fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProxyUrl(..)")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Signature {
    V4,
    V1,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Addressing {
    Virtual,
    Path,
    Cname,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Reader {
    Auto,
    Mmap,
    Uring,
    Pread,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressWhen {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IfChanged {
    Fail,
    Restart,
}

#[derive(Debug, Args)]
pub struct Put {
    /// The file to upload
    pub file: PathBuf,
    /// oss://BUCKET/KEY; a KEY that is empty or ends in / gets the file's name appended
    pub url: ObjectUrl,
    #[command(flatten)]
    pub connect: Connect,
    /// auto, or 100 KiB to 5 GiB: 8MiB, 100KB, plain bytes; KB means 1,024 bytes as in the OSS documentation
    /// [default: auto, or as tuned]
    #[arg(long, value_name = "SIZE", value_parser = values::part_size)]
    pub part_size: Option<PartSize>,
    /// Parts in flight: auto, as many as the line is found to need, or 1 to 1024
    /// [default: auto, or as tuned]
    #[arg(long, value_name = "N", value_parser = values::parallel)]
    pub parallel: Option<Parallel>,
    /// How the file is read [default: auto, or as tuned]
    #[arg(long, value_enum)]
    pub reader: Option<Reader>,
    /// How much is read, checked and sent at a time: a power of two, 64KiB to 2MiB; else what suits the reader, 2 MiB
    /// if the file is mapped and 512 KiB otherwise, which is also the most [default: that, or as tuned]
    #[arg(long, value_name = "SIZE", value_parser = values::chunk_size)]
    pub chunk_size: Option<u32>,
    /// Profile of haul tune to take what is not typed from, instead of the one it saved for the endpoint
    #[arg(long, value_name = "FILE", conflicts_with = "no_tuned")]
    pub tuned: Option<PathBuf>,
    /// Use no profile of haul tune
    #[arg(long)]
    pub no_tuned: bool,
    /// When the file changes while it is read: fail with exit code 3, or restart, up to 5 times
    #[arg(long, value_enum, value_name = "WHAT", default_value = "fail")]
    pub if_changed: IfChanged,
    /// When the object is stored, read the file once more, from the disk, and compare
    #[arg(long)]
    pub verify_reread: bool,
    /// When all is done, write a receipt (JSON) with the checksum of every part; see haul verify --receipt
    #[arg(long, value_name = "PATH")]
    pub receipt: Option<PathBuf>,
    /// Checkpoint file; else FILE.cp
    #[arg(long, value_name = "PATH", group = "place")]
    pub checkpoint: Option<PathBuf>,
    /// Directory for the checkpoint
    #[arg(long, value_name = "DIR", group = "place")]
    pub checkpoint_dir: Option<PathBuf>,
    /// Keep no checkpoint: a failed upload starts from nothing
    #[arg(long, group = "place")]
    pub no_checkpoint: bool,
    /// Media type; else by extension
    #[arg(long)]
    pub content_type: Option<String>,
    /// How long caches may keep the object
    #[arg(long)]
    pub cache_control: Option<String>,
    /// How browsers save it, such as attachment
    #[arg(long)]
    pub content_disposition: Option<String>,
    /// How the content is encoded, such as gzip
    #[arg(long)]
    pub content_encoding: Option<String>,
    /// Metadata (x-oss-meta-K); may be repeated
    #[arg(long, value_name = "K=V", value_parser = values::pair)]
    pub meta: Vec<(String, String)>,
    /// Standard, IA, Archive, ColdArchive or DeepColdArchive
    #[arg(long)]
    pub storage_class: Option<String>,
    /// default, private, public-read or public-read-write
    #[arg(long)]
    pub acl: Option<String>,
    /// Tag, at most 10; may be repeated
    #[arg(long, value_name = "K=V", value_parser = values::pair)]
    pub tag: Vec<(String, String)>,
    /// Refuse to replace an existing object
    #[arg(long)]
    pub forbid_overwrite: bool,
    /// Server-side encryption: AES256, KMS or SM4
    #[arg(long)]
    pub sse: Option<String>,
    /// Key of the encryption, with --sse KMS
    #[arg(long, value_name = "ID", requires = "sse")]
    pub sse_key_id: Option<String>,
    /// JSON of the callback
    #[arg(long, value_name = "JSON")]
    pub callback: Option<String>,
    /// JSON of the callback's variables
    #[arg(long, value_name = "JSON", requires = "callback")]
    pub callback_var: Option<String>,
    /// Rate per request in bit/s, 819200 to 838860800; parts in flight each get it
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u64).range(819_200..=838_860_800))]
    pub traffic_limit: Option<u64>,
    /// Hold at most so much in buffers and connections, such as 64MiB; else a quarter of the control group's limit, if any
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub memory: Option<u64>,
    /// Send at most so much in a second, all parts together: 10MB/s, 512KiB/s, 1Gbit/s; from 1KiB/s for each part in flight
    #[arg(long, value_name = "SIZE/s", value_parser = values::rate)]
    pub max_rate: Option<u64>,
    /// Take at most so much of the processor while sending, in percent of one core: 50 is half of one, 200 two
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_cpu: Option<u32>,
    /// At the end, say where the time went, what limits the speed and what would change that
    #[arg(long)]
    pub explain: bool,
    /// Progress bar on stderr; auto: on a terminal
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: ProgressWhen,
    /// Print one JSON event a line
    #[arg(long)]
    pub json: bool,
    /// Print the plan and send nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    fn options(command: &clap::Command) -> Vec<String> {
        let own = command.get_arguments().map(|arg| arg.get_id().to_string());
        own.chain(command.get_subcommands().flat_map(options)).collect()
    }

    #[test]
    fn no_option_takes_a_secret() {
        let all = options(&Cli::command());
        assert!(all.len() > 40, "{all:?}");
        for word in ["secret", "token", "passw", "credential"] {
            assert!(!all.iter().any(|option| option.contains(word)), "{word}: {all:?}");
        }
    }

    #[test]
    fn a_proxy_password_is_never_shown() {
        let cli = Cli::try_parse_from(["haul", "put", "f", "oss://bucket/k", "--proxy", "http://u:hunter2@p"]).unwrap();
        assert!(!format!("{cli:?}").contains("hunter2"));
    }
}
