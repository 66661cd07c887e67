//! How far away, how wide and how busy the server is made to look: plain data, and the two texts it is read from.
//!
//! What the parameters do to bytes is in `wire`, what they do to requests in `throttle`.

use std::str::FromStr;
use std::time::Duration;

/// A network and a service as a client far away meets them. The default leaves everything as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Time from a request to its answer, on top of what the server takes. Setting up TCP costs it once, TLS once or twice
    /// more. Up to 10 s.
    pub round_trip: Duration,
    /// Bytes per second of one connection, in each direction; `None` for no limit.
    pub connection_bytes_per_second: Option<u64>,
    /// Bytes per second of all connections together, in each direction: the account's bandwidth. `None` for no limit.
    pub total_bytes_per_second: Option<u64>,
    /// Requests beyond this rate are refused with `TotalQpsLimitExceeded`.
    pub requests_per_second: Option<u32>,
    /// Requests beyond this number at a time are refused with `ActiveRequestLimitExceeded`.
    pub requests_in_flight: Option<u32>,
    /// Share of the requests that are slow, 0 to 1.
    pub slow_share: f64,
    /// How many times longer a slow request takes, 1 to 1000.
    pub slow_factor: f64,
    /// Bytes that a new connection sends in its first round trip; twice as many in each one after it, until the line is
    /// full. `None`: connections are at full speed at once.
    pub initial_window_bytes: Option<u64>,
    /// Which requests are slow: the same seed chooses the same ones, counted in the order of their arrival.
    pub seed: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            round_trip: Duration::ZERO,
            connection_bytes_per_second: None,
            total_bytes_per_second: None,
            requests_per_second: None,
            requests_in_flight: None,
            slow_share: 0.0,
            slow_factor: 10.0,
            initial_window_bytes: None,
            seed: 0,
        }
    }
}

/// Why a shape cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// Write the parameters as the message shows.
    #[error("{0:?} is not KEY=VALUE; the keys are {keys}", keys = names())]
    NotAPair(String),
    /// Use one of the keys.
    #[error("there is no key {0:?}; the keys are {keys}", keys = names())]
    UnknownKey(String),
    /// Choose a value of the kind that the message names.
    #[error("{key} takes {takes}")]
    Value { key: &'static str, takes: &'static str },
    /// Change one of the two parameters.
    #[error("{0}")]
    Together(&'static str),
    /// Correct the file.
    #[error("the profile is not TOML: {0}")]
    Toml(String),
}

/// A parameter by the name that people write.
struct Parameter {
    key: &'static str,
    takes: &'static str,
    /// `None` if the text cannot be a value.
    set: fn(&mut Shape, &str) -> Option<()>,
    /// The value is one of those it takes.
    fits: fn(&Shape) -> bool,
}

const RATE: &str = "a rate from 1B/s to 100Gbit/s, such as 12MB/s, 512KiB/s or 2Gbit/s";
/// Most bytes under way on one connection: the server keeps them in memory.
const UNDER_WAY_MAX: f64 = (64 << 20) as f64;

const PARAMETERS: [Parameter; 9] = [
    Parameter {
        key: "rtt",
        takes: "a time from 0s to 10s, such as 60ms or 500us",
        set: |shape, text| humantime::parse_duration(text).ok().map(|time| shape.round_trip = time),
        fits: |shape| shape.round_trip <= Duration::from_secs(10),
    },
    Parameter {
        key: "connection-rate",
        takes: RATE,
        set: |shape, text| rate(text).map(|rate| shape.connection_bytes_per_second = Some(rate)),
        fits: |shape| is_rate(shape.connection_bytes_per_second),
    },
    Parameter {
        key: "total-rate",
        takes: RATE,
        set: |shape, text| rate(text).map(|rate| shape.total_bytes_per_second = Some(rate)),
        fits: |shape| is_rate(shape.total_bytes_per_second),
    },
    Parameter {
        key: "requests-per-second",
        takes: "a whole number from 1 to 1000000",
        set: |shape, text| text.parse().ok().map(|number| shape.requests_per_second = Some(number)),
        fits: |shape| shape.requests_per_second.is_none_or(|number| (1..=1_000_000).contains(&number)),
    },
    Parameter {
        key: "requests-in-flight",
        takes: "a whole number from 1 to 1000000",
        set: |shape, text| text.parse().ok().map(|number| shape.requests_in_flight = Some(number)),
        fits: |shape| shape.requests_in_flight.is_none_or(|number| (1..=1_000_000).contains(&number)),
    },
    Parameter {
        key: "slow-share",
        takes: "a share from 0 to 1, or from 0% to 100%",
        set: |shape, text| share(text).map(|share| shape.slow_share = share),
        fits: |shape| (0.0..=1.0).contains(&shape.slow_share),
    },
    Parameter {
        key: "slow-factor",
        takes: "a number from 1 to 1000",
        set: |shape, text| text.parse().ok().map(|factor| shape.slow_factor = factor),
        fits: |shape| (1.0..=1000.0).contains(&shape.slow_factor),
    },
    Parameter {
        key: "initial-window",
        takes: "a size from 1KiB to 1MiB, such as 14600",
        set: |shape, text| parse_size::parse_size(text).ok().map(|bytes| shape.initial_window_bytes = Some(bytes)),
        fits: |shape| shape.initial_window_bytes.is_none_or(|bytes| (1 << 10..=1 << 20).contains(&bytes)),
    },
    Parameter {
        key: "seed",
        takes: "a whole number from 0 on",
        set: |shape, text| text.parse().ok().map(|seed| shape.seed = seed),
        fits: |_| true,
    },
];

