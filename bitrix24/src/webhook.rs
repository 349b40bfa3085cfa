//! The form of an inbound webhook's address, `https://PORTAL/rest/USER/SECRET/`, and what people paste instead.

use reqwest::Url;

/// An address of another form. The text never repeats the address: it contains the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrongForm {
    /// Where we take the portal's events.
    #[error(
        "this is where the portal posts its events to; the portal's inbound webhook is https://PORTAL/rest/USER/SECRET/"
    )]
    OurOwn,
    /// With a method, as the portal shows it for trying.
    #[error(
        "a method stands at the end (such as profile.json); leave it out: https://PORTAL/rest/USER/SECRET/"
    )]
    WithMethod,
    /// The form of REST 3.0, which has none of the methods that we use.
    #[error("take `api/` out: https://PORTAL/rest/USER/SECRET/")]
    Version3,
    /// Something else, such as the portal's first page.
    #[error(
        "`/rest/USER/SECRET/` is missing at the end: https://PORTAL/rest/1/SECRET/, as the portal shows it where the inbound webhook is made"
    )]
    NoWebhook,
}

/// The user and the secret in a webhook's address.
///
/// # Errors
/// With what stands there instead.
pub(crate) fn parts(url: &Url) -> Result<(&str, &str), WrongForm> {
    let parts: Vec<&str> = url.path().split('/').filter(|part| !part.is_empty()).collect();
    if matches!(parts.as_slice(), [.., "bitrix24", _, "events" | "robot"]) {
        return Err(WrongForm::OurOwn);
    }
    // A portal may lie in a folder of its server.
    let Some(rest) = parts.iter().rposition(|part| *part == "rest") else { return Err(WrongForm::NoWebhook) };
    let is_user = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    match parts.get(rest + 1..).unwrap_or_default() {
        [user, secret] if is_user(user) => Ok((user, secret)),
        [user, _secret, _method, ..] if is_user(user) => Err(WrongForm::WithMethod),
        ["api", ..] => Err(WrongForm::Version3),
        _ => Err(WrongForm::NoWebhook),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_paste_is_told_apart() {
        for (url, expected) in [
            ("https://acme.bitrix24.com/rest/1/s3cret/", Ok(("1", "s3cret"))),
            ("https://acme.bitrix24.com/rest/1/s3cret", Ok(("1", "s3cret"))),
            ("https://portal.acme.test/b24/rest/17/s3cret/", Ok(("17", "s3cret"))),
            ("https://acme.bitrix24.com/rest/1/s3cret/profile.json", Err(WrongForm::WithMethod)),
            ("https://acme.bitrix24.com/rest/1/s3cret/crm.lead.get/?ID=5", Err(WrongForm::WithMethod)),
            ("https://acme.bitrix24.com/rest/api/1/s3cret/", Err(WrongForm::Version3)),
            ("https://acme.bitrix24.com/rest/1/", Err(WrongForm::NoWebhook)),
            ("https://acme.bitrix24.com/rest/s3cret/1/", Err(WrongForm::NoWebhook)),
            ("https://acme.bitrix24.com/", Err(WrongForm::NoWebhook)),
            ("https://acme.bitrix24.com/company/personal/user/1/", Err(WrongForm::NoWebhook)),
            ("https://rota.acme.test/bitrix24/acme/events?key=s3cret", Err(WrongForm::OurOwn)),
            ("https://rota.acme.test/bitrix24/acme/robot", Err(WrongForm::OurOwn)),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(parts(&url), expected, "{url}");
            assert!(!expected.is_err_and(|error| error.to_string().contains("s3cret")));
        }
    }
}
