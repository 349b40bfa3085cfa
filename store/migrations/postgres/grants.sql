-- What each role of an installation may do. The owner of the tables runs this after the migrations, each time, so that it
-- holds for their tables too; a role that is not there is passed over, and where none is nothing is changed. The roles
-- themselves are made by an administrator (deploy/postgres/roles.sql).
--
-- A new table is the router's by itself, and everybody else's only by a line here.
DO $$
DECLARE
    -- Role, privileges, table. One role may have several lines for a table.
    grants CONSTANT text[][] := ARRAY[
        -- ingest notes what robots ask for and what the scan finds. Of decisions and dead letters it sees which leads
        -- have one, of the routing what it looks up the names of queues in.
        ['rota_ingest', 'SELECT, INSERT, UPDATE', 'givings'],
        ['rota_ingest', 'SELECT, INSERT, UPDATE', 'deciding'],
        ['rota_ingest', 'SELECT, INSERT, UPDATE', 'sweeps'],
        ['rota_ingest', 'SELECT (portal, lead_id, epoch, outcome)', 'decisions'],
        ['rota_ingest', 'SELECT (portal, lead_id, type)', 'dead_letters'],
        ['rota_ingest', 'SELECT (portal, lead_id, epoch)', 'waiting_leads'],
        ['rota_ingest', 'INSERT (portal, lead_id, epoch, state, first_seen, publish_again_at)', 'waiting_leads'],
        ['rota_ingest', 'SELECT', 'routing_versions'],
        ['rota_ingest', 'SELECT', 'routing_activations'],
        ['rota_ingest', 'SELECT, INSERT, UPDATE', 'budgets'],
        ['rota_ingest', 'SELECT, INSERT, UPDATE', 'method_times'],
        ['rota_ingest', 'SELECT, INSERT, UPDATE, DELETE', 'addresses'],

        -- notifier carries out what was decided and notes how that ends.
        ['rota_notifier', 'SELECT, INSERT, UPDATE', 'assignments'],
        ['rota_notifier', 'SELECT, INSERT, DELETE', 'pack_items'],
        ['rota_notifier', 'SELECT, INSERT, UPDATE, DELETE', 'lost_packs'],
        ['rota_notifier', 'SELECT (portal, lead_id, epoch, from_user, orders, title), UPDATE (title)', 'decisions'],
        ['rota_notifier', 'SELECT (portal, lead_id, epoch), DELETE', 'waiting_leads'],
        ['rota_notifier', 'SELECT, UPDATE, DELETE', 'timeline_entries'],
        ['rota_notifier', 'SELECT, UPDATE, DELETE', 'notices'],
        ['rota_notifier', 'SELECT, INSERT, UPDATE, DELETE', 'unseen_leads'],
        ['rota_notifier', 'SELECT, INSERT, UPDATE', 'budgets'],
        ['rota_notifier', 'SELECT, INSERT, UPDATE', 'method_times'],
        ['rota_notifier', 'SELECT, INSERT, UPDATE, DELETE', 'addresses'],

        -- The command `rota` reads everything and writes what a person asks for by it.
        ['rota_cli', 'INSERT', 'routing_versions'],
        ['rota_cli', 'INSERT', 'routing_activations'],
        ['rota_cli', 'INSERT, UPDATE', 'deciding'],
        ['rota_cli', 'INSERT', 'ledger_entries'],
        ['rota_cli', 'INSERT, UPDATE', 'ledger_balances'],
        ['rota_cli', 'INSERT, UPDATE', 'own_absences'],
        ['rota_cli', 'INSERT, UPDATE', 'rosters'],
        ['rota_cli', 'UPDATE (settled_at, settlement)', 'dead_letters'],
        ['rota_cli', 'DELETE', 'addresses'],
        ['rota_cli', 'INSERT, UPDATE', 'replays'],
        ['rota_cli', 'INSERT', 'replay_items']
    ];
    place   CONSTANT text := quote_ident(current_schema());
    present text[] := ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname IN
        ('rota_ingest', 'rota_router', 'rota_notifier', 'rota_cli', 'rota_exporter'));
    role    text;
    line    text[];
BEGIN
    -- Whoever owns the tables has all rights to them, and a server's administrator too.
    present := array_remove(present, current_user::text);
    IF present = '{}' THEN
        RETURN;
    END IF;

    -- Nobody else comes in, or makes anything.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('REVOKE CREATE ON SCHEMA %s FROM PUBLIC', place);
    EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA %s FROM PUBLIC', place);

    FOREACH role IN ARRAY present LOOP
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
        -- What an earlier version granted and this one does not.
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %s FROM %I', place, role);
        EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA %s FROM %I', place, role);
        -- The exporter reads the server's statistics, which are no tables of ours.
        CONTINUE WHEN role = 'rota_exporter';
        EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I', place, role);
        EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA %s TO %I', place, role);
        EXECUTE format('GRANT SELECT ON _sqlx_migrations TO %I', role);
    END LOOP;

    -- The router decides, keeps everything in order and forgets what is old. What was published never changes.
    IF 'rota_router' = ANY (present) THEN
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %s TO rota_router', place);
        REVOKE INSERT, UPDATE, DELETE ON _sqlx_migrations FROM rota_router;
        REVOKE UPDATE, DELETE ON routing_versions, routing_activations FROM rota_router;
    END IF;
    IF 'rota_cli' = ANY (present) THEN
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %s TO rota_cli', place);
    END IF;
    FOREACH line SLICE 1 IN ARRAY grants LOOP
        CONTINUE WHEN line[1] <> ALL (present);
        EXECUTE format('GRANT %s ON %s.%I TO %I', line[2], place, line[3], line[1]);
    END LOOP;
END
$$;
