-- The routing of each portal, as it was published: a decision names the version it was made by, so a version
-- never changes and is never deleted.
CREATE TABLE routing_versions (
    portal       text        NOT NULL,
    version      bigint      NOT NULL,
    text         text        NOT NULL,
    author       text        NOT NULL,
    note         text,
    published_at timestamptz NOT NULL,
    PRIMARY KEY (portal, version)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % never change; publish a new version', TG_TABLE_NAME;
END
$$;
CREATE TRIGGER routing_versions_never_change BEFORE UPDATE OR DELETE ON routing_versions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Which version was in force from when, and by whom; the last row of a portal is in force.
CREATE TABLE routing_activations (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    portal       text        NOT NULL,
    version      bigint      NOT NULL,
    author       text        NOT NULL,
    activated_at timestamptz NOT NULL,
    FOREIGN KEY (portal, version) REFERENCES routing_versions
);
CREATE INDEX routing_activations_by_portal ON routing_activations (portal, id DESC);

-- What a rule asked for besides the owner: fields to set, a deal.
ALTER TABLE decisions ADD COLUMN orders jsonb NOT NULL DEFAULT '{}';

-- How many leads somebody was given in an hour or a day.
CREATE INDEX decisions_given ON decisions (portal, to_user, decided_at) WHERE outcome = 'assign';

-- A held lead that waits for a known opening is no cause for alarm before it.
ALTER TABLE waiting_leads ADD COLUMN held_until timestamptz;

-- A ledger is also changed by hand, and not only for leads that members of a queue took.
ALTER TABLE ledger_entries
    ADD COLUMN kind text NOT NULL DEFAULT 'turn'
        CHECK (kind IN ('turn', 'duty', 'left', 'correction', 'refund')),
    ADD COLUMN author text,
    ADD COLUMN reason text,
    ALTER COLUMN lead_id DROP NOT NULL,
    ALTER COLUMN epoch DROP NOT NULL;
ALTER TABLE ledger_entries ALTER COLUMN kind DROP DEFAULT;
-- A decision is given back once.
CREATE UNIQUE INDEX ledger_entries_refunded ON ledger_entries (portal, lead_id, epoch, ledger, user_id)
    WHERE kind = 'refund';
