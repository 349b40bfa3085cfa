//! The simulated portal's control API, as far as tests and the demo need it.

mod log;

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

pub use log::{LogEntry, Logged};

/// A simulated portal.
#[derive(Debug, Clone)]
pub struct PortalControl {
    client: reqwest::Client,
    control: String,
    /// The inbound webhook's address, secret included.
    pub webhook_url: String,
}

/// A lead as the portal has it.
#[derive(Debug, Clone, Deserialize)]
pub struct PortalLead {
    /// All fields.
    pub fields: BTreeMap<String, Value>,
    /// Each change of its owner.
    pub history: Vec<OwnerChange>,
}

/// A change of a lead's owner.
#[derive(Debug, Clone, Deserialize)]
pub struct OwnerChange {
    /// When.
    pub at: jiff::Timestamp,
    /// From whom.
    pub from: String,
    /// To whom.
    pub to: String,
}

/// A notice that an employee got.
#[derive(Debug, Clone, Deserialize)]
pub struct Notification {
    /// Who got it.
    pub user: u64,
    /// What it says.
    pub message: String,
    /// Its tag.
    pub tag: Option<String>,
}

/// An entry in a lead's timeline.
#[derive(Debug, Clone, Deserialize)]
pub struct TimelineEntry {
    /// Which lead.
    pub lead: u64,
    /// Its heading.
    pub title: String,
    /// What it says.
    pub text: String,
}

/// What the portal has seen.
#[derive(Debug, Clone, Deserialize)]
pub struct Stats {
    /// Requests, refused ones included.
    pub requests: u64,
    /// Requests by method.
    pub by_method: BTreeMap<String, u64>,
    /// Requests by method, batches by that of their first command.
    pub led_by: BTreeMap<String, u64>,
    /// Commands inside batches, by method.
    pub commands: BTreeMap<String, u64>,
    /// Answers with an error, by code.
    pub errors: BTreeMap<String, u64>,
    /// Requests refused as too fast.
    pub refused: u64,
    /// The highest the counter of requests has been.
    pub bucket_max: u32,
    /// Events by how they were answered.
    pub events: BTreeMap<String, u64>,
    /// Faults that were played.
    pub faults: BTreeMap<String, u64>,
}

impl PortalLead {
    /// A field as text; empty where it has none.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

impl PortalControl {
    /// From the line that the simulator prints when it listens.
    ///
    /// # Errors
    /// When it is not such a line.
    pub fn from_line(line: &str) -> anyhow::Result<Self> {
        let line: Value =
            serde_json::from_str(line).with_context(|| format!("not the simulator's line: {line:?}"))?;
        let text =
            |name: &str| line.get(name).and_then(Value::as_str).map(str::to_owned).context("missing address");
        Ok(Self { client: client()?, control: text("control")?, webhook_url: text("webhook_url")? })
    }

    /// Adds leads, with their events; answers their ids (none where they come at a rate).
    ///
    /// # Errors
    /// When the portal does not answer.
    pub async fn add_leads(&self, new: &Value) -> anyhow::Result<Vec<u64>> {
        let answer = self.post("leads", new).await?;
        let ids = answer.get("ids").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(ids.iter().filter_map(Value::as_u64).collect())
    }

    /// Changes settings.
    ///
    /// # Errors
    /// When the portal does not answer or does not know a setting.
    pub async fn change_settings(&self, settings: &Value) -> anyhow::Result<()> {
        self.post("settings", settings).await.map(drop)
    }

    /// Posts the events of these leads again.
    ///
    /// # Errors
    /// When the portal does not answer.
    pub async fn repeat_events(&self, leads: &[u64], times: usize) -> anyhow::Result<()> {
        self.post("events", &json!({ "leads": leads, "times": times, "shuffle": true })).await.map(drop)
    }

    /// Changes an employee, or adds one.
    ///
    /// # Errors
    /// When the portal does not answer.
    pub async fn change_user(&self, user: u64, mut fields: Value) -> anyhow::Result<()> {
        fields["ID"] = json!(user.to_string());
        self.post("users", &fields).await.map(drop)
    }

    /// Sets what `timeman.status` answers of an employee.
    ///
    /// # Errors
    /// When the portal does not answer.
    pub async fn set_working_day(&self, user: u64, day: &Value) -> anyhow::Result<()> {
        let request = self.client.put(format!("{}/working-days/{user}", self.control)).json(day);
        self.send(request).await.map(drop)
    }

    /// Sets all absences of employees.
    ///
    /// # Errors
    /// When the portal does not answer or cannot read one.
    pub async fn set_absences(&self, absences: &Value) -> anyhow::Result<()> {
        let request = self.client.put(format!("{}/absences", self.control)).json(absences);
        self.send(request).await.map(drop)
    }

    /// Adds a fault.
    ///
    /// # Errors
    /// When the portal does not answer or does not know such a fault.
    pub async fn add_fault(&self, fault: &Value) -> anyhow::Result<()> {
        self.post("faults", fault).await.map(drop)
    }

    /// Clears all faults.
    ///
    /// # Errors
    /// When the portal does not answer.
    pub async fn clear_faults(&self) -> anyhow::Result<()> {
        let request = self.client.delete(format!("{}/faults", self.control));
        self.send(request).await.map(drop)
    }

