//! INI files as configuration files are written: names of sections and keys whatever their case, values verbatim.

use ini::{Ini, Properties};

use super::CredentialsError;

/// # Errors
/// [`CredentialsError::Malformed`] with the place; no line of the file is shown.
pub(super) fn load(text: &str) -> Result<Ini, CredentialsError> {
    let option = ini::ParseOption { enabled_escape: false, ..Default::default() };
    Ini::load_from_str_opt(text, option)
        .map_err(|e| CredentialsError::Malformed(format!("line {}, column {}", e.line, e.col)))
}

pub(super) fn section<'a>(ini: &'a Ini, wanted: &str) -> Option<&'a Properties> {
    ini.iter().find(|(name, _)| name.is_some_and(|n| n.eq_ignore_ascii_case(wanted))).map(|(_, properties)| properties)
}

/// The value under this name, unless it is empty.
pub(super) fn value(properties: &Properties, wanted: &str) -> Option<String> {
    let found = properties.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    found.map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
}
