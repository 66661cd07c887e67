//! Which store, and who asks: from what was typed, the environment and ossutil's configuration file.
//!
//! Endpoint: `--endpoint`, `HAUL_ENDPOINT`, `OSS_ENDPOINT`, the file. Credentials: see
//! [`haul::store::credentials::chain`]. Empty variables count as unset.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use haul::client::{Client, Keyring};
use haul::error::Error;
use haul::model::object::Bucket;
use haul::model::settings::{Addressing, ClientSettings, Proxy, Signature};
use haul::store::credentials::chain::{Surroundings, choose};
use haul::store::credentials::ossutil::OssutilConfig;

use super::args::{self, Connect};
use super::exit::{CREDENTIALS, Failure, SOURCE};
use super::file;
use super::local::{self, Local};
use super::report;

/// What to do about a source of credentials that gives none.
pub const SOURCES: &str = "the README, under Credentials, has the sources in the order in which they are tried";

/// A client, and the embedded store if that is what it speaks to.
pub struct Connection {
    pub client: Client,
    _local: Option<Local>,
}

/// A runtime that only waits: the client's own threads do the work.
pub fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|cause| Error::System { what: "start the runtime", cause })
}

/// Waits for `work`; the client's own threads do it.
pub fn wait<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    Ok(runtime()?.block_on(work)?)
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A client of the endpoint that was typed or is configured; nothing is sent.
///
/// # Errors
/// Exit code 2 without endpoint, 4 without credentials.
pub fn connect(typed: &Connect, bucket: &Bucket) -> Result<Connection, Failure> {
    connect_with(typed, bucket, |_| ())
}

/// As [`connect`], with settings that `more` sets.
pub fn connect_with(
    typed: &Connect,
    bucket: &Bucket,
    more: impl FnOnce(&mut ClientSettings),
) -> Result<Connection, Failure> {
    let config = read_config(typed.config.as_deref())?;
    let (endpoint, cname) = endpoint(typed, &config, bucket)?;
    let mut settings = settings(typed, endpoint.clone());
    more(&mut settings);
    if cname {
        settings.addressing.get_or_insert(Addressing::Cname);
    }
    if let Some(directory) = endpoint.strip_prefix("local:") {
        let (local, credentials) = local::start(Path::new(directory), bucket, &mut settings)?;
        return Ok(Connection { client: Client::new(settings, Some(credentials))?, _local: Some(local) });
    }
    let keyring = Arc::new(keyring(typed, &settings)?);
    Ok(Connection { client: Client::with_keyring(settings, keyring)?, _local: None })
}

/// What the source that wins gives; warns if a file that holds a secret can be read by others. Nothing is asked yet.
///
/// # Errors
/// Exit code 4 without a source that is configured and in order.
pub fn keyring(typed: &Connect, settings: &ClientSettings) -> Result<Keyring, Failure> {
    let from = Surroundings { variable: &env, read: &file::read_text, config: typed.config.as_deref() };
    let provider =
        choose(&from).map_err(|e| Failure { hint: Some(SOURCES), ..Failure::new(CREDENTIALS, e.to_string()) })?;
    if let Some(path) = provider.secret_file.as_deref().filter(|path| others_may_read(path)) {
        let path = path.display();
        report::warn(format_args!("haul: warning: {path} holds a secret and others can read it: chmod 600 {path}"));
    }
    Ok(Keyring::new(provider, settings)?)
}

fn others_may_read(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o044 != 0)
}

fn endpoint(typed: &Connect, config: &OssutilConfig, bucket: &Bucket) -> Result<(String, bool), Failure> {
    let named = typed.endpoint.clone().or_else(|| env("HAUL_ENDPOINT")).or_else(|| env("OSS_ENDPOINT"));
    if let Some(endpoint) = named {
        return Ok((endpoint, false));
    }
    let configured = config.endpoint(bucket.as_str()).map(|(endpoint, cname)| (endpoint.to_owned(), cname));
    configured.ok_or_else(|| {
        Failure::usage(
            "no endpoint: use --endpoint, HAUL_ENDPOINT or OSS_ENDPOINT (or --endpoint local:DIR to try haul)",
        )
    })
}

pub fn settings(typed: &Connect, endpoint: String) -> ClientSettings {
    let mut settings = ClientSettings::new(endpoint);
    settings.region = typed.region.clone().or_else(|| env("OSS_REGION"));
    settings.signature = match typed.signature {
        args::Signature::V4 => Signature::V4,
        args::Signature::V1 => Signature::V1,
    };
    settings.addressing = typed.addressing.map(|addressing| match addressing {
        args::Addressing::Virtual => Addressing::Virtual,
        args::Addressing::Path => Addressing::Path,
        args::Addressing::Cname => Addressing::Cname,
    });
    settings.ca_cert = typed.ca_cert.clone();
    settings.proxy = typed.proxy.clone().map_or(Proxy::Environment, |proxy| Proxy::Url(proxy.0));
    settings.connect_timeout = typed.connect_timeout;
    settings.idle_timeout = typed.idle_timeout;
    settings.retry.attempts = typed.attempts;
    if let Some(threads) = typed.threads {
        settings.threads = threads.into();
    }
    settings
}

/// The file of `--config`, which must be there, or `~/.ossutilconfig`, which need not.
fn read_config(named: Option<&Path>) -> Result<OssutilConfig, Failure> {
    let default = || env("HOME").map(|home| PathBuf::from(home).join(".ossutilconfig"));
    let Some(path) = named.map(Path::to_owned).or_else(default) else { return Ok(OssutilConfig::default()) };
    let text = match file::read_text(&path) {
        Ok(text) => text,
        Err(_) if named.is_none() => return Ok(OssutilConfig::default()),
        Err(cause) => return Err(Failure::new(SOURCE, format!("cannot read {}: {cause}", path.display()))),
    };
    OssutilConfig::parse(&text).map_err(|e| Failure::new(CREDENTIALS, format!("{}: {e}", path.display())))
}
