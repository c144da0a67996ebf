# Scans of a model in parallel workers: where they may run there, the same answers; elsewhere the leader alone. And as
# rows are asked for.
use strict;
use warnings;
use Test::More;
use MoeServer;
use MoeShop;

my $server = MoeServer->new('parallel', autovacuum => 'off', max_worker_processes => 16, max_parallel_workers => 8);
my $forced_name = $server->query("SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')");
my $forced = "SET $forced_name = on";
my $free = "RESET $forced_name";
my $costs = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0';
my $setup = 'SET moe_ml.notices = off; SET client_min_messages = warning';

$server->query("$setup; CREATE EXTENSION moe_ml;\n" . shop_sql() . <<'SQL');
CREATE TABLE big AS SELECT i, 1 + i % 30 AS customer_id FROM generate_series(1, 50000) AS i; ANALYZE big;
CREATE FUNCTION may() RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE COST 1 AS 'BEGIN RETURN true; END';
CREATE FUNCTION must_lead() RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 1 AS 'BEGIN RETURN true; END';
CREATE FUNCTION must_be_alone() RETURNS boolean LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS 'BEGIN RETURN true; END';
CREATE ROLE guest;
GRANT USAGE ON SCHEMA moe_ml TO guest;
SQL
my %models = (
    m => model_sql('CREATE MODEL m'),
    counted => model_sql('CREATE MODEL counted', query => 'PREDICT count(orders.*, 0, 12, days) = 0 FOR EACH customers WHERE count(orders.*, -40, 0, days) > 0'),
    amount => model_sql('CREATE MODEL amount', query => 'PREDICT sum(orders.amount, 0, 12, days) FOR EACH customers', show => 'experts'),
    early => model_sql('CREATE MODEL early', query => 'PREDICT count(orders.*, 0, 3, days) = 0 FOR EACH customers', budget => 0.5,
        experts => "'glance, history, linear, graph'", validation_from => "'2020-03-20'", test_from => "'2020-04-19'"),
    own => 'SELECT moe_ml.execute($$CREATE MODEL own PREDICT label FOR EACH customers AT placed_at WITH (epochs = 1, ensembles = 1, channels = 8) AS'
        . ' SELECT placed_at, customer_id, amount > 3 AS label FROM orders$$) IS NULL',
);
$server->query("$setup; $models{$_}; GRANT SELECT ON $_ TO guest") for sort keys %models;
$server->query('GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest');

sub plan_of
{
    my ($session, $question) = @_;
    return $session->query("EXPLAIN (COSTS OFF) $question");
}

my $session = $server->session;
my $other = $server->session;
$session->query($setup);

# Is a scan of the model given to a worker, where one is wanted?
sub goes_to_worker
{
    my ($model) = @_;
    my $plan = $session->query("$forced; EXPLAIN (COSTS OFF) SELECT * FROM $model; $free");
    return $plan =~ /^Gather\n.*->  Foreign Scan on $model/s ? 1 : 0;
}

# What a worker says is what the leader does.
sub agrees
{
    my ($model, $name) = @_;
    my $bits = 'SELECT ' . bits_sql($model);
    is($session->query("$forced; $bits; $free"), $session->query("SET max_parallel_workers_per_gather = 0; $bits; RESET max_parallel_workers_per_gather"), "$name: the same");
    return;
}

# Wait until a worker sleeps.
sub wait_for_worker
{
    my $query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker' AND wait_event = 'PgSleep'";
    for (1 .. 100)
    {
        return 1 if $server->query($query) > 0;
        select undef, undef, undef, 0.05;
    }
    return 0;
}

