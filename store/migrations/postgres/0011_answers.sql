-- Leads whose owner is to answer within a time: a row from the decision until the lead is answered, is given again, or is
-- not his any more.
CREATE TABLE answer_timers (
    portal      text        NOT NULL,
    lead_id     bigint      NOT NULL,
    epoch       integer     NOT NULL,
    -- The queue that gave it, whose rules count.
    queue       text        NOT NULL,
    owner       bigint      NOT NULL,
    -- Since when he is the owner, when he is reminded and when his time is over; null until he is.
    since       timestamptz,
    remind_at   timestamptz,
    due_at      timestamptz,
    reminded_at timestamptz,
    -- When the lead was to be given to somebody else.
    missed_at   timestamptz,
    PRIMARY KEY (portal, lead_id, epoch)
);

-- Which router of several looks after a portal's timers.
CREATE TABLE answer_watches (
    portal      text PRIMARY KEY,
    holder      uuid        NOT NULL,
    lease_until timestamptz NOT NULL
);
