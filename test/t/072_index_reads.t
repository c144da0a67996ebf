# A prediction for one key is the same to the bit whether whole tables are read for it or only the rows around it, on
# random schemas, keys, moments and models; and what is read is what was promised.
#
# INDEX_READS_ROUNDS: how many rounds; INDEX_READS_SEED: the first one's seed (each round prints its own).
use strict;
use warnings;
use Test::More;
use MoeFuzz;
use MoeServer;
use MoeShop;

my $rounds = $ENV{INDEX_READS_ROUNDS} // 12;
my $first_seed = $ENV{INDEX_READS_SEED} // 1;
my $server = MoeServer->new('index_reads', log_min_messages => 'warning');
my ($looked_up, $made, $compared) = (0, 0, 0);

# Every seed at several moments, by a scan that turns from key to key and by one question each.
sub asked
{
    my ($entity, $task, $reads) = @_;
    my $join = join ' AND ', map { "m.$_ = s.$_" } @{ $entity->{pk} };
    my $given = join ' AND ', map { "$_ = %L" } @{ $entity->{pk} };
    my $keys = join ', ', map { "s.$_" } @{ $entity->{pk} };
    my $bits = $task eq 'multiclass' ? "float8send(m.score)::text || m.class"
        : 'float8send(m.' . ($task eq 'binary' ? 'probability' : 'prediction') . ')::text';
    my $moments = "(VALUES (timestamptz '2024-04-15 00:00+00'), ('2024-06-20 12:00+00'), ('2024-09-01 00:00+00'), ('2025-06-01 00:00+00')) AS v (t)";
    return "SET moe_ml.index_reads = $reads;\nSET enable_hashjoin = off;\nSET enable_mergejoin = off;\nSET enable_material = off;\n"
        . "SELECT 'turned', s.key, v.t, $bits FROM seeds AS s, $moments, LATERAL (SELECT * FROM m WHERE m.as_of = v.t AND $join OFFSET 0) AS m"
        . " WHERE s.n % 5 = 1 ORDER BY 2, 3;\n"
        . "SELECT format('SELECT ''alone'', %L, $bits FROM m WHERE $given;', s.key, $keys) FROM seeds AS s WHERE s.n % 7 = 2 ORDER BY s.n \\gexec\n"
        . "SELECT format('EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT * FROM m WHERE $given;', $keys) FROM seeds AS s WHERE s.n = 1 \\gexec\n";
}