# Plain tables.
for my $model (sort keys %models)
{
    is(goes_to_worker($model), 1, "$model may be scanned by a worker");
    like($session->query("$forced; EXPLAIN (ANALYZE, VERBOSE, COSTS OFF) SELECT * FROM $model; $free"), qr/Workers Launched: 1.*Foreign Scan on public.$model \(actual[^\n]*rows=[1-9].*Worker 0: +actual[^\n]*rows=[1-9]/s, 'and is');
    agrees($model, $model);
    agrees("(SELECT * FROM $model WHERE as_of = '2020-03-01')", "$model as of another time");
}
$session->query('SET moe_ml.threads = 2');
agrees('m', 'two threads');
$session->query('RESET moe_ml.threads');
unlike($session->query("$forced; EXPLAIN (COSTS OFF) SELECT * FROM m WHERE customer_id = 1; $free"), qr/Gather/, 'one key is no work for another process');
unlike($session->query("$forced; EXPLAIN (COSTS OFF) SELECT * FROM m WHERE customer_id IN (1, 2); $free"), qr/Gather/, 'nor are keys');

# In larger plans.
$session->query($costs);
my $both = 'SELECT * FROM m UNION ALL SELECT * FROM counted';
like(plan_of($session, $both), qr/Gather.*Parallel Append.*Foreign Scan on m.*Foreign Scan on counted|Gather.*Parallel Append.*Foreign Scan on counted.*Foreign Scan on m/s, 'two models by two workers');
agrees("($both)", 'two models');
my $join = 'SELECT count(*), sum(p.probability) FROM big AS b JOIN m AS p USING (customer_id) WHERE b.i > 10';
my $joined = $session->query("SET max_parallel_workers_per_gather = 0; $join; RESET max_parallel_workers_per_gather");
$session->query('SET moe_ml.threads = 1; SET enable_nestloop = off');
like(plan_of($session, $join), qr/Gather.*(Parallel Seq Scan on big.*Foreign Scan on m|Foreign Scan on m.*Parallel Seq Scan on big)/s, 'in each process of a parallel join');
my ($count, $sum) = split /\|/, $session->query($join);
my ($count_alone, $sum_alone) = split /\|/, $joined;
is($count, $count_alone, 'which finds the same rows');
cmp_ok(abs($sum - $sum_alone), '<', 1e-6 * $count, 'with the same predictions');
$session->query('RESET enable_nestloop; RESET moe_ml.threads');

# What the transaction itself has written, and what it must not see.
my $before = $session->query('SELECT ' . bits_sql('counted'));
$session->query('BEGIN; DELETE FROM orders WHERE order_id % 2 = 0; SAVEPOINT s; DELETE FROM orders WHERE order_id % 3 = 0');
is($session->query("$forced; SELECT " . bits_sql('counted') . " = '$before'; $free"), 'f', 'a worker sees uncommitted rows');
agrees('counted', 'uncommitted rows');
$session->query('ROLLBACK TO s');
agrees('counted', 'after a subtransaction was rolled back');
$session->query('ROLLBACK');
is($session->query("$forced; SELECT " . bits_sql('counted') . "; $free"), $before, 'and not when they are undone');
for my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
    my $first = $session->query("BEGIN ISOLATION LEVEL $level; SELECT " . bits_sql('counted'));
    $other->query('UPDATE orders SET amount = amount + 1');
    is($session->query("$forced; SELECT " . bits_sql('counted') . "; $free; COMMIT"), $first, lc($level) . ': a worker reads under the transaction\'s snapshot');
}
agrees('amount', 'after changes');

# Temporary tables: among the children of what is read.
$session->query('CREATE TEMP TABLE unfinished () INHERITS (orders)');
is(goes_to_worker('m'), 0, 'a temporary child keeps the scan with the leader');
$session->query("INSERT INTO unfinished SELECT 5000 + i, i, '2020-04-10', 1 FROM generate_series(1, 9) AS i");
agrees('m', 'a temporary child');
$session->query('DROP TABLE unfinished');
is(goes_to_worker('m'), 1, 'and does no longer when it is dropped');

# Policies.
sub as_guest
{
    my ($code) = @_;
    $session->query('SET ROLE guest');
    my @result = $code->();
    $session->query('RESET ROLE');
    return $result[0];
}
$server->query('ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON orders TO guest USING (order_id % 2 = 0 AND may())');
is(goes_to_worker('m'), 1, 'policies do not concern a table\'s owner');
is(as_guest(sub { goes_to_worker('m') }), 1, 'a policy that calls what is PARALLEL SAFE');
as_guest(sub { agrees('m', 'under a policy') });
isnt(as_guest(sub { $session->query("$forced; SELECT " . bits_sql('counted') . "; $free") }), $session->query('SELECT ' . bits_sql('counted')), 'a worker is shown what the policy shows');
for my $function (qw(must_lead must_be_alone))
{
    $server->query("ALTER POLICY p ON orders USING ($function())");
    is(as_guest(sub { goes_to_worker('m') }), 0, "a policy that calls $function()");
    is(goes_to_worker('m'), 1, 'which the owner does not');
}

