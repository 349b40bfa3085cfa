-- What a notice says about a lead, kept from the decision until the person was told, so that the lead need
-- not be read again for it. Messages carry no content of leads.
ALTER TABLE decisions ADD COLUMN title text;

-- Which command of the pack is the notice: several assignments can share one. Positions of packs sent before
-- are those of assignments, each with its notice behind it.
ALTER TABLE pack_items ADD COLUMN notice_position integer;
UPDATE pack_items SET notice_position = position;
