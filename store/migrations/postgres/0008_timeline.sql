-- Entries for the timelines of leads: why a lead was given to somebody, or waits. A row is here until it was sent; it is
-- sent at most once, so one whose end nobody saw is not sent again.
CREATE TABLE timeline_entries (
    portal     text        NOT NULL,
    lead_id    bigint      NOT NULL,
    epoch      integer     NOT NULL,
    -- Of a lead that waits, however often it is looked at, one entry; and one when it is given.
    outcome    text        NOT NULL CHECK (outcome IN ('assign', 'hold')),
    text       text        NOT NULL,
    written_at timestamptz NOT NULL,
    claimed_at timestamptz,
    PRIMARY KEY (portal, lead_id, epoch, outcome)
);
CREATE INDEX timeline_entries_by_age ON timeline_entries (portal, written_at);
