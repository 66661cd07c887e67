//! Rules as people write them: `OPERATIONS:WHEN:FAULT[,PARAMETER=VALUE…]`.
//!
//! | part | is |
//! |---|---|
//! | OPERATIONS | names such as `UploadPart`, joined with `,`; `any`, `read`, `write`, `multipart`; `connect` for connections |
//! | WHEN | `always`, a share `10%`, the n-th `#3`, a range `#2-4`, `every5` |
//! | FAULT | one of the names of [`FAULTS`], then its parameters |
//!
//! Every rule may have `key=PREFIX` (percent-encoded), `part=N` and `times=N`: which requests count, and how many are
//! harmed at most.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::server::errors::Code;
use crate::server::operations::Operation;

/// One rule. Made from text; see the module.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultRule {
    text: String,
    pub(super) target: Target,
    pub(super) key_prefix: Option<String>,
    pub(super) part: Option<u32>,
    pub(super) when: When,
    pub(super) times: Option<u64>,
    pub(super) fault: Fault,
}

/// What is harmed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    /// Connections, before there is a request.
    Connections,
    Requests(Vec<Operation>),
}

/// Which of the requests that a rule is about, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum When {
    Share(f64),
    Numbers { from: u64, to: u64 },
    Every(u64),
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// The listener is closed for so long: connections are refused.
    Refuse {
        lasts: Duration,
    },
    /// The connection is reset: when it is accepted, or before anything of a request's body is read.
    Reset,
    /// Reset after so many bytes of the body, on GET of the answer; `None`: after half of them.
    ResetWithin {
        bytes: Option<u64>,
    },
    /// Reset when the body was read; nothing is done.
    ResetAfter,
    /// The operation takes effect, then the connection is reset instead of an answer.
    LoseAnswer,
    /// The answer begins so much later.
    Late {
        by: Duration,
    },
    /// The connection passes so many bytes a second from now on.
    Trickle {
        bytes_per_second: u64,
        inbound: bool,
        outbound: bool,
    },
    /// There is never an answer.
    Hang,
    /// An error instead of the operation.
    Error(InjectedError),
    /// Status 200 with an error document; `done`: after the operation took effect.
    ErrorIn200 {
        code: String,
        done: bool,
    },
    /// The checksum header of the answer is wrong.
    WrongCrc,
    /// The checksum header of the answer is missing.
    NoCrc,
    /// One bit of what is uploaded, before its checksum is taken, or of what is downloaded.
    Flip {
        at: u64,
    },
    /// One bit of what is stored, after its checksum was taken: corruption at rest.
    Rot {
        at: u64,
    },
    /// The answer ends after so many bytes of its body; `None`: after half of them.
    Short {
        bytes: Option<u64>,
    },
    GarbageXml,
    HugeXml {
        bytes: u64,
    },
    HugeHeaders {
        bytes: u64,
    },
    /// The clock of the server is ahead by so many seconds, or behind.
    Clock {
        by_seconds: i64,
    },
    /// The upload is forgotten for good.
    ForgetUpload,
    /// A part is lost for good; `None`: the one with the highest number.
    LosePart {
        number: Option<u32>,
    },
}

/// An error to answer with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InjectedError {
    pub status: u16,
    pub code: String,
    pub ec: String,
    /// Milliseconds for `x-oss-qos-delay-time`.
    pub delay_ms: Option<u64>,
}

/// Why a text is not a rule; says what would be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fault rule {rule:?}: {why}")]
pub struct FaultRuleError {
    rule: String,
    why: String,
}

/// Names of faults and their parameters with defaults: what the help and the messages show.
pub(super) const FAULTS: &[(&str, &str)] = &[
    ("refuse", "for=1s"),
    ("reset", ""),
    ("reset-within", "bytes=half"),
    ("reset-after", ""),
    ("lose-answer", ""),
    ("late", "by=2s"),
    ("trickle", "rate=5, way=both|in|out"),
    ("hang", ""),
    ("error", "code=InternalError, status, ec, delay-ms"),
    ("error-in-200", "code=InternalError, done=no|yes"),
    ("wrong-crc", ""),
    ("no-crc", ""),
    ("flip", "at=0"),
    ("rot", "at=0"),
    ("short", "bytes=half"),
    ("garbage-xml", ""),
    ("huge-xml", "bytes=16777216"),
    ("huge-headers", "bytes=65536"),
    ("clock", "by=3h|-3h"),
    ("forget-upload", ""),
    ("lose-part", "number=last"),
];

