//! The words of a notice.

use bitrix24::PortalLead;
use bitrix24::notify::{Author, Notice, plain};
use common::config::{self, NotifyChannel};
use common::ids::UserId;
use common::messages::AssignmentKey;

/// A title longer than this is cut; a notice is read on a telephone.
const TITLE_CHARS: usize = 200;

/// How the people of one portal are told.
#[derive(Debug, Clone)]
pub(crate) struct Wording {
    author: Option<Author>,
    template: String,
    address: String,
}

impl Wording {
    /// As configured.
    pub(crate) fn new(portal: &config::Portal) -> Self {
        let author = match portal.notify.channel {
            NotifyChannel::Personal => Some(Author::WebhookOwner),
            NotifyChannel::System => Some(Author::Nobody),
            NotifyChannel::None => None,
        };
        let address = bitrix24::connect::address(&portal.webhook_url);
        Self { author, template: portal.notify.template.clone(), address }
    }

    /// The notice of an assignment; `None` where people are not told by us.
    pub(crate) fn notice(&self, key: &AssignmentKey, to: UserId, lead: &PortalLead) -> Option<Notice> {
        let message = fill(&self.template, |placeholder| match placeholder {
            "title" => Some(title(lead)),
            "link" => Some(format!("[URL={}/crm/lead/details/{}/]#{}[/URL]", self.address, lead.id, lead.id)),
            "id" => Some(lead.id.to_string()),
            _ => None,
        });
        self.author.map(|author| Notice { author, to, message, tag: key.to_string() })
    }
}

fn title(lead: &PortalLead) -> String {
    let title = plain(&lead.title, TITLE_CHARS);
    if title.is_empty() { format!("#{}", lead.id) } else { title }
}

/// Replaces `{name}` once; what is put in is not looked at again, so a title cannot hold placeholders.
fn fill(template: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut filled = String::with_capacity(template.len() + TITLE_CHARS);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let replaced = after.split_once('}').and_then(|(name, after)| Some((value(name)?, after)));
        if let Some((text, after)) = replaced {
            filled.push_str(&text);
            rest = after;
        } else {
            filled.push('{');
            rest = after;
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use common::ids::LeadId;
    use common::messages::Epoch;

    use super::*;

    fn message(template: &str, title: &str) -> String {
        let wording = Wording {
            author: Some(Author::WebhookOwner),
            template: template.to_owned(),
            address: "https://acme.bitrix24.com".to_owned(),
        };
        let lead = LeadId::new(42).unwrap();
        let key = AssignmentKey { portal: "acme".parse().unwrap(), lead, epoch: Epoch::FIRST };
        let lead =
            PortalLead { id: lead, owner: None, title: title.to_owned(), fields: serde_json::Map::new() };
        wording.notice(&key, UserId::new(9).unwrap(), &lead).unwrap().message
    }

    #[test]
    fn the_default_says_what_and_where() {
        assert_eq!(
            message(&config::Notify::default().template, "Two-room flat"),
            "You have been assigned a new lead: Two-room flat \
             [URL=https://acme.bitrix24.com/crm/lead/details/42/]#42[/URL]"
        );
    }

    #[test]
    fn a_title_can_place_neither_links_nor_placeholders() {
        assert_eq!(message("{title}", "[URL=evil]x[/URL] {link}"), "［URL=evil］x［/URL］ {link}");
        assert_eq!(message("{title} {id} {", ""), "#42 42 {");
    }
}
