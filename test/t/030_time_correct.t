# Time-correctness on random schemas: nothing later than a seed's time changes a bit of its prediction. Every round
# makes tables, rows and a model at random, keeps all predictions up to a cut as bits, rewrites what lies after the
# cut in every way, and compares. Each round ends with a change of earlier rows, which must be noticed.
#
# TIME_CORRECT_ROUNDS: how many rounds; TIME_CORRECT_SEED: the first one's seed (each round prints its own).
use strict;
use warnings;
use Test::More;
use MoeFuzz;
use MoeServer;

my $rounds = $ENV{TIME_CORRECT_ROUNDS} // 20;
my $first_seed = $ENV{TIME_CORRECT_SEED} // 1;
my $server = MoeServer->new('time_correct', log_min_messages => 'warning');
my @times = ('2024-04-15 00:00:00', '2024-06-20 12:00:00', '2024-09-01 00:00:00');

# look(): every prediction, by every road, as bits.
sub look
{
    my ($entity, $task, $time_type) = @_;
    my $columns = join ', ', @{ $entity->{pk} };
    my $zone = $time_type eq 'timestamp with time zone' ? '+00' : '';
    my $type = $zone ? 'timestamptz' : 'timestamp';
    my @at = map { "'$_$zone'" } @times;
    my $at = join ', ', @at;
    my $bits = $task eq 'multiclass' ? "float8send(score) || convert_to(class, 'UTF8')"
        : 'float8send(' . ($task eq 'binary' ? 'probability' : 'prediction') . ')';
    my $key = key_text($entity, '');
    my $argument = @{ $entity->{pk} } > 1 ? "ROW($columns)" : $columns;
    my $scalar = $task eq 'multiclass' ? "convert_to(moe_ml.predict_class('m', $argument, t), 'UTF8')" : "float8send(moe_ml.predict('m', $argument, t))";
    my $some = @{ $entity->{pk} } > 1
        ? "($columns) = (SELECT $columns FROM seeds WHERE n = 3)" : "$columns = ANY (ARRAY(SELECT $columns FROM seeds WHERE n % 4 = 1 ORDER BY n))";
    my $result = $task eq 'regression' ? 'number_label' : $task eq 'binary' ? 'boolean_label' : 'text_label';
    my $typed = $zone ? "timestamptz ''%s+00''" : "timestamp ''%s''";
    my $as_of = $zone ? 'as_of' : 'as_of::timestamp';
    my $query = sub {
        my ($moment) = @_;
        $moment =~ s/(2024-\d\d-\d\d)/sprintf $typed, $1/ge;
        return "(SELECT $columns, ($moment) AS as_of, $result AS label FROM seeds"
            . " JOIN (SELECT $columns, $result FROM labels WHERE at = ''2024-02-01'') AS l USING ($columns) ORDER BY n)";
    };
    my $shift = "+ n % 30 * interval ''1 day''";
    my $join = join ' AND ', map { "m.$_ = s.$_" } @{ $entity->{pk} };
    my $shown = "float8send(prediction) || convert_to(coalesce(class, ''), 'UTF8')";
    return <<"SQL";
CREATE FUNCTION look() RETURNS TABLE (road text, key text, at text, bits bytea) LANGUAGE sql AS \$look\$
    SELECT 'scan', $key, extract(epoch FROM as_of)::text, $bits FROM m WHERE as_of IN ($at)
    UNION ALL SELECT 'keys', $key, extract(epoch FROM as_of)::text, $bits FROM m WHERE as_of IN ($at[0], $at[2]) AND $some
    UNION ALL SELECT 'predict', key, extract(epoch FROM t)::text, $scalar
        FROM seeds, (VALUES ($type $at[1]), ($type $at[2])) AS v (t) WHERE n <= 6
    UNION ALL SELECT 'join', s.key, extract(epoch FROM m.as_of)::text, $bits
        FROM (SELECT *, (ARRAY[$type $at[0], $at[1], $at[2]])[1 + n % 3] AS t FROM seeds WHERE n % 2 = 0) AS s
        JOIN m ON m.as_of = s.t AND $join
    UNION ALL SELECT 'rolling', p.key, extract(epoch FROM $as_of)::text, $shown
        FROM moe_ml.predictions('m', '@{[ $query->("2024-08-02 $shift") ]}', 'rolling') AS p
    UNION ALL SELECT 'frozen', p.key, extract(epoch FROM $as_of)::text, $shown
        FROM moe_ml.predictions('m', '@{[ $query->("CASE WHEN n = 1 THEN 2024-08-10 ELSE 2024-09-02 $shift END") ]}', 'frozen') AS p
    UNION ALL SELECT 'evaluate', regime || metric, '', float8send(coalesce(model, -1))
        FROM moe_ml.evaluate('m', '@{[ $query->("2024-08-02 $shift") ]}')
    UNION ALL SELECT 'explain', key, e.part || ' ' || coalesce(e.name, ''),
            string_agg(float8send(coalesce(e.prediction, 0)) || float8send(coalesce(contribution, 0)) || float8send(coalesce(share, 0)), '' ORDER BY contribution)
        FROM seeds, LATERAL moe_ml.explain('m', $argument, $at[2]) AS e WHERE n = 2 GROUP BY key, e.part, e.name
\$look\$;
CREATE TABLE before AS SELECT * FROM look();
CREATE FUNCTION changed(step text) RETURNS TABLE (what text) LANGUAGE sql AS \$\$
    WITH now AS MATERIALIZED (SELECT * FROM look())
    SELECT concat_ws(' ', step, road, key, at, CASE WHEN b.bits IS NULL THEN 'new' WHEN n.bits IS NULL THEN 'gone' END)
    FROM before AS b FULL JOIN now AS n USING (road, key, at) WHERE b.bits IS DISTINCT FROM n.bits ORDER BY 1
\$\$;
SQL
}

