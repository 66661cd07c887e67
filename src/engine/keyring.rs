//! The credentials that requests are signed with now.
//!
//! Temporary ones are renewed at 80 % of their lifetime, or when 180 s are left if that is earlier, but not in the first
//! half of it. One request renews them while the others go on with the old. If that fails, or brings nothing newer, it is
//! tried again after 120 s, and the old ones are used to their end. After it, all requests wait for the one that asks.
//!
//! Credentials that the store refuses as expired or invalid are renewed once, whatever the clock says, and the refused request
//! is sent again at once. If the store refuses the new ones as well, having accepted nothing signed with them, it is final.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex as Turn;

use super::fetch::Fetcher;
use crate::error::Error;
use crate::model::retry::{Fault, FaultKind};
use crate::model::settings::ClientSettings;
use crate::store::credentials::Credentials;
use crate::store::credentials::source::{Provider, Source};

/// With less left than this, credentials are renewed (credentials-go).
const LEFT_MIN: Duration = Duration::from_secs(180);
/// Wait after an early renewal that brought nothing (OSS Go SDK v2).
const AGAIN_AFTER: Duration = Duration::from_secs(120);

/// Gives current credentials of one provider. Clients may share it.
pub struct Keyring {
    fetcher: Fetcher,
    held: Mutex<Option<Held>>,
    /// Whoever holds it asks; in it, why the last one who asked got nothing.
    turn: Turn<Option<Fault>>,
    /// How often was asked.
    rounds: AtomicU64,
}

/// Who signs, as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The source that won.
    pub source: String,
    pub access_key_id: String,
    /// Whether there is a session token.
    pub is_temporary: bool,
    /// `None`: never, or the source does not say.
    pub expires: Option<SystemTime>,
}

/// What a request is signed with.
#[derive(Clone)]
pub(crate) struct Key {
    pub credentials: Arc<Credentials>,
    /// Counts the keys that were held, from 1.
    number: u64,
}

struct Held {
    key: Key,
    /// `None`: they do not end.
    times: Option<Times>,
    /// They came because the store refused the ones before.
    after_refusal: bool,
    /// The store accepted something signed with them.
    is_proven: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    renew: SystemTime,
    end: SystemTime,
}

impl Times {
    /// For credentials that came at `at`. Those that are over by our clock are used all the same: the clock may be wrong, and
    /// the store knows.
    fn new(at: SystemTime, expires: SystemTime) -> Self {
        match expires.duration_since(at) {
            Ok(left) if !left.is_zero() => {
                let early = (left - left / 5).min(left.saturating_sub(LEFT_MIN)).max(left / 2);
                Self { renew: at + early, end: expires }
            }
            _ => Self { renew: at + AGAIN_AFTER, end: at + AGAIN_AFTER },
        }
    }
}

enum State {
    Fresh(Key),
    Due(Key),
    Missing,
}

impl Keyring {
    /// A keyring of what `provider` gives; nothing is asked yet. `settings` say how STS is reached: authorities, proxy, time
    /// to connect.
    ///
    /// # Errors
    /// [`Error::Tls`] for certificates that cannot be used.
    pub fn new(provider: Provider, settings: &ClientSettings) -> Result<Self, Error> {
        let fetcher = Fetcher::new(provider, settings)?;
        Ok(Self { fetcher, held: Mutex::default(), turn: Turn::default(), rounds: AtomicU64::new(0) })
    }

    /// A keyring of one key that is never renewed.
    pub(crate) fn fixed(key: Credentials, settings: &ClientSettings) -> Result<Self, Error> {
        Self::new(Provider::new("key of the application", Source::Key(key)), settings)
    }

    /// Who signs now; the source is asked if need be. To be called on a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Exchange`] if the source gives none.
    pub async fn identity(&self) -> Result<Identity, Error> {
        let asked = self.current().await;
        let key =
            asked.map_err(|fault| Error::Exchange { operation: "credentials", attempts: 1, fault: Box::new(fault) })?;
        Ok(Identity {
            source: self.fetcher.provider.name.clone(),
            access_key_id: key.credentials.access_key_id.clone(),
            is_temporary: key.credentials.session_token.is_some(),
            expires: key.credentials.expires,
        })
    }

    /// What to sign with now.
    pub(crate) async fn current(&self) -> Result<Key, Fault> {
        self.current_at(SystemTime::now()).await
    }

