-- The leads that wait for their owner to be set: a small table to ask often, whatever the number of
-- decisions ever made. A lead enters it when its event failed for the first time ('undecided', it is
-- parked or throttled then), or when it is decided; it leaves it when its command is carried out, when it
-- needs nobody, or when its message has become a dead letter, which is counted by itself.
CREATE TABLE waiting_leads (
    portal     text        NOT NULL,
    lead_id    bigint      NOT NULL,
    epoch      integer     NOT NULL,
    state      text        NOT NULL CHECK (state IN ('undecided', 'held', 'assigned')),
    first_seen timestamptz NOT NULL,
    PRIMARY KEY (portal, lead_id, epoch)
);

INSERT INTO waiting_leads
SELECT portal, lead_id, epoch, CASE decisions.outcome WHEN 'hold' THEN 'held' ELSE 'assigned' END, first_seen
FROM decisions LEFT JOIN assignments USING (portal, lead_id, epoch)
WHERE decisions.outcome <> 'skip' AND finished_at IS NULL;

-- Which lead a dead letter is about; null where that cannot be read.
ALTER TABLE dead_letters ADD COLUMN lead_id bigint;
