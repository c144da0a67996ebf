# Every function of the extension, called with NULLs and with arguments that nobody would give, by a superuser and by roles
# that may ask models or nothing at all, and every command that takes a relation, given a model: errors that say something,
# never an internal one, never a crash, and no memory that stays.
#
# MOE_ML_SEED says where the random arguments start from, MOE_ML_CALLS how many a function gets (40).
use strict;
use warnings;
use Test::More;
use MoeServer;
use MoeShop;

my $seed = $ENV{MOE_ML_SEED} // 1;
my $calls = $ENV{MOE_ML_CALLS} // 40;
note("seed $seed");
my $server = MoeServer->new('functions', log_min_messages => 'warning', log_min_error_statement => 'panic');
my $quiet = "SET moe_ml.notices = off;\nSET client_min_messages = warning;\n";
$server->query("$quiet CREATE EXTENSION moe_ml;\n" . shop_sql() . model_sql('CREATE MODEL m') . ";\n"
    . model_sql('CREATE MODEL home', query => 'PREDICT customers.kind FOR EACH customers') . <<'SQL');
;
CREATE VIEW v AS SELECT * FROM customers;
CREATE TABLE empty ();
CREATE SEQUENCE q;
-- Values of each type to draw from, as SQL.
CREATE TABLE pool (type regtype, value text);
INSERT INTO pool SELECT 'text', quote_nullable(v) FROM unnest(ARRAY[NULL, '', ' ', 'm', 'home', 'public.m', '"m"', 'M', 'customers', 'v', 'empty', 'a.b.c', 'a.b.c.d', '"', '""', '.', ';', '%s%n', '7', '7.5', 'NaN',
    E'\\x', repeat('x', 100000), repeat('(', 20000), 'rolling', 'frozen', 'time', 'known at placed_at', 'references customers', 'key', 'SELECT 1', 'SELECT', 'DELETE FROM orders', 'SELECT 7 AS customer_id, now() AS as_of, true AS label',
    'SELECT NULL::int AS customer_id, NULL::timestamp AS as_of, NULL::bool AS label', 'SELECT customer_id, as_of, label, label FROM (SELECT 7 AS customer_id, ''infinity''::timestamp AS as_of, 2 AS label) AS q',
    'SELECT 1; SELECT 2', 'TABLE m', 'SELECT ''x'' AS customer_id, 1 AS as_of, ARRAY[1] AS label', 'customers.customer_id', 'orders.placed_at', 'orders.none', 'x']) AS v;