impl Parameter {
    fn refused(&self) -> ShapeError {
        ShapeError::Value { key: self.key, takes: self.takes }
    }
}

fn names() -> String {
    PARAMETERS.map(|parameter| parameter.key).join(", ")
}

/// Bytes per second; `bit/s` has eight to a byte, and k, M and G are powers of 1,000 as networks have them.
fn rate(text: &str) -> Option<u64> {
    let size = text.trim().strip_suffix("/s")?;
    match size.strip_suffix("bit") {
        Some(bits) => parse_size::parse_size(bits).ok().map(|bits| bits / 8),
        None => parse_size::parse_size(size).ok(),
    }
}

fn is_rate(bytes_per_second: Option<u64>) -> bool {
    bytes_per_second.is_none_or(|rate| (1..=12_500_000_000).contains(&rate))
}

fn share(text: &str) -> Option<f64> {
    match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok().map(|percent| percent / 100.0),
        None => text.parse().ok(),
    }
}

impl Shape {
    /// Reads a profile: TOML of the keys that [`FromStr`] takes, the values as strings or numbers.
    ///
    /// # Errors
    /// See [`ShapeError`].
    pub fn from_toml(text: &str) -> Result<Self, ShapeError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ShapeError::Toml(error.to_string()))?;
        let text = |value: toml::Value| match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            // Which no parameter takes.
            _ => String::new(),
        };
        Self::of(table.into_iter().map(|(key, value)| (key, text(value))))
    }

    fn of(pairs: impl Iterator<Item = (String, String)>) -> Result<Self, ShapeError> {
        let mut shape = Self::default();
        for (key, value) in pairs {
            let known = PARAMETERS.iter().find(|parameter| parameter.key == key);
            let parameter = known.ok_or(ShapeError::UnknownKey(key))?;
            (parameter.set)(&mut shape, value.trim()).ok_or_else(|| parameter.refused())?;
        }
        shape.check()?;
        Ok(shape)
    }

    /// What one connection gets at most; `None` for no limit.
    pub(super) fn slowest_bytes_per_second(&self) -> Option<u64> {
        self.connection_bytes_per_second.into_iter().chain(self.total_bytes_per_second).min()
    }

    /// Every parameter is one of those it takes, and they fit together.
    ///
    /// # Errors
    /// [`ShapeError::Value`] and [`ShapeError::Together`].
    pub(super) fn check(&self) -> Result<(), ShapeError> {
        if let Some(parameter) = PARAMETERS.iter().find(|parameter| !(parameter.fits)(self)) {
            return Err(parameter.refused());
        }
        let rate = self.slowest_bytes_per_second();
        if self.round_trip.is_zero() && self.initial_window_bytes.is_some() {
            return Err(ShapeError::Together("initial-window needs an rtt: it is the bytes of the first round trip"));
        }
        if rate.is_some_and(|rate| rate as f64 * self.round_trip.as_secs_f64() > UNDER_WAY_MAX) {
            return Err(ShapeError::Together("rtt times rate is more than 64 MiB under way: lower one of them"));
        }
        Ok(())
    }
}

