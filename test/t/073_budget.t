# A budget: the glance expert answers alone where it is sure, nothing else is read for it, and every road says the same.
use strict;
use warnings;
use Test::More;
use MoeServer;
use MoeShop;

my $server = MoeServer->new('budget', autovacuum => 'off');
my $quiet = "SET moe_ml.notices = off; SET client_min_messages = warning";
my %tiny = (query => 'PREDICT count(orders.*, 0, 3, days) = 0 FOR EACH customers', experts => "'history, linear, retrieval, graph, glance'", validation_from => "'2020-03-20'", test_from => "'2020-04-19'");
# The dull never order, which their own column tells; of the lively only the last visit tells.
my $shop = <<'SQL';
CREATE TABLE customers (customer_id int PRIMARY KEY, kind text);
INSERT INTO customers SELECT i, CASE WHEN i % 2 = 0 THEN 'dull' ELSE 'lively' END FROM generate_series(1, 30) AS i;
CREATE TABLE visits (visit_id int PRIMARY KEY, customer_id int REFERENCES customers, at timestamp, mood float8);
INSERT INTO visits SELECT row_number() OVER (), i, timestamp '2020-01-02' + k * interval '3 days', sin(i * 37.1 + k * k * 11.7)
    FROM generate_series(1, 30) AS i, generate_series(0, 38) AS k;
CREATE TABLE orders (order_id int PRIMARY KEY, customer_id int REFERENCES customers, placed_at timestamp, amount float8);
INSERT INTO orders SELECT row_number() OVER (), v.customer_id, v.at + interval '2 days', v.visit_id % 7
    FROM visits AS v JOIN customers AS c USING (customer_id) WHERE c.kind = 'lively' AND v.mood > 0;
CREATE INDEX ON orders (customer_id);
CREATE INDEX ON visits (customer_id);
SQL
$server->query("$quiet; CREATE EXTENSION moe_ml;\n" . $shop . join ';', 
    model_sql('CREATE MODEL every', %tiny), model_sql('CREATE MODEL half', %tiny, budget => 0.5), model_sql('CREATE MODEL none', %tiny, budget => 0, show => 'experts'));