INSERT INTO pool SELECT 'name', format('%L::name', v) FROM unnest(ARRAY[NULL, '', 'customer_id', 'placed_at', 'ctid', 'x', repeat('y', 63)]) AS v;
INSERT INTO pool SELECT 'regclass', v FROM unnest(ARRAY['NULL::regclass', '0::regclass', '4294967295::oid::regclass', '''m''::regclass', '''customers''::regclass', '''orders''::regclass', '''v''::regclass', '''empty''::regclass',
    '''q''::regclass', '''pg_class''::regclass', '''customers_pkey''::regclass', '''moe_ml.model''::regclass', '''pg_toast.pg_toast_1255''::regclass', '''information_schema.tables''::regclass']) AS v;
INSERT INTO pool SELECT 'regclass[]', v FROM unnest(ARRAY['NULL::regclass[]', '''{}''::regclass[]', '''{NULL}''::regclass[]', '''{customers,orders}''::regclass[]', '''{customers,customers}''::regclass[]', '''{{customers},{m}}''::regclass[]',
    '''[-5:-4]={orders,customers}''::regclass[]', 'ARRAY[0]::regclass[]']) AS v;
INSERT INTO pool SELECT 'text[]', v FROM unnest(ARRAY['NULL::text[]', '''{}''::text[]', '''{NULL}''::text[]', '''{orders.placed_at}''::text[]', '''{orders.none,orders.placed_at}''::text[]', '''{{a,b},{c,d}}''::text[]', '''{"","."}''::text[]',
    '''{model=00000000-0000-0000-0000-000000000000}''::text[]', '''{model=x}''::text[]', '''{model}''::text[]', '''{colour=red}''::text[]']) AS v;
INSERT INTO pool SELECT 'float8[]', v FROM unnest(ARRAY['NULL::float8[]', '''{}''::float8[]', '''{NULL}''::float8[]', '''{0,0.5,1}''::float8[]', '''{{0},{1}}''::float8[]', '''{NaN}''::float8[]', '''{-0.1,2}''::float8[]', '''{infinity}''::float8[]', 'array_fill(0.5::float8, ARRAY[101])']) AS v;
INSERT INTO pool SELECT 'bigint', v FROM unnest(ARRAY['NULL::bigint', '0', '1', '-1', '9223372036854775807']) AS v;
INSERT INTO pool SELECT 'boolean', v FROM unnest(ARRAY['NULL::bool', 'true', 'false']) AS v;
INSERT INTO pool SELECT 'oid', v FROM unnest(ARRAY['NULL::oid', '0::oid', '4294967295::oid', '''pg_foreign_table''::regclass::oid', '''pg_foreign_server''::regclass::oid', '''m''::regclass::oid', '''moe_ml.predict(text,text,timestamptz)''::regprocedure::oid']) AS v;
INSERT INTO pool SELECT 'timestamptz', v FROM unnest(ARRAY['NULL::timestamptz', '''infinity''::timestamptz', '''-infinity''::timestamptz', '''4713-01-01 BC''::timestamptz', '''294276-12-31''::timestamptz', '''2020-03-01''::timestamptz',
    '''1970-01-01''::timestamptz', 'now()']) AS v;
INSERT INTO pool SELECT 'bytea', v FROM unnest(ARRAY['NULL::bytea', '''x''::bytea', 'moe_ml.export_model(''m'')', 'substr(moe_ml.export_model(''m''), 1, 1000)', 'set_byte(moe_ml.export_model(''home''), 500, 7)']) AS v;
INSERT INTO pool SELECT 'anyelement', v FROM unnest(ARRAY['NULL::int', '7', '-7', '0', '7::smallint', '2147483647', '9223372036854775807', '7.5', '''NaN''::numeric', '1e300::numeric', '''NaN''::float8', '''infinity''::float8', '7::real', 'true', '''7''::bpchar',
    '''x''::varchar', 'NULL::varchar', 'ROW(7)', 'ROW(7, 8)', 'ROW()', 'ROW(NULL)', 'ROW(ROW(7))', 'ROW(''x''::text)', '(SELECT c FROM customers AS c LIMIT 1)', 'ARRAY[7]', '''{}''::int[]', '''{"a": 1}''::jsonb', 'now()', 'current_date', '''7''::"char"', 'NULL::point',
    'point(1, 2)', 'int4range(1, 9)', '''x''::bytea', '7::oid', '''m''::regclass', '''$7''::money', 'interval ''7 days''']) AS v;
-- Statements, whole and cut and spoilt.
CREATE TABLE statement AS SELECT v FROM unnest(ARRAY[
    'CREATE MODEL n PREDICT count(orders.*, 0, 12, days) = 0 FOR EACH customers WITH (epochs = 1, ensembles = 1, channels = 8)',
    'CREATE OR REPLACE MODEL m PREDICT sum(orders.amount WHERE orders.amount > 1 AND orders.order_id IN (1, 2), 0, 12, days) FOR EACH customers WHERE count(orders.*, -90, 0, days) > 0 OR NOT count(orders.*, -INF, 0, days) < 5 WITH (epochs = 1, ensembles = 1, channels = 8)',
    'CREATE MODEL IF NOT EXISTS public.n PREDICT y FOR EACH customers AT at WITH (epochs = 1, ensembles = 1, channels = 8) AS SELECT customer_id, placed_at AS at, amount > 3 AS y FROM orders',
    'CREATE MODEL n PREDICT customers.kind FOR EACH customers.customer_id USING (customers, orders) WITH (epochs = 1, ensembles = 1, channels = 8, time_columns = (orders.placed_at, customers.none), ignored_columns = (customers.since))',
    'REFRESH MODEL m', 'REFRESH MODEL m WITH (background)', 'ALTER MODEL m SET (epochs = 2, show = experts, experts = (linear, graph))', 'ALTER MODEL IF EXISTS m RESET (show, channels)', 'DROP MODEL IF EXISTS m, home CASCADE', 'ALTER MODEL m RENAME TO n', 'ALTER MODEL m SET SCHEMA moe_ml', 'ALTER MODEL m OWNER TO CURRENT_USER']) AS v;
CREATE FUNCTION spoilt() RETURNS text LANGUAGE plpgsql AS $f$
DECLARE s text := (SELECT v FROM statement ORDER BY random() LIMIT 1); i int; words text[] := ARRAY['''', '"', '(', ')', ',', ';', '--', '/*', '$$', '-1', '0', '99999999999999999999', '1e400', '1.5', 'NULL', '*', '.', 'FOR EACH', 'WHERE', 'WITH (', 'AS', 'PREDICT', 'm', '=', '<', E'\\', '%', 'é'];
BEGIN
    FOR n IN 1..(random() * 2)::int LOOP
        i := 1 + (random() * length(s))::int;
        s := CASE (random() * 3)::int WHEN 0 THEN left(s, i) WHEN 1 THEN overlay(s PLACING words[1 + (random() * 27)::int] FROM i FOR (random() * 8)::int)
                  WHEN 2 THEN left(s, i) || ' ' || words[1 + (random() * 27)::int] || ' ' || substr(s, i + 1) ELSE regexp_replace(s, '\w+', words[1 + (random() * 27)::int], i) END;
    END LOOP;
    RETURN s;
END $f$;
CREATE FUNCTION drawn(wanted regtype) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF wanted <> 'float8[]'::regtype AND wanted::text ~ '\[\]|name|timestamp' AND random() < 0.6 THEN -- what may be left out
        RETURN 'NULL::' || wanted;
    END IF;
    RETURN coalesce((SELECT value FROM pool WHERE type = wanted ORDER BY random() LIMIT 1), 'NULL::' || wanted);
END $$;
-- Run a command and undo it; returns 'done', its error's SQLSTATE, or what is wrong with its error.
CREATE FUNCTION tried(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RAISE EXCEPTION USING ERRCODE = 'UNDO1';
EXCEPTION WHEN SQLSTATE 'UNDO1' THEN RETURN 'done';
    WHEN OTHERS THEN
        RETURN CASE WHEN SQLSTATE ~ '^(XX|58|57P|53)' OR SQLERRM = '' THEN left(command, 500) || ' -> ' ELSE '' END || SQLSTATE
            || CASE WHEN SQLSTATE ~ '^(XX|58|57P|53)' THEN left(SQLERRM, 300) ELSE '' END;
END $$;
CREATE ROLE asker;
CREATE ROLE stranger;
GRANT USAGE ON SCHEMA moe_ml TO asker, stranger;
GRANT SELECT ON pool, statement TO asker, stranger;
GRANT SELECT ON m, home, customers, orders TO asker;
SQL
my $start = $server->query('SELECT pg_postmaster_start_time()');

# Each function of the extension, as "schema.name", with its argument types.
my @functions = map { [ split /\|/, $_ ] } split /\n/, $server->query(<<'SQL');
SELECT p.oid::regproc::text, array_to_string(p.proargtypes::regtype[], ';'), p.oid::regprocedure FROM pg_proc AS p
  JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'moe_ml' WHERE NOT 'internal'::regtype = ANY (p.proargtypes) ORDER BY 3
SQL
cmp_ok(scalar(@functions), '>', 20, 'there are functions');
my ($done, $number) = (0, 0);
for my $function (@functions)
{
    my ($name, $types, $signature) = @$function;
    $name = "moe_ml.$name" if $name !~ /\./;
    my @types = split /;/, $types;
    my $draw = join " || ', ' || ", map { /^text$/ && $name =~ /execute|compile/ ? 'CASE WHEN random() < 0.9 THEN quote_literal(spoilt()) ELSE drawn(\'text\') END'
        : $name =~ /predict|explain|importance|evaluate|training_query/ && $_ eq 'text' && !$types[1] ? "CASE WHEN random() < 0.5 THEN '''m''' ELSE drawn('text') END" : "drawn('$_')" } @types;
    # The first argument of what asks a model is one, more often than not.
    $draw =~ s/^drawn\('text'\)/CASE WHEN random() < 0.7 THEN '''m''' ELSE drawn('text') END/ if $name =~ /predict|explain|evaluate/;
    $draw =~ s/drawn\('text'\)$/CASE WHEN random() < 0.7 THEN '''rolling''' ELSE drawn('text') END/ if $name =~ /predictions/;
    my $nulls = join ', ', map { 'NULL::' . ($_ eq 'anyelement' ? 'int' : $_) } @types;
    my $n = @types ? $name =~ /execute|compile/ ? 6 * $calls : $calls : 1;
    my $limit = 60 + $n; # of all calls of one statement, on a machine with other work
    my $call = @types ? "'SELECT $name(' || $draw || ')'" : "'SELECT $name()'";
    my ($status, $out, $err) = $server->psql("$quiet SET statement_timeout = '${limit}s';\nSELECT setseed(sin($seed * 100 + ${\ ++$number }));\n"
        . "SELECT tried('SELECT $name($nulls)') UNION ALL SELECT tried($call) FROM generate_series(1, $n) AS i WHERE i > 0 OR random() < 0");
    is("$status $err", '0 ', "$signature: no call ends the session");
    is(join("\n", grep { / -> / } split /\n/, $out), '', "$signature: no internal error");
    my %how;
    $how{$_}++ for grep { $_ ne '' } split /\n/, $out;
    note(join ', ', map { "$_: $how{$_}" } sort keys %how);
    $done += $how{done} // 0;

    # The same as other roles
    my $few = @types ? int(($n + 3) / 4) : 1;
    for my $role (qw(asker stranger))
    {
        ($status, $out, $err) = $server->psql("$quiet SET statement_timeout = '${limit}s'; SET ROLE $role;\nSELECT setseed(sin($seed * 100 + ${\ ++$number }));\n"
            . "SELECT tried($call) FROM generate_series(1, $few) AS i WHERE i > 0 OR random() < 0");
        is("$status $err", '0 ', "$signature: no call of role $role ends the session");
        is(join("\n", grep { / -> / } split /\n/, $out), '', "$signature: no internal error for role $role");
    }

    # The same calls again and again: from the second time on, the session's memory stays where it is.
    my $contexts = "SELECT 'used ' || sum(used_bytes) FROM pg_backend_memory_contexts WHERE name !~ '^Type information|^ExecutorState|^ExprContext'";
    my $again = "SELECT count(tried(command)) FROM repeated";
    ($status, $out, $err) = $server->psql("$quiet SET statement_timeout = '${limit}s';\nSELECT setseed(sin($seed * 100 + ${\ ++$number }));\n"
        . "CREATE TEMP TABLE repeated AS SELECT $call AS command FROM generate_series(1, $few) AS i WHERE i > 0 OR random() < 0;\n"
        . "$again; $again; $contexts; $again; $again; $contexts");
    my ($before, $after) = $out =~ /^used (\d+)$/mg;
    is("$status $err", '0 ', "$signature: calls repeated");
    cmp_ok($after - $before, '<', 65536, 'keep no memory');
}

cmp_ok($done, '>', 50, "$done calls were not refused");

# Commands given a model
my @commands = ('TABLE m', 'SELECT tableoid::regclass, ctid, xmin, m FROM m', 'SELECT m.* FROM m FOR UPDATE', 'SELECT * FROM m TABLESAMPLE SYSTEM (10)', 'SELECT count(*) FROM m AS a, m AS b, home', 'SELECT 1 FROM m FULL JOIN home USING (customer_id)',
    'ANALYZE m', 'COPY m TO STDOUT', 'COPY (TABLE m) TO STDOUT', 'COPY m FROM STDIN', 'TRUNCATE m', 'DELETE FROM m', 'UPDATE m SET as_of = now()', "INSERT INTO m VALUES (1, now())", 'MERGE INTO m USING home ON m.customer_id = home.customer_id WHEN MATCHED THEN DELETE',
    'CREATE INDEX ON m (customer_id)', 'CREATE TRIGGER t AFTER UPDATE ON m FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()', 'CREATE TABLE child () INHERITS (m)', 'CREATE MATERIALIZED VIEW w AS TABLE m', 'CREATE TABLE w AS TABLE m',
    'ALTER FOREIGN TABLE m DROP COLUMN probability; SELECT * FROM m', 'ALTER FOREIGN TABLE m ADD COLUMN x int; SELECT * FROM m', 'ALTER FOREIGN TABLE m ALTER COLUMN customer_id TYPE text; SELECT * FROM m', 'ALTER FOREIGN TABLE m DROP COLUMN customer_id; SELECT * FROM m',
    'ALTER FOREIGN TABLE m RENAME COLUMN customer_id TO probability2; SELECT * FROM m', 'ALTER FOREIGN TABLE m OPTIONS (DROP model); SELECT * FROM m', "ALTER FOREIGN TABLE m OPTIONS (SET model '00000000-0000-0000-0000-000000000000'); SELECT * FROM m",
    'ALTER FOREIGN TABLE m ADD CHECK (customer_id > 5); SELECT * FROM m', 'ALTER FOREIGN TABLE m INHERIT empty', 'VACUUM m', 'CLUSTER m', 'REINDEX TABLE m', 'LOCK TABLE m', 'DROP SERVER moe_ml', 'ALTER SERVER moe_ml RENAME TO other; SELECT * FROM m', 'ALTER FOREIGN DATA WRAPPER moe_ml NO HANDLER; SELECT * FROM m',
    'CREATE FOREIGN TABLE f () SERVER moe_ml; SELECT * FROM f', "CREATE FOREIGN TABLE f (a int) SERVER moe_ml OPTIONS (model '00000000-0000-0000-0000-000000000000'); SELECT * FROM f", 'CREATE FOREIGN TABLE f (a int) SERVER moe_ml; SELECT * FROM f',
    'IMPORT FOREIGN SCHEMA public FROM SERVER moe_ml INTO public', 'CREATE SERVER second FOREIGN DATA WRAPPER moe_ml; CREATE FOREIGN TABLE f (a int) SERVER second; SELECT * FROM f', 'CREATE USER MAPPING FOR PUBLIC SERVER moe_ml',
    "CREATE FUNCTION f() RETURNS int LANGUAGE moe_ml AS 'x'", 'DO LANGUAGE moe_ml $x$ $x$', 'DO LANGUAGE moe_ml $x$ ; $x$', 'ALTER EXTENSION moe_ml SET SCHEMA public', 'ALTER TABLE moe_ml.model_parameter DROP COLUMN data; SELECT * FROM m', 'ALTER TABLE moe_ml.model DROP COLUMN task; SELECT * FROM m',
    'DROP EVENT TRIGGER moe_ml_forget_dropped_models', 'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; TABLE m', 'EXPLAIN (ANALYZE, VERBOSE, BUFFERS, SETTINGS, WAL, FORMAT JSON) TABLE m', 'DECLARE c SCROLL CURSOR FOR TABLE m; FETCH LAST FROM c; FETCH PRIOR FROM c; MOVE BACKWARD ALL IN c; FETCH ALL FROM c',
    'SELECT (SELECT max(probability) FROM m WHERE m.customer_id = c.customer_id AND m.as_of = c.since) FROM customers AS c', 'SELECT * FROM m WHERE customer_id = ANY (ARRAY(SELECT customer_id FROM m))', 'WITH w AS MATERIALIZED (TABLE m) SELECT * FROM w, LATERAL (SELECT * FROM m WHERE m.customer_id = w.customer_id) AS l');
for my $command (@commands)
{
    my ($status, $out, $err) = $server->psql("\\set ON_ERROR_STOP 0\n\\set VERBOSITY verbose\n$quiet BEGIN; $command;\n\\.\nROLLBACK; SELECT 'alive'");
    like($out, qr/alive\z/, "the session lives after: $command");
    unlike($err, qr/ERROR:  (XX|58|57P)/, 'and no error was an internal one');
}
is($server->query('SELECT pg_postmaster_start_time()'), $start, 'the server never restarted');
unlike($server->log, qr/PANIC|TRAP|terminated by signal|leak/, 'nothing to worry about is in its log');
is($server->query(broken_sql()), '', 'every model is whole');
is($server->query('SELECT count(*) FROM m; SELECT count(*) FROM home'), "30\n0", 'and predicts');

done_testing();
