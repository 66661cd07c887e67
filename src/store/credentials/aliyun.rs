//! Profiles of the aliyun command line, `~/.aliyun/config.json` (specification, section 7.2). The text is passed in.

use serde::Deserialize;

use super::source::{EXTERNAL_LIMIT, Role, Source};
use super::{CredentialsError, assemble};

const MODES: &str = "AK, StsToken, RamRoleArn, EcsRamRole, OIDC, ChainableRamRoleArn, External";
/// Most source profiles one after the other. Each is an exchange with STS.
const CHAIN_MAX: usize = 8;

/// What such a file says.
#[derive(Deserialize)]
pub struct Profiles {
    #[serde(default)]
    current: Option<String>,
    #[serde(default)]
    profiles: Option<Vec<Profile>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Profile {
    name: String,
    mode: String,
    access_key_id: String,
    access_key_secret: zeroize::Zeroizing<String>,
    sts_token: zeroize::Zeroizing<String>,
    ram_role_name: String,
    ram_role_arn: String,
    ram_session_name: String,
    expired_seconds: u64,
    sts_region: String,
    enable_vpc: bool,
    policy: String,
    external_id: String,
    oidc_provider_arn: String,
    oidc_token_file: String,
    source_profile: String,
    process_command: String,
}

impl Profiles {
    /// # Errors
    /// [`CredentialsError::Malformed`] with the place, [`CredentialsError::NotUnderstood`] for JSON of something else;
    /// nothing of the file is shown.
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        let malformed = |e: serde_json::Error| {
            CredentialsError::Malformed(format!("not the expected JSON in line {}, column {}", e.line(), e.column()))
        };
        match serde_json::from_str(text).map_err(malformed)? {
            Self { current: None, profiles: None } => {
                Err(CredentialsError::NotUnderstood("it has neither profiles nor the name of a current one"))
            }
            profiles => Ok(profiles),
        }
    }

    /// The name of the profile that is used unless another is named: `default` if the file names none.
    ///
    /// # Errors
    /// [`CredentialsError::NoProfile`] if it has profiles, but not that one.
    pub fn current(&self) -> Result<&str, CredentialsError> {
        let name = self.current.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
        let is_there = self.find(name).is_some() || self.profiles.as_ref().is_none_or(Vec::is_empty);
        if is_there { Ok(name) } else { Err(CredentialsError::NoProfile(name.to_owned())) }
    }

    /// Where the profile `name` has credentials come from; `None` if there is no such profile, or if it is empty, as the
    /// command line makes it.
    ///
    /// # Errors
    /// [`CredentialsError`] for half a key, for modes that are not supported or lack something, and for source profiles
    /// that are missing or without end.
    pub fn source(&self, name: &str) -> Result<Option<Source>, CredentialsError> {
        self.find(name).map_or(Ok(None), |profile| self.source_of(profile, 0))
    }

    fn find(&self, name: &str) -> Option<&Profile> {
        self.profiles.iter().flatten().find(|profile| profile.name == name)
    }

    /// - `depth`: how many profiles stand before this one.
    fn source_of(&self, profile: &Profile, depth: usize) -> Result<Option<Source>, CredentialsError> {
        let lacks = |mode, missing| CredentialsError::Lacks { mode, missing };
        match profile.mode.as_str() {
            "" | "AK" => profile.key(false),
            "StsToken" if profile.sts_token.is_empty() => Err(lacks("StsToken", "sts_token")),
            "StsToken" => profile.key(true),
            "RamRoleArn" => {
                let asker = profile.key(true)?.ok_or(lacks("RamRoleArn", "access_key_id and access_key_secret"))?;
                Ok(Some(Source::Role { role: profile.role("RamRoleArn")?, asker: Box::new(asker) }))
            }
            "EcsRamRole" => Ok(Some(Source::InstanceRole { name: filled(&profile.ram_role_name), at: None })),
            "OIDC" => Ok(Some(Source::Oidc {
                role: profile.role("OIDC")?,
                provider_arn: filled(&profile.oidc_provider_arn).ok_or(lacks("OIDC", "oidc_provider_arn"))?,
                token_file: filled(&profile.oidc_token_file).ok_or(lacks("OIDC", "oidc_token_file"))?.into(),
            })),
            "ChainableRamRoleArn" => self.chained(profile, depth).map(Some),
            "External" => {
                let command = filled(&profile.process_command).ok_or(lacks("External", "process_command"))?;
                Ok(Some(Source::Process { command, limit: EXTERNAL_LIMIT }))
            }
            mode => Err(CredentialsError::Mode(mode.into(), MODES)),
        }
    }

    fn chained(&self, profile: &Profile, depth: usize) -> Result<Source, CredentialsError> {
        const MODE: &str = "ChainableRamRoleArn";
        let before = filled(&profile.source_profile);
        let before = before.ok_or(CredentialsError::Lacks { mode: MODE, missing: "source_profile" })?;
        if depth >= CHAIN_MAX {
            return Err(CredentialsError::Endless(profile.name.clone(), CHAIN_MAX));
        }
        let asker = self.find(&before).ok_or_else(|| CredentialsError::NoProfile(before.clone()))?;
        let asker = self.source_of(asker, depth + 1)?;
        let asker = asker.ok_or(CredentialsError::Lacks { mode: MODE, missing: "a source_profile with a key" })?;
        Ok(Source::Role { role: profile.role(MODE)?, asker: Box::new(asker) })
    }
}

impl Profile {
    fn key(&self, with_token: bool) -> Result<Option<Source>, CredentialsError> {
        let names =
            [("access_key_id", filled(&self.access_key_id)), ("access_key_secret", filled(&self.access_key_secret))];
        let token = filled(&self.sts_token).filter(|_| with_token);
        Ok(assemble(names, token)?.map(Source::Key))
    }

