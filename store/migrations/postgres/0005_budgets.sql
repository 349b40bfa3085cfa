-- Requests are booked in turn, by purpose, and more slowly after a refusal; what the portal says about the
-- time of its methods is known to all.

ALTER TABLE budgets
    ALTER COLUMN level TYPE double precision,
    -- The share of per_second that is granted, as of slowed_at; it recovers by itself.
    ADD COLUMN pace      double precision NOT NULL DEFAULT 1,
    ADD COLUMN slowed_at timestamptz      NOT NULL DEFAULT '-infinity';

-- The time that each method has used within the portal's ten minutes, as the portal last said. Ten minutes
-- later it is worth nothing, so that losing it in a crash is cheap.
CREATE UNLOGGED TABLE method_times (
    portal        text             NOT NULL,
    method        text             NOT NULL,
    used          double precision NOT NULL,
    resets_at     timestamptz,
    blocked_until timestamptz,
    told_at       timestamptz      NOT NULL,
    PRIMARY KEY (portal, method)
);

DROP FUNCTION take_request(text, integer, integer);

-- The share of per_second that is granted now: a tenth more with each half minute since it was slowed.
CREATE FUNCTION pace_now(pace double precision, slowed_at timestamptz) RETURNS double precision
LANGUAGE sql AS $$
    SELECT CASE WHEN slowed_at < clock_timestamp() - interval '1 hour' THEN 1
                ELSE least(1, pace * power(1.1, floor(extract(epoch FROM clock_timestamp() - slowed_at) / 30)))
           END::double precision
$$;

-- Takes one request of a portal's budget; `leaves` requests of the burst are not touched.
--
-- The portal's counter rises by one with each request and falls by per_second on each whole second of
-- a clock we do not know. We count our own seconds from the request that found the counter empty,
-- plus a slack for the request's way: so our counter never falls before the portal's. But the portal's
-- fall may find less than per_second and be wasted in part, and ours later be whole: so per_second - 1
-- requests (at least one) are kept in hand.
--
-- Where there is no room and `books`, the request is counted all the same, for the second in which there
-- will be: whoever asks next gets a later one. Otherwise it is not counted, and is to be asked again.
CREATE FUNCTION take_request(
    for_portal text, burst double precision, per_second double precision, leaves double precision, books boolean,
    OUT granted boolean, OUT wait_micros bigint, OUT level_now double precision
)
LANGUAGE plpgsql AS $$
DECLARE
    slack    CONSTANT interval := '200 milliseconds';
    bucket   budgets%ROWTYPE;
    moment   timestamptz;
    ticks    double precision;
    falls_by double precision;
    excess   double precision;
BEGIN
    SELECT * INTO bucket FROM budgets WHERE portal = for_portal FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO budgets VALUES (for_portal, floor(burst / 2), clock_timestamp() + slack) ON CONFLICT DO NOTHING;
        SELECT * INTO bucket FROM budgets WHERE portal = for_portal FOR UPDATE;
    END IF;
    -- After the lock: others may have had the row until this moment.
    moment := clock_timestamp();
    IF moment < bucket.ticked_at - interval '2 seconds' THEN
        bucket.ticked_at := moment; -- the machine's clock was set back
    END IF;
    falls_by := per_second * pace_now(bucket.pace, bucket.slowed_at);
    ticks := greatest(0, floor(extract(epoch FROM moment - bucket.ticked_at)));
    bucket.level := greatest(0, bucket.level - ticks * falls_by);
    IF bucket.level = 0 THEN
        bucket.ticked_at := moment + slack;
    ELSE
        bucket.ticked_at := bucket.ticked_at + ticks * interval '1 second';
    END IF;
    excess := bucket.level + least(greatest(per_second, 2), burst) + leaves - burst;
    granted := excess <= 0 OR books;
    wait_micros := 0;
    IF excess > 0 THEN
        wait_micros := greatest(1, extract(epoch FROM
            bucket.ticked_at + ceil(excess / falls_by) * interval '1 second' - moment) * 1000000)::bigint;
    END IF;
    IF granted THEN
        bucket.level := bucket.level + 1;
    END IF;
    level_now := bucket.level;
    UPDATE budgets SET level = bucket.level, ticked_at = bucket.ticked_at WHERE portal = for_portal;
END
$$;

-- The portal refused a request that was granted. Several refusals within two seconds are one.
CREATE FUNCTION slow_down(for_portal text, burst double precision) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO budgets VALUES (for_portal, burst, clock_timestamp(), 0.8, clock_timestamp())
    ON CONFLICT (portal) DO UPDATE SET
        level = greatest(budgets.level, burst), ticked_at = greatest(budgets.ticked_at, clock_timestamp()),
        pace = CASE WHEN budgets.slowed_at > clock_timestamp() - interval '2 seconds' THEN budgets.pace
                    ELSE greatest(0.25, 0.8 * pace_now(budgets.pace, budgets.slowed_at)) END,
        slowed_at = CASE WHEN budgets.slowed_at > clock_timestamp() - interval '2 seconds' THEN budgets.slowed_at
                         ELSE clock_timestamp() END
$$;

-- Where a portal was found under another name than the configuration has: it answers at its old address
-- only for a time.
CREATE TABLE addresses (
    portal     text        NOT NULL,
    configured text        NOT NULL,
    host       text        NOT NULL,
    moved_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (portal, configured)
);
