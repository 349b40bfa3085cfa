//! For whom a connection or a request counts.
//!
//! | the connection comes from | what counts for a client |
//! |---|---|
//! | nobody in particular | the connection, for its address; `X-Forwarded-For` is not looked at |
//! | a trusted proxy | each request while it is answered, for the last address of `X-Forwarded-For` that is no trusted proxy's |
//!
//! A proxy writes at the end of `X-Forwarded-For` whom it speaks with; what stands before that was sent by whoever it was,
//! and may be a lie. Where the header names no client, or its end cannot be read, only the number of all connections holds
//! for such a request: to count it for the proxy would let one client use up what is everybody's.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Whose places are counted: an address, or of IPv6 the network of 64 bits that one subscriber gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client(IpAddr);

impl Client {
    /// The client at this address.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

/// The networks of proxies whose `X-Forwarded-For` is believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// These networks.
    #[must_use]
    pub const fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The client that a request of a trusted proxy is for, if it says so.
pub(super) fn client_of(headers: &HeaderMap, trusted: &TrustedProxies) -> Option<IpAddr> {
    let lines: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
    for line in lines.into_iter().rev() {
        for address in line.to_str().ok()?.rsplit(',') {
            let address = read(address.trim())?;
            if !trusted.contains(address) {
                return Some(address);
            }
        }
    }
    None
}

/// An address, to which some proxies add the port.
fn read(text: &str) -> Option<IpAddr> {
    let address = text.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        let trusted =
            TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::1/128".parse().unwrap()]);
        assert_eq!(client_of(&headers, &trusted).map(|client| client.to_string()).as_deref(), expected);
    }

    #[test]
    fn the_last_address_that_is_no_trusted_proxys_is_the_client() {
        check(&["203.0.113.7"], Some("203.0.113.7"));
        check(&["198.51.100.1, 203.0.113.7"], Some("203.0.113.7"));
        check(&["198.51.100.1,203.0.113.7 , 10.1.2.3"], Some("203.0.113.7"));
        check(&["203.0.113.7", "10.1.2.3, fd00::1"], Some("203.0.113.7"));
        check(&["198.51.100.1", "203.0.113.7:4711"], Some("203.0.113.7"));
        check(&["[2001:db8::1]:4711"], Some("2001:db8::1"));
        check(&["::ffff:203.0.113.7"], Some("203.0.113.7"));
    }

    #[test]
    fn what_cannot_be_read_hides_what_stands_before_it() {
        for lines in
            [&[][..], &["10.1.2.3"], &["203.0.113.7, unknown"], &["203.0.113.7, "], &["203.0.113.7", ""]]
        {
            check(lines, None);
        }
    }

    #[test]
    fn a_subscriber_is_one_client_by_whichever_address() {
        let client = |text: &str| Client::at(text.parse().unwrap());
        assert_eq!(client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff::9"));
        assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
        assert_eq!(client("::ffff:203.0.113.7"), client("203.0.113.7"));
        assert_ne!(client("203.0.113.7"), client("203.0.113.8"));
        assert_eq!(client("::ffff:203.0.113.7").to_string(), "203.0.113.7");
        assert_eq!(client("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
    }
}