    fn role(&self, mode: &'static str) -> Result<Role, CredentialsError> {
        let missing = CredentialsError::Lacks { mode, missing: "ram_role_arn" };
        let mut role = Role::new(filled(&self.ram_role_arn).ok_or(missing)?);
        if let Some(name) = filled(&self.ram_session_name) {
            role.session_name = name;
        }
        if self.expired_seconds > 0 {
            role.seconds = self.expired_seconds;
        }
        Ok(Role {
            region: filled(&self.sts_region),
            vpc: self.enable_vpc,
            policy: filled(&self.policy),
            external_id: filled(&self.external_id),
            ..role
        })
    }
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"current":"ak","profiles":[
        {"name":"ak","mode":"AK","access_key_id":"i","access_key_secret":"s","sts_token":"old","region_id":"cn-x"},
        {"name":"token","mode":"StsToken","access_key_id":"i","access_key_secret":"s","sts_token":"t"},
        {"name":"role","mode":"RamRoleArn","access_key_id":"i","access_key_secret":"s","ram_role_arn":"r",
         "ram_session_name":"s","expired_seconds":900,"sts_region":"cn-x","enable_vpc":true,"external_id":"e"},
        {"name":"ecs","mode":"EcsRamRole","ram_role_name":"web"},
        {"name":"oidc","mode":"OIDC","oidc_provider_arn":"p","oidc_token_file":"/t","ram_role_arn":"r"},
        {"name":"external","mode":"External","process_command":"helper -x"},
        {"name":"chained","mode":"ChainableRamRoleArn","source_profile":"middle","ram_role_arn":"r"},
        {"name":"middle","mode":"ChainableRamRoleArn","source_profile":"ecs","ram_role_arn":"q"},
        {"name":"round","mode":"ChainableRamRoleArn","source_profile":"round","ram_role_arn":"r"},
        {"name":"lost","mode":"ChainableRamRoleArn","source_profile":"nowhere","ram_role_arn":"r"},
        {"name":"half","mode":"AK","access_key_secret":"canary"},
        {"name":"odd","mode":"CloudSSO"},
        {"name":"empty","mode":"","access_key_id":"","access_key_secret":""}]}"#;

    fn source(name: &str) -> Result<Option<Source>, CredentialsError> {
        Profiles::parse(FILE).unwrap().source(name)
    }

    #[test]
    fn every_mode_has_its_source() {
        assert!(matches!(source("ak"), Ok(Some(Source::Key(key))) if key.session_token.is_none()));
        assert!(matches!(source("token"), Ok(Some(Source::Key(key))) if key.session_token.is_some()));
        let Ok(Some(Source::Role { role, .. })) = source("role") else { panic!("a role") };
        assert_eq!((role.arn.as_str(), role.session_name.as_str(), role.seconds), ("r", "s", 900));
        assert_eq!((role.region.as_deref(), role.vpc, role.external_id.as_deref()), (Some("cn-x"), true, Some("e")));
        assert!(matches!(source("ecs"), Ok(Some(Source::InstanceRole { name: Some(name), .. })) if name == "web"));
        assert!(matches!(source("oidc"), Ok(Some(Source::Oidc { provider_arn, .. })) if provider_arn == "p"));
        let external = source("external");
        assert!(
            matches!(external, Ok(Some(Source::Process { limit: EXTERNAL_LIMIT, command })) if command == "helper -x")
        );
        let Ok(Some(Source::Role { asker, .. })) = source("chained") else { panic!("a role") };
        assert!(matches!(*asker, Source::Role { asker, .. } if matches!(*asker, Source::InstanceRole { .. })));
        assert!(matches!((source("empty"), source("nobody")), (Ok(None), Ok(None))));
    }

    #[test]
    fn a_file_without_its_current_profile_is_not_taken_for_silence() {
        assert_eq!(Profiles::parse(FILE).unwrap().current(), Ok("ak"));
        let current = |text: &str| Profiles::parse(text).and_then(|profiles| profiles.current().map(str::to_owned));
        assert_eq!(current(r#"{"profiles":[{"name":"default"}]}"#), Ok("default".into()));
        assert_eq!(current(r#"{"current":"default"}"#), Ok("default".into()));
        let other = r#"{"current":"gone","profiles":[{"name":"other"}]}"#;
        assert_eq!(current(other), Err(CredentialsError::NoProfile("gone".into())));
        for other in ["{}", r#"{"accessKeyId":"i"}"#] {
            assert!(matches!(current(other), Err(CredentialsError::NotUnderstood(_))), "{other}");
        }
    }

    #[test]
    fn a_chain_ends() {
        assert_eq!(source("round").unwrap_err(), CredentialsError::Endless("round".into(), CHAIN_MAX));
        assert_eq!(source("lost").unwrap_err(), CredentialsError::NoProfile("nowhere".into()));
    }

    #[test]
    fn what_is_wrong_is_named_without_the_content() {
        let broken = Profiles::parse("{\"profiles\":[{\"access_key_secret\":[\"canary\"]}]}").err().unwrap();
        let half = source("half").unwrap_err();
        assert!(!format!("{broken} {half}").contains("canary"));
        assert_eq!(half.to_string(), "access_key_secret is set but access_key_id is not");
        assert!(source("odd").unwrap_err().to_string().starts_with("mode CloudSSO is not supported"));
    }

    #[test]
    fn what_is_nested_without_end_is_skipped_or_refused() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert!(Profiles::parse(&format!("{{\"x\":{deep},\"profiles\":[]}}")).is_ok());
        assert!(Profiles::parse(&format!("{{\"profiles\":{deep}}}")).is_err());
    }
}
