//! The embedded store in this process, with a key of its own: over a directory (`--endpoint local:DIR`), or one that keeps
//! nothing and is slowed down (`haul tune --shape`).

use std::path::Path;

use haul::model::object::Bucket;
use haul::model::settings::{Addressing, ClientSettings, Proxy};
use haul::server::{AccessKey, Config, Server, Shape, StoreKind};
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
    let config = Config { store: StoreKind::Dir(directory.to_owned()), ..Config::default() };
    let started = serve(config, bucket, settings).map_err(failed)?;
    let canonical = directory.canonicalize().map_err(|e| failed(e.to_string()))?;
    // The port changes from run to run; checkpoints must not care.
    settings.endpoint_name = Some(format!("local:{}", canonical.display()));
    Ok(started)
}

/// Starts a store that keeps sizes and checksums only, and points `settings` at it.
///
/// # Errors
/// Exit code 1, if this process may not listen or start threads.
pub fn start_shaped(
    shape: Shape,
    bucket: &Bucket,
    settings: &mut ClientSettings,
) -> Result<(Local, Credentials), Failure> {
    let config = Config { store: StoreKind::Null, shape: Some(shape), ..Config::default() };
    serve(config, bucket, settings).map_err(|what| Failure::new(OTHER, format!("cannot start a store: {what}")))
}

fn serve(config: Config, bucket: &Bucket, settings: &mut ClientSettings) -> Result<(Local, Credentials), String> {
    let key = AccessKey::random();
    let credentials = Credentials::new(key.id.clone(), key.secret.as_str());
    let config = Config { access_keys: vec![key], buckets: vec![bucket.clone()], ..config };
    let region = config.region.clone();
    let runtime = haul::os::threads::runtime(2, "haul-local").map_err(|e| format!("no threads: {e}"))?;
    let server = runtime.block_on(Server::bind(config)).map_err(|e| e.to_string())?;
    settings.endpoint = server.url();
    settings.region = Some(region);
    settings.addressing = Some(Addressing::Path);
    settings.proxy = Proxy::None;
    runtime.spawn(server.run(std::future::pending()));
    Ok((Local { runtime: Some(runtime) }, credentials))
}
