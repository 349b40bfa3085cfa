-- The deal that a rule orders for a lead. Creating one is not safe to repeat: that it is about to be tried is written
-- down before.
ALTER TABLE assignments
    ADD COLUMN deal_sent_at timestamptz,
    ADD COLUMN deal_id      bigint;
