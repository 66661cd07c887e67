//! Faults without what they must not repeat: stores and the boxes on the way to them may echo a request in their answer,
//! and what they say is shown to people and written to logs.

use zeroize::Zeroizing;

use super::credentials::Credentials;
use super::oss::encode;
use crate::model::retry::Fault;

/// Shortest piece of a secret that is taken out, in bytes: an answer is cut before it is shown, and so is the secret at
/// its end.
const PIECE_BYTES: usize = 8;
const HIDDEN: &str = "[hidden]";

/// `fault` with the secret and the token of `credentials` taken out of everything that the store wrote, as they are and
/// percent-encoded; of one that was cut, what is left of it.
pub fn redact(fault: Fault, credentials: Option<&Credentials>) -> Fault {
    let Some(credentials) = credentials else { return fault };
    let secrets = [Some(&credentials.access_key_secret), credentials.session_token.as_ref()];
    let secrets = secrets.into_iter().flatten().filter(|secret| !secret.is_empty());
    let forms: Vec<_> = secrets.flat_map(|s| [s.clone(), Zeroizing::new(encode::all(s))]).collect();
    let clean = |text: String| forms.iter().fold(text, |text, secret| without(text, secret));
    Fault {
        message: clean(fault.message),
        code: fault.code.map(|code| clean(code.into()).into()),
        ec: fault.ec.map(|ec| clean(ec.into()).into()),
        request_id: fault.request_id.map(clean),
        ..fault
    }
}

/// `text` without `secret` and without pieces of it that are its beginning.
fn without(text: String, secret: &str) -> String {
    let (piece, mut clean, mut rest) = (secret.len().min(PIECE_BYTES), String::new(), text.as_str());
    // A cut through a character of more than one byte leaves no prefix that is text.
    let Some(start) = secret.get(..piece) else { return text.replace(secret, HIDDEN) };
    while let Some(at) = rest.find(start) {
        let same = rest[at..].chars().zip(secret.chars()).take_while(|(a, b)| a == b);
        let end = at + same.map(|(c, _)| c.len_utf8()).sum::<usize>();
        clean.push_str(&rest[..at]);
        clean.push_str(HIDDEN);
        rest = &rest[end..];
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::retry::FaultKind;

    fn said(message: &str) -> String {
        let token = Some(Zeroizing::new("token/that+is=long".to_owned()));
        let credentials = Credentials { session_token: token, ..Credentials::new("id", "canary-secret") };
        redact(Fault::new(FaultKind::Credentials, message), Some(&credentials)).to_string()
    }

    #[test]
    fn secret_and_token_are_taken_out_whole_encoded_and_cut() {
        assert_eq!(said("a canary-secret, canary-secret"), "a [hidden], [hidden]");
        assert_eq!(said("x-oss-security-token:token/that+is=long\n"), "x-oss-security-token:[hidden]\n");
        assert_eq!(said("token%2Fthat%2Bis%3Dlong&b"), "[hidden]&b");
        assert_eq!(said("it ends in token/that+i"), "it ends in [hidden]");
    }

    #[test]
    fn other_words_and_short_secrets_keep_the_message_whole() {
        assert_eq!(said("the canary, the token"), "the canary, the token");
        let fault = Fault::new(FaultKind::Refused, "no such bucket");
        assert_eq!(redact(fault.clone(), Some(&Credentials::new("id", ""))), fault);
        assert_eq!(without("a é é".into(), "éééééé"), "a é é");
    }
}
