//! The configuration file of ossutil, `~/.ossutilconfig` (specification, section 7.2). The text is passed in.

use ini::{Ini, Properties};

use super::{Credentials, CredentialsError, assemble};

/// What such a file says.
#[derive(Debug, Default)]
pub struct OssutilConfig {
    pub credentials: Option<Credentials>,
    endpoint: Option<String>,
    bucket_endpoints: Vec<(String, String)>,
    bucket_cnames: Vec<(String, String)>,
}

impl OssutilConfig {
    /// Reads the text of the file. Section and key names are not case-sensitive.
    ///
    /// # Errors
    /// [`CredentialsError`] if it is no INI file, holds half a key, or asks for a mode that is not supported. The
    /// message never shows a line of the file.
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        let option = ini::ParseOption { enabled_escape: false, ..Default::default() };
        let ini = Ini::load_from_str_opt(text, option)
            .map_err(|e| CredentialsError::Malformed(format!("line {}, column {}", e.line, e.col)))?;
        let section = |wanted: &str| {
            ini.iter().find(|(name, _)| name.is_some_and(|n| n.eq_ignore_ascii_case(wanted))).map(|(_, p)| p)
        };
        let pairs = |name: &str| section(name).map(pairs).unwrap_or_default();
        let mut config = Self {
            bucket_endpoints: pairs("Bucket-Endpoint"),
            bucket_cnames: pairs("Bucket-Cname"),
            ..Self::default()
        };
        if let Some(properties) = section("Credentials") {
            config.endpoint = value(properties, "endpoint");
            config.credentials = credentials(properties)?;
        }
        Ok(config)
    }

    /// The endpoint to use for `bucket`, and whether it is a domain bound to it.
    pub fn endpoint(&self, bucket: &str) -> Option<(&str, bool)> {
        let of = |pairs: &'_ [(String, String)]| pairs.iter().position(|(name, _)| name == bucket);
        if let Some(i) = of(&self.bucket_cnames) {
            return Some((&self.bucket_cnames[i].1, true));
        }
        if let Some(i) = of(&self.bucket_endpoints) {
            return Some((&self.bucket_endpoints[i].1, false));
        }
        self.endpoint.as_deref().map(|endpoint| (endpoint, false))
    }
}

fn credentials(properties: &Properties) -> Result<Option<Credentials>, CredentialsError> {
    match value(properties, "mode") {
        Some(mode) if !["AK", "StsToken"].iter().any(|known| mode.eq_ignore_ascii_case(known)) => {
            Err(CredentialsError::Mode(mode))
        }
        _ => {
            let names = ["accessKeyID", "accessKeySecret"].map(|name| (name, value(properties, name)));
            assemble(names, value(properties, "stsToken"))
        }
    }
}

fn value(properties: &Properties, wanted: &str) -> Option<String> {
    let found = properties.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    found.map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn pairs(properties: &Properties) -> Vec<(String, String)> {
    properties.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[Credentials]\nlanguage=EN\nENDPOINT=oss-cn-hangzhou.aliyuncs.com\naccesskeyid=id\n\
        accessKeySecret=se\\cret=#x\nstsToken=\n[Bucket-Endpoint]\nfar=oss-us-west-1.aliyuncs.com\n\
        [Bucket-Cname]\nown=static.example.com\n";

    #[test]
    fn keys_are_found_whatever_their_case_and_secrets_are_taken_verbatim() {
        let config = OssutilConfig::parse(FILE).unwrap();
        let found = config.credentials.as_ref().unwrap();
        assert_eq!((found.access_key_id.as_str(), found.access_key_secret.as_str()), ("id", "se\\cret=#x"));
        assert!(found.session_token.is_none());
        assert_eq!(config.endpoint("any"), Some(("oss-cn-hangzhou.aliyuncs.com", false)));
        assert_eq!(config.endpoint("far"), Some(("oss-us-west-1.aliyuncs.com", false)));
        assert_eq!(config.endpoint("own"), Some(("static.example.com", true)));
        assert!(!format!("{config:?}").contains("cret"));
    }

    #[test]
    fn other_modes_and_broken_files_are_named_without_their_content() {
        let mode = OssutilConfig::parse("[Credentials]\nmode=EcsRamRole\n").unwrap_err();
        assert_eq!(mode, CredentialsError::Mode("EcsRamRole".into()));
        let broken = OssutilConfig::parse("[Credentials\naccessKeySecret=canary").unwrap_err();
        assert!(!broken.to_string().contains("canary"));
    }
}
