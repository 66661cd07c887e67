//! `haul credentials`: which source won, and until when. Never a secret.

use haul::client::{Identity, Keyring};
use haul::error::Error;
use serde_json::json;

use super::args::Connect;
use super::connect::{SOURCES, keyring, ossutil, settings};
use super::exit::{CREDENTIALS, Failure};
use super::report::print;

/// # Errors
/// Exit code 4 if there are none or the source refuses, 7 if it cannot be reached.
pub fn run(typed: &Connect, as_json: bool) -> Result<(), Failure> {
    let ossutil = ossutil(typed).map_err(|failure| Failure { code: CREDENTIALS, hint: Some(SOURCES), ..failure })?;
    let keyring = keyring(ossutil.as_ref(), &settings(typed, ossutil.as_ref(), String::new())?)?;
    let identity = identity(&keyring).map_err(|failure| match failure.code {
        CREDENTIALS => Failure { hint: Some(SOURCES), ..failure },
        _ => failure,
    })?;
    if as_json {
        print(json!({
            "source": identity.source,
            "access_key_id": identity.access_key_id,
            "temporary": identity.is_temporary,
            "expires": time(&identity),
        }));
    } else {
        print(as_text(&identity));
    }
    Ok(())
}

/// Asks on a runtime of its own: some sources need a thread that may wait.
fn identity(keyring: &Keyring) -> Result<Identity, Failure> {
    let runtime = haul::os::threads::runtime(1, "haul").map_err(Error::threads)?;
    Ok(runtime.block_on(keyring.identity())?)
}

fn as_text(identity: &Identity) -> String {
    let until = match (time(identity), identity.is_temporary) {
        (Some(time), _) => time,
        (None, true) => "not known: the source does not say when the token ends".to_owned(),
        (None, false) => "does not expire".to_owned(),
    };
    format!("source      {}\nkey id      {}\nuntil       {until}", identity.source, identity.access_key_id)
}

/// When they end, as `2025-01-01T06:00:00Z`.
fn time(identity: &Identity) -> Option<String> {
    let at = jiff::Timestamp::try_from(identity.expires?).ok()?;
    Some(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