/// `KEY=VALUE,KEY=VALUE`, such as `rtt=60ms,connection-rate=12MB/s`.
impl FromStr for Shape {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        let pair = |text: &str| match text.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_owned(), value.to_owned())),
            None => Err(ShapeError::NotAPair(text.to_owned())),
        };
        let pairs = text.split(',').filter(|text| !text.trim().is_empty()).map(pair).collect::<Result<Vec<_>, _>>()?;
        Self::of(pairs.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_in_both_spellings() {
        let wanted = Shape {
            round_trip: Duration::from_millis(60),
            connection_bytes_per_second: Some(12_000_000),
            total_bytes_per_second: Some(250_000_000),
            requests_per_second: Some(500),
            requests_in_flight: Some(64),
            slow_share: 0.01,
            slow_factor: 10.0,
            initial_window_bytes: Some(14_600),
            seed: 7,
        };
        let inline = "rtt=60ms, connection-rate=12MB/s,total-rate=2Gbit/s,requests-per-second=500,\
                      requests-in-flight=64,slow-share=1%,slow-factor=10,initial-window=14600,seed=7";
        assert_eq!(inline.parse(), Ok(wanted.clone()));
        let profile = "# Far away.\nrtt = \"60ms\"\nconnection-rate = \"12MB/s\"\ntotal-rate = \"2Gbit/s\"\n\
                       requests-per-second = 500\nrequests-in-flight = 64\nslow-share = 0.01\nslow-factor = 10\n\
                       initial-window = 14600\nseed = 7\n";
        assert_eq!(Shape::from_toml(profile), Ok(wanted));
        assert_eq!("".parse(), Ok(Shape::default()));
    }

    #[test]
    fn rates_are_read_in_bytes_and_bits() {
        for (text, wanted) in [
            ("40MB/s", Some(40_000_000)),
            ("1MiB/s", Some(1 << 20)),
            ("1Gbit/s", Some(125_000_000)),
            ("100kbit/s", Some(12_500)),
            ("5B/s", Some(5)),
            ("100Gbit/s", Some(12_500_000_000)),
            ("40MB", None),
            ("-1B/s", None),
            ("fast", None),
        ] {
            assert_eq!(rate(text), wanted, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_is_allowed() {
        for (text, says) in [
            ("rtt", "is not KEY=VALUE; the keys are rtt, connection-rate"),
            ("latency=1ms", "there is no key \"latency\"; the keys are rtt, connection-rate"),
            ("rtt=60", "rtt takes a time from 0s to 10s"),
            ("rtt=11s", "rtt takes a time from 0s to 10s"),
            ("connection-rate=0B/s", "connection-rate takes"),
            ("total-rate=101Gbit/s", "total-rate takes"),
            ("connection-rate=12", "connection-rate takes a rate from 1B/s to 100Gbit/s"),
            ("requests-per-second=0", "requests-per-second takes a whole number from 1 to 1000000"),
            ("requests-in-flight=1.5", "requests-in-flight takes a whole number"),
            ("slow-share=101%", "slow-share takes a share from 0 to 1"),
            ("slow-share=NaN", "slow-share takes a share from 0 to 1"),
            ("slow-factor=0", "slow-factor takes a number from 1 to 1000"),
            ("initial-window=1", "initial-window takes a size from 1KiB to 1MiB"),
            ("seed=-1", "seed takes a whole number"),
            ("initial-window=14600", "initial-window needs an rtt"),
            ("rtt=10s,connection-rate=1GB/s", "64 MiB under way"),
        ] {
            let error = text.parse::<Shape>().expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(matches!(Shape::from_toml("rtt = "), Err(ShapeError::Toml(_))));
        assert!(matches!(Shape::from_toml("[rtt]\nx = 1"), Err(ShapeError::Value { key: "rtt", .. })));
    }

    #[test]
    fn every_shipped_profile_is_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/profiles");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).expect("the folder of profiles") {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("a profile");
            let shape = Shape::from_toml(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_ne!(shape, Shape::default(), "{}", path.display());
            names.push(path.file_stem().expect("a name").to_string_lossy().into_owned());
        }
        names.sort();
        let wanted = ["cross-region", "intercontinental", "same-region", "same-region-slow-tail", "throttled-tenant"];
        assert_eq!(names, wanted);
    }

    #[test]
    fn a_profile_that_is_nested_without_end_is_refused() {
        let deep = format!("rtt = {}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert!(matches!(Shape::from_toml(&deep), Err(ShapeError::Toml(_))));
        let inline = format!("rtt = {}1{}", "{ a = ".repeat(200_000), "}".repeat(200_000));
        assert!(matches!(Shape::from_toml(&inline), Err(ShapeError::Toml(_))));
    }
}
