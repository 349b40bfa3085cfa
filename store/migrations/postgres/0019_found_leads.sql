-- A lead that the scan found undecided waits from then on. Its event is published again, with growing waits, as long as
-- nothing comes of it: the broker may have lost it. Not while its event is known to come again by itself.
ALTER TABLE waiting_leads ADD COLUMN publish_again_at timestamptz;
CREATE INDEX waiting_leads_undecided ON waiting_leads (portal, publish_again_at) WHERE state = 'undecided';
UPDATE waiting_leads SET publish_again_at = now() + interval '2 hours' WHERE state = 'undecided';
