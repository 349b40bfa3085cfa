-- Who is at work: what portals told about people, and what people say themselves. All routers decide by the same.
CREATE TABLE rosters (
    portal      text   PRIMARY KEY,
    -- Grows with each change, so that who follows need only compare it.
    changes     bigint NOT NULL DEFAULT 0,
    -- Which router asks the portal, and until when.
    holder      uuid,
    lease_until timestamptz
);

-- The last word of each source about all people of a portal. A source that is refused keeps what it said before.
CREATE TABLE roster_readings (
    portal  text NOT NULL,
    source  text NOT NULL CHECK (source IN ('people', 'working_days', 'open_leads', 'calendar', 'messenger')),
    -- By user id; its form is the router's.
    facts   jsonb,
    read_at timestamptz,
    -- Why the last attempt brought nothing.
    problem text,
    PRIMARY KEY (portal, source)
);

-- Pauses and absences that people note here and not in the portal. A row ends earlier by `ended_at`; it is never
-- deleted, so that it can be seen who was away when, and who said so.
CREATE TABLE own_absences (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    portal     text        NOT NULL,
    user_id    bigint      NOT NULL,
    kind       text        NOT NULL CHECK (kind IN ('pause', 'absence')),
    from_at    timestamptz NOT NULL,
    to_at      timestamptz NOT NULL,
    reason     text,
    author     text        NOT NULL,
    written_at timestamptz NOT NULL,
    ended_at   timestamptz,
    ended_by   text,
    CHECK (from_at < to_at)
);
CREATE INDEX own_absences_to_come ON own_absences (portal, to_at) WHERE ended_at IS NULL;