    async fn current_at(&self, now: SystemTime) -> Result<Key, Fault> {
        match self.state(now) {
            State::Fresh(key) => Ok(key),
            State::Due(key) => Ok(self.renewed_early(key, now).await),
            State::Missing => self.renewed(|| matches!(self.state(now), State::Missing), now, false).await,
        }
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn state(&self, now: SystemTime) -> State {
        match &*self.held() {
            Some(held) => match held.times {
                Some(times) if now >= times.end => State::Missing,
                Some(times) if now >= times.renew => State::Due(held.key.clone()),
                _ => State::Fresh(held.key.clone()),
            },
            None => State::Missing,
        }
    }

    /// The new credentials, or the old ones if somebody else is asking already or there are none to be had.
    async fn renewed_early(&self, old: Key, now: SystemTime) -> Key {
        let Ok(mut turn) = self.turn.try_lock() else { return old };
        match self.ask(&mut turn, now, false).await {
            Ok(key) => key,
            Err(fault) => {
                tracing::warn!(%fault, "credentials were not renewed early");
                if let Some(times) = self.held().as_mut().and_then(|held| held.times.as_mut()) {
                    times.renew = now + AGAIN_AFTER;
                }
                old
            }
        }
    }

    /// Asks, or gets what somebody else gets who asks already. `is_needed` tells whether it is still to be done.
    async fn renewed(&self, is_needed: impl Fn() -> bool, now: SystemTime, after_refusal: bool) -> Result<Key, Fault> {
        let before = self.rounds.load(SeqCst);
        let mut turn = self.turn.lock().await;
        if let Some(fault) = turn.as_ref().filter(|_| self.rounds.load(SeqCst) != before) {
            return Err(fault.clone());
        }
        let held = self.held().as_ref().map(|held| held.key.clone());
        if let Some(key) = held.filter(|_| !is_needed()) {
            return Ok(key);
        }
        self.ask(&mut turn, now, after_refusal).await
    }

    async fn ask(&self, turn: &mut Option<Fault>, now: SystemTime, after_refusal: bool) -> Result<Key, Fault> {
        let asked = self.fetcher.fetch().await;
        self.rounds.fetch_add(1, SeqCst);
        *turn = asked.as_ref().err().cloned();
        let credentials = asked?;
        let mut held = self.held();
        let before = held.as_ref();
        let mut times = credentials.expires.map(|expires| Times::new(now, expires));
        let brings_nothing = before.is_some_and(|held| held.key.credentials.expires == credentials.expires);
        if let Some(times) = times.as_mut().filter(|_| brings_nothing) {
            times.renew = times.renew.max(now + AGAIN_AFTER);
        }
        let number = before.map_or(1, |held| held.key.number + 1);
        tracing::debug!(source = self.fetcher.provider.name, id = credentials.access_key_id, "new credentials");
        let key = Key { credentials: Arc::new(credentials), number };
        *held = Some(Held { key: key.clone(), times, after_refusal, is_proven: false });
        Ok(key)
    }

    /// Takes note of how the store answered a request that was signed with `key`. A fault of the kind
    /// [`FaultKind::TokenExpired`] stays one if there are new credentials by now, so that the request can be repeated at once;
    /// else it becomes the fault that says why not.
    pub(crate) async fn judge<T>(&self, key: &Key, reply: Result<T, Fault>) -> Result<T, Fault> {
        match reply {
            Err(fault) if fault.kind == FaultKind::TokenExpired => Err(self.refused(key, fault).await),
            Ok(reply) => {
                if let Some(held) = self.held().as_mut().filter(|held| held.key.number == key.number) {
                    held.is_proven = true;
                }
                Ok(reply)
            }
            other => other,
        }
    }

    async fn refused(&self, key: &Key, fault: Fault) -> Fault {
        let is_held = |held: &Held| held.key.number == key.number;
        let is_final = self.held().as_ref().is_some_and(|held| is_held(held) && held.after_refusal && !held.is_proven);
        if is_final || !self.fetcher.provider.source.can_renew() {
            return Fault { kind: FaultKind::Credentials, ..fault };
        }
        let is_needed = || self.held().as_ref().is_none_or(is_held);
        match self.renewed(is_needed, SystemTime::now(), true).await {
            Ok(_) => fault,
            Err(why) => Fault { kind: why.kind, message: format!("{}; {}", fault.message, why.message), ..fault },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use futures_util::future::join_all;
    use zeroize::Zeroizing;

    use super::*;

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// A keyring whose source gives keys that are named by their number and end at `expires(number)`, or nothing.
    fn keyring(expires: impl Fn(u32) -> Option<u64> + Send + Sync + 'static) -> (Keyring, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        let function = move || {
            let number = count.fetch_add(1, SeqCst) + 1;
            let expires = expires(number).ok_or("out of keys".to_owned())?;
            let token = Some(Zeroizing::new("t".into()));
            Ok(Credentials {
                session_token: token,
                expires: Some(AT + seconds(expires)),
                ..Credentials::new(format!("key-{number}"), "canary")
            })
        };
        let provider = Provider::new("test", Source::Function(Arc::new(function)));
        (Keyring::new(provider, &ClientSettings::new("x")).unwrap(), asked)
    }

    async fn id(keyring: &Keyring, now: u64) -> Result<String, Fault> {
        Ok(keyring.current_at(AT + seconds(now)).await?.credentials.access_key_id.clone())
    }

    #[test]
    fn the_time_of_renewal_follows_the_lifetime() {
        for (life, early) in [(10_000, 8000), (3600, 2880), (900, 720), (600, 420), (300, 150), (100, 50)] {
            let times = Times::new(AT, AT + seconds(life));
            assert_eq!(times, Times { renew: AT + seconds(early), end: AT + seconds(life) }, "{life}");
        }
        let over = Times::new(AT + seconds(10), AT + seconds(10));
        assert_eq!(over.end, AT + seconds(130), "what is over by our clock is used for a while");
    }

    #[tokio::test]
    async fn credentials_are_renewed_early_and_only_once() {
        let (keyring, asked) = keyring(|n| Some(u64::from(n) * 3600));
        let all = join_all((0..20).map(|_| id(&keyring, 0))).await;
        assert!(all.iter().all(|id| id.as_deref() == Ok("key-1")) && asked.load(SeqCst) == 1);
        assert_eq!(id(&keyring, 2879).await.unwrap(), "key-1");
        let all = join_all((0..20).map(|_| id(&keyring, 2880))).await;
        assert!(all.iter().all(Result::is_ok) && asked.load(SeqCst) == 2);
        assert_eq!(id(&keyring, 2881).await.unwrap(), "key-2");
    }

    #[tokio::test]
    async fn a_failed_early_renewal_goes_on_with_the_old_ones_to_their_end() {
        let (keyring, asked) = keyring(|n| if n == 1 { Some(3600) } else { None });
        assert_eq!(id(&keyring, 0).await.unwrap(), "key-1");
        for (now, times) in [(2880, 2), (2999, 2), (3000, 3), (3599, 4)] {
            assert_eq!((id(&keyring, now).await.unwrap().as_str(), asked.load(SeqCst)), ("key-1", times), "{now}");
        }
        let fault = id(&keyring, 3600).await.unwrap_err();
        assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::Credentials, "test: out of keys"));
    }

