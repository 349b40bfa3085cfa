//! Values that a person writes, and that the environment can only give as text. No error repeats one.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

/// A number, also as text, which is how the environment gives it.
pub(super) fn number<'de, D: Deserializer<'de>, N: TryFrom<u64>>(deserializer: D) -> Result<N, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Raw {
        Number(u64),
        Text(String),
    }
    let number = match Raw::deserialize(deserializer)? {
        Raw::Number(number) => Some(number),
        Raw::Text(text) => text.trim().parse().ok(),
    };
    let number = number.and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| {
        serde::de::Error::custom("expected a whole number that is not negative and not too large")
    })
}

pub(super) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Raw {
        Bool(bool),
        Text(String),
    }
    match Raw::deserialize(deserializer)? {
        Raw::Bool(value) => Ok(value),
        Raw::Text(text) => text.parse().map_err(|_| serde::de::Error::custom("expected true or false")),
    }
}

pub(super) fn wait<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_wait(&text).map_err(serde::de::Error::custom)
}

pub(super) fn waits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
    list(deserializer, parse_wait)
}

/// Networks such as `10.0.0.0/8`; an address alone is one of its own.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    list(deserializer, parse_network)
}

/// A list, also as a text with commas, which is how the environment gives it.
fn list<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Raw {
        List(Vec<String>),
        Text(String),
    }
    let list = match Raw::deserialize(deserializer)? {
        Raw::List(list) => list,
        Raw::Text(text) => text.split(',').map(|part| part.trim().to_owned()).collect(),
    };
    list.iter().map(|text| parse(text).map_err(serde::de::Error::custom)).collect()
}

fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| "neither an address nor a network; write 10.0.0.7 or 10.0.0.0/8".to_owned())
}

fn parse_wait(text: &str) -> Result<Duration, String> {
    let days = text.trim().strip_suffix('d').and_then(|days| days.trim_end().parse::<u64>().ok());
    let days = days.and_then(|days| Some(Duration::from_secs(days.checked_mul(24 * 60 * 60)?)));
    let wait = || text.parse::<jiff::SignedDuration>().ok().and_then(|wait| Duration::try_from(wait).ok());
    days.or_else(wait).ok_or_else(|| "not a wait; write 250ms, 5s, 2m, 1h or 30d".to_owned())
}