impl std::fmt::Display for FaultRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for FaultRule {
    type Err = FaultRuleError;

    fn from_str(text: &str) -> Result<Self, FaultRuleError> {
        parse(text.trim()).map_err(|why| FaultRuleError { rule: text.trim().to_owned(), why })
    }
}

/// The parameters that a rule gives; those that are not asked for are refused at the end.
struct Parameters<'a>(BTreeMap<&'a str, &'a str>);

fn parse(text: &str) -> Result<FaultRule, String> {
    let mut parts = text.splitn(3, ':');
    let (Some(who), Some(when), Some(what)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("write OPERATIONS:WHEN:FAULT, such as UploadPart:10%:reset".to_owned());
    };
    let mut words = what.split(',').map(str::trim);
    let name = words.next().unwrap_or("");
    let mut given = Parameters(BTreeMap::new());
    for word in words {
        let (name, value) = word.split_once('=').ok_or_else(|| format!("{word:?} is not PARAMETER=VALUE"))?;
        if given.0.insert(name.trim(), value.trim()).is_some() {
            return Err(format!("{name} is given twice"));
        }
    }
    let target = parse_target(who.trim())?;
    let key_prefix = given.take("key").map(|prefix| percent_decode_str(prefix).decode_utf8_lossy().into_owned());
    let (part, times) = (given.number("part")?, given.number("times")?);
    let fault = parse_fault(name, &mut given)?;
    if let Some(name) = given.0.keys().next() {
        return Err(format!("{name:?} is not a parameter here: key, part, times and those of the fault are"));
    }
    check_target(&target, &fault)?;
    Ok(FaultRule { text: text.to_owned(), target, key_prefix, part, when: parse_when(when.trim())?, times, fault })
}

fn parse_target(who: &str) -> Result<Target, String> {
    if who.eq_ignore_ascii_case("connect") {
        return Ok(Target::Connections);
    }
    let mut operations = Vec::new();
    for name in who.split(',').map(str::trim) {
        let is_meant = |operation: &Operation| match name.to_ascii_lowercase().as_str() {
            "any" => true,
            "read" => operation.reads_object(),
            "write" => operation.writes_object(),
            "multipart" => operation.is_multipart(),
            name => operation.name().eq_ignore_ascii_case(name),
        };
        let before = operations.len();
        operations.extend(Operation::ALL.iter().copied().filter(is_meant));
        if operations.len() == before {
            let names: Vec<&str> = Operation::ALL.iter().map(|operation| operation.name()).collect();
            return Err(format!(
                "{name:?} is no operation: write connect, any, read, write, multipart, or {}",
                names.join(", ")
            ));
        }
    }
    Ok(Target::Requests(operations))
}

/// Some faults are about connections only, and most about requests only.
fn check_target(target: &Target, fault: &Fault) -> Result<(), String> {
    match (target, fault) {
        (_, Fault::Reset) | (Target::Connections, Fault::Refuse { .. } | Fault::Trickle { .. } | Fault::Hang) => Ok(()),
        (Target::Connections, _) => Err("connections can have refuse, reset, trickle and hang".to_owned()),
        (Target::Requests(_), Fault::Refuse { .. }) => Err("refuse is for connect only".to_owned()),
        _ => Ok(()),
    }
}

fn parse_when(when: &str) -> Result<When, String> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0);
    let parsed = if when == "always" {
        Some(When::Share(1.0))
    } else if let Some(share) = when.strip_suffix('%') {
        share.trim().parse::<f64>().ok().filter(|share| (0.0..=100.0).contains(share)).map(|s| When::Share(s / 100.0))
    } else if let Some(numbers) = when.strip_prefix('#') {
        let (from, to) = numbers.split_once('-').unwrap_or((numbers, numbers));
        number(from).zip(number(to)).filter(|(from, to)| from <= to).map(|(from, to)| When::Numbers { from, to })
    } else {
        when.strip_prefix("every").and_then(|every| number(every.trim())).map(When::Every)
    };
    parsed.ok_or_else(|| format!("{when:?} does not say when: write always, 10%, #3, #2-4 or every5"))
}