    #[tokio::test]
    async fn those_who_wait_for_one_who_fails_fail_with_it() {
        let (keyring, asked) = keyring(|_| None);
        let all = join_all((0..20).map(|_| id(&keyring, 0))).await;
        assert!(all.iter().all(Result::is_err));
        assert_eq!(asked.load(SeqCst), 1);
        assert!(id(&keyring, 0).await.is_err() && asked.load(SeqCst) == 2, "the next one asks again");
    }

    fn expired() -> Result<(), Fault> {
        Err(Fault::new(FaultKind::TokenExpired, "expired"))
    }

    #[tokio::test]
    async fn a_refused_token_is_renewed_once_for_all_who_used_it() {
        let (keyring, asked) = keyring(|n| Some(u64::from(n) * 3600 + 20_000_000_000));
        let key = keyring.current().await.unwrap();
        let all = join_all((0..20).map(|_| keyring.judge(&key, expired()))).await;
        assert!(all.iter().all(|reply| reply.as_ref().is_err_and(|fault| fault.kind == FaultKind::TokenExpired)));
        assert_eq!(asked.load(SeqCst), 2);
        let second = keyring.current().await.unwrap();
        keyring.judge(&second, Ok(())).await.unwrap();
        assert_eq!(keyring.judge(&second, expired()).await.unwrap_err().kind, FaultKind::TokenExpired);
        assert_eq!(asked.load(SeqCst), 3);
        let third = keyring.current().await.unwrap();
        assert_eq!(keyring.judge(&third, expired()).await.unwrap_err().kind, FaultKind::Credentials);
        assert_eq!(asked.load(SeqCst), 3, "new ones that are refused at once are not renewed");
    }

    #[tokio::test]
    async fn a_key_that_cannot_be_renewed_is_refused_for_good() {
        let keyring = Keyring::fixed(Credentials::new("id", "s"), &ClientSettings::new("x")).unwrap();
        let key = keyring.current().await.unwrap();
        assert_eq!(keyring.judge(&key, expired()).await.unwrap_err().kind, FaultKind::Credentials);
    }

    #[test]
    fn an_end_beyond_all_calendars_is_an_end() {
        let end = AT + seconds(i64::MAX as u64);
        assert!(Times::new(AT, end).renew < end);
    }
}