# A plan that is kept, and what changes after it was made.
$server->query('ALTER POLICY p ON orders USING (order_id % 2 = 0)');
$session->query("SET plan_cache_mode = force_generic_plan; SET ROLE guest; $forced; PREPARE ask AS SELECT * FROM m");
my $kept_plan = sub { return $session->query("$forced; EXPLAIN (COSTS OFF) EXECUTE ask") =~ /Gather/ ? 1 : 0 };
is($kept_plan->(), 1, 'a kept plan');
$other->query('CREATE POLICY q ON orders TO guest USING (must_be_alone())');
is($kept_plan->(), 0, 'is made anew for a policy added later');
is($session->query('EXECUTE ask') =~ tr/\n//, 29, 'and answers');
$other->query('DROP POLICY q ON orders');
is($kept_plan->(), 1, 'and again when it is dropped');
$other->query('ALTER POLICY p ON orders USING (may())');
is($kept_plan->(), 1, 'for a function that is PARALLEL SAFE');
$other->query('ALTER FUNCTION may() PARALLEL UNSAFE');
is($kept_plan->(), 0, 'and no longer when it is not');
$other->query('ALTER FUNCTION may() PARALLEL SAFE; ALTER TABLE orders DISABLE ROW LEVEL SECURITY');
is($kept_plan->(), 1, 'for no policy');
$other->query('ALTER TABLE orders ENABLE ROW LEVEL SECURITY; ALTER POLICY p ON orders USING (must_lead())');
is($kept_plan->(), 0, 'for row-level security that is enabled later');
$session->query('RESET ROLE');
is($kept_plan->(), 1, 'for another user, the owner');
$session->query('SET ROLE guest');
is($kept_plan->(), 0, 'and back');

# Of what changes when a plan is on its way already, nothing is held back: the worker sees it. (The moment to predict for
# is found before anything is read.)
$other->query('ALTER POLICY p ON orders USING (true)');
$server->query(q{CREATE FUNCTION waited() RETURNS timestamp LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$BEGIN PERFORM pg_sleep(2); RETURN '2020-04-01'; END$$});
$session->query('PREPARE late AS SELECT * FROM m WHERE as_of = waited()');
like($session->query('EXPLAIN (COSTS OFF) EXECUTE late'), qr/Gather/, 'a plan for a worker');
$session->send('EXECUTE late');
wait_for_worker();
$other->query('ALTER POLICY p ON orders USING (must_be_alone())');
like(($session->answer)[1], qr/what model "m" reads may no longer be read by a parallel worker.*HINT:  Run the statement again/s, 'a policy that came while it ran');
$other->query(q{CREATE OR REPLACE FUNCTION waited() RETURNS timestamp LANGUAGE sql STABLE PARALLEL SAFE RETURN timestamp '2020-04-01'});
is($session->query('EXECUTE late') =~ tr/\n//, 29, 'the next time the leader answers');
$other->query('ALTER TABLE orders DISABLE ROW LEVEL SECURITY; DROP POLICY p ON orders');

# Views are what they read, and a model trained again reads what it does then.
$session->query('RESET ROLE; DEALLOCATE ask; DEALLOCATE late');
my $model_of = sub {
    my ($view) = @_;
    return model_sql('CREATE OR REPLACE MODEL viewing', query => "PREDICT count($view.*, 0, 12, days) = 0 FOR EACH customers USING ($view)");
};
$server->query("$setup; CREATE TABLE note (customer_id int, placed_at timestamp); INSERT INTO note SELECT customer_id, placed_at FROM orders");
for my $view ([paid => 'may()'], [led => 'must_lead()'], [sampled => 'true', 'TABLESAMPLE SYSTEM (100)'])
{
    my ($name, $condition, $sample) = @$view;
    $server->query("$setup; CREATE VIEW $name AS SELECT n.customer_id, n.placed_at FROM note AS n " . ($sample // '') . " WHERE $condition;"
        . "SELECT moe_ml.declare('$name', 'customer_id', 'references public.customers'), moe_ml.declare('$name', 'placed_at', 'time'); " . $model_of->($name));
    $session->query('PREPARE ask AS SELECT * FROM viewing') if $name eq 'paid';
    is($kept_plan->(), $name eq 'paid' ? 1 : 0, "a model that reads view $name");
}
$server->query("$setup; " . $model_of->('paid'));
is($kept_plan->(), 1, 'the first view again');
agrees('viewing', 'a view');
$server->query('CREATE OR REPLACE VIEW paid AS SELECT n.customer_id, n.placed_at FROM note AS n WHERE must_be_alone()');
is($kept_plan->(), 0, 'its query has changed');
$server->query('CREATE OR REPLACE VIEW paid AS SELECT n.customer_id, n.placed_at FROM note AS n WHERE may()');
is($kept_plan->(), 1, 'and back');
$session->query("RESET plan_cache_mode; $free; DEALLOCATE ask");

$server->query("$setup; CREATE TABLE many (customer_id int PRIMARY KEY, x float8, w text); CREATE TABLE bought (customer_id int REFERENCES many, placed_at timestamp);"
    . "INSERT INTO many SELECT i, i % 7, repeat(i::text, 120) FROM generate_series(1, 12000) AS i; INSERT INTO bought SELECT 1 + i % 400, timestamp '2020-01-01' + i * interval '3 hours' FROM generate_series(1, 1000) AS i; ANALYZE;"
    . model_sql('CREATE MODEL stream', query => 'PREDICT count(bought.*, 0, 12, days) = 0 FOR EACH many', experts => "'linear'", seed_times => 1));

# Errors, memory and cancellation reach the worker and leave the session alive.
$server->query('CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$BEGIN PERFORM pg_sleep(30); RETURN true; END$$;'
    . 'CREATE FUNCTION broken() RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$BEGIN RETURN 1 / (random() * 0)::int = 1; END$$');
sub fails
{
    my ($sql, $error, $name) = @_;
    $session->send("$forced; $sql");
    like(($session->answer)[1], $error, $name);
    $session->query($free);
    return;
}
$server->query('CREATE OR REPLACE VIEW paid AS SELECT n.customer_id, n.placed_at FROM note AS n WHERE broken()');
fails('SELECT * FROM viewing', qr/ERROR:  division by zero.*parallel worker/s, 'an error in a worker');
$server->query('CREATE OR REPLACE VIEW paid AS SELECT n.customer_id, n.placed_at FROM note AS n WHERE slow()');
fails("SET statement_timeout = '500ms'; SELECT * FROM viewing", qr/canceling statement due to statement timeout/, 'a timeout');
$session->query('RESET statement_timeout');
$session->send("$forced; SELECT * FROM viewing");
ok(wait_for_worker(), 'a worker is at it');
$server->query("SELECT pg_cancel_backend($session->{pid})");
like(($session->answer)[1], qr/canceling statement due to user request/, 'a scan in a worker is cancelled');
$session->query($free);
is($server->query("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'"), 0, 'no worker is left');
fails('SET moe_ml.memory_limit = 16; SELECT * FROM stream', qr/ERROR:.*HINT:.*moe_ml\.memory_limit/s, 'a worker has the limit on memory');
$session->query('RESET moe_ml.memory_limit');
agrees('m', 'after all that');

# The functions look up a model by its name, which is known too late to judge it: they stay with the leader.
is($server->query("SELECT string_agg(DISTINCT proparallel::text, '') FROM pg_proc WHERE pronamespace = 'moe_ml'::regnamespace AND proname IN ('predict', 'predict_class')"), 'r', 'predict() is restricted');
my $asked = "SELECT count(*), count(p) FROM (SELECT moe_ml.predict('m', customer_id) AS p FROM big WHERE i % 5000 = 0) AS s";
like(plan_of($session, $asked), qr/Gather.*Parallel Seq Scan on big/s, 'above a parallel scan');
is($session->query($asked), '10|10', 'where it answers');

# A scan computes as it is asked, and what it holds does not grow with the entities.
sub scored
{
    my ($question) = @_;
    return $session->query("EXPLAIN (ANALYZE, FORMAT json) $question") =~ /"Seeds Scored": (\d+)/ ? $1 : -1;
}
is(scored('SELECT * FROM stream LIMIT 10'), 64, 'LIMIT scores one block');
is(scored('SELECT * FROM stream LIMIT 65'), 64 + 256, 'and as many as it takes');
is(scored('SELECT * FROM stream'), 12000, 'no LIMIT scores all');
sub held
{
    open my $file, '<', "/proc/$session->{pid}/status" or return 0;
    return (map { /^VmRSS:\s+(\d+)/ ? $1 : () } <$file>)[0];
}
$session->query('BEGIN; DECLARE c CURSOR FOR SELECT * FROM stream; MOVE 5441 IN c'); # the first of the largest blocks, and a row
my $held = held();
$session->query('MOVE ALL IN c');
cmp_ok(held() - $held, '<', 1000, 'a cursor holds one block, however many it has moved over');
$session->query('COMMIT');

unlike($server->log, qr/WARNING|PANIC|terminated by signal/, 'the server has nothing to complain of');
done_testing;
