# A model's inputs against a second implementation in SQL (test/lib/MoeReference.pm), on random schemas and rows. Each
# round makes tables and a tiny model, asks it for the inputs of rows at moments at and around those of rows, in either
# regime, and computes every one of them again from its name. A name without a reference is a failure.
#
# AGGREGATES_ROUNDS: how many rounds; AGGREGATES_SEED: the first one's seed (each round prints its own).
use strict;
use warnings;
use Test::More;
use List::Util qw(max);
use MoeFuzz;
use MoeReference;
use MoeServer;

my $rounds = $ENV{AGGREGATES_ROUNDS} // 8;
my $first_seed = $ENV{AGGREGATES_SEED} // 1;
my $server = MoeServer->new('aggregates', log_min_messages => 'warning');
my $prelude = "SET jit = off;\nSET client_min_messages = warning;\nSET timezone = 'UTC';\nSET moe_ml.notices = off;\n"
    . "SET search_path = fuzz, public;\nSET session_replication_role = replica;\n";
my ($compared, $nulls, %seen) = (0, 0);

# Some tables' rows at different moments: only then is everything that depends on their order known.
sub spread_sql
{
    my ($table) = @_;
    return '' if !defined $table->{time} || !$table->{distinct};
    my $n = @{ $table->{rows} };
    my $step = int(400 / ($n || 1)) || 1;
    return "UPDATE $table->{name} AS x SET $table->{time_name} = '2024-01-01'::timestamp + v.i * interval '" . ($step * 86400)
        . " seconds' FROM (SELECT tableoid AS o, ctid AS c, row_number() OVER (ORDER BY md5(t::text)) AS i FROM $table->{name} AS t) AS v"
        . " WHERE x.tableoid = v.o AND x.ctid = v.c;\n" . ($n > 100 ? crowd_sql($table, $table->{keys}[0]) : '');
}

# Most rows point at one, so that a row has more siblings than are looked at.
sub crowd_sql
{
    my ($table, $key) = @_;
    return '' if !$key || $key->{parent} == $table || !$key->{parent}{n};
    my ($to, $columns) = map { join ', ', @$_ } $key->{to}, $key->{columns};
    my $first = defined $key->{parent}{time} ? "$key->{parent}{time_name} NULLS FIRST, " : '';
    return "UPDATE $table->{name} AS x SET ($columns) = (SELECT $to FROM $key->{parent}{name} ORDER BY $first$to LIMIT 1)"
        . " WHERE abs(hashtext(x::text)) % 5 > 0;\n";
}

# How many rows; some tables have none.
sub choose_rows
{
    my ($tables, $entity) = @_;
    for my $table (@$tables)
    {
        my $needed = grep { grep { $_->{parent} == $table && $_->{not_null} } @{ $_->{keys} } } @$tables;
        my $many = $table != $entity && defined $table->{time} && @{ $table->{keys} } > 1 && chance(0.5);
        $table->{distinct} = $many || chance(0.5);
        $table->{n} = $many ? 200 : $table != $entity && !$needed && chance(0.15) ? 0 : number(15, 50);
    }
    return;
}

