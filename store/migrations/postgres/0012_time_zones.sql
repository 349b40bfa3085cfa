-- Portals tell where people live too.
ALTER TABLE roster_readings DROP CONSTRAINT roster_readings_source_check;
ALTER TABLE roster_readings ADD CONSTRAINT roster_readings_source_check
    CHECK (source IN ('people', 'time_zones', 'working_days', 'open_leads', 'calendar', 'messenger'));
