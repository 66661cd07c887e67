//! The file `~/.alibabacloud/credentials` (specification, section 7.2). The text is passed in.

use ini::Properties;

use super::ini_text::{load, may_mean_a_key, section, value};
use super::source::{Role, Source};
use super::{CredentialsError, assemble};

const TYPES: &str = "access_key, sts, ecs_ram_role, ram_role_arn";
const KNOWN: [&str; 7] =
    ["access_key_id", "access_key_secret", "security_token", "role_name", "role_arn", "role_session_name", "policy"];

/// Where the section `name` has credentials come from; `None` if there is no such section, or if it says nothing.
///
/// # Errors
/// [`CredentialsError`] for what is no INI file, half a key, types that are not supported or lack something, and names that
/// may have been meant for a key. The message never shows a line of the file.
pub fn source(text: &str, name: &str) -> Result<Option<Source>, CredentialsError> {
    let ini = load(text)?;
    if ini.iter().any(|(section, properties)| section.is_none() && !properties.is_empty()) {
        return Err(CredentialsError::NotUnderstood("it begins without a section such as [default]"));
    }
    let Some(properties) = section(&ini, name) else { return Ok(None) };
    match source_of(properties)? {
        None if may_mean_a_key(properties, &KNOWN) => Err(CredentialsError::NotUnderstood(
            "its section has no key, but a name that is like one of access_key_id and access_key_secret",
        )),
        found => Ok(found),
    }
}

fn source_of(properties: &Properties) -> Result<Option<Source>, CredentialsError> {
    let names = ["access_key_id", "access_key_secret"].map(|name| (name, value(properties, name)));
    let key = |token: Option<String>| Ok::<_, CredentialsError>(assemble(names, token)?.map(Source::Key));
    let kind = value(properties, "type").unwrap_or_default();
    match kind.as_str() {
        "" | "access_key" => key(None),
        "sts" => {
            let token = value(properties, "security_token");
            key(Some(token.ok_or(CredentialsError::Lacks { mode: "sts", missing: "security_token" })?))
        }
        "ecs_ram_role" => Ok(Some(Source::InstanceRole { name: value(properties, "role_name"), at: None })),
        "ram_role_arn" => {
            let lacks = |missing| CredentialsError::Lacks { mode: "ram_role_arn", missing };
            let asker = key(None)?.ok_or(lacks("access_key_id and access_key_secret"))?;
            let mut role = Role::new(value(properties, "role_arn").ok_or(lacks("role_arn"))?);
            if let Some(name) = value(properties, "role_session_name") {
                role.session_name = name;
            }
            role.policy = value(properties, "policy");
            Ok(Some(Source::Role { role, asker: Box::new(asker) }))
        }
        _ => Err(CredentialsError::Mode(kind, TYPES)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[default]\ntype = access_key\naccess_key_id = id\naccess_key_secret = se\\cret\n\
        [token]\ntype=sts\naccess_key_id=id\naccess_key_secret=s\nsecurity_token=t\n[ecs]\ntype=ecs_ram_role\nrole_name=web\n\
        [role]\ntype=ram_role_arn\naccess_key_id=id\naccess_key_secret=s\nrole_arn=r\nrole_session_name=n\npolicy={\"a\":1}\n\
        [odd]\ntype=bearer\n[half]\naccess_key_id=id\n[no-token]\ntype=sts\naccess_key_id=i\naccess_key_secret=canary\n";

    #[test]
    fn every_type_has_its_source() {
        assert!(matches!(source(FILE, "default"), Ok(Some(Source::Key(key))) if *key.access_key_secret == "se\\cret"));
        assert!(matches!(source(FILE, "token"), Ok(Some(Source::Key(key))) if key.session_token.is_some()));
        let instance = source(FILE, "ecs");
        assert!(matches!(instance, Ok(Some(Source::InstanceRole { name: Some(name), .. })) if name == "web"));
        let Ok(Some(Source::Role { role, .. })) = source(FILE, "role") else { panic!("a role") };
        assert_eq!((role.session_name.as_str(), role.policy.as_deref()), ("n", Some("{\"a\":1}")));
        assert!(matches!(source(FILE, "nobody"), Ok(None)));
    }

    #[test]
    fn what_is_wrong_is_named_without_the_content() {
        for (name, said) in
            [("odd", "mode bearer is not supported"), ("half", "access_key_id is set"), ("no-token", "security_token")]
        {
            let error = source(FILE, name).unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("canary"), "{error}");
        }
        let no_mark: String = FILE.chars().flat_map(|c| [c, '\0']).collect();
        for file in
            ["access_key_id=i\naccess_key_secret=canary\n", "[default]\nkey_id=i\nkey_secret=canary\n", &no_mark]
        {
            let error = source(file, "default").unwrap_err();
            assert!(matches!(error, CredentialsError::NotUnderstood(_)), "{error}");
        }
    }
}
