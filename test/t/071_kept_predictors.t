# What one statement has read serves later ones exactly as long as they would read the same.
use strict;
use warnings;
use Test::More;
use MoeServer;
use MoeShop;

my $server = MoeServer->new('kept', autovacuum => 'off');
my $later = "INSERT INTO orders VALUES (1000, 1, '2020-04-20', 3)";
$server->query("SET moe_ml.notices = off; SET client_min_messages = warning; CREATE EXTENSION moe_ml;\n" . shop_sql() . model_sql('CREATE MODEL m') . <<'SQL');
; CREATE FUNCTION rows_read(question text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE plan jsonb;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, FORMAT json) ' || question INTO plan;
    RETURN jsonb_path_query_first(plan, '$.**."Rows Read"');
END $$;
CREATE ROLE guest;
GRANT USAGE ON SCHEMA moe_ml TO guest;
GRANT SELECT ON m, customers, orders TO guest;
SQL

my $session = $server->session;
my $other = $server->session;

# Rows that a question to the model reads.
sub reads
{
    my ($question) = @_;
    $question //= 'SELECT * FROM m WHERE customer_id = 1';
    return $session->query("SELECT rows_read('$question')");
}

# What the session says is what a new one would.
sub agrees
{
    my ($name) = @_;
    is($session->query('SELECT ' . bits_sql('m')), $server->query('SELECT ' . bits_sql('m')), "$name: predictions are those of a new session");
    return;
}

cmp_ok(reads(), '>', 0, 'the first question reads');
is(reads(), 0, 'the second does not');
is(reads('SELECT * FROM m WHERE customer_id = 2'), 0, 'nor about another key');
is(reads('SELECT * FROM m WHERE customer_id = 2 AND as_of = $$2020-02-02$$'), 0, 'nor as of another time');
is($session->query("BEGIN; SELECT rows_read('SELECT * FROM m'); COMMIT"), 0, 'nor in a transaction block');
agrees('kept');

$other->query($later);
cmp_ok(reads(), '>', 0, 'a commit ends it');
agrees('after a commit');
$other->query('BEGIN; UPDATE orders SET amount = amount + 1 WHERE order_id = 5');
cmp_ok(reads(), '>=', 0, 'another transaction is running');
is(reads(), 0, 'kept while it runs');
$other->query('COMMIT');
cmp_ok(reads(), '>', 0, 'and read again when it has committed');
agrees('after a long transaction');
$other->query('BEGIN; DELETE FROM orders WHERE order_id = 7; ROLLBACK');
agrees('after a rollback');

# One's own rows.
my $before = $session->query('SELECT ' . bits_sql('m'));
$session->query('BEGIN');
$session->query("UPDATE customers SET kind = 'new' WHERE customer_id < 20; DELETE FROM orders WHERE order_id % 2 = 0");
isnt($session->query('SELECT ' . bits_sql('m')), $before, 'own changes are seen');
$session->query('SAVEPOINT s; DELETE FROM orders WHERE order_id % 3 = 0');
my $within = $session->query('SELECT ' . bits_sql('m'));
$session->query('ROLLBACK TO s');
isnt($session->query('SELECT ' . bits_sql('m')), $within, 'and not when they are undone');
$session->query('ROLLBACK');
is($session->query('SELECT ' . bits_sql('m')), $before, 'after the rollback all is as before');

# A prepared plan, a cursor that outlives a change, and a statement cancelled in between.
$session->query('PREPARE ask AS SELECT round(probability::numeric, 6) FROM m WHERE customer_id = $1');
my $said = $session->query('EXECUTE ask(1)');
is($session->query('EXECUTE ask(1)'), $said, 'a prepared statement says the same again');
$session->query('BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT customer_id FROM m ORDER BY 1; FETCH 2 FROM c; COMMIT');
$other->query("INSERT INTO orders VALUES (1001, 2, '2020-04-21', 3)");
is($session->query('SELECT count(*) FROM m; FETCH 1 FROM c; CLOSE c'), "30\n3", 'a held cursor goes on');
agrees('after a cursor');

# Another user, and privileges that end.
reads();
like($session->query("SET ROLE guest; SELECT rows_read('SELECT * FROM m'); RESET ROLE"), qr/^[1-9]/, 'another role reads for itself');
$session->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL ROLE guest');
reads();
is(reads(), 0, 'kept within a repeatable read');
$other->query('REVOKE SELECT ON orders FROM guest');
$session->send("SELECT rows_read('SELECT * FROM m')");
like(($session->answer)[1], qr/permission denied for column "customer_id" of table "orders"/, 'a privilege that is taken away is missed at once');
$session->query('ROLLBACK');
$other->query('GRANT SELECT ON orders TO guest');

# What does not depend on rows alone is never kept.
$server->query('ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON orders USING (true)');
reads();
cmp_ok(reads(), '>', 0, 'not with row-level security');
$server->query('ALTER TABLE orders DISABLE ROW LEVEL SECURITY; DROP POLICY p ON orders');
reads();
is(reads(), 0, 'again without');
reads();
cmp_ok($session->query("SET moe_ml.cache_size = 0; SELECT count(*) FROM m; SELECT rows_read('SELECT * FROM m'); RESET moe_ml.cache_size") =~ s/^30\n//r, '>', 0, 'not with moe_ml.cache_size = 0');
$server->query(model_sql('CREATE OR REPLACE MODEL m', seed => 2));
agrees('after the model was trained again');

# A parallel worker says the same, and is not asked where there may be temporary tables.
my $forced = $server->query("SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')");
my $bits = 'string_agg(float8send(probability)::text, chr(32) ORDER BY customer_id)';
is($server->query("SET $forced = on; SET parallel_setup_cost = 0; SELECT $bits FROM m"), $server->query("SELECT $bits FROM m"), 'a worker predicts the same');
like($server->query("SET $forced = on; EXPLAIN (COSTS OFF) SELECT * FROM m WHERE customer_id < 9"), qr/Gather.*Foreign Scan/s, 'where a scan may run');
unlike($server->query("SET $forced = on; CREATE TEMP TABLE t (); EXPLAIN (COSTS OFF) SELECT * FROM m"), qr/Gather/, 'not beside temporary tables');

# As many as fit.
is($session->query("SELECT count(*) <= 1 FROM pg_backend_memory_contexts WHERE name = 'moe_ml predictor'"), 't', 'one model is kept once');
$server->query(model_sql('CREATE MODEL other'));
$session->query('SELECT count(*) FROM m; SELECT count(*) FROM other');
is(reads() + reads('SELECT * FROM other'), 0, 'two models are kept');
is($session->query("SET moe_ml.cache_size = 1; SELECT count(*) FROM m; SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'moe_ml predictor'") =~ s/^30\n//r, 0, 'what does not fit goes');

# Between statements a session keeps no threads.
SKIP: {
    skip 'no /proc', 1 if !-r '/proc/self/status';
    is($session->query(q{SET moe_ml.threads = 2; SELECT count(*) FROM m; SELECT (regexp_match(pg_read_file('/proc/self/status'), 'Threads:\s*(\d+)'))[1]; RESET moe_ml.threads}), "30\n1", 'no thread is kept');
}

done_testing;
