-- A notice that is to be sent only once a giving of a lead has been carried out, and not at all where it was not: of which
-- giving. Both are null for the others.
ALTER TABLE notices
    ADD COLUMN lead_id bigint,
    ADD COLUMN epoch   integer;

-- Whether the portal keeps leads, or turns each into a deal at once, as it said last. Null while it did not say.
ALTER TABLE rosters
    ADD COLUMN has_leads boolean;
