//! The lead's own card tells why it was given to whom, or waits.

use serde_json::json;

use crate::common_parts::{SOON, assert_spent, plan, start, wait_for_notices, wait_until_followed};

#[tokio::test]
async fn each_lead_is_told_once_why_it_waited_and_to_whom_it_went() {
    let mut plan = plan();
    plan.portal_keys.push("timeline: en".to_owned());
    plan.routing = "version: 1\npeople: { ivanov: { user: 11 } }\ndefault: { assign: ivanov }\n".to_owned();
    (plan.routers, plan.notifiers) = (2, 2);
    let pipeline = start(&plan).await;
    let entries = async |count: usize| {
        pipeline
            .wait_for(&format!("{count} entries"), SOON, async || {
                Ok(pipeline.portal.timeline().await?.len() >= count)
            })
            .await
            .unwrap();
        // Long enough for two more looks: none is sent twice.
        tokio::time::sleep(std::time::Duration::from_secs(11)).await;
        let entries = pipeline.portal.timeline().await.unwrap();
        assert_eq!(entries.len(), count, "{entries:?}");
        assert!(entries.iter().all(|entry| entry.title == "Lead distribution"));
        entries
    };
    pipeline.portal.add_leads(&json!({ "count": 120 })).await.unwrap();
    wait_for_notices(&pipeline, 120).await;
    let before = pipeline.portal.stats().await.unwrap().requests;
    let told = entries(120).await;
    assert!(told.iter().all(|entry| entry.text.starts_with("The lead goes to ivanov.\n")), "{told:?}");
    let mut leads: Vec<u64> = told.iter().map(|entry| entry.lead).collect();
    leads.sort_unstable();
    leads.dedup();
    assert_eq!(leads.len(), 120);
    let requests = pipeline.portal.stats().await.unwrap().requests - before;
    // In packs, not each by itself; how large depends on how fast the leads come.
    assert!(requests <= 60, "{requests} requests for 120 entries");

    let output = pipeline.rota(&["people", "pause", "ivanov", "--for", "1h"]).unwrap();
    assert!(output.status.success());
    wait_until_followed(&pipeline).await;
    pipeline.portal.add_leads(&json!({ "count": 1 })).await.unwrap();
    let told = entries(121).await;
    assert!(told[120].text.starts_with("The lead waits: nobody may take it before "), "{:?}", told[120]);
    assert!(pipeline.rota(&["people", "resume", "ivanov"]).unwrap().status.success());
    wait_for_notices(&pipeline, 121).await;
    let told = entries(122).await;
    assert_eq!(
        (told[121].lead, told[121].text.starts_with("The lead goes to ivanov.\n")),
        (told[120].lead, true)
    );
    assert_spent(&pipeline.portal, "reasons in cards: 120 entries", 3 * 122).await;
}
