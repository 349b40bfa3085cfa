-- The line of a queue: what each held lead needs of people, so that no other takes the place that is its own.

ALTER TABLE waiting_leads
    -- What it needs, as the deciding crate writes it (`Needs`); null where that does not tell when it may go: such a lead
    -- holds nobody up.
    ADD COLUMN needs         text,
    -- The queue in whose line it stands; null where it waits for people who are named.
    ADD COLUMN line          text,
    -- It is called when its turn comes, but not before this moment.
    ADD COLUMN call_again_at timestamptz,
    -- Leads with the same needs are one kind: many that wait are few kinds.
    ADD COLUMN kind          bigint GENERATED ALWAYS AS
        (CASE WHEN state = 'held' THEN hashtextextended(needs, 0) END) STORED,
    -- The more valuable, the smaller; who has no amount comes last.
    ADD COLUMN amount_rank   double precision GENERATED ALWAYS AS
        (- COALESCE(amount, '-Infinity'::double precision)) STORED;

-- How many stand ahead of a lead, and which come next, by age and by amount.
CREATE INDEX waiting_leads_by_age ON waiting_leads (portal, kind, first_seen, amount_rank, lead_id)
    WHERE kind IS NOT NULL;
CREATE INDEX waiting_leads_by_amount ON waiting_leads (portal, kind, amount_rank, first_seen, lead_id)
    WHERE kind IS NOT NULL;

-- What the leads need that are held at this moment is found out by looking at them.
UPDATE decisions SET look_again_at = 'epoch' WHERE outcome = 'hold';
