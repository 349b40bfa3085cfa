-- A pack whose end nobody saw is cleared up once, as a whole, by one who holds it.
CREATE TABLE lost_packs (
    pack       uuid        PRIMARY KEY,
    holder     uuid        NOT NULL,
    held_until timestamptz NOT NULL
);

-- From here on a pack lists only what is not known yet: what is known may have been sent again, and would be taken
-- for the work of the older pack.
DELETE FROM pack_items WHERE NOT EXISTS (
    SELECT 1 FROM assignments
    WHERE assignments.portal = pack_items.portal AND assignments.lead_id = pack_items.lead_id
      AND assignments.epoch = pack_items.epoch AND assignments.pack = pack_items.pack
      AND assignments.sent_at IS NOT NULL AND assignments.finished_at IS NULL);

ALTER TABLE pack_items
    -- The owner that the lead had when the pack was made; null where it had none.
    ADD COLUMN from_user  bigint,
    -- Whether the assignment is not finished by the pack alone.
    ADD COLUMN more_to_do boolean NOT NULL DEFAULT false;
UPDATE pack_items SET from_user = decisions.from_user, more_to_do = coalesce(orders ->> 'deal', '') <> ''
    FROM decisions
    WHERE decisions.portal = pack_items.portal AND decisions.lead_id = pack_items.lead_id
      AND decisions.epoch = pack_items.epoch;

-- With how many others it may be in a pack, after one failed as a whole; null: any number.
ALTER TABLE assignments ADD COLUMN pack_at_most integer;