fn parse_fault(name: &str, given: &mut Parameters<'_>) -> Result<Fault, String> {
    Ok(match name {
        "refuse" => Fault::Refuse { lasts: given.duration("for", 1)? },
        "reset" => Fault::Reset,
        "reset-within" => Fault::ResetWithin { bytes: given.number("bytes")? },
        "reset-after" => Fault::ResetAfter,
        "lose-answer" => Fault::LoseAnswer,
        "late" => Fault::Late { by: given.duration("by", 2)? },
        "trickle" => given.trickle()?,
        "hang" => Fault::Hang,
        "error" => Fault::Error(given.error()?),
        "error-in-200" => {
            let code = given.take("code").unwrap_or("InternalError").to_owned();
            Fault::ErrorIn200 { code, done: given.choice("done", &["no", "yes"])? == 1 }
        }
        "wrong-crc" => Fault::WrongCrc,
        "no-crc" => Fault::NoCrc,
        "flip" => Fault::Flip { at: given.number("at")?.unwrap_or(0) },
        "rot" => Fault::Rot { at: given.number("at")?.unwrap_or(0) },
        "short" => Fault::Short { bytes: given.number("bytes")? },
        "garbage-xml" => Fault::GarbageXml,
        "huge-xml" => Fault::HugeXml { bytes: given.bounded("bytes", 16 << 20, 1 << 30)? },
        "huge-headers" => Fault::HugeHeaders { bytes: given.bounded("bytes", 64 << 10, 16 << 20)? },
        "clock" => Fault::Clock { by_seconds: given.signed_duration("by", 3 * 3600)? },
        "forget-upload" => Fault::ForgetUpload,
        "lose-part" => Fault::LosePart { number: given.number("number")? },
        other => {
            let all: Vec<String> = FAULTS.iter().map(|(name, parameters)| format!("{name} ({parameters})")).collect();
            return Err(format!("{other:?} is no fault: write {}", all.join(", ").replace(" ()", "")));
        }
    })
}

