# Who may do what with models, and what nobody may: get a prediction that rests on rows hidden from them, or reach what
# models store.
use strict;
use warnings;
use Test::More;
use MoeServer;
use MoeShop;

my $server = MoeServer->new('privileges', log_min_messages => 'warning');
my $quiet = "SET moe_ml.notices = off;\nSET client_min_messages = warning;\n";
$server->query("$quiet CREATE EXTENSION moe_ml;\n" . shop_sql() . <<'SQL' . model_sql('CREATE MODEL m', ignored_columns => '(customers.secret)'));
ALTER TABLE customers ADD COLUMN secret text DEFAULT 'a';
CREATE ROLE analyst; CREATE ROLE reader; CREATE ROLE stranger;
GRANT CREATE ON SCHEMA public TO analyst;
SQL

sub as { return "$quiet SET ROLE $_[0];\n" }
sub ddl { return "SELECT moe_ml.execute(\$ddl\$$_[0]\$ddl\$)" }
my $create = model_sql('CREATE MODEL n');

# What a role is told that may not.
sub refused
{
    my ($role, $sql) = @_;
    my ($status, $out, $err) = $server->psql(as($role) . $sql);
    return $status == 0 ? "(no error) $out" : $err;
}

sub answer
{
    my ($role, $sql) = @_;
    return $server->query(as($role) . $sql);
}

