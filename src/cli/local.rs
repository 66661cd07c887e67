//! `--endpoint local:DIR`: the embedded store in this process, over a directory, with a key of its own.

use std::path::Path;

use haul::model::object::Bucket;
use haul::model::settings::{Addressing, ClientSettings, Proxy};
use haul::server::{AccessKey, Config, Server, StoreKind};
use haul::store::credentials::Credentials;

use super::exit::{Failure, OTHER};

/// The running store; ends when dropped.
pub struct Local {
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts the store and points `settings` at it. The directory and the bucket are made if they are missing.
///
/// # Errors
/// Exit code 1, if the directory is no store, is in use, or cannot be written.
pub fn start(
    directory: &Path,
    bucket: &Bucket,
    settings: &mut ClientSettings,
) -> Result<(Local, Credentials), Failure> {
    let failed = |what: String| Failure {
        hint: Some("choose another directory, or wait for the process that uses it"),
        ..Failure::new(OTHER, format!("cannot open the local store {}: {what}", directory.display()))
    };
    if directory.as_os_str().is_empty() {
        return Err(Failure::usage("local: needs the name of a directory, such as local:./haul-store"));
    }
    let key = AccessKey::random();
    let credentials = Credentials::new(key.id.clone(), key.secret.as_str());
    let config = Config {
        store: StoreKind::Dir(directory.to_owned()),
        access_keys: vec![key],
        buckets: vec![bucket.clone()],
        ..Config::default()
    };
    let region = config.region.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| failed(e.to_string()))?;
    let server = runtime.block_on(Server::bind(config)).map_err(|e| failed(e.to_string()))?;
    let canonical = directory.canonicalize().map_err(|e| failed(e.to_string()))?;
    settings.endpoint = server.url();
    // The port changes from run to run; checkpoints must not care.
    settings.endpoint_name = Some(format!("local:{}", canonical.display()));
    settings.region = Some(region);
    settings.addressing = Some(Addressing::Path);
    settings.proxy = Proxy::None;
    runtime.spawn(server.run(std::future::pending()));
    Ok((Local { runtime: Some(runtime) }, credentials))
}
