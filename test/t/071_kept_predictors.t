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

# Past labels are of the first key alone, then of all: either way each key is told the same.
my $of_key = sub { return $session->query("SELECT p::text FROM m AS p WHERE customer_id = $_[0]") };
$other->query("INSERT INTO orders VALUES (1003, 4, '2020-04-21', 3)");
my @alone = map { $of_key->($_) } 4, 5, 4, 6;
is(join("\n", @alone[0, 1, 3]), $server->query('SELECT p::text FROM m AS p WHERE customer_id IN (4, 5, 6) ORDER BY customer_id'), 'key after key says what all at once do');
is($alone[2], $alone[0], 'and the same again');
$other->query("INSERT INTO orders VALUES (1004, 4, '2020-04-21', 4)");
is($of_key->(5) . "\n" . $session->query('SELECT p::text FROM m AS p WHERE customer_id > 5 ORDER BY customer_id LIMIT 1'), $server->query('SELECT p::text FROM m AS p WHERE customer_id > 4 ORDER BY customer_id LIMIT 2'), 'one key, then all');
agrees('after one key');

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

# What is kept takes no more than it may, its rows included; reading again leaves nothing behind.
sub status_of
{
    my ($what) = @_;
    open my $file, '<', "/proc/$session->{pid}/status" or return 0;
    return (map { /^$what:\s+(\d+)/ ? $1 : () } <$file>)[0];
}
$server->query(<<'SQL' . model_sql('CREATE MODEL many', query => 'PREDICT sum(many_orders.amount, 0, 12, days) FOR EACH customers', experts => "'linear'"));
SET moe_ml.notices = off; CREATE TABLE many_orders (customer_id int REFERENCES customers, placed_at timestamp, amount float8);
SELECT format('ALTER TABLE many_orders ADD c%s float8 DEFAULT 1', i) FROM generate_series(1, 20) AS i \gexec
INSERT INTO many_orders SELECT 1 + i % 30, timestamp '2020-01-01' + i * interval '3 minutes', i % 7 FROM generate_series(1, 50000) AS i; ANALYZE many_orders;
SQL
$session->query('SET moe_ml.cache_size = 6; SET moe_ml.threads = 2');
reads('SELECT * FROM many');
cmp_ok(reads('SELECT * FROM many'), '>', 0, 'rows count');
$session->query('RESET moe_ml.cache_size');
reads('SELECT * FROM many');
is(reads('SELECT * FROM many'), 0, 'they are kept where they fit');
SKIP:
{
    skip 'no /proc', 1 if !status_of('VmRSS');
    my $ask = sub { $session->query(join ';', map { "INSERT INTO asked VALUES ($_); SELECT moe_ml.predict('m', 1)" } 1 .. 200); return status_of('VmRSS'); };
    $session->query('CREATE TABLE asked (i int)');
    $ask->();
    my $first = $ask->();
    my $last;
    $last = $ask->() for 1 .. 3;
    cmp_ok($last - $first, '<', 600, 'reading again leaves no memory behind');
}

# While rows are read again, a policy asks another model.
$server->query(join ';', 'SET moe_ml.notices = off; CREATE TABLE guarded (order_id int PRIMARY KEY, customer_id int REFERENCES customers, placed_at timestamp)',
    'INSERT INTO guarded SELECT order_id, customer_id, placed_at FROM orders WHERE order_id < 1000',
    model_sql('CREATE MODEL asks', query => 'PREDICT count(guarded.*, 0, 12, days) = 0 FOR EACH customers'),
    "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON guarded USING (moe_ml.predict('public.m', customer_id) IS NOT NULL)",
    'GRANT SELECT ON guarded, asks TO guest; GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest');
$session->query('SET ROLE guest; SELECT count(*) FROM asks');
my $answer = $session->query('SELECT ' . bits_sql('asks'));
$other->query('UPDATE asked SET i = 0');
is($session->query('SELECT ' . bits_sql('asks')), $answer, 'a policy that asks another model does not disturb');
is($session->query('RESET ROLE; SELECT 1'), 1, 'and the session lives');

# Serializable transactions are told apart by what they have read.
$server->query('CREATE TABLE said (t text)');
reads() for 1, 2;
$session->query("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM m; INSERT INTO said VALUES ('nobody ordered')");
$other->query("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM said; INSERT INTO orders VALUES (1002, 3, '2020-04-21', 3)");
$session->query('COMMIT');
$other->send('COMMIT');
like(($other->answer)[1], qr/could not serialize access/, 'what is predicted was read, for a serializable transaction');

done_testing;
