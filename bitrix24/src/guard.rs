//! What the name of a portal that has moved may resolve to, looked at whenever a connection is made.
//!
//! Somebody else chose that name, and who answers for a name can change what it resolves to at any time. So the addresses
//! are looked at here, as they come, and the connection goes to these very addresses. The names of the configuration are
//! not looked at: a company's portal in its own network is legitimate. Which names are followed at all is decided in
//! [`crate::moves`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::moves;

/// The computer's own way to resolve a name.
pub(crate) struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

/// Where a portal that has moved may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Of the cloud: at addresses of the Internet.
    Internet,
    /// Of a test: on this computer.
    ThisComputer,
}

/// A name of the cloud, or of a test, that is where no portal can be.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{name} is at {address}, which is no address of the Internet")]
pub(crate) struct OutOfReach {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
}

/// Resolves names and refuses those that are out of reach.
pub(crate) struct Guard {
    pub(crate) reach: Reach,
    pub(crate) names: Arc<dyn Resolve>,
}

impl Resolve for Guard {
    /// Any other name than a portal's is that of a proxy, which whoever runs this has chosen; it may be in their network.
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.reach;
        let told = name.as_str().to_owned();
        let addresses = self.names.resolve(name);
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = addresses.await?.collect();
            let is_within = |ip: IpAddr| match reach {
                Reach::Internet => is_public(ip) || !moves::is_of_cloud(&told.to_ascii_lowercase()),
                Reach::ThisComputer => ip.is_loopback(),
            };
            if let Some(other) = addresses.iter().find(|address| !is_within(address.ip())) {
                return Err(OutOfReach { name: told, address: other.ip() }.into());
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

/// Whether an address is one of the Internet, that anybody may have: not private, of this computer or link, of a carrier's
/// own network, for examples, for many, or reserved. An address of IPv6 that carries one of IPv4 is what it carries.
///
/// Source: IANA's registries of special-purpose addresses, RFC 6890 and those that changed them.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Networks of IPv4 that are not the Internet: their first address, and how many bits of it they share.
const SPECIAL_V4: [([u8; 4], u32); 15] = [
    ([0, 0, 0, 0], 8),       // this network, and no address
    ([10, 0, 0, 0], 8),      // private
    ([100, 64, 0, 0], 10),   // a carrier's own network (RFC 6598)
    ([127, 0, 0, 0], 8),     // this computer
    ([169, 254, 0, 0], 16),  // this link
    ([172, 16, 0, 0], 12),   // private
    ([192, 0, 0, 0], 24),    // protocols
    ([192, 0, 2, 0], 24),    // examples
    ([192, 88, 99, 0], 24),  // relays of 6to4
    ([192, 168, 0, 0], 16),  // private
    ([198, 18, 0, 0], 15),   // measurements
    ([198, 51, 100, 0], 24), // examples
    ([203, 0, 113, 0], 24),  // examples
    ([224, 0, 0, 0], 4),     // multicast
    ([240, 0, 0, 0], 4),     // reserved, broadcast
];

fn is_public_v4(address: Ipv4Addr) -> bool {
    let is_in = |(network, bits): &([u8; 4], u32)| {
        let rest = 32 - bits;
        address.to_bits() >> rest == u32::from_be_bytes(*network) >> rest
    };
    !SPECIAL_V4.iter().any(is_in)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, third, _, _, _, high, low] = address.segments();
    let carried =
        |high: u16, low: u16| is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    // Mapped (RFC 4291), and translated where the network has no IPv4 (RFC 6052).
    let is_translated = address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    if address.to_ipv4_mapped().is_some() || is_translated {
        return carried(high, low);
    }
    match (first, second) {
        // 6to4 (RFC 3056).
        (0x2002, high) => carried(high, third),
        // Protocols with Teredo, examples.
        (0x2001, 0..=0x01ff | 0x0db8) | (0x3fff, 0..=0x0fff) => false,
        // What is given out to anybody. All else is this computer, this link, unique local, multicast or reserved.
        (first, _) => (0x2000..=0x3fff).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.1.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:200::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for other in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "100::1",
            "64:ff9b:1::1",
            "2001::1",
            "2001:10::1",
            "2001:db8::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:100.64.0.1",
            "::ffff:0.0.0.0",
            "64:ff9b::10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2002:a00:1::",
        ] {
            assert!(!is_public(other.parse().unwrap()), "{other}");
        }
    }

    proptest! {
        #[test]
        fn an_address_is_what_it_carries(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let [a, b, c, d] = v4.octets();
            let nat64 = Ipv6Addr::from_bits((0x0064_ff9b_u128 << 96) | u128::from(bits));
            let six_to_four = Ipv6Addr::from([0x20, 0x02, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            for v6 in [v4.to_ipv6_mapped(), nat64, six_to_four] {
                prop_assert_eq!(is_public(v4.into()), is_public(v6.into()), "{} {}", v4, v6);
            }
            let is_special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified()
                || v4.is_multicast() || v4.is_broadcast() || v4.is_documentation();
            prop_assert!(!(is_special && is_public(v4.into())), "{}", v4);
        }

        #[test]
        fn nothing_that_std_knows_as_special_is_public(bits: u128) {
            let v6 = Ipv6Addr::from_bits(bits);
            let is_special = v6.is_loopback() || v6.is_unspecified() || v6.is_multicast()
                || v6.is_unique_local() || v6.is_unicast_link_local();
            prop_assert!(!(is_special && is_public(v6.into())), "{}", v6);
        }
    }

    /// Answers with one list of addresses after the other, as a server does that changes its mind.
    struct Names(Mutex<Vec<Vec<&'static str>>>);

    impl Resolve for Names {
        fn resolve(&self, _: Name) -> Resolving {
            let next = self.0.lock().unwrap().remove(0);
            let addresses: Vec<SocketAddr> =
                next.into_iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect();
            Box::pin(async move {
                let addresses: Addrs = Box::new(addresses.into_iter());
                Ok(addresses)
            })
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_at_each_time_it_is_resolved() {
        let answers = vec![vec!["8.8.8.8", "2606:4700::1111"], vec!["8.8.8.8", "10.0.0.1"], vec!["10.0.0.1"]];
        let guard = Guard { reach: Reach::Internet, names: Arc::new(Names(Mutex::new(answers))) };
        let resolved = async |name: &str| {
            let addresses = guard.resolve(name.parse().unwrap()).await;
            addresses.map(Iterator::count).map_err(|error| error.to_string())
        };
        assert_eq!(resolved("acme.bitrix24.com").await, Ok(2));
        let refused = "ACME.bitrix24.com is at 10.0.0.1, which is no address of the Internet";
        assert_eq!(resolved("ACME.bitrix24.com").await, Err(refused.to_owned()), "one of two is enough");
        assert_eq!(resolved("proxy.company.test").await, Ok(1), "no portal's name");
    }

    #[tokio::test]
    async fn a_portal_of_a_test_is_on_this_computer() {
        let answers = vec![vec!["127.0.0.1", "::1"], vec!["10.0.0.1"], vec!["8.8.8.8"]];
        let guard = Guard { reach: Reach::ThisComputer, names: Arc::new(Names(Mutex::new(answers))) };
        for is_within in [true, false, false] {
            assert_eq!(guard.resolve("localhost".parse().unwrap()).await.is_ok(), is_within);
        }
    }
}
