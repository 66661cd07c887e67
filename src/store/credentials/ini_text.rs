//! INI files as configuration files are written: names of sections and keys whatever their case and with `-` or `_` between
//! their words, values verbatim.

use ini::{Ini, Properties};

use super::CredentialsError;

/// # Errors
/// [`CredentialsError::Malformed`] with the place, [`CredentialsError::NotUnderstood`] for UTF-16; no line of the file is
/// shown.
pub(super) fn load(text: &str) -> Result<Ini, CredentialsError> {
    if text.contains('\0') {
        let why = "it holds NUL characters, as UTF-16 without a byte order mark does";
        return Err(CredentialsError::NotUnderstood(why));
    }
    let option = ini::ParseOption { enabled_escape: false, ..Default::default() };
    // Lines end as they do on any system.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    Ini::load_from_str_opt(&text, option)
        .map_err(|e| CredentialsError::Malformed(format!("line {}, column {}", e.line, e.col)))
}

pub(super) fn section<'a>(ini: &'a Ini, wanted: &str) -> Option<&'a Properties> {
    ini.iter().find(|(name, _)| name.is_some_and(|n| n.eq_ignore_ascii_case(wanted))).map(|(_, properties)| properties)
}

/// The value under this name, unless it is empty.
pub(super) fn value(properties: &Properties, wanted: &str) -> Option<String> {
    let found = properties.iter().find(|(name, _)| plain(name) == plain(wanted));
    found.map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Names that are one: `accessKeyID`, `access-key-id` and `access_key_id`.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect()
}

/// Whether something is said under a name that may have been meant for a key, a role or a token, and is none that is known.
pub(super) fn may_mean_a_key(properties: &Properties, known: &[&str]) -> bool {
    const WORDS: [&str; 7] = ["key", "secret", "token", "cred", "role", "access", "source"];
    properties.iter().filter(|(_, value)| !value.trim().is_empty()).any(|(name, _)| {
        let name = plain(name);
        WORDS.iter().any(|word| name.contains(word)) && !known.iter().any(|known| plain(known) == name)
    })
}