# Columns of a later row that may be given any other value, and an expression for each.
sub set_list
{
    my ($table, $moves_keys) = @_;
    my @set;
    for my $column (all_columns($table))
    {
        my $role = $column->{role};
        next if chance(0.4);
        if ($role eq 'value') { push @set, "$column->{name} = " . value($column); }
        elsif ($role eq 'time') { push @set, "$column->{name} = " . late_moment($column->{type}); }
        elsif ($role eq 'late') { push @set, "$column->{name} = " . any('NULL', early_moment($column->{type}), late_moment($column->{type})); }
        elsif ($role eq 'key' && $moves_keys && @{ $column->{key}{to} } == 1)
        {
            next if !defined $table->{time} && grep { $_ == $column->{key} } @{ $table->{giving} };
            my $parent = any(@{ $column->{key}{parent}{rows} });
            push @set, "$column->{name} = " . ($column->{key}{to}[0] eq 'id' ? id_literal($column->{key}{parent}, $parent->{n}) : $parent->{n} * 7);
        }
    }
    return join ', ', @set;
}

# Every change that lies after the cut, in random order over the tables.
sub late_changes
{
    my ($tables) = @_;
    my @steps;
    my $insert = '';
    for my $table (@$tables)
    {
        $insert .= insert_rows($table, 100_000, number(0, 40), 1) if defined later($table, 'x');
    }
    push @steps, [ 'insert', $insert ];
    my ($update, $late, $delete, $rewrite) = ('', '', '', '');
    for my $table (@$tables)
    {
        my $later = later($table, 'x');
        for (1 .. 2)
        {
            my $set = set_list($table, 1);
            $update .= "UPDATE $table->{name} AS x SET $set WHERE ($later) AND hashtext(x::text) % 2 = 0;\n" if defined $later && $set;
        }
        for my $known (@{ $table->{late} })
        {
            for my $part (0 .. 2)
            {
                my @set = map { "$_->{name} = " . value($_) } @{ $known->{columns} };
                push @set, "$known->{name} = " . any('NULL', late_moment($known->{type}), late_moment($known->{type})) if chance(0.7);
                $late .= "UPDATE $table->{name} AS x SET " . join(', ', @set)
                    . " WHERE ($known->{name} > $cut OR $known->{name} IS NULL) AND abs(hashtext(x::text)) % 3 = $part;\n" if @set;
            }
        }
        $delete .= "DELETE FROM $table->{name} AS x WHERE ($later) AND abs(hashtext(x::text)) % 3 = 0;\n" if defined $later && chance(0.8);
        my $index = "CREATE INDEX $table->{name}_order ON $table->{name} (amount, " . $table->{columns}[-1]{name} . ");\n";
        $rewrite .= "UPDATE $table->{name} SET amount = amount WHERE abs(hashtext($table->{name}::text)) % 2 = 0;\n";
        $rewrite .= "${index}CLUSTER $table->{name} USING $table->{name}_order;\n" if !$table->{partitioned} && chance(0.5);
        $rewrite .= "VACUUM FULL $table->{name};\n" if chance(0.3);
    }
    push @steps, [ 'update', $update ], [ 'known later', $late ], [ 'delete', $delete ];
    push @steps, [ 'rewrite', $rewrite . "ANALYZE;\n" ];
    push @steps, [ 'settings', join '', map { "SET $_;\n" } grep { chance(0.5) }
        "timezone = '" . any('Asia/Tokyo', 'America/New_York') . "'", "datestyle = 'SQL, DMY'", 'moe_ml.threads = ' . any(1, 3),
        "work_mem = '64kB'", 'enable_seqscan = off', 'enable_hashjoin = off', 'enable_sort = off', 'extra_float_digits = 0',
        "intervalstyle = 'sql_standard'", "bytea_output = 'escape'" ];
    return @steps;
}

