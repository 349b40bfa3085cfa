-- What the pipeline must remember: who was given what and why, whose turn it is, what was done about
-- it in the portal, how many requests a portal has had, and what waits for a human.

-- One row for each (portal, lead, epoch): the unique key is what makes a redelivery harmless.
CREATE TABLE decisions (
    portal          text        NOT NULL,
    lead_id         bigint      NOT NULL,
    epoch           integer     NOT NULL,
    outcome         text        NOT NULL CHECK (outcome IN ('assign', 'hold', 'skip')),
    -- The owner the decision saw; null where the lead had none.
    from_user       bigint,
    -- Only of outcome 'assign'.
    to_user         bigint,
    person          text,
    queue           text,
    rule            text,
    -- One line for people.
    reason          text        NOT NULL,
    explanation     jsonb       NOT NULL,
    routing_version bigint      NOT NULL,
    first_seen      timestamptz NOT NULL,
    decided_at      timestamptz NOT NULL,
    -- When the command was confirmed by the broker.
    published_at    timestamptz,
    -- Of outcome 'hold': when it is decided again.
    look_again_at   timestamptz,
    PRIMARY KEY (portal, lead_id, epoch),
    CHECK ((outcome = 'assign') = (to_user IS NOT NULL)),
    CHECK ((outcome = 'hold') = (look_again_at IS NOT NULL))
);
CREATE INDEX decisions_held ON decisions (portal, look_again_at) WHERE outcome = 'hold';

-- The account of turns, and its balance, in the units of the deciding crate (`Credit::TURN`).
CREATE TABLE ledger_entries (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    portal     text        NOT NULL,
    ledger     text        NOT NULL,
    user_id    bigint      NOT NULL,
    delta      bigint      NOT NULL,
    lead_id    bigint      NOT NULL,
    epoch      integer     NOT NULL,
    written_at timestamptz NOT NULL
);
CREATE INDEX ledger_entries_by_lead ON ledger_entries (portal, lead_id, epoch);

CREATE TABLE ledger_balances (
    portal  text   NOT NULL,
    ledger  text   NOT NULL,
    user_id bigint NOT NULL,
    credit  bigint NOT NULL,
    PRIMARY KEY (portal, ledger, user_id)
);

-- Decisions of a portal are made one at a time under this row's lock: two at once would read the same
-- balance and give one person two turns.
CREATE TABLE deciding (
    portal text PRIMARY KEY
);

-- What was done in the portal about an assignment. A pack is one request with many assignments;
-- sent_at is written before it is sent, so that an end that nobody saw is known to have been possible.
CREATE TABLE assignments (
    portal          text        NOT NULL,
    lead_id         bigint      NOT NULL,
    epoch           integer     NOT NULL,
    to_user         bigint      NOT NULL,
    -- The last pack it was in.
    pack            uuid,
    sent_at         timestamptz,
    owner_set_at    timestamptz,
    notified_at     timestamptz,
    notification_id bigint,
    outcome         text,
    finished_at     timestamptz,
    PRIMARY KEY (portal, lead_id, epoch),
    CHECK ((outcome IS NULL) = (finished_at IS NULL))
);

-- What was in a pack, in the order of its commands. Kept until the end of all of it is known: what one
-- assignment shows of a lost pack is needed for the others even when it has long gone into another.
CREATE TABLE pack_items (
    pack       uuid    NOT NULL,
    position   integer NOT NULL,
    portal     text    NOT NULL,
    lead_id    bigint  NOT NULL,
    epoch      integer NOT NULL,
    to_user    bigint  NOT NULL,
    -- Whether the pack was to set the owner; false where only the notice was missing.
    sets_owner boolean NOT NULL,
    PRIMARY KEY (pack, position)
);

-- Requests to a portal, counted for all processes. Losing the row in a crash of the database is
-- cheap (it starts anew half full), writing it to the log for each request would not be.
CREATE UNLOGGED TABLE budgets (
    portal    text PRIMARY KEY,
    level     integer     NOT NULL,
    ticked_at timestamptz NOT NULL
);

-- Takes one request of a portal's budget. Answers 0 if it is granted, else the microseconds to wait.
--
-- The portal's counter rises by one with each request and falls by per_second on each whole second of
-- a clock we do not know. We count our own seconds from the request that found the counter empty,
-- plus a slack for the request's way: so our counter never falls before the portal's. But the portal's
-- fall may find less than per_second and be wasted in part, and ours later be whole: so per_second - 1
-- requests (at least one) are kept in hand.
CREATE FUNCTION take_request(for_portal text, burst integer, per_second integer) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    slack    CONSTANT interval := '200 milliseconds';
    bucket   budgets%ROWTYPE;
    moment   timestamptz;
    ticks    bigint;
BEGIN
    SELECT * INTO bucket FROM budgets WHERE portal = for_portal FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO budgets VALUES (for_portal, burst / 2, clock_timestamp() + slack) ON CONFLICT DO NOTHING;
        SELECT * INTO bucket FROM budgets WHERE portal = for_portal FOR UPDATE;
    END IF;
    -- After the lock: others may have had the row until this moment.
    moment := clock_timestamp();
    IF moment < bucket.ticked_at - interval '2 seconds' THEN
        bucket.ticked_at := moment; -- the machine's clock was set back
    END IF;
    ticks := greatest(0, floor(extract(epoch FROM moment - bucket.ticked_at)))::bigint;
    bucket.level := greatest(0, bucket.level - ticks * per_second)::integer;
    IF bucket.level = 0 THEN
        bucket.ticked_at := moment + slack;
    ELSE
        bucket.ticked_at := bucket.ticked_at + ticks * interval '1 second';
    END IF;
    IF bucket.level + least(greatest(per_second, 2), burst) <= burst THEN
        UPDATE budgets SET level = bucket.level + 1, ticked_at = bucket.ticked_at WHERE portal = for_portal;
        RETURN 0;
    END IF;
    UPDATE budgets SET level = bucket.level, ticked_at = bucket.ticked_at WHERE portal = for_portal;
    RETURN greatest(1, extract(epoch FROM bucket.ticked_at + interval '1 second' - moment) * 1000000)::bigint;
END
$$;

-- Messages that wait for a human, with their bytes as they came.
CREATE TABLE dead_letters (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id text        NOT NULL,
    portal     text,
    queue      text,
    type       text        NOT NULL,
    class      text        NOT NULL,
    reason     text        NOT NULL,
    attempt    integer     NOT NULL,
    first_seen timestamptz,
    traceparent text,
    body       bytea       NOT NULL,
    died_at    timestamptz NOT NULL
);
CREATE INDEX dead_letters_by_portal ON dead_letters (portal, class);

-- How far the scan for lost events has come, and which process does it.
CREATE TABLE sweeps (
    portal      text PRIMARY KEY,
    -- The highest lead id at the first scan; leads up to it are not ours.
    first_id    bigint,
    -- The highest lead id seen; null before the first scan.
    last_id     bigint,
    holder      uuid,
    lease_until timestamptz
);
