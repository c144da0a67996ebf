# Names that others put in one's way, and names that are hard to write: a session never runs the code of an attacker whose
# schema comes earlier in its path, and every name that PostgreSQL takes works for tables, columns and models.
use strict;
use warnings;
use utf8;
use Test::More;
use MoeServer;
use MoeShop;

binmode Test::More->builder->$_, ':encoding(UTF-8)' for qw(output failure_output todo_output);
my $server = MoeServer->new('names', log_min_messages => 'warning');
my $quiet = "SET moe_ml.notices = off;\nSET client_min_messages = warning;\n";
$server->query("$quiet CREATE EXTENSION moe_ml; CREATE ROLE analyst; GRANT CREATE ON SCHEMA public TO analyst");

sub ddl { return "SELECT moe_ml.execute(\$ddl\$$_[0]\$ddl\$)" }

# Names in the way: every function, operator, aggregate and type of pg_catalog's that takes common types has a namesake,
# earlier in the path, that raises an error when it is called.
$server->query($quiet . <<'SQL');
CREATE SCHEMA evil;
GRANT ALL ON SCHEMA evil TO PUBLIC;
CREATE TEMP TABLE common AS SELECT oid FROM pg_type WHERE oid = ANY ('{bool,int2,int4,int8,oid,float4,float8,numeric,text,varchar,name,date,timestamp,
    timestamptz,interval,uuid,bytea,jsonb,regclass,text[],float4[],tsvector,int4[],int2[],oid[]}'::regtype[]) OR typname IN ('anyelement', 'anyarray');