impl<'a> Parameters<'a> {
    fn take(&mut self, name: &str) -> Option<&'a str> {
        self.0.remove(name)
    }

    fn number<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        let text = self.take(name).filter(|text| !matches!(*text, "half" | "last"));
        text.map(|text| text.parse().map_err(|_| format!("{name} is a whole number, not {text:?}"))).transpose()
    }

    fn bounded(&mut self, name: &str, default: u64, max: u64) -> Result<u64, String> {
        match self.number(name)?.unwrap_or(default) {
            number if (1..=max).contains(&number) => Ok(number),
            number => Err(format!("{name} is from 1 to {max}, not {number}")),
        }
    }

    fn choice(&mut self, name: &str, choices: &[&str]) -> Result<usize, String> {
        let Some(text) = self.take(name) else { return Ok(0) };
        let refused = || format!("{name} is one of {}, not {text:?}", choices.join(", "));
        choices.iter().position(|choice| *choice == text).ok_or_else(refused)
    }

    fn duration(&mut self, name: &str, default_seconds: u64) -> Result<Duration, String> {
        let Some(text) = self.take(name) else { return Ok(Duration::from_secs(default_seconds)) };
        humantime::parse_duration(text).map_err(|error| format!("{name} is a time such as 500ms or 2s: {error}"))
    }

    fn signed_duration(&mut self, name: &str, default_seconds: i64) -> Result<i64, String> {
        let Some(text) = self.take(name) else { return Ok(default_seconds) };
        let (sign, amount) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let parsed = humantime::parse_duration(amount);
        let parsed = parsed.map_err(|error| format!("{name} is a time such as 3h or -20min: {error}"))?;
        // A century is as good as for ever, and fits every kind of time.
        Ok(sign * i64::try_from(parsed.as_secs()).unwrap_or(i64::MAX).min(100 * 365 * 24 * 3600))
    }

    fn trickle(&mut self) -> Result<Fault, String> {
        let way = self.choice("way", &["both", "in", "out"])?;
        let bytes_per_second = self.bounded("rate", 5, u64::MAX)?;
        Ok(Fault::Trickle { bytes_per_second, inbound: way != 2, outbound: way != 1 })
    }

    fn error(&mut self) -> Result<InjectedError, String> {
        let code = self.take("code").unwrap_or("InternalError");
        if code.is_empty() || !code.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(format!("code is a name such as InternalError, not {code:?}"));
        }
        let known = Code::named(code);
        let status = self.number("status")?.or(known.map(|code| code.status().as_u16()));
        let status = status.ok_or_else(|| format!("the status of {code:?} is not known here: add status=N"))?;
        if !(200..=599).contains(&status) {
            return Err(format!("status is from 200 to 599, not {status}"));
        }
        let ec = self.take("ec").or(known.map(Code::ec)).unwrap_or("0000-00000000").to_owned();
        Ok(InjectedError { status, code: code.to_owned(), ec, delay_ms: self.number("delay-ms")? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(text: &str) -> FaultRule {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_fault_can_be_written_with_its_name_alone() {
        for (name, _) in FAULTS {
            let who = if *name == "refuse" { "connect" } else { "any" };
            let text = format!("{who}:always:{name}");
            assert_eq!(rule(&text).to_string(), text);
        }
    }

    #[test]
    fn a_rule_says_what_when_and_how() {
        let full = rule("UploadPart, completemultipartupload:#2-4:late,by=250ms,key=a%2Cb,part=7,times=1");
        let operations = vec![Operation::UploadPart, Operation::CompleteMultipartUpload];
        assert_eq!(full.target, Target::Requests(operations));
        assert_eq!(full.when, When::Numbers { from: 2, to: 4 });
        assert_eq!(full.fault, Fault::Late { by: Duration::from_millis(250) });
        assert_eq!((full.key_prefix.as_deref(), full.part, full.times), (Some("a,b"), Some(7), Some(1)));
        assert_eq!(rule("any:0.5%:clock,by=-3h").fault, Fault::Clock { by_seconds: -10_800 });
        assert_eq!(rule("any:0.5%:hang").when, When::Share(0.005));
        assert_eq!(rule("any:every5:hang").when, When::Every(5));
    }

    #[test]
    fn an_error_that_is_known_brings_its_status_and_finer_code() {
        let Fault::Error(error) = rule("any:always:error,code=SecurityTokenExpired").fault else { panic!() };
        assert_eq!((error.status, error.ec.as_str()), (403, "0002-00000007"));
        let Fault::Error(error) = rule("any:always:error,code=Odd,status=418,ec=1-2,delay-ms=20").fault else {
            panic!()
        };
        assert_eq!(error, InjectedError { status: 418, code: "Odd".into(), ec: "1-2".into(), delay_ms: Some(20) });
    }

    #[test]
    fn what_is_no_rule_is_answered_with_what_would_be_one() {
        for (text, hint) in [
            ("", "OPERATIONS:WHEN:FAULT"),
            ("any:always", "OPERATIONS:WHEN:FAULT"),
            ("Upload:always:hang", "UploadPart"),
            ("any:sometimes:hang", "every5"),
            ("any:101%:hang", "10%"),
            ("any:#0:hang", "#3"),
            ("any:#4-2:hang", "#2-4"),
            ("any:always:explode", "reset-within"),
            ("any:always:late,by=soon", "500ms"),
            ("any:always:hang,by=2s", "\"by\""),
            ("any:always:hang,times", "PARAMETER=VALUE"),
            ("any:always:hang,times=1,times=2", "twice"),
            ("any:always:error,code=Odd", "status=N"),
            ("any:always:error,status=99", "200 to 599"),
            ("any:always:refuse", "connect"),
            ("connect:always:flip", "trickle"),
            ("any:always:trickle,way=up", "both"),
            ("any:always:huge-xml,bytes=99999999999", "1073741824"),
        ] {
            let error = text.parse::<FaultRule>().expect_err(text).to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}") {
            let _ = text.parse::<FaultRule>();
        }

        #[test]
        fn no_parameters_make_the_parser_panic(name in "[a-z0-9-]{1,12}", value in ".{0,20}", at in 0..FAULTS.len()) {
            let _ = format!("any:always:{},{name}={value}", FAULTS[at].0).parse::<FaultRule>();
        }
    }
}