sub play
{
    my ($seed) = @_;
    srand($seed);
    my ($tables, $entity, $setup) = make_world(30, 90);
    my ($status, $out, $err) = $server->psql($setup);
    return "setup failed: $err" if $status != 0;
    my ($statement, @errors);
    for my $try (make_statements($tables, $entity))
    {
        ($status, $out, $err) = $server->psql($prelude . "SELECT moe_ml.execute(\$model\$CREATE MODEL m $try->{text}\$model\$);\n");
        $statement = $try->{text};
        last if $status == 0;
        push @errors, "$statement: $err";
    }
    return "no model: @errors" if $status != 0;
    $made++;
    my $task = $server->query("SELECT task FROM moe_ml.models WHERE name = 'm'");
    my %said;
    for my $reads ('off', 'on')
    {
        ($status, $out, $err) = $server->psql($prelude . asked($entity, $task, $reads));
        return "$statement\n$err" if $status != 0;
        $looked_up++ if $out =~ /Reading: rows around the key/;
        $said{$reads} = [ grep { /^(turned|alone)/ } split /\n/, $out ];
    }
    $compared += @{ $said{off} };
    my @differ = grep { $said{off}[$_] ne ($said{on}[$_] // '') } 0 .. $#{ $said{off} };
    return '' if !@differ && @{ $said{off} } == @{ $said{on} };
    return "$statement\n" . scalar(@differ) . ' of ' . scalar(@{ $said{off} }) . " differ:\n"
        . join("\n", map { "$said{off}[$_] | " . ($said{on}[$_] // 'none') } @differ[ 0 .. ($#differ > 9 ? 9 : $#differ) ]);
}

$server->query('CREATE EXTENSION moe_ml');
for my $seed ($first_seed .. $first_seed + $rounds - 1)
{
    is(play($seed), '', "round with seed $seed");
}
cmp_ok($looked_up, '>=', $rounds / 3, "in $looked_up of $made rounds rows were looked up");

cmp_ok($compared, '>', 15 * $rounds, "$compared predictions were compared");

# Where rows have no place of their own, keys occur twice, or text is compared in several ways.
sub alike
{
    my ($name, $setup, $entity, $how) = @_;
    $server->query("SET client_min_messages = warning; SET moe_ml.notices = off; DROP SCHEMA IF EXISTS odd CASCADE; CREATE SCHEMA odd; SET search_path = odd, public;\n$setup; ANALYZE;\n"
        . model_sql('CREATE MODEL odd.m', query => "PREDICT count(orders.*, 0, 12, days) = 0 FOR EACH $entity"));
    my %said;
    for my $reads ('off', 'on')
    {
        my $ask = "SET moe_ml.index_reads = $reads; SET enable_hashjoin = off; SET enable_mergejoin = off";
        $said{$reads} = $server->query("$ask; SELECT string_agg(m::text, ' ' ORDER BY m::text) FROM (SELECT DISTINCT id FROM odd.$entity) AS e, LATERAL (SELECT * FROM odd.m WHERE m.id = e.id OFFSET 0) AS m");
        like($server->query("$ask; EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM odd.m WHERE id = (SELECT min(id) FROM odd.$entity)"), qr/Reading: $how/, "$name: $how") if $reads eq 'on';
    }
    is($said{on}, $said{off}, "$name: the same");
    return;
}

$server->query("SET moe_ml.notices = off;\n" . shop_sql());
my $directory = $server->query('SHOW data_directory');
$server->query("CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; COPY (SELECT 5000 + i, 1 + i % 30, timestamp '2020-02-01' + i * interval '3 hours', i % 7 FROM generate_series(1, 200) AS i) TO '$directory/old.csv' (FORMAT csv)");
alike('a child elsewhere', <<"SQL", 'customers', 'whole tables');
CREATE TABLE customers AS SELECT customer_id AS id, kind FROM public.customers; ALTER TABLE customers ADD PRIMARY KEY (id);
CREATE TABLE orders (order_id int PRIMARY KEY, id int REFERENCES customers, placed_at timestamp, amount float8);
INSERT INTO orders SELECT * FROM public.orders;
CREATE FOREIGN TABLE old () INHERITS (orders) SERVER files OPTIONS (filename '$directory/old.csv', format 'csv')
SQL
alike('a key twice', <<'SQL', 'customers', 'rows around the key');
CREATE TABLE shops AS SELECT i AS shop, i * i AS size FROM generate_series(1, 5) AS i; ALTER TABLE shops ADD PRIMARY KEY (shop);
CREATE TABLE customers (id int PRIMARY KEY, number int UNIQUE, kind text, since timestamp);
CREATE TABLE orders (order_id int PRIMARY KEY, number int REFERENCES customers (number), shop int REFERENCES shops, placed_at timestamp, amount float8);
INSERT INTO customers SELECT customer_id, customer_id + 100, kind, '2020-01-02' FROM public.customers;
INSERT INTO orders SELECT order_id, customer_id + 100, 1 + order_id % 5, placed_at, amount FROM public.orders;
CREATE TABLE more () INHERITS (customers); INSERT INTO more SELECT customer_id, 131 - customer_id, 'again', '2020-01-01' FROM public.customers
SQL
alike('two collations', <<'SQL', 'customers', 'whole tables');
CREATE TABLE products AS SELECT ('p' || i)::text COLLATE "C" AS product, i AS price FROM generate_series(1, 9) AS i; ALTER TABLE products ADD PRIMARY KEY (product);
CREATE TABLE customers AS SELECT 'c' || customer_id AS id, kind FROM public.customers; ALTER TABLE customers ADD PRIMARY KEY (id);
CREATE TABLE orders (order_id int PRIMARY KEY, id text REFERENCES customers, product text COLLATE "POSIX" REFERENCES products, placed_at timestamp, amount float8);
INSERT INTO orders SELECT order_id, 'c' || customer_id, 'p' || 1 + order_id % 9, placed_at, amount FROM public.orders
SQL

# No key, no reading; and an index that does not find single rows is none.
my $explain = "SET moe_ml.notices = off; EXPLAIN (ANALYZE, COSTS OFF)";
unlike($server->query("$explain SELECT * FROM odd.m WHERE id = (SELECT NULL::text)"), qr/Reading:/, 'for a key that is NULL nothing is read');
$server->query(<<'SQL' . model_sql('CREATE MODEL visits_model', query => 'PREDICT sum(visits.seconds, 0, 12, days) FOR EACH customers', experts => "'linear'"));
SET moe_ml.notices = off; CREATE TABLE visits (customer_id int NOT NULL REFERENCES customers, at timestamp, seconds float8);
INSERT INTO visits SELECT 1 + i % 30, timestamp '2020-01-01' + i * interval '3 minutes', i % 7 FROM generate_series(1, 60000) AS i; CREATE INDEX ON visits (at); CREATE INDEX few ON visits USING brin (customer_id); ANALYZE;
SQL
like($server->query("$explain SELECT * FROM visits_model WHERE customer_id = 1"), qr/Reading: whole tables/, 'ranges of blocks are no index for one key');
$server->query('DROP INDEX few; CREATE INDEX ON visits USING hash (customer_id)');
like($server->query("$explain SELECT * FROM visits_model WHERE customer_id = 1"), qr/Reading: rows around the key/, 'a hash is one');

done_testing;
