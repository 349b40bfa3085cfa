-- How long held leads may wait, in which order they go, and at what rate.

ALTER TABLE waiting_leads
    -- Since when it is held.
    ADD COLUMN held_since  timestamptz,
    -- When somebody is told of it, and when he was.
    ADD COLUMN deadline_at timestamptz,
    ADD COLUMN alarmed_at  timestamptz,
    -- The lead's amount, whatever its currency.
    ADD COLUMN amount      double precision;

UPDATE waiting_leads SET held_since = first_seen WHERE state = 'held';

-- Whether the lead was held before it was given: how many of these somebody gets in a minute may be limited.
ALTER TABLE decisions ADD COLUMN released boolean NOT NULL DEFAULT false;

-- Notices to people beside those of assignments: of leads that wait too long, and the like. A row is here until the
-- notice was sent; it is sent at most once, so one whose end nobody saw is not sent again.
CREATE TABLE notices (
    portal     text        NOT NULL,
    -- Marks the notice in the portal, and makes it one.
    tag        text        NOT NULL,
    user_id    bigint      NOT NULL,
    -- What it says and of what; the words are the notifier's.
    matter       jsonb       NOT NULL,
    written_at timestamptz NOT NULL,
    claimed_at timestamptz,
    PRIMARY KEY (portal, tag)
);
CREATE INDEX notices_by_age ON notices (portal, written_at);
