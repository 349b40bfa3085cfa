-- Leads that are known to us and that the portal did not show when it was asked for each by itself: until it is known
-- whether they are deleted, or hidden from the webhook's owner. A row goes when its lead is seen, or given up.
CREATE TABLE unseen_leads (
    portal  text        NOT NULL,
    lead_id bigint      NOT NULL,
    -- missing: the portal says that there is none; hidden: the webhook's owner has no right to it.
    kind    text        NOT NULL CHECK (kind IN ('missing', 'hidden')),
    -- When the portal said so first, without another word since then.
    since   timestamptz NOT NULL,
    -- When it said so last.
    last_at timestamptz NOT NULL,
    PRIMARY KEY (portal, lead_id)
);
