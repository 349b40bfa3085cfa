-- Dead letters that people work with: sent again as a task, and told of.

ALTER TABLE dead_letters
    -- When somebody was told of it in the portal.
    ADD COLUMN told_at timestamptz,
    -- Whether its lead's card says so, or is about to.
    ADD COLUMN on_card boolean NOT NULL DEFAULT false;
CREATE INDEX dead_letters_by_message ON dead_letters (message_id, id);
CREATE INDEX dead_letters_waiting ON dead_letters (id) WHERE settled_at IS NULL;

-- Dead letters that are sent again. Which they are is fixed when it begins, as rows of replay_items.
CREATE TABLE replays (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Which were asked for, in words.
    what         text             NOT NULL,
    author       text             NOT NULL,
    per_second   double precision NOT NULL CHECK (per_second > 0),
    -- Whether their leads are decided anew where that can be.
    decide_again boolean          NOT NULL,
    state        text             NOT NULL CHECK (state IN ('running', 'done', 'cancelled')),
    created_at   timestamptz      NOT NULL,
    ended_at     timestamptz,
    -- Who cancelled it.
    ended_by     text,
    -- Which router carries it out, and until when.
    holder       uuid,
    lease_until  timestamptz,
    CHECK ((state = 'running') = (ended_at IS NULL))
);
CREATE UNIQUE INDEX replays_one_at_a_time ON replays ((true)) WHERE state = 'running';

CREATE TABLE replay_items (
    replay       bigint NOT NULL REFERENCES replays ON DELETE CASCADE,
    letter       bigint NOT NULL REFERENCES dead_letters ON DELETE CASCADE,
    -- The last dead letter before it was begun to be sent: what died as the same message later is this one's end. What
    -- was begun is always sent, by whichever router.
    after_letter bigint,
    -- The message that it was sent as: itself, or a new event that has its lead decided anew.
    sent_as      text,
    -- The giving that was opened for that.
    epoch        integer,
    sent_at      timestamptz,
    -- Why it could not be sent.
    problem      text,
    PRIMARY KEY (replay, letter)
);
CREATE INDEX replay_items_by_letter ON replay_items (letter);
CREATE INDEX replay_items_to_send ON replay_items (replay, letter) WHERE sent_at IS NULL AND problem IS NULL;

-- When somebody was last told of a portal's dead letters.
CREATE TABLE dead_letter_tellings (
    portal  text        PRIMARY KEY,
    told_at timestamptz NOT NULL
);

-- A lead's card says too that it was not given.
ALTER TABLE timeline_entries DROP CONSTRAINT timeline_entries_outcome_check;
ALTER TABLE timeline_entries ADD CONSTRAINT timeline_entries_outcome_check
    CHECK (outcome IN ('assign', 'hold', 'dead'));