    /// The owner of a lead made a call, or did what the fields say; answers the activity's id.
    ///
    /// # Errors
    /// When the portal does not answer.
    pub async fn add_activity(&self, lead: u64, fields: &Value) -> anyhow::Result<u64> {
        self.post_one(&format!("activities/{lead}"), fields).await
    }

    /// An activity is changed, now unless the fields say when.
    ///
    /// # Errors
    /// When the portal does not answer or has no such activity.
    pub async fn change_activity(&self, activity: u64, fields: &Value) -> anyhow::Result<()> {
        self.patch(&format!("activities/{activity}"), fields).await
    }

    /// Adds a contact; answers its id.
    ///
    /// # Errors
    /// When the portal does not answer or does not know a field.
    pub async fn add_contact(&self, fields: &Value) -> anyhow::Result<u64> {
        self.post_one("contacts", fields).await
    }

    /// Adds a company; answers its id.
    ///
    /// # Errors
    /// When the portal does not answer or does not know a field.
    pub async fn add_company(&self, fields: &Value) -> anyhow::Result<u64> {
        self.post_one("companies", fields).await
    }

    /// Adds a deal; answers its id.
    ///
    /// # Errors
    /// When the portal does not answer or does not know a field.
    pub async fn add_deal(&self, fields: &Value) -> anyhow::Result<u64> {
        self.post_one("deals", fields).await
    }

    /// A person changes a contact.
    ///
    /// # Errors
    /// When the portal does not answer, has no such contact or does not know a field.
    pub async fn change_contact(&self, contact: u64, fields: &Value) -> anyhow::Result<()> {
        self.patch(&format!("contacts/{contact}"), fields).await
    }

    /// A person changes a lead.
    ///
    /// # Errors
    /// When the portal does not answer or has no such lead.
    pub async fn change_lead(&self, lead: u64, fields: &Value) -> anyhow::Result<()> {
        self.patch(&format!("leads/{lead}"), fields).await
    }

    /// A person deletes a lead.
    ///
    /// # Errors
    /// When the portal does not answer or has no such lead.
    pub async fn delete_lead(&self, lead: u64) -> anyhow::Result<()> {
        let request = self.client.delete(format!("{}/leads/{lead}", self.control));
        self.send(request).await.map(drop)
    }

    /// All leads.
    ///
    /// # Errors
    /// When the portal does not answer.
    pub async fn leads(&self) -> anyhow::Result<Vec<PortalLead>> {
        self.get("leads").await
    }

    /// All deals, by the names of `crm.item.get`.
    ///
    /// # Errors
    /// When the portal does not answer.
    pub async fn deals(&self) -> anyhow::Result<Vec<Value>> {
        self.get("deals").await
    }

    /// All entries of leads' timelines.
    ///
    /// # Errors
    /// When the portal does not answer.
    pub async fn timeline(&self) -> anyhow::Result<Vec<TimelineEntry>> {
        self.get("timeline").await
    }

    /// All notices.
    ///
    /// # Errors
    /// When the portal does not answer.
    pub async fn notifications(&self) -> anyhow::Result<Vec<Notification>> {
        self.get("notifications").await
    }

    /// What it did, in order.
    ///
    /// # Errors
    /// When the portal does not answer.
    pub async fn log(&self) -> anyhow::Result<Vec<LogEntry>> {
        self.get("log").await
    }

    /// What it has seen.
    ///
    /// # Errors
    /// When the portal does not answer.
    pub async fn stats(&self) -> anyhow::Result<Stats> {
        self.get("stats").await
    }

    /// Requests that were sent for leads: all but those that asked who is at work.
    ///
    /// # Errors
    /// When the portal does not answer.
    pub async fn spent(&self) -> anyhow::Result<u64> {
        let led_by = self.stats().await?.led_by;
        let of_people = |method: &str| {
            ["user.", "timeman.", "calendar.", "im.user."].iter().any(|start| method.starts_with(start))
        };
        Ok(led_by.iter().filter(|(method, _)| !of_people(method)).map(|(_, count)| count).sum())
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let text = self.send(self.client.get(format!("{}/{path}", self.control))).await?;
        serde_json::from_str(&text).with_context(|| format!("{path}: {text}"))
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let text = self.send(self.client.post(format!("{}/{path}", self.control)).json(body)).await?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// As [`Self::post`], where the answer is the id of what was added.
    async fn post_one(&self, path: &str, body: &Value) -> anyhow::Result<u64> {
        let answer = self.post(path, body).await?;
        answer.get("id").and_then(Value::as_u64).with_context(|| format!("{path}: no id in {answer}"))
    }

    async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let request = self.client.patch(format!("{}/{path}", self.control)).json(body);
        self.send(request).await.map(drop)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<String> {
        send(request).await.and_then(|(status, text)| {
            anyhow::ensure!((200..300).contains(&status), "the simulator answers {status}: {text}");
            Ok(text)
        })
    }
}

/// A client for this machine only.
///
/// # Errors
/// When TLS cannot be prepared.
pub fn client() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().timeout(crate::HANG).build()?)
}

/// Sends a request; answers status and text.
///
/// # Errors
/// When there is no answer.
#[expect(clippy::disallowed_methods, reason = "tests and the demo look at the system from outside, by HTTP")]
pub async fn send(request: reqwest::RequestBuilder) -> anyhow::Result<(u16, String)> {
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}
