//! Deals: a lead is "added to a funnel" by creating one.
//!
//! `crm.item.*` (type 2) rather than `crm.deal.*`: only its fields link a deal to its lead (`leadId`). Creating is not
//! safe to repeat, so each deal carries the name of what it was created for (`originatorId`, `originId`), and whoever is
//! not sure whether it was created looks it up by that.
//!
//! Source: pages "Universal Methods for CRM Objects", "Create CRM Item", "Get a List of CRM Items".

use common::ids::{LeadId, UserId};
use serde_json::{Map, Value, json};

use crate::client::Portal;
use crate::code::PortalCode;
use crate::envelope::unsigned;
use crate::error::PortalError;
use crate::lead::PortalLead;

/// `entityTypeId` of deals.
const DEAL: u32 = 2;

/// Whose deals these are: `ORIGINATOR_ID`.
const ORIGINATOR: &str = "rota";

const ADD: &str = "crm.item.add";
const LIST: &str = "crm.item.list";

/// A deal to be created.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDeal {
    /// The name of what it is created for, at most 255 characters; no two deals have the same.
    pub origin: String,
    /// The lead it is about.
    pub lead: LeadId,
    /// Who is responsible for it.
    pub owner: UserId,
    /// The funnel.
    pub category: u32,
    /// The stage in it; `None` for its first.
    pub stage: Option<String>,
    /// What is taken over from the lead, by the names of a deal's fields.
    pub fields: Map<String, Value>,
}

impl NewDeal {
    /// What a deal takes over from its lead: title, amount, source, client.
    #[must_use]
    pub fn fields_of(lead: &PortalLead) -> Map<String, Value> {
        const TAKEN_OVER: [(&str, &str); 6] = [
            ("TITLE", "title"),
            ("OPPORTUNITY", "opportunity"),
            ("CURRENCY_ID", "currencyId"),
            ("SOURCE_ID", "sourceId"),
            ("CONTACT_ID", "contactId"),
            ("COMPANY_ID", "companyId"),
        ];
        let given = |value: &&Value| match value {
            Value::String(text) => !text.is_empty() && text != "0",
            Value::Number(_) => true,
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
        };
        let field = |(code, name): &(&str, &str)| {
            Some(((*name).to_owned(), lead.fields.get(*code).filter(given)?.clone()))
        };
        TAKEN_OVER.iter().filter_map(field).collect()
    }

    fn params(&self) -> Value {
        let mut fields = self.fields.clone();
        fields.insert("categoryId".to_owned(), json!(self.category));
        if let Some(stage) = &self.stage {
            fields.insert("stageId".to_owned(), json!(stage));
        }
        fields.insert("assignedById".to_owned(), json!(self.owner.get()));
        fields.insert("leadId".to_owned(), json!(self.lead.get()));
        fields.insert("originatorId".to_owned(), json!(ORIGINATOR));
        fields.insert("originId".to_owned(), json!(self.origin));
        json!({ "entityTypeId": DEAL, "fields": fields })
    }
}

impl Portal {
    /// Creates a deal; answers its id.
    ///
    /// # Errors
    /// [`PortalError`]; after an ambiguous one look it up by [`Portal::find_deal`] before creating it again, but not
    /// before the request has surely ended.
    pub async fn add_deal(&self, deal: &NewDeal) -> Result<u64, PortalError> {
        let envelope = self.call(ADD, &deal.params()).await.map_err(denied_here)?;
        let id = envelope.result.pointer("/item/id").and_then(unsigned);
        id.ok_or_else(|| PortalError::Unexpected { method: ADD.to_owned(), expected: "the deal's id" })
    }

    /// The id of the deal that was created for this origin; `None` when there is none.
    ///
    /// # Errors
    /// [`PortalError`]
    pub async fn find_deal(&self, origin: &str) -> Result<Option<u64>, PortalError> {
        let params = json!({
            "entityTypeId": DEAL, "select": ["id"], "order": { "id": "ASC" }, "start": -1,
            "filter": { "=originatorId": ORIGINATOR, "=originId": origin },
        });
        let envelope = self.call(LIST, &params).await?;
        let items = envelope.result.get("items").and_then(Value::as_array);
        let items = items.ok_or_else(|| PortalError::Unexpected {
            method: LIST.to_owned(),
            expected: "a list of deals",
        })?;
        // Whether the portal has applied the filter is not taken on trust where it answers more than one.
        Ok(items.first().and_then(|item| item.get("id")).and_then(unsigned))
    }
}

/// With status 400 it is this deal that the webhook's owner may not create; the portal goes on to work for everything
/// else.
fn denied_here(error: PortalError) -> PortalError {
    if matches!(&error, PortalError::Refused { status: Some(400), code: PortalCode::AccessDenied, .. }) {
        return error.with_code(PortalCode::FieldValueNotValid);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deal_takes_over_what_the_lead_has() {
        let fields = json!({
            "ID": "42", "TITLE": "A & B", "OPPORTUNITY": "1000.50", "CURRENCY_ID": "RUB", "SOURCE_ID": "WEB",
            "CONTACT_ID": "0", "COMPANY_ID": null, "COMMENTS": "secret",
        });
        let lead = PortalLead::from_value("crm.lead.get", fields).unwrap();
        let deal = NewDeal {
            origin: "acme/42/1".to_owned(),
            lead: lead.id,
            owner: UserId::new(9).unwrap(),
            category: 5,
            stage: Some("C5:NEW".to_owned()),
            fields: NewDeal::fields_of(&lead),
        };
        assert_eq!(
            deal.params(),
            json!({ "entityTypeId": 2, "fields": {
                "title": "A & B", "opportunity": "1000.50", "currencyId": "RUB", "sourceId": "WEB",
                "categoryId": 5, "stageId": "C5:NEW", "assignedById": 9, "leadId": 42,
                "originatorId": "rota", "originId": "acme/42/1",
            }})
        );
        let without_stage = NewDeal { stage: None, ..deal }.params();
        assert!(without_stage.pointer("/fields/stageId").is_none(), "{without_stage}");
    }
}
