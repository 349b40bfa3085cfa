-- Leads that are deliberately given once more, or as somebody asks for: one row for each such giving. A lead's first
-- giving has a row only where a robot asked for it before anything was decided.
CREATE TABLE givings (
    portal   text        NOT NULL,
    lead_id  bigint      NOT NULL,
    epoch    integer     NOT NULL,
    -- What asked for it, such as the id of the robot's message: a repeated one finds its giving.
    asked_by text        NOT NULL,
    cause    text        NOT NULL,
    -- Where it is to go in place of what the rules say; both null for the rules.
    queue    text,
    person   text,
    -- From whom it is taken, where only from him.
    from_user bigint,
    -- How often one person may have it in this round.
    rounds   integer     NOT NULL,
    -- The giving that this round began with: who had the lead often enough since then does not get it again.
    round    integer     NOT NULL,
    asked_at timestamptz NOT NULL,
    PRIMARY KEY (portal, lead_id, epoch),
    UNIQUE (portal, asked_by)
);
