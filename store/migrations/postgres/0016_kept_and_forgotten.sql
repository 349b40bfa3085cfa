-- What is carried out although a broker lost it, what is kept once, and for how long.

-- A dead letter waits for a human until it is settled; `settlement` says what became of it ('replayed', 'discarded', …).
ALTER TABLE dead_letters
    ADD COLUMN settled_at timestamptz,
    ADD COLUMN settlement text,
    ADD CONSTRAINT dead_letters_settlement CHECK ((settled_at IS NULL) = (settlement IS NULL));

-- The broker gives a letter again whose acknowledgement was lost with the connection. One that dies again after it was
-- replayed is another letter: the first one is settled by then.
DELETE FROM dead_letters AS copy USING dead_letters AS kept
WHERE kept.id < copy.id AND kept.message_id = copy.message_id
    AND coalesce(kept.queue, '') = coalesce(copy.queue, '') AND kept.attempt = copy.attempt AND kept.body = copy.body;
CREATE UNIQUE INDEX dead_letters_once ON dead_letters (message_id, coalesce(queue, ''), attempt, sha256(body))
    WHERE settled_at IS NULL;
CREATE INDEX dead_letters_by_lead ON dead_letters (portal, lead_id);
CREATE INDEX dead_letters_settled ON dead_letters (settled_at) WHERE settled_at IS NOT NULL;

-- Decisions are forgotten after a time, and the titles of leads sooner.
CREATE INDEX decisions_by_age ON decisions (decided_at);
CREATE INDEX decisions_titled ON decisions (decided_at) WHERE title IS NOT NULL;

-- When the event of a giving that nothing came of was published again.
ALTER TABLE givings ADD COLUMN published_at timestamptz;
CREATE INDEX givings_by_age ON givings (portal, asked_at);

-- Which router of several does what one of them is to do.
CREATE TABLE leases (
    name        text PRIMARY KEY,
    holder      uuid        NOT NULL,
    lease_until timestamptz NOT NULL
);
