//! What was typed at `haul put`, and nothing of what it means. There is
//! no option for a secret: secrets on a command line are seen by every user of the machine.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use haul::model::object::ObjectUrl;
use haul::model::settings::PartSize;

use super::values;

const EXAMPLES: &str = "\
Examples:
  haul put disk.img oss://backups/2025/ --endpoint oss-cn-hangzhou.aliyuncs.com
  haul put disk.img oss://demo/disk.img --endpoint local:./haul-store --part-size 1MiB

Exit codes: 0 done; 2 usage; 3 source file; 4 credentials or permission; 5 the store refused; 6 integrity;
7 network or throttling, run the same command later; 8 checkpoint; 130 interrupted; 1 anything else.";

/// Resumable uploads to Alibaba Cloud OSS: run the same command again and it goes on where it stopped.
#[derive(Debug, Parser)]
#[command(name = "haul", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Print errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Upload a file
    Put(Box<Put>),
}

/// How to reach the store.
#[derive(Debug, Args)]
pub struct Connect {
    /// Host or URL of the store, or local:DIR for the embedded store [env: HAUL_ENDPOINT, OSS_ENDPOINT]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Region for signature V4; else derived from the endpoint [env: OSS_REGION]
    #[arg(long)]
    pub region: Option<String>,
    #[arg(long, value_enum, default_value = "v4")]
    pub signature: Signature,
    /// Where the bucket stands in a request; path by itself for IP addresses and localhost
    #[arg(long, value_enum)]
    pub addressing: Option<Addressing>,
    /// PEM file of the authorities to trust instead of the system's
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    /// Proxy for every request [env: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY]
    #[arg(long, value_name = "URL")]
    pub proxy: Option<ProxyUrl>,
    /// Time for name, TCP and TLS together
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub connect_timeout: std::time::Duration,
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

#[derive(Debug, Args)]
pub struct Put {
    pub file: PathBuf,
    /// oss://BUCKET/KEY; a KEY that is empty or ends in / gets the file's name appended
    pub url: ObjectUrl,
    #[command(flatten)]
    pub connect: Connect,
    /// auto, or 100 KiB to 5 GiB: 8MiB, 100KB, plain bytes; KB means 1,024 bytes as in the OSS documentation
    #[arg(long, value_name = "SIZE", default_value = "auto", value_parser = values::part_size)]
    pub part_size: PartSize,
    /// Parts in flight, 1 to 1024
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub parallel: u32,
    /// How the file is read
    #[arg(long, value_enum, default_value = "auto")]
    pub reader: Reader,
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
    #[arg(long)]
    pub cache_control: Option<String>,
    #[arg(long)]
    pub content_disposition: Option<String>,
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
    #[arg(long, value_name = "ID", requires = "sse")]
    pub sse_key_id: Option<String>,
    /// JSON of the callback
    #[arg(long, value_name = "JSON")]
    pub callback: Option<String>,
    /// JSON of the callback's variables
    #[arg(long, value_name = "JSON", requires = "callback")]
    pub callback_var: Option<String>,
    /// Rate per request in bit/s
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u64).range(819_200..=838_860_800))]
    pub traffic_limit: Option<u64>,
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

    #[test]
    fn a_proxy_password_is_never_shown() {
        let cli = Cli::try_parse_from(["haul", "put", "f", "oss://bucket/k", "--proxy", "http://u:hunter2@p"]).unwrap();
        assert!(!format!("{cli:?}").contains("hunter2"));
    }
}
