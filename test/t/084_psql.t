# What one sees in psql: every object of the extension says what it is for, and answers to what is typed most fit a terminal of
# 80 columns; rows of what has more columns fit it upright (\gx).
use strict;
use warnings;
use Test::More;
use List::Util qw(max);
use MoeServer;
use MoeShop;

my $server = MoeServer->new('psql', timezone => 'UTC');
my %all = (experts => "'history, linear, tabular, retrieval, arm, trees, graph, glance'", validation_from => "'2020-03-25'", test_from => "'2020-04-09'");
$server->query("SET moe_ml.notices = off; SET client_min_messages = warning; CREATE EXTENSION moe_ml;\n" . shop_sql() . <<'SQL' . join ';', model_sql('CREATE MODEL churn', %all),
CREATE TABLE parts (part_id serial PRIMARY KEY, order_id int REFERENCES orders, product text, quantity int, added_at timestamp);
INSERT INTO parts SELECT order_id * 3 + line, order_id, 'product ' || (order_id * line) % 17, (order_id + line) % 5, placed_at FROM orders, generate_series(1, 3) AS line;
CREATE TABLE tickets (ticket_id int PRIMARY KEY, customer_id int REFERENCES customers, topic text, answered_at timestamp);
INSERT INTO tickets SELECT i, 1 + i % 30, 'topic ' || i % 4, timestamp '2020-01-02' + i * interval '18 hours' FROM generate_series(1, 140) AS i;
SQL
    model_sql('CREATE MODEL busy', query => 'PREDICT count(orders.*, 0, 3, days) = 0 FOR EACH customers', experts => "'glance, linear'", validation_from => "'2020-03-20'", test_from => "'2020-04-19'"),
    model_sql('CREATE MODEL spend', %all, query => 'PREDICT sum(orders.amount, 0, 12, days) FOR EACH customers'),
    model_sql('CREATE MODEL which_kind', query => 'PREDICT customers.kind FOR EACH customers', experts => "'linear'", show => 'experts'));

# Comments
is($server->query(<<'SQL'), '', 'every object that one comes by has a comment');
SELECT pg_describe_object(classid, objid, 0) FROM pg_depend
 WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'moe_ml') AND deptype = 'e'
   AND obj_description(objid, classid::regclass::name) IS NULL
   AND NOT (classid = 'pg_type'::regclass AND (SELECT typrelid <> 0 OR typelem <> 0 FROM pg_type WHERE oid = objid)) -- of a table or view
 ORDER BY 1
SQL
cmp_ok($server->query("SELECT count(*) FROM pg_description AS d JOIN pg_proc AS p ON p.oid = d.objoid WHERE d.classoid = 'pg_proc'::regclass AND pronamespace = 'moe_ml'::regnamespace"), '>', 30, 'there are many');

# Widths
sub shown
{
    my ($command) = @_;
    my ($status, $out, $err) = $server->program('psql', [ '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-P', 'pager=off', '-d', 'postgres', '-f', '-' ], "SET moe_ml.notices = off; $command\n");
    die "$command: $err" if $status != 0;
    return $out;
}
my $query = "\$\$SELECT customer_id, timestamp '2020-04-10 09:00' AS as_of, customer_id % 2 = 0 AS label FROM customers\$\$";
for my $command ((map { "SELECT * FROM $_;" } 'churn', 'spend', 'moe_ml.models', 'moe_ml.jobs', "moe_ml.graph('customers')", "moe_ml.experts('churn')",
        "moe_ml.evaluate('churn')", "moe_ml.evaluate('spend')", "moe_ml.evaluate('churn', $query)", "moe_ml.evaluate('busy', budgets => '{1, 0.5}')", "moe_ml.budget('busy')", "moe_ml.importance('churn')",
        "moe_ml.importance('spend')", "moe_ml.explain('churn', 7)", "moe_ml.explain('spend', 7)", "moe_ml.observatory('churn')", "moe_ml.predictions('churn', $query)", "moe_ml.input_names('churn') LIMIT 40"),
    'EXPLAIN (COSTS OFF) SELECT * FROM churn;', 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT * FROM churn;', 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT * FROM spend WHERE customer_id = 7;')
{
    my $out = shown($command);
    my ($widest) = sort { length $b <=> length $a } split /\n/, $out;
    like($out, qr/\n.*\n/, "$command shows something");
    cmp_ok(length $widest, '<=', 80, '80 columns are enough') or diag($widest);
}
# Where there are more, each row fits when it stands upright.
for my $command ("SELECT * FROM moe_ml.device_info()", "SELECT * FROM moe_ml.graph_check('customers')", "SELECT * FROM moe_ml.expert_predictions('churn', $query)",
    map { "SELECT * FROM moe_ml.$_ LIMIT 3" } 'training_history', 'training_progress', 'job_details', 'graph_tables', 'graph_edges', 'graph_columns')
{
    my $out = shown("$command \\gx") =~ s/^(detail |-\[ RECORD).*//mgr; # a file's path, and a line as long as that
    my ($widest) = sort { length $b <=> length $a } split /\n/, $out;
    cmp_ok(length $widest, '<=', 80, "$command \\gx") or diag($widest);
}

# The numbers are short, and lose nothing.
is($server->query("SELECT bool_and(probability::real::text = probability::text), bool_and(moe_ml.predict('churn', customer_id) = probability), count(*) FROM churn"), 't|t|30', 'a probability is as long as a float');
is($server->query("SELECT bool_and(prediction::real::text = prediction::text AND lower::real::text = lower::text AND upper::real::text = upper::text) FROM spend"), 't', 'a value and its range, too');
is($server->query("SELECT bool_and(prediction::real::text = prediction::text), count(*) FROM moe_ml.predictions('which_kind', 'SELECT customer_id, timestamp ''2020-04-01'' AS as_of, kind AS label FROM customers')"), 't|30', 'and a score');
like(shown('\d churn'), qr/customer_id.*as_of.*prediction.*probability.*Server: moe_ml/s, 'a model is a table to psql');
like(shown('\df+ moe_ml.evaluate'), qr/metrics on the model's own validation and test rows/, 'functions say what they do');
like(shown('\dx moe_ml'), qr/learn on tables/, 'and so does the extension');

done_testing();