# A change of earlier rows in every table.
sub early_change
{
    my ($tables) = @_;
    return join '', map {
        my $later = later($_, 'x');
        "UPDATE $_->{name} AS x SET amount = 99 - 3 * coalesce(amount, 7)" . (defined $later ? " WHERE ($later) IS NOT TRUE" : '') . ";\n"
    } @$tables;
}

my ($noticed, $made, $tried) = (0, 0, 0);

sub play
{
    my ($seed) = @_;
    srand($seed);
    my ($tables, $entity, $setup) = make_world(15, 70);
    open my $file, '>', $ENV{TIME_CORRECT_KEEP} or die $! if $ENV{TIME_CORRECT_KEEP};
    my $sql = sub { print $file $_[0] if $file; return $server->psql($_[0]); };
    my ($status, $out, $err) = $sql->($setup);
    return "setup failed: $err" if $status != 0;

    my ($statement, $final);
    my @errors;
    for my $try (make_statements($tables, $entity))
    {
        $tried++;
        ($status, $out, $err) = $sql->($prelude . "SELECT moe_ml.execute(\$model\$CREATE MODEL m $try->{text}\$model\$);\n");
        ($statement, $final) = @$try{qw(text final)};
        last if $status == 0;
        push @errors, "$statement: $err";
    }
    return "no model: " . join("\n", @errors) if $status != 0;
    diag(@errors) if @errors && $ENV{TIME_CORRECT_VERBOSE};
    $made++;
    my $info = $server->query("SELECT format_type(atttypid, -1), (SELECT task FROM moe_ml.models WHERE name = 'm')"
        . " FROM pg_attribute WHERE attrelid = 'fuzz.m'::regclass AND attname = 'as_of'");
    my ($time_type, $task) = split /\|/, $info;

    my $steps = $prelude . look($entity, $task, $time_type)
        . "SELECT 'rows', count(*), count(DISTINCT bits) FROM before WHERE road = 'scan';\nSELECT changed('nothing');\n";
    my $again = $final && chance(0.4);
    for my $step (late_changes($tables))
    {
        $steps .= "$step->[1]SELECT changed('$step->[0]');\n";
    }
    $steps .= "SELECT moe_ml.execute(\$model\$CREATE OR REPLACE MODEL m $statement\$model\$) IS NULL;\nSELECT changed('trained again');\n" if $again;
    $steps .= "SELECT 'control';\n" . early_change($tables) . "SELECT count(*) FROM changed('control');\n";
    ($status, $out, $err) = $sql->($steps);
    return "$statement\n$err" if $status != 0;
    my ($before, $control) = split /^control$/m, $out;
    $noticed++ if $control =~ /[1-9]/;
    my @changed = grep { !/^rows\|/ && $_ ne 'f' && $_ ne '' } split /\n/, $before;
    diag("seed $seed: $statement; " . ($before =~ /^(rows.*)$/m)[0] . ' control ' . $control =~ s/\s+//gr) if $ENV{TIME_CORRECT_VERBOSE};
    return '' if !@changed;
    return "$statement\n" . scalar(@changed) . " changed:\n" . join("\n", @changed[ 0 .. ($#changed > 9 ? 9 : $#changed) ]);
}

$server->query('CREATE EXTENSION moe_ml');
for my $seed ($first_seed .. $first_seed + $rounds - 1)
{
    my $wrong = play($seed);
    is($wrong, '', "round with seed $seed");
}
note("$tried statements tried");
cmp_ok($noticed, '>=', $rounds / 2, "$noticed of $made rounds noticed a change of earlier rows");

# What this test has found, one case each: a model, and a change after the cut that must not move it.
$server->query("DROP SCHEMA IF EXISTS fuzz CASCADE; CREATE SCHEMA fuzz;\n" . $prelude . <<'SQL');
CREATE TABLE customers (customer_id int PRIMARY KEY);
CREATE TABLE orders (order_id int PRIMARY KEY, customer_id int REFERENCES customers, placed_at timestamp NOT NULL, amount int,
    shipped_at timestamp, weight float8);
CREATE TABLE lines (line_id int PRIMARY KEY, order_id int REFERENCES orders, added_at timestamp NOT NULL);
-- Their time is the later one of the order's and the shipment's.
CREATE TABLE shipments (shipment_id int PRIMARY KEY, left_at timestamp NOT NULL);
CREATE TABLE parcels (order_id int NOT NULL REFERENCES orders, shipment_id int NOT NULL REFERENCES shipments);
INSERT INTO customers SELECT generate_series(1, 30);
INSERT INTO shipments SELECT i, timestamp '2024-01-01' + i * interval '1 day' FROM generate_series(0, 300) AS i;
INSERT INTO parcels SELECT i, i / 12 FROM generate_series(0, 2999) AS i;
SELECT moe_ml.declare('shipments', 'left_at', 'time');
INSERT INTO orders SELECT i, 1 + i % 30, timestamp '2024-01-01' + i / 60 * interval '5 days', i * 7 % 11,
    timestamp '2024-01-01' + i / 60 * interval '5 days' + i % 3 * interval '90 days', i * 5 % 13 FROM generate_series(0, 2999) AS i;
INSERT INTO lines SELECT i, i, timestamp '2024-01-02' + i % 240 * interval '1 day' FROM generate_series(0, 2999) AS i;
SELECT moe_ml.declare('orders', 'weight', 'known at shipped_at'), moe_ml.declare('orders', 'placed_at', 'time');
SQL

# The predictions of a model as of the cut, as bits, in one line; with what is run before it.
sub predictions
{
    return $server->query($prelude . $_[0] . ";\nSELECT string_agg(customer_id || ' ' || float8send(prediction)::text, ',' ORDER BY customer_id)"
        . " FROM m WHERE as_of = $cut");
}

# Train, change in a transaction, look again; again: train again first.
sub is_unmoved
{
    my ($query, $change, $again, $name, $target) = @_;
    $target //= 'sum(orders.amount, 0, 20, days)';
    my $train = "SELECT moe_ml.execute(\$\$CREATE OR REPLACE MODEL m PREDICT $target FOR EACH customers $query
        WITH (epochs = 1, max_steps = 3, channels = 8, hops = 2, neighbors = '4, 2',
              validation_from = '2024-07-01', test_from = '2024-08-01')\$\$) IS NULL";
    my $before = (split /\n/, predictions($train))[-1];
    isnt($before, '', "$name: there are predictions");
    my $after = (split /\n/, predictions("BEGIN; $change" . ($again ? "; $train" : '')))[-1];
    is($after, $before, $name);
    return;
}

is_unmoved('', "UPDATE orders SET weight = 100 - weight, shipped_at = shipped_at + interval '1 day' WHERE shipped_at > $cut", 0,
    'what is not yet known does not order rows of one moment');
is_unmoved('', "UPDATE orders SET weight = 1e6 WHERE shipped_at > $cut", 1, 'nor is it in the statistics of its column');
is_unmoved('WHERE count(orders.* WHERE orders.weight > 5, -90, 0, days) > 3', "UPDATE orders SET weight = 0 WHERE shipped_at > $cut", 0,
    'nor does it say who counts');
is_unmoved('WHERE count(lines.*, -INF, 0, days) < 100', "UPDATE orders SET customer_id = 1 WHERE placed_at > $cut", 0,
    'a row that is not yet visible is no path from one that is');
is_unmoved('WHERE count(parcels.*, -INF, 0, days) < 99', "INSERT INTO parcels SELECT i, 300 FROM generate_series(0, 600) AS i", 0,
    'a row is counted when all the rows that it came with are visible');
is_unmoved('', "UPDATE orders SET customer_id = 1 WHERE placed_at > $cut", 0, 'nor does a label of the past rest on rows that came later',
    'count(lines.*, 0, 20, days)');
is_unmoved('', "UPDATE orders SET weight = 100 - weight WHERE shipped_at > $cut", 0, 'or on what was not known when its window closed',
    'sum(orders.amount WHERE orders.weight > 5, 0, 20, days)');

done_testing();