DO $do$
DECLARE o record; n int := 0; trap text;
BEGIN
    trap := $$ LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''evil code runs as %: %'', current_user, pg_catalog.txid_current(); END'$$;
    FOR o IN SELECT oprname, oprleft::regtype AS l, oprright::regtype AS r, oprresult::regtype AS res FROM pg_operator
             WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprkind = 'b' AND oprleft IN (TABLE common) AND oprright IN (TABLE common) AND oprresult IN (TABLE common)
    LOOP
        n := n + 1;
        EXECUTE format('CREATE FUNCTION evil.trap_%s(%s, %s) RETURNS %s %s', n, o.l, o.r, o.res, trap);
        EXECUTE format('CREATE OPERATOR evil.%s (FUNCTION = evil.trap_%s, LEFTARG = %s, RIGHTARG = %s)', o.oprname, n, o.l, o.r);
    END LOOP;
    FOR o IN SELECT DISTINCT proname, oidvectortypes(proargtypes) AS args,
                    CASE WHEN prorettype::regtype::text ~ '^any' OR prorettype NOT IN (TABLE common) THEN 'text' ELSE prorettype::regtype::text END AS res FROM pg_proc
             WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind IN ('f', 'a', 'w') AND proname !~ '^(RI_|trap)' AND pronargs > 0
               AND (SELECT bool_and(a IN (TABLE common)) FROM unnest(proargtypes::oid[]) AS a)
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s %s', o.proname, o.args, o.res, trap);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
    FOR o IN SELECT typname FROM pg_type WHERE typname IN ('bool', 'int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'text', 'name', 'date', 'timestamp', 'timestamptz', 'interval', 'uuid', 'regclass')
    LOOP
        EXECUTE format('CREATE DOMAIN evil.%I AS pg_catalog.bytea CHECK (pg_catalog.length(VALUE) OPERATOR(pg_catalog.<) 0)', o.typname);
    END LOOP;
    FOR o IN SELECT relname FROM pg_class WHERE relnamespace IN ('pg_catalog'::regnamespace, 'moe_ml'::regnamespace) AND relkind IN ('r', 'v')
    LOOP
        EXECUTE format('CREATE TABLE evil.%I (trap int)', o.relname);
    END LOOP;
    CREATE FUNCTION evil.trap_state(pg_catalog.int8) RETURNS pg_catalog.int8 LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''evil count''; END';
    CREATE AGGREGATE evil.count(*) (SFUNC = evil.trap_state, STYPE = pg_catalog.int8);
    EXECUTE 'CREATE FUNCTION evil.now() RETURNS pg_catalog.timestamptz ' || trap;
END $do$;
CREATE TABLE shelves (store bigint, shelf varchar(20), height real, kind text, stocked timestamptz, PRIMARY KEY (store, shelf));
CREATE TABLE readings (store int, shelf text, day date NOT NULL, at timestamptz, grams numeric, price money, words tsvector, tags text[], measures float4[], seen boolean,
    FOREIGN KEY (store, shelf) REFERENCES shelves);
INSERT INTO shelves SELECT s, 'shelf ' || f, s + f, nullif('kind ' || (s + f) % 3, 'kind 2'), '2023-12-31 00:00+00' FROM generate_series(1, 4) AS s, generate_series(1, 5) AS f;
INSERT INTO readings SELECT s, 'shelf ' || f, date '2024-01-01' + d, timestamptz '2024-01-01 00:00+00' + d * interval '25 hours', s * 10 + f + d % 7, 1.5, to_tsvector('simple', 'a b'),
    ARRAY['x', 'y'], '{1,2}', d % 2 = 0
FROM generate_series(1, 4) AS s, generate_series(1, 5) AS f, generate_series(0, 200, 5) AS d;
CREATE VIEW evil.nothing AS SELECT 1;
GRANT SELECT ON shelves, readings TO PUBLIC;
ANALYZE shelves, readings;
SQL
like(($server->psql("SET search_path = evil, public, pg_catalog; SELECT 1 + 1"))[2], qr/evil code runs as postgres/, 'the traps are set');

my $path = "$quiet SET search_path = evil, public, pg_catalog;\n";
my @walk = (
    [ 'binary', "PREDICT count(readings.* WHERE readings.grams > 20 AND readings.seen = true AND readings.shelf LIKE 'shelf%', 0, 20, days) > 1 FOR EACH shelves
        WHERE count(readings.*, -60, 0, days) > 0 AND sum(readings.grams, -60, 0, days) > 1.5" ],
    [ 'number', 'PREDICT avg(readings.grams, 0, 20, days) FOR EACH shelves WHERE count_distinct(readings.day, -60, 0, days) > 0 OR max(readings.grams, -60, 0, days) BETWEEN 1 AND 3' ],
    [ 'last', 'PREDICT last(readings.grams, 0, 20, days) FOR EACH shelves WHERE min(readings.grams, -60, 0, days) IS NOT NULL' ],
    [ 'class', 'PREDICT shelves.kind FOR EACH shelves' ],
    [ 'fill', 'PREDICT height > 3 FOR EACH shelves' ]);
my @ways = map { my $name = $_->[0]; (
    "TABLE public.\"$name\"", "SELECT FROM public.\"$name\" WHERE store OPERATOR(pg_catalog.=) 2 AND shelf OPERATOR(pg_catalog.=) 'shelf 3'::pg_catalog.text",
    "SELECT moe_ml.explain('public.\"$name\"', ROW(2, 'shelf 3'))", "SELECT moe_ml.evaluate('public.\"$name\"')", "SELECT moe_ml.importance('public.\"$name\"')",
    "SELECT moe_ml.predict_class('public.\"$name\"', ROW(2, 'shelf 3'))") } grep { $_->[0] !~ /number|last/ } @walk;
push @ways, map { ("TABLE public.\"$_\"", "SELECT moe_ml.predict('public.\"$_\"', ROW(2, 'shelf 3'))", "SELECT moe_ml.evaluate('public.\"$_\"')") } qw(number last);
push @ways, 'TABLE moe_ml.models', 'TABLE moe_ml.model_relations', 'TABLE moe_ml.training_history', 'TABLE moe_ml.experts', 'TABLE moe_ml.graph_tables', 'TABLE moe_ml.graph_edges',
    'TABLE moe_ml.graph_columns', "SELECT moe_ml.graph('public.shelves')", "SELECT moe_ml.graph_check('public.shelves')", "SELECT moe_ml.declare('public.readings', 'day', 'time')",
    "SELECT moe_ml.training_query('public.\"binary\"')", 'SELECT moe_ml.device_info()', "SELECT moe_ml.predict('public.binari', ROW(2, 'shelf 3'))", ddl('REFRESH MODEL public."binary"'),
    ddl('ALTER MODEL public."binary" RENAME TO moved'), ddl('ALTER MODEL public.moved RENAME TO "binary"'),
    "SELECT moe_ml.predictions('public.\"binary\"', \$\$SELECT 2::pg_catalog.int8 AS store, 'shelf 3' AS shelf, timestamptz '2024-05-01' AS as_of, true AS label\$\$)";
sub is_not_trapped
{
    my ($who, $sql, $name) = @_;
    my (undef, undef, $err) = $server->psql("$path SET ROLE $who;\n$sql");
    unlike($err, qr/evil|bytea|"trap"|column .* does not exist|is not unique|operator does not exist/, $name // $sql);
    return $err;
}

# Made and used by one who has the traps in the path; then used by another for whom the maker laid them.
for my $maker ('postgres', 'analyst')
{
    for my $model (@walk)
    {
        my ($name, $query) = @$model;
        is(is_not_trapped($maker, model_sql("CREATE MODEL public.\"$name\"", query => $query), "$name is trained by $maker past the traps"), '', 'without an error');
    }
    for my $who ($maker, 'postgres')
    {
        is_not_trapped($who, $_, "$who, model of $maker: $_") for @ways;
    }
    $server->query(ddl('DROP MODEL ' . join ', ', map { "\"$_->[0]\"" } @walk));
}


# An operator made for types that pg_catalog compares only by a cast would be taken wherever its schema is searched. A model
# does not take it: neither one whose maker makes it afterwards, nor one made over it.
{
    my $bait = 'PREDICT count(orders.*, 0, 12, days) = 0 FOR EACH customers
        WHERE count(orders.* WHERE orders.status = \'open\' AND orders.amount > 1 AND orders.status IN (\'open\', \'b\'), -90, 0, days) > 0';
    my $mallory = "$quiet SET ROLE mallory; SET search_path = mallory, public;\n";
    $server->query($quiet . shop_sql() . <<'SQL');
ALTER TABLE orders ADD COLUMN status varchar(10) DEFAULT 'open';
CREATE ROLE mallory; CREATE SCHEMA mallory AUTHORIZATION mallory; GRANT CREATE ON SCHEMA public TO mallory; GRANT SELECT ON customers, orders TO mallory;
SQL
    $server->query($mallory . model_sql('CREATE MODEL public.early', query => $bait));
    my $before = $server->query('SELECT ' . bits_sql('early'));
    $server->query($mallory . <<'SQL');
CREATE FUNCTION trap(varchar, varchar) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil code runs as %', current_user; END $$;
CREATE FUNCTION trap(float8, int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil code runs as %', current_user; END $$;
CREATE OPERATOR = (FUNCTION = trap, LEFTARG = varchar, RIGHTARG = varchar);
CREATE OPERATOR > (FUNCTION = trap, LEFTARG = float8, RIGHTARG = int);
SQL
    is($server->query('SELECT ' . bits_sql('early')), $before, 'an operator made afterwards is not called');
    is($server->query("SELECT moe_ml.predict('early', 8) IS NOT NULL"), 't', 'by the function neither');
    my (undef, undef, $err) = $server->psql("SELECT moe_ml.evaluate('early'), moe_ml.importance('early')");
    unlike($err, qr/evil/, 'nor by what runs the training query');
    (undef, undef, $err) = $server->psql($mallory . model_sql('CREATE MODEL public.late', query => $bait));
    like($err, qr/ERROR:  the model would call function mallory\.trap\(.*\) of role "mallory".*HINT:.*search_path/s, 'and one made before is refused');
}

# Names that are hard to write: each names a schema, its table with key column, foreign key and category, a type, a role
# and a model.
my @names = ('a"b', "a'b", "'; DROP TABLE victim; --", '%s%n%d', 'a\\b', '\\x41\'', 'ö' x 31 . 'x', 'select', 'model', 'a.b', ' ', "new\nline",
    'ÄÖ 漢字 🦆', '$1', '$$', 'as', '--', '/*', 'e', 'c', 's', 'value', 'split', 'prediction "');
my $walk = <<'SQL';
CREATE SCHEMA models; CREATE SCHEMA types; CREATE SCHEMA NAME; CREATE ROLE NAME;
CREATE TYPE types.NAME AS ENUM ('x', TEXT);
CREATE TABLE NAME.NAME (NAME int PRIMARY KEY, kind types.NAME, label text, since timestamp);
CREATE TABLE NAME.child (NAME int CONSTRAINT NAME REFERENCES NAME.NAME, amount float8, at timestamp, note text);
INSERT INTO NAME.NAME SELECT i, CASE WHEN i % 2 = 0 THEN 'x' ELSE TEXT END::types.NAME,
    CASE WHEN i % 5 > 0 THEN CASE WHEN i % 2 = 0 THEN 'x' ELSE TEXT END END, '2020-01-01' FROM generate_series(1, 20) AS i;
INSERT INTO NAME.child SELECT 1 + i % 20, i % 7, timestamp '2020-01-01' + i * interval '9 hours', TEXT FROM generate_series(1, 300) AS i WHERE i % 3 > 0 OR i < 150;
SELECT moe_ml.declare(format('%I.%I', TEXT, TEXT)::regclass, 'label', 'category'), moe_ml.declare(format('%I.child', TEXT)::regclass, 'at', 'time');
SET search_path = NAME;
SELECT moe_ml.execute($moe$CREATE MODEL models.NAME PREDICT count(child.* WHERE child.note = TEXT, 0, 12, days) = 0 FOR EACH NAME.NAME
    WHERE count(child.*, -90, 0, days) > 0 USING (NAME, NAME.child) WITH (epochs = 1, ensembles = 1, channels = 8, ignored_columns = (NAME.since), time_columns = (child.at))$moe$);
RESET search_path;
SELECT moe_ml.execute($moe$CREATE MODEL models.home PREDICT NAME.label FOR EACH NAME.NAME WITH (epochs = 1, ensembles = 1, channels = 8)$moe$);
SELECT moe_ml.execute($moe$CREATE MODEL models.own PREDICT NAME FOR EACH NAME.NAME AT at WITH (epochs = 1, ensembles = 1, channels = 8, split_column = at_split)
    AS SELECT NAME, at, amount AS y, CASE WHEN amount < 5 THEN 'train' ELSE 'val' END AS at_split FROM NAME.child$moe$);
SELECT moe_ml.execute('REFRESH MODEL models.' || quote_ident(TEXT));
SELECT count(*) = 20 FROM models.NAME WHERE NAME BETWEEN 1 AND 20;
SELECT moe_ml.predict('models.' || quote_ident(TEXT), 7) IS NOT NULL;
SELECT bool_and(class IN ('x', TEXT)) FROM models.home;
SELECT count(*) > 1 FROM moe_ml.explain('models.' || quote_ident(TEXT), 7);
SELECT count(*) > 1 FROM moe_ml.evaluate('models.' || quote_ident(TEXT));
SELECT count(*) > 0 FROM moe_ml.importance('models.' || quote_ident(TEXT));
SELECT count(*) > 1 FROM moe_ml.graph(format('%I.%I', TEXT, TEXT)::regclass);
SELECT bool_or(name = TEXT AND entity <> '') FROM moe_ml.models;
SELECT moe_ml.execute($moe$ALTER MODEL models.NAME RENAME TO renamed$moe$), moe_ml.execute($moe$ALTER MODEL models.renamed RENAME TO NAME$moe$);
SELECT moe_ml.execute($moe$ALTER MODEL models.NAME OWNER TO NAME$moe$);
SELECT moe_ml.execute($moe$DROP MODEL models.own, models.NAME$moe$);
DROP SCHEMA models CASCADE; DROP SCHEMA NAME CASCADE; DROP SCHEMA types CASCADE; DROP ROLE NAME;
SQL
$server->query('CREATE TABLE victim (a int)');
my $expected = join "\n", '|', 'CREATE MODEL', 'CREATE MODEL', 'CREATE MODEL', 'REFRESH MODEL', ('t') x 8, 'ALTER MODEL|ALTER MODEL', 'ALTER MODEL', 'DROP MODEL';
for my $name (@names)
{
    my $quoted = '"' . $name =~ s/"/""/gr . '"';
    my $text = "'" . $name =~ s/'/''/gr . "'";
    my $sql = $quiet . $walk =~ s/\bNAME\b/$quoted/gr =~ s/\bTEXT\b/$text/gr;
    utf8::encode($sql);
    my ($status, $out, $err) = $server->psql($sql);
    utf8::decode($err);
    is($err, '', "a name: $quoted" =~ s/\n/\\n/r);
    is($out, $expected, 'every answer is as expected') if $err eq '';
    next if $status == 0;
    my $clean = "SET client_min_messages = error; DROP SCHEMA IF EXISTS models CASCADE; DROP SCHEMA IF EXISTS types CASCADE; DROP SCHEMA IF EXISTS $quoted CASCADE; DROP ROLE IF EXISTS $quoted";
    utf8::encode($clean);
    $server->psql($clean);
}
is($server->query('SELECT count(*) FROM victim'), '0', 'no name was taken for SQL');
unlike($server->log, qr/PANIC|TRAP|terminated by signal/, 'the server never crashed');

done_testing();