# Two keys from one table to another.
sub double_a_key
{
    my @tables = @_;
    my $table = any(@tables[ 1 .. $#tables ]);
    add_key($table, $table->{keys}[0]{parent});
    return;
}

sub make_statement
{
    my ($tables, $entity) = @_;
    my $window = any(7, 20, 30);
    my $with = "experts = 'linear', epochs = 1, ensembles = 1, seed_times = 4, seed = " . number(1, 99);
    my $blocks = "validation_from = '2024-07-01 00:00+00', test_from = '2024-08-10 00:00+00'";
    my @children = grep { my $t = $_; $t != $entity && $t->{n} && defined $t->{time} && 1 == grep { $_->{parent} == $entity } @{ $t->{keys} } } @$tables;
    my $label = any('boolean', 'number', 'text');
    my $own = { multiclass => $label eq 'text', window => 20, text => "PREDICT ${label}_label FOR EACH $entity->{name} AT at"
        . " WITH ($with, $blocks, label_window = '20 days') AS SELECT " . join(', ', @{ $entity->{pk} }, 'at', "${label}_label") . ' FROM labels' };
    my $fill = { window => 0, text => "PREDICT $entity->{name}.amount FOR EACH $entity->{name} WITH ($with)" };
    return ($own) if !@children || chance(0.4);
    return ($fill, $own) if chance(0.15);
    my $child = any(@children);
    my $target = any("count($child->{name}.*, 0, $window, days)", "sum($child->{name}.amount, 0, $window, days)", "count($child->{name}.*, 0, $window, days) > 0");
    my $where = chance(0.3) ? "WHERE count($child->{name}.*, -120, 0, days) > 0" : '';
    return ({ window => $window, text => "PREDICT $target FOR EACH $entity->{name} $where WITH ($with, $blocks)" }, $own);
}

# ref.asked (n, regime, key columns, as_of): entity rows at moments of rows, at those where these leave a window, just
# before and after, and anywhere else, long after the last row too.
sub asked_sql
{
    my ($entity, $times, $window) = @_;
    my @values;
    for my $n (1 .. 30)
    {
        my $at = @$times && chance(0.7) ? any(@$times) : number(757382400, 794275200) * 1_000_000;
        $at += any(0, 0, map { $_ * ($window || 1) * 86400_000_000 } 1, 3, 12) + any(0, 0, 1, -1);
        $at = 900_000_000_000_000 if chance(0.05);
        push @values, "($n, '" . ($n <= 20 ? 'rolling' : 'frozen') . "', $at, " . rand() . ')';
    }
    return "CREATE TABLE ref.asked AS SELECT n, regime, timestamp '2000-01-01' + at * interval '1 microsecond' AS as_of, "
        . join(', ', map { "e.$_" } @{ $entity->{pk} }) . " FROM (VALUES " . join(', ', @values) . ") AS v (n, regime, at, place)"
        . " JOIN LATERAL (SELECT * FROM ref.$entity->{name} AS x ORDER BY r_tm > at, r_id OFFSET floor(place"
        . " * (SELECT greatest(count(*), 1) FROM ref.$entity->{name} WHERE r_tm <= at)) LIMIT 1) AS e ON true;\n";
}

# ref.seed as model_inputs.h says, and ref.past: the labels that a model knows, of a predictive query those of the windows
# that end where a seed looks back from.
sub seed_sql
{
    my ($entity, $statement, $model) = @_;
    my $keys = join ', ', @{ $entity->{pk} };
    my $us = $statement->{window} * 86400_000_000;
    my $reach = "h - 41 * $us";
    my $sql = "CREATE TABLE ref.label AS SELECT e.r_id, ref.us(q.as_of) AS time, q.label, q.split FROM ($model->{training_query}) AS q ($keys, as_of, label, split)"
        . " JOIN ref.$entity->{name} AS e USING ($keys) WHERE q.label IS NOT NULL AND e.r_tm <= ref.us(q.as_of);\n";
    $sql .= "CREATE TABLE ref.seed AS SELECT n, regime, r_id, t, h AS cut, least(h, ref.newest(h) + stale) AS h FROM"
        . " (SELECT a.n, a.regime, e.r_id, e.r_tm, ref.us(a.as_of) AS t, CASE a.regime WHEN 'rolling' THEN ref.us(a.as_of) ELSE least(ref.us(a.as_of),"
        . " (SELECT ref.us(CASE WHEN isfinite(m.test_from) THEN m.test_from ELSE (SELECT min(as_of) FROM ref.asked WHERE regime = 'frozen') END)"
        . " FROM moe_ml.model AS m)) END AS h FROM ref.asked AS a JOIN ref.$entity->{name} AS e USING ($keys)) AS s,"
        . " (SELECT max(time - ref.newest(time)) AS stale FROM ref.label WHERE split = 'train') AS l WHERE r_tm <= h;\n";
    return $sql if !$statement->{window};
    $sql .= "CREATE TABLE ref.past (n int, regime text, r_id bigint, time bigint, label float8);\n";
    my $label = $statement->{multiclass} ? 'c.number' : number_sql($model, 'p');
    my $classes = $statement->{multiclass} ? " JOIN (SELECT label, row_number() OVER (ORDER BY label COLLATE \"C\") - 1 AS number FROM ref.label"
        . " WHERE split = 'train' GROUP BY label) AS c USING (label)" : '';
    $sql .= "CREATE TABLE ref.train AS SELECT $label AS label FROM ref.label AS p$classes WHERE split = 'train';\n";
    for my $regime ('rolling', 'frozen')
    {
        if ($model->{history_query})
        {
            $sql .= "PREPARE history_$regime ($model->{time_type}, int, int) AS $model->{history_query};\n"
                . "SELECT format(\$f\$CREATE TEMP TABLE past_%1\$s ($keys, as_of, label, split) AS EXECUTE history_$regime(%2\$L, 1, 40);"
                . " INSERT INTO ref.past SELECT %1\$s, '$regime', e.r_id, ref.us(p.as_of), " . number_sql($model) . " FROM past_%1\$s AS p"
                . " JOIN ref.$entity->{name} AS e USING ($keys) WHERE p.label IS NOT NULL; DROP TABLE past_%1\$s\$f\$,"
                . " n, timestamp '2000-01-01' + h * interval '1 microsecond') FROM ref.seed WHERE regime = '$regime' \\gexec\n";
            next;
        }
        $sql .= "INSERT INTO ref.past SELECT NULL, '$regime', p.r_id, p.time, $label FROM ref.label AS p$classes WHERE split IN ('train', 'validation');\n";
    }
    my $known = "p.regime = s.regime AND coalesce(p.n, s.n) = s.n AND p.time <= s.h - $us AND p.time > s.$reach";
    $sql .= "CREATE TABLE ref.own AS SELECT s.n, p.* FROM ref.seed AS s JOIN LATERAL (SELECT row_number() OVER (ORDER BY p.time DESC) - 1 AS place, p.time, p.label"
        . " FROM ref.past AS p WHERE p.r_id = s.r_id AND $known ORDER BY p.time DESC LIMIT 256) AS p ON true;\n";
    return $sql . "CREATE INDEX ON ref.own (n);\nANALYZE ref.own;\n";
}

# A label of the model as a number.
sub number_sql
{
    my ($model) = @_;
    return "CASE p.label::text WHEN 'true' THEN 1 WHEN 'false' THEN 0 ELSE p.label::text::float8 END" if $model->{task} ne 'multiclass';
    return 'p.label';
}

# The inputs: { n => [values] }, NULL as the empty string.
sub read_inputs
{
    my ($entity) = @_;
    my $keys = join ', ', @{ $entity->{pk} };
    my $out = $server->query($prelude . join '', map {
        "SELECT label, array_to_string(input, '|', '') FROM moe_ml.inputs('m', \$q\$SELECT $keys, as_of, n AS label FROM ref.asked"
            . " WHERE regime = '$_'\$q\$, '$_');\n"
    } 'rolling', 'frozen');
    return map { my ($n, @values) = split /\|/, $_, -1; ($n => \@values) } split /\n/, $out;
}

# Is a value between two of the reference's, as far as single precision tells? The empty string is NULL.
sub agrees
{
    my ($value, $least, $greatest) = @_;
    return $value eq '' && $least eq '' if $value eq '' || $least eq '';
    my $tolerance = 1e-6 + 1e-5 * max(map { abs } $least, $greatest);
    return $value >= $least - $tolerance && $value <= $greatest + $tolerance;
}

# The rows of SELECTs, in one session: { n => [[owner, least, greatest, ...], ...] } of each.
sub run_selects
{
    my @selects = @_;
    my @out = split /^next\n/m, $server->query($prelude . join('', map { "\\echo next\n$_->{sql}" } @selects)), -1;
    return map {
        my %rows;
        for my $line (split /\n/, $_)
        {
            my ($n, @rest) = split /\|/, $line, -1;
            push @{ $rows{$n} }, \@rest;
        }
        \%rows
    } @out[ 1 .. $#out ];
}

# Compare the columns of one SELECT; returns what differs. Where a seed has several rows, one must agree in every column.
sub compare
{
    my ($select, $rows, $inputs, $numbers) = @_;
    my @wrong;
    for my $n (sort { $a <=> $b } keys %$inputs)
    {
        my @best;
        for my $row (@{ $rows->{$n} })
        {
            my @bad;
            for my $i (0 .. $#{ $select->{names} })
            {
                my $name = $select->{names}[$i];
                my $value = $inputs->{$n}[ $numbers->{$name} ];
                my ($least, $greatest) = @$row[ 1 + 2 * $i, 2 + 2 * $i ];
                push @bad, "$name: $value instead of $least" . ($least ne $greatest ? " to $greatest" : '') . " (seed $n, row $row->[0])"
                    if !agrees($value, $least, $greatest);
            }
            @best = [@bad] if !@best || @bad < @{ $best[0] };
        }
        push @wrong, @best ? @{ $best[0] } : "seed $n is missing";
        $compared += @{ $select->{names} };
        $nulls += grep { $inputs->{$n}[ $numbers->{$_} ] eq '' } @{ $select->{names} };
    }
    $seen{$_}++ for @{ $select->{kinds} };
    return @wrong;
}

sub play
{
    my ($seed) = @_;
    srand($seed);
    my @tables = make_schema();
    double_a_key(@tables) if chance(0.5);
    my @entities = grep { @{ $_->{pk} } } @tables;
    my @parents = grep { my $t = $_; grep { my $c = $_; $c != $t && grep { $_->{parent} == $t } @{ $c->{keys} } } @tables } @entities;
    my $entity = any(@parents ? @parents : @entities);
    set_inherited(\@tables, $entity);
    choose_rows(\@tables, $entity);
    my $setup = "DROP SCHEMA IF EXISTS fuzz CASCADE;\nCREATE SCHEMA fuzz;\nCREATE TYPE fuzz.colour AS ENUM ('red', 'green', 'blue');\n" . $prelude;
    $setup .= create_table($_) for @tables;
    $setup .= insert_rows($_, 1, $_->{n}, 0.2) . spread_sql($_) for @tables;
    $setup .= create_keys($_) for @tables;
    $setup .= declarations($_) for @tables;
    $setup .= label_tables($entity) . reference_tables(\@tables) . "ANALYZE;\n";
    my @statements = make_statement(\@tables, $entity);
    open my $file, '>', $ENV{AGGREGATES_KEEP} or die $! if $ENV{AGGREGATES_KEEP};
    my $run = sub { print $file $_[0] if $file; return $server->psql($_[0]); };
    my ($status, $out, $err) = $run->($setup);
    return "setup failed: $err" if $status != 0;
    name_keys(\@tables);

    my $statement;
    for my $try (@statements)
    {
        $statement = $try;
        ($status, $out, $err) = $run->($prelude . "SELECT moe_ml.execute(\$model\$CREATE MODEL m $try->{text}\$model\$);\n");
        last if $status == 0;
    }
    return "no model: $statement->{text}\n$err" if $status != 0;
    my $at = $server->query("SELECT r_tm FROM (" . join(' UNION ', map { "SELECT r_tm FROM ref.$_->{name}" } @tables)
        . ') AS t WHERE abs(r_tm::float8) < 1e16 ORDER BY 1');
    my %model;
    @model{qw(training_query history_query task time_type)} = map { $server->query($prelude . "SELECT $_ FROM moe_ml.model") }
        'training_query', 'history_query', 'task', "(SELECT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = 'm'::regclass AND attname = 'as_of')";
    ($status, $out, $err) = $run->($prelude . asked_sql($entity, [ split /\n/, $at ], $statement->{window}) . seed_sql($entity, $statement, \%model));
    return "reference failed: $statement->{text}\n$err" if $status != 0;

    my @names = split /\n/, $server->query($prelude . "SELECT name FROM moe_ml.input_names('m') ORDER BY number");
    my %numbers = map { $names[$_] => $_ } 0 .. $#names;
    my %inputs = read_inputs($entity);
    my $seeds = $server->query('SELECT n FROM ref.seed ORDER BY n');
    return "seeds differ: $statement->{text}" if join("\n", sort { $a <=> $b } keys %inputs) ne $seeds;
    return "names are not unique: $statement->{text}" if keys %numbers != @names;
    my @selects = input_sql(\@tables, $entity->{name}, $statement->{window} * 86400_000_000, @names);
    my @rows = run_selects(@selects);
    my @wrong = map { compare($selects[$_], $rows[$_], \%inputs, \%numbers) } 0 .. $#selects;
    diag("seed $seed: " . scalar(@names) . " columns of " . scalar(keys %inputs) . " seeds, " . scalar(@selects) . " SELECTs: $statement->{text}")
        if $ENV{AGGREGATES_VERBOSE};
    return '' if !@wrong;
    return "$statement->{text}\n" . scalar(@wrong) . " differ:\n" . join("\n", @wrong[ 0 .. ($#wrong > 19 ? 19 : $#wrong) ]);
}

# The names of keys, which columns are named by.
sub name_keys
{
    my ($tables) = @_;
    my %names = map { split /\|/ } split /\n/, $server->query("SELECT c.conrelid::regclass || ' ' || string_agg(a.attname, ' ' ORDER BY k.i), min(c.conname)"
        . " FROM pg_constraint AS c, unnest(c.conkey) WITH ORDINALITY AS k (n, i), pg_attribute AS a WHERE c.contype = 'f' AND c.conparentid = 0 AND a.attrelid = c.conrelid"
        . " AND a.attnum = k.n AND c.connamespace = 'fuzz'::regnamespace GROUP BY c.oid, c.conrelid");
    for my $table (@$tables)
    {
        for my $key (@{ $table->{keys} })
        {
            $key->{name} = $names{"fuzz.$table->{name} @{ $key->{columns} }"} // die "no key";
        }
    }
    return;
}

$server->query('CREATE EXTENSION moe_ml');
for my $seed ($first_seed .. $first_seed + $rounds - 1)
{
    is(eval { play($seed) } // $@, '', "round with seed $seed");
}
note("$compared values compared, $nulls of them NULL; of " . scalar(keys %seen) . ' kinds');
note("$_: $seen{$_} columns") for $ENV{AGGREGATES_VERBOSE} ? sort keys %seen : ();
for my $kind ('season', 'own number', 'own code of the row', 'own days since', 'own NULL in', 'children count', 'number children late', 'days to children',
    'code grandchildren sum window', 'grandchildren late', 'rank children last', 'less children mean window', 'number children of the row', 'rank children of the latest',
    'partners own number', 'partners own code', 'partners count', 'partners count a day', 'partners window', 'partners mean', 'history last label is class N', 'history label N windows ago')
{
    ok((grep { /^\Q$kind\E/ } keys %seen), "there was $kind") if $rounds >= 8;
}

done_testing();
