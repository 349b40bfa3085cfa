//! Whatever a server answers, a request follows only within the cloud or this computer, and no text has the secret.
//!
//! The input is a status in two bytes and a `Location`.

#![no_main]

use std::sync::LazyLock;

use bitrix24::moves::{Url, Verdict, authority, judge, may_be_at};
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "s3cretpart";

static WEBHOOKS: LazyLock<Vec<Url>> = LazyLock::new(|| {
    ["https://acme.bitrix24.com", "https://portal.company.test", "http://127.0.0.1:8080", "https://acme.co.uk"]
        .iter()
        .filter_map(|base| Url::parse(&format!("{base}/rest/1/{SECRET}/batch")).ok())
        .collect()
});

fuzz_target!(|input: &[u8]| {
    let [high, low, location @ ..] = input else { return };
    // Nearly all of them redirects.
    let status = if *high < 8 { u16::from_be_bytes([*high, *low]) } else { 300 + u16::from(*low) % 10 };
    let location = String::from_utf8_lossy(location);
    assert_eq!(WEBHOOKS.len(), 4);
    for webhook in &*WEBHOOKS {
        match judge(webhook, webhook, status, Some(&location)) {
            Verdict::Stay => assert!(!(300..400).contains(&status)),
            Verdict::Follow(host) => {
                assert!([301, 302, 307, 308].contains(&status));
                assert!(may_be_at(webhook, &host));
                // As another program would read it.
                let to = Url::parse(&format!("{}://{host}/", webhook.scheme()));
                let to = to.unwrap_or_else(|error| panic!("{host}: {error}"));
                assert_eq!(authority(&to), host);
                assert!(to.username().is_empty() && to.password().is_none());
                match webhook.host_str() {
                    Some("acme.bitrix24.com") => {
                        let (name, domain) = host.split_once('.').unwrap_or_default();
                        assert!(domain.starts_with("bitrix24.") && !domain.contains(':'), "{host}");
                        assert!(!name.is_empty() && !name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-'));
                    }
                    Some("127.0.0.1") => {
                        let name = to.host_str().unwrap_or_default();
                        assert!(name == "localhost" || name == "[::1]" || name.starts_with("127."), "{host}");
                    }
                    other => panic!("{other:?} is never left, not for {host}"),
                }
            }
            Verdict::Elsewhere(told) => {
                assert!(!told.contains('/') && told.chars().count() <= 260, "{told}");
                assert!(!told.to_ascii_lowercase().contains(SECRET), "{told}");
            }
        }
    }
});