# The extension's objects
is($server->query("SELECT p.oid::regprocedure FROM pg_proc AS p JOIN pg_depend AS d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass
                   JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'moe_ml' WHERE d.deptype = 'e' AND p.prosecdef"),
    '', 'no function runs with the rights of its owner');
for my $table (qw(model model_parameter model_epoch model_expert))
{
    for my $sql ("SELECT FROM moe_ml.$table", "DELETE FROM moe_ml.$table", "INSERT INTO moe_ml.$table DEFAULT VALUES", "TRUNCATE moe_ml.$table",
        "CREATE TRIGGER t BEFORE DELETE ON moe_ml.$table FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()", "BEGIN; LOCK TABLE moe_ml.$table", "ALTER TABLE moe_ml.$table ADD COLUMN x int")
    {
        like(refused('stranger', $sql), qr/ERROR:  (permission denied for|must be owner of) table $table/, "$sql is for nobody");
    }
}
is($server->query("SELECT has_table_privilege('stranger', 'moe_ml.model_parameter', 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"),
    'f', 'no privilege on parameters is granted');
like(refused('stranger', 'CREATE TABLE moe_ml.t ()'), qr/permission denied for schema moe_ml/, 'nor any to create beside them');

# Training
like(refused('stranger', $create), qr/ERROR:  permission denied for schema public/, 'a model needs CREATE on the schema, before anything is read');
like(refused('analyst', $create), qr/ERROR:  permission denied for (table|column).*customers/, 'training needs SELECT on the table that is predicted for');
$server->query('GRANT SELECT ON customers TO analyst');
like(refused('analyst', $create), qr/ERROR:  permission denied for .*"?orders/, 'on the one that labels come from');
$server->query('REVOKE SELECT ON customers FROM analyst; GRANT SELECT (customer_id, kind, since) ON customers TO analyst; GRANT SELECT ON orders TO analyst');
like(refused('analyst', $create), qr/ERROR:  permission denied for column "secret" of table "customers".*HINT:.*GRANT SELECT.*ignored_columns/s,
    'and on each column that is read; the error says which, and what to do');
is(answer('analyst', model_sql('CREATE MODEL n', ignored_columns => '(customers.secret)')), 'f', 'without that column it trains');
is(answer('analyst', 'SELECT count(*) FROM n'), '30', 'and predicts');
like(refused('analyst', ddl('CREATE MODEL o PREDICT secret FOR EACH customers AT since WITH (ignored_columns = (customers.secret)) AS SELECT customer_id, since, secret FROM customers')),
    qr/permission denied for table customers/, 'labels are read as the one who trains');
$server->query('REVOKE USAGE ON FOREIGN SERVER moe_ml FROM PUBLIC');
like(refused('analyst', model_sql('CREATE MODEL o')), qr/permission denied to create models.*HINT:  Ask for GRANT USAGE ON FOREIGN SERVER moe_ml TO analyst/s,
    'making models at all can be revoked');
$server->query('GRANT USAGE ON FOREIGN SERVER moe_ml TO PUBLIC');
like(refused('analyst', "CREATE FOREIGN TABLE copied (customer_id int, as_of timestamp, prediction bool, probability float8) SERVER moe_ml OPTIONS (model '"
        . $server->query("SELECT id FROM moe_ml.model_relations WHERE name = 'm'") . "')"),
    qr/ERROR:  foreign table "m" already is model/, 'nobody comes by a model by copying its uuid');
like(refused('analyst', "ALTER FOREIGN TABLE n OPTIONS (SET model '" . $server->query("SELECT id FROM moe_ml.model_relations WHERE name = 'm'") . "')"),
    qr/ERROR:  foreign table "m" already is model/, 'nor by giving it to a model of their own');

# Owning
for my $statement ('REFRESH MODEL m', 'DROP MODEL m', 'ALTER MODEL m RENAME TO mine', 'ALTER MODEL m OWNER TO analyst', 'ALTER MODEL m SET SCHEMA public')
{
    like(refused('analyst', ddl($statement)), qr/ERROR:  must be owner of model m\n/, "$statement is for its owner");
}
like(refused('analyst', model_sql('CREATE OR REPLACE MODEL m')), qr/must be owner of model m/, 'as is replacing it');
like(refused('analyst', ddl('ALTER MODEL n OWNER TO reader')), qr/must be (member of role|able to SET ROLE) "reader"/, 'a model is given to one\'s own roles only');

# Predicting: each road to a prediction asks for SELECT on the model and on what it reads.
my %roads = (
    'the relation' => 'SELECT count(*) FROM m', 'a lookup' => 'SELECT * FROM m WHERE customer_id = 7', 'predict' => "SELECT moe_ml.predict('m', 7)",
    'predict_class' => "SELECT moe_ml.predict_class('m', 7)", 'explain' => "SELECT count(*) FROM moe_ml.explain('m', 7)",
    'evaluate' => "SELECT count(*) FROM moe_ml.evaluate('m')", 'importance' => "SELECT count(*) FROM moe_ml.importance('m')",
    'predictions' => "SELECT count(*) FROM moe_ml.predictions('m', 'SELECT 7 AS customer_id, timestamp ''2020-04-01'' AS as_of, true AS label')");
for my $road (sort keys %roads)
{
    $server->query('REVOKE ALL ON m, customers, orders FROM reader');
    $server->query('GRANT SELECT ON customers, orders TO reader');
    like(refused('reader', $roads{$road}), qr/ERROR:  permission denied for foreign table m/, "$road needs SELECT on the model");
    $server->query('REVOKE SELECT ON orders FROM reader; GRANT SELECT ON m TO reader');
    like(refused('reader', $roads{$road}), qr/ERROR:  permission denied for .*\borders\b/, "$road needs SELECT on the tables");
    $server->query('REVOKE SELECT ON customers FROM reader; GRANT SELECT (customer_id, since) ON customers TO reader; GRANT SELECT ON orders TO reader');
    like(refused('reader', $roads{$road}), qr/ERROR:  permission denied for column "kind" of table "customers"/, "$road needs SELECT on the columns");
    $server->query('GRANT SELECT (kind) ON customers TO reader');
    like(answer('reader', $roads{$road}), qr/\d|true|false/, "$road needs no more: a column that the model does not read may be denied");
}
$server->query('REVOKE ALL ON m, customers, orders FROM reader');
is(answer('reader', 'SELECT count(*) FROM moe_ml.models; SELECT count(*) FROM moe_ml.training_history; SELECT count(*) FROM moe_ml.experts'), "0\n0\n0",
    'who may not select from a model does not see it listed');
like(refused('reader', "SELECT moe_ml.training_query('m')"), qr/permission denied for foreign table m/, 'nor its training query');
$server->query("CREATE VIEW scores AS SELECT * FROM m; CREATE VIEW own_scores WITH (security_invoker) AS SELECT * FROM m; GRANT SELECT ON scores, own_scores TO reader");
is(answer('reader', 'SELECT count(*) FROM scores'), '30', 'through a view, its owner asks');
like(refused('reader', 'SELECT count(*) FROM own_scores'), qr/permission denied for foreign table m/, 'unless it has its invoker ask');

# Row-level security: a prediction is as if the hidden rows were not there.
$server->query("$quiet " . model_sql('CREATE MODEL spent', query => 'PREDICT sum(orders.amount, 0, 12, days) FOR EACH customers', ignored_columns => '(customers.secret)'));
$server->query(<<'SQL');
GRANT SELECT ON m, spent TO reader, analyst; GRANT SELECT ON customers, orders TO reader, analyst;
CREATE POLICY few ON orders TO reader, analyst USING (order_id / 30 % 3 > 0 AND order_id::text <> coalesce(current_setting('app.hidden', true), ''));
CREATE POLICY first_ones ON customers TO reader, analyst USING (customer_id IN (SELECT i FROM generate_series(1, 20) AS i));
ALTER TABLE orders ENABLE ROW LEVEL SECURITY; ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
SQL
my $hide = 'SET LOCAL session_replication_role = replica; DELETE FROM orders WHERE order_id / 30 % 3 = 0; DELETE FROM customers WHERE customer_id > 20; SET LOCAL session_replication_role = origin;';
my @looks = ('SELECT ' . bits_sql('m'), 'SELECT ' . bits_sql("(SELECT * FROM m WHERE as_of = '2020-03-01')"),
    'SELECT md5(string_agg(moe_ml.predict(\'m\', i)::text, \' \' ORDER BY i)) FROM generate_series(1, 20) AS i',
    "SELECT md5(string_agg(e::text, ' ')) FROM moe_ml.explain('m', 7) AS e",
    "SELECT md5(string_agg(e::text, ' ')) FROM moe_ml.evaluate('m') AS e",
    "SELECT md5(string_agg(e::text, ' ')) FROM moe_ml.importance('spent') AS e");
for my $look (@looks)
{
    my $everything = $server->query($look);
    my $deleted = $server->query("BEGIN; $hide $look; ROLLBACK");
    isnt($deleted, $everything, "$look changes when rows are deleted");
    is(answer('reader', $look), $deleted, 'and for whom they are hidden it is the same, to the last bit');
    is($server->query($look), $everything, 'while others see what they saw');
}
is(answer('reader', "SELECT moe_ml.predict('m', 25)"), '', 'a hidden row has no prediction');
is(answer('reader', 'SELECT count(*), max(customer_id) FROM m'), '20|20', 'nor a row in the model');
{
    my $train = model_sql('CREATE MODEL hidden', ignored_columns => '(customers.secret)') . '; SELECT ' . bits_sql('hidden');
    my $deleted = $server->query("$quiet BEGIN; $hide $train; ROLLBACK");
    isnt($deleted, $server->query("$quiet BEGIN; $train; ROLLBACK"), 'training on fewer rows gives another model');
    is(answer('analyst', "BEGIN; $train; ROLLBACK"), $deleted, 'and training with rows hidden gives the one without them');
}
like(refused('reader', 'SET row_security = off; SELECT count(*) FROM m'), qr/query would be affected by row-level security policy for table/,
    'with row_security off, hiding is an error');
like(refused('analyst', "SET row_security = off; " . model_sql('CREATE MODEL o')), qr/query would be affected by row-level security policy for table/, 'in training, too');

# Within one statement: another user, another setting
$server->query(<<'SQL');
CREATE FUNCTION of_owner(key int) RETURNS float8 LANGUAGE sql SECURITY DEFINER AS $$ SELECT moe_ml.predict('public.m', key) $$;
CREATE FUNCTION hide(id text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.hidden', id, false) $$;
CREATE FUNCTION ask(key int) RETURNS float8 LANGUAGE plpgsql AS $$ BEGIN RETURN moe_ml.predict('public.m', key); END $$;
SQL
my ($mine, $all) = (answer('reader', "SELECT moe_ml.predict('m', 7)"), $server->query("SELECT moe_ml.predict('m', 7)"));
isnt($mine, $all, 'two users, two predictions');
is(answer('reader', "SELECT moe_ml.predict('m', 7), of_owner(7), moe_ml.predict('m', 7), of_owner(7)"), "$mine|$all|$mine|$all",
    'also within one statement, through a function with its owner\'s rights');
{
    my ($hidden) = split /\n/, $server->query('SELECT max(order_id) FROM orders WHERE customer_id = 7 AND order_id / 30 % 3 > 0');
    my $without = answer('reader', "SET app.hidden = '$hidden'; SELECT moe_ml.predict('m', 7)");
    isnt($without, $mine, "order $hidden matters");
    is(answer('reader', "SELECT hide('0'), ask(7), hide('$hidden'), ask(7), hide('0'), ask(7)"), "0|$mine|$hidden|$without|0|$mine",
        'a setting that a policy reads holds from when it is set');
}
unlike($server->log, qr/PANIC|TRAP|terminated by signal/, 'the server never crashed');

done_testing();