# What EXPLAIN says of a question, as lines without their indentation.
sub explained
{
    my ($question, $reads) = @_;
    return join "\n", map { s/^\s+//r } split /\n/,
        $server->query("SET moe_ml.index_reads = " . ($reads // 'auto') . "; SET moe_ml.cache_size = 0; EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) $question");
}

# The curve.
is($server->query("SELECT count(*) FROM moe_ml.budget('every')") > 5, 1, 'a model of classes knows what stopping early would cost');
is($server->query("SELECT reads, asked, threshold IS NULL FROM moe_ml.budget('every') WHERE chosen"), '1|1|t', 'without a budget all is read');
is($server->query("SELECT max(reads) <= 0.5, max(reads) > 0 FROM moe_ml.budget('half') WHERE chosen"), 't|t', 'with one no more than it says');
is($server->query("SELECT reads, asked FROM moe_ml.budget('none') WHERE chosen"), '0|0', 'or nothing');
is($server->query("SELECT bool_and(asked < before AND reads <= least AND threshold > coalesce(last, -1)) FROM (SELECT *, lag(asked) OVER w AS before, lag(reads) OVER w AS least, lag(threshold) OVER w AS last
    FROM moe_ml.budget('half') WINDOW w AS (ORDER BY asked DESC)) AS c WHERE before IS NOT NULL"), 't', 'the more that is worth may stop, the less is read');

# What is read.
like(explained('SELECT * FROM none'), qr/Reading: entity rows and their past labels alone\nRows Read: 30\nTables Read: customers: 30/, 'of rows that stop early no other table is read');
like(explained('SELECT * FROM none WHERE customer_id = 3', 'on'), qr/Rows Read: 1\nTables Read: customers: 1/, 'of one, no other row');
like(explained('SELECT * FROM none'), qr/glance: 100%/, 'and no other expert computed');
like(explained('SELECT * FROM every'), qr/Reading: whole tables/, 'without a budget everything is read');
is($server->query("SELECT DISTINCT experts FROM none"), '{"glance": 1.0000}', 'the experts column says who answered');
my $stopped = $server->query("SET moe_ml.notices = off; SELECT string_agg(customer_id::text, ',' ORDER BY customer_id) FROM half AS h JOIN none AS n USING (customer_id)
    WHERE float8send(h.probability) = float8send(n.probability)");
my $asked = $server->query('SELECT string_agg(customer_id::text, \',\' ORDER BY customer_id) FROM half AS h JOIN every AS n USING (customer_id)
    WHERE float8send(h.probability) = float8send(n.probability)');
isnt($stopped, '', 'some rows stop early');
isnt($asked, '', 'some ask everything, and get what the model without a budget says');
is(scalar(my @all = split /,/, "$stopped,$asked"), 30, 'each row does one or the other');
my ($early, $late) = ((split /,/, $stopped)[0], (split /,/, $asked)[0]);
like(explained("SELECT * FROM half WHERE customer_id = $early"), qr/Reading: entity rows and their past labels alone/, 'what is read depends on the row');
unlike(explained("SELECT * FROM half WHERE customer_id = $late"), qr/Reading: entity rows/, 'of one in doubt the rest is read');

# Every road.
for my $reads ('off', 'on')
{
    my $set = "SET moe_ml.index_reads = $reads; SET enable_hashjoin = off; SET enable_mergejoin = off";
    my $one = $server->query("$set; SELECT string_agg(float8send(p.probability)::text, ' ' ORDER BY c.customer_id) FROM customers AS c, LATERAL (SELECT * FROM half WHERE customer_id = c.customer_id OFFSET 0) AS p");
    is($server->query("$set; SELECT string_agg(float8send(probability)::text, ' ' ORDER BY customer_id) FROM half"), $one, "index_reads = $reads: one by one as all at once");
    is($server->query("$set; SELECT string_agg(float8send(moe_ml.predict('half', customer_id))::text, ' ' ORDER BY customer_id) FROM customers"), $one, 'and by predict()');
}

# Metrics along the curve are those of models that have the budget, and leave the model as it was.
my %own = map { $_->[0] => $server->query("$quiet; SELECT string_agg(concat_ws(' ', split, regime, metric, model), ', ' ORDER BY split, regime, metric) FROM moe_ml.evaluate('$_->[1]')") } [ 1, 'every' ], [ 0.5, 'half' ], [ 0, 'none' ];
for my $model ('every', 'half')
{
    for my $budget (1, 0.5, 0)
    {
        is($server->query("$quiet; SELECT string_agg(concat_ws(' ', split, regime, metric, model), ', ' ORDER BY split, regime, metric) FROM moe_ml.evaluate('$model', budgets => '{0.5, 1, 0}') WHERE budget = $budget"), $own{$budget}, "evaluate('$model') by a budget of $budget is that of a model with it");
    }
}
is($server->query("$quiet; SELECT string_agg(DISTINCT concat_ws(' ', budget, asked, reads), ', ') FROM moe_ml.evaluate('half', budgets => '{0, 1}')"), '0 0 0, 1 1 1', 'nothing or everything is read');
is($server->query("$quiet; SELECT bool_and(asked > 0 AND asked < 1 AND reads > 0 AND reads < 1 AND reads < asked + 0.5), count(*) FROM moe_ml.evaluate('every', budgets => '{0.5}')"), 't|21', 'or a part');
my $march = "SELECT customer_id, timestamp '2020-03-25' AS as_of, customer_id % 3 = 0 AS label FROM customers";
is($server->query("$quiet; SELECT bool_and(e.model = h.model), count(*) FROM moe_ml.evaluate('every', '$march', '{0.5}') AS e JOIN moe_ml.evaluate('half', '$march') AS h USING (split, regime, metric)" =~ s/'$march'/\$q\$$march\$q\$/gr), 't|7', 'on rows of a query too');
is($server->query("SET moe_ml.cache_size = '64MB'; $quiet; CREATE TEMP TABLE before AS SELECT * FROM half; CREATE TEMP TABLE curve AS SELECT * FROM moe_ml.evaluate('half', budgets => '{1, 0}');
    SELECT count(*) FROM (TABLE before EXCEPT SELECT * FROM half) AS changed"), 0, 'and the model predicts as before');
for my $wrong ([ "'{}'", qr/0 budgets are given/ ], [ "'{0.5, NULL}'", qr/a budget is a share from 0 to 1/ ], [ "'{1.5}'", qr/a budget is a share from 0 to 1/ ], [ "'{NaN}'", qr/a budget is a share from 0 to 1/ ])
{
    my ($status, $out, $err) = $server->psql("$quiet; SELECT * FROM moe_ml.evaluate('half', budgets => $wrong->[0])");
    like($err, qr/$wrong->[1].*HINT/s, "budgets $wrong->[0] are refused");
}
$server->query("$quiet; " . model_sql('CREATE MODEL alone', %tiny, experts => "'linear'"));
like(($server->psql("$quiet; SELECT * FROM moe_ml.evaluate('alone', budgets => '{0.5}')"))[2], qr/model "alone" has not learned what stopping early costs.*HINT/s, 'and models that cannot have any');

# A budget that a model takes is one it keeps, however few rows it is chosen by.
$server->query(<<"SQL");
$quiet; SELECT moe_ml.execute(\$moe\$CREATE MODEL barely PREDICT y FOR EACH customers AT at
    WITH (experts = 'glance, linear', budget = 0.5, seed = 1, validation_from = '2020-03-28', test_from = '2020-04-09') AS
    SELECT customer_id, at, EXISTS (SELECT FROM orders AS o WHERE o.customer_id = c.customer_id AND o.placed_at > at AND o.placed_at <= at + interval '3 days') AS y
    FROM customers AS c, generate_series(timestamp '2020-01-10', '2020-04-16', '3 days') AS at WHERE customer_id <= 26\$moe\$)
SQL
is($server->query("$quiet; SELECT DISTINCT rows FROM moe_ml.evaluate('barely') WHERE split = 'validation'"), '104', 'with little more than a hundred validation rows');
is($server->query("SELECT reads <= 0.5, count(*) OVER () > 0 FROM moe_ml.budget('barely') WHERE chosen"), 't|t', 'a budget is chosen');

# What cannot be.
for my $wrong ([ 'regression', qr/a budget needs a model of classes/, query => 'PREDICT sum(orders.amount, 0, 12, days) FOR EACH customers', budget => 0.5 ],
    [ 'no glance', qr/a budget needs the expert "glance" and another/, budget => 0.5, experts => "'linear'" ],
    [ 'glance alone', qr/a budget needs the expert "glance" and another/, budget => 0.5, experts => "'glance'" ],
    [ 'few rows', qr/a budget cannot be chosen for this model/, %tiny, budget => 0.5, validation_from => "'2020-04-16'" ],
    [ 'out of range', qr/budget/, budget => 2 ])
{
    my ($name, $error, %with) = @$wrong;
    my ($status, $out, $err) = $server->psql("$quiet; " . model_sql('CREATE MODEL wrong', %with));
    like($err, $error, "$name is refused");
    like($err, qr/HINT/, 'with a hint') if $name ne 'out of range';
}
is($server->query("SELECT count(*) FROM moe_ml.models WHERE name = 'wrong'"), 0, 'and nothing is left');

# Tables that are not read must be allowed to be: whoever may ask of one row may of all.
$server->query(<<"SQL");
$quiet; SELECT moe_ml.execute(\$moe\$CREATE MODEL kept_labels PREDICT y FOR EACH customers AT at
    WITH (experts = 'glance, linear', budget = 0, seed = 1, validation_from = '2020-03-20', test_from = '2020-04-10') AS
    SELECT customer_id, at, NOT EXISTS (SELECT FROM orders AS o WHERE o.customer_id = c.customer_id AND o.placed_at > at AND o.placed_at <= at + interval '3 days') AS y
    FROM customers AS c, generate_series(timestamp '2020-01-10', '2020-04-16', '3 days') AS at\$moe\$)
SQL
$server->query('CREATE ROLE half_way; GRANT USAGE ON SCHEMA moe_ml TO half_way; GRANT SELECT ON kept_labels, customers, visits TO half_way; GRANT SELECT (customer_id, placed_at) ON orders TO half_way');
like(($server->psql("$quiet; SET moe_ml.index_reads = $_; SET ROLE half_way; SELECT * FROM kept_labels"))[2], qr/permission denied for (table|column "\w+" of table) "?orders/, "index_reads = $_: no row without a right to all tables") for 'off', 'auto', 'on';
$server->query('GRANT SELECT (order_id, amount) ON orders TO half_way');
is($server->query("$quiet; SET ROLE half_way; SELECT count(*) FROM kept_labels"), '30', 'rights to its columns are enough');

# Entities that are others when they are read again.
$server->query("CREATE ROLE guest; GRANT USAGE ON SCHEMA moe_ml TO guest; GRANT SELECT ON half, customers, visits, orders TO guest;
    ALTER TABLE customers ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON customers USING (random() < 0.5)");
my %told;
for my $question ('SELECT * FROM half', "SELECT * FROM half WHERE customer_id = $late")
{
    for (1 .. 20)
    {
        my (undef, undef, $err) = $server->psql("$quiet; SET moe_ml.index_reads = on; SET ROLE guest; $question");
        $told{$err =~ s/\n.*//sr}++;
    }
}
is(join('; ', grep { $_ ne '' } keys %told), 'psql:<stdin>:1: ERROR:  table "customers" has other rows when it is read again', 'entities that change from one reading to the next are an error');

done_testing;
