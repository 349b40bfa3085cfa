//! What outlives a restart: what a real portal keeps in its database. A file that was written before there was a thing
//! is read as a portal without it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::activities::Activity;
use crate::clients::Client;
use crate::portal::{Lead, Notification, Portal};
use crate::presence::Absence;
use crate::timeline::Entry;
use crate::{deals, duplicates};

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    leads: BTreeMap<u64, Lead>,
    next_lead: u64,
    #[serde(default)]
    deals: BTreeMap<u64, Map<String, Value>>,
    #[serde(default)]
    contacts: BTreeMap<u64, Client>,
    #[serde(default)]
    companies: BTreeMap<u64, Client>,
    #[serde(default)]
    stages: Vec<Map<String, Value>>,
    users: BTreeMap<u64, Map<String, Value>>,
    #[serde(default)]
    working_days: BTreeMap<u64, Map<String, Value>>,
    #[serde(default)]
    absences: Vec<Absence>,
    #[serde(default)]
    activities: Vec<Activity>,
    #[serde(default)]
    timeline: Vec<Entry>,
    notifications: Vec<Notification>,
}

impl Portal {
    /// What is to be kept over a restart.
    pub fn memory(&self) -> Memory {
        let state = self.state();
        Memory {
            leads: state.leads.clone(),
            next_lead: state.next_lead,
            deals: state.deals.clone(),
            contacts: state.contacts.clone(),
            companies: state.companies.clone(),
            stages: state.stages.clone(),
            users: state.users.clone(),
            working_days: state.working_days.clone(),
            absences: state.absences.clone(),
            activities: state.activities.clone(),
            timeline: state.timeline.clone(),
            notifications: state.notifications.clone(),
        }
    }

    /// Takes up what was kept.
    pub fn remember(&self, mut memory: Memory) {
        memory.deals.values_mut().for_each(deals::complete);
        let mut state = self.state();
        state.leads = memory.leads;
        state.next_lead = memory.next_lead;
        state.next_deal = memory.deals.keys().max().map_or(1, |last| last + 1);
        state.deals = memory.deals;
        state.contacts = memory.contacts;
        state.companies = memory.companies;
        state.stages = memory.stages;
        state.users = memory.users;
        state.working_days = memory.working_days;
        state.absences = memory.absences;
        state.activities = memory.activities;
        state.timeline = memory.timeline;
        state.notifications = memory.notifications;
        duplicates::index_all(&mut state);
    }
}
