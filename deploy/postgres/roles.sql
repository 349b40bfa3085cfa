-- Makes the roles of an installation and hands the database over to their owner. Harmless when repeated: it is run at each
-- start, as the superuser of the server, in the database `rota`:
--
--   psql --username=rota --dbname=rota --set=passwords=FOLDER --file=roles.sql
--
-- FOLDER (/run/rota, unless said otherwise) has a file with its password for each role, of the role's name. What a role may
-- do in the tables is granted by `rota migrate`, which their owner runs (store/migrations/postgres/grants.sql).
\set ON_ERROR_STOP on
\if :{?passwords}
\else
    \set passwords /run/rota
\endif
\set rota_owner `cat :passwords/rota_owner`
\set rota_ingest `cat :passwords/rota_ingest`
\set rota_router `cat :passwords/rota_router`
\set rota_notifier `cat :passwords/rota_notifier`
\set rota_cli `cat :passwords/rota_cli`
\set rota_exporter `cat :passwords/rota_exporter`

-- A statement that fails is written into the server's log, and these hold passwords.
SET log_min_error_statement = panic;

BEGIN;
SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['rota_owner', 'rota_ingest', 'rota_router', 'rota_notifier', 'rota_cli', 'rota_exporter']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
ALTER ROLE rota_owner    LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'rota_owner';
ALTER ROLE rota_ingest   LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'rota_ingest';
ALTER ROLE rota_router   LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'rota_router';
ALTER ROLE rota_notifier LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'rota_notifier';
ALTER ROLE rota_cli      LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'rota_cli';
ALTER ROLE rota_exporter LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'rota_exporter';
-- The server's statistics, no table's rows.
GRANT pg_monitor TO rota_exporter;

-- What an installation of before, whose only role was the superuser, has made. REASSIGN OWNED refuses the superuser that
-- the cluster was made with.
SELECT format('ALTER DATABASE %I OWNER TO rota_owner', current_database())
\gexec
SELECT format('ALTER %s public.%I OWNER TO rota_owner', CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, relname)
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v') AND relowner <> 'rota_owner'::regrole
  -- What belongs to an extension stays with it.
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')
\gexec
SELECT format('ALTER ROUTINE %s OWNER TO rota_owner', pg_proc.oid::regprocedure)
FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND proowner <> 'rota_owner'::regrole
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e')
\gexec
COMMIT;
