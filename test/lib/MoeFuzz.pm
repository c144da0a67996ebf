# Schemas and rows at random, for tests of what must hold on any: tables with keys of all kinds between them, row times
# of their own or taken from their parents, late columns, NULLs, ties and values that are no numbers.
#
#   srand($seed);
#   my @tables = make_schema();
#   set_inherited(\@tables, $entity);
#   $server->query(join '', map({ create_table($_) } @tables), map({ insert_rows($_, 1, 50, 0.3) } @tables), ...);
package MoeFuzz;
use strict;
use warnings;
use Exporter 'import';
use POSIX qw(strftime);

our @EXPORT = qw($cut chance any number value names early_moment late_moment id_literal make_schema add_key set_inherited
    later all_columns create_table create_keys declarations insert_rows key_text label_tables make_statements $prelude make_world);

my $start = 1704067200; # 2024-01-01
our $cut_day = 244;      # 2024-09-01: rows are made up to this moment, and later ones
our $cut = "'2024-09-01 00:00:00+00'";

sub chance { return rand() < $_[0]; }
sub any    { return $_[ int rand @_ ]; }
sub number { return int(rand($_[1] - $_[0] + 1)) + $_[0]; }

# The literal of a moment, in microseconds after the start, as a type.
sub moment
{
    my ($type, $us) = @_;
    my $text = strftime('%Y-%m-%d %H:%M:%S', gmtime($start + int($us / 1e6)));
    return $type eq 'date' ? "'" . substr($text, 0, 10) . "'" : sprintf("'%s.%06d+00'", $text, $us % 1e6);
}

# Moments not after the cut; many rows share one.
sub early_moment
{
    my ($type) = @_;
    return moment($type, chance(0.7) ? 6 * number(0, 40) * 86400e6 : int(rand($cut_day * 86400)) * 1e6);
}

# Moments after the cut, often by no more than the type can tell.
sub late_moment
{
    my ($type) = @_;
    return "'infinity'" if chance(0.05);
    return moment($type, ($cut_day + 1) * 86400e6) if $type eq 'date' && chance(0.3);
    return moment($type, $cut_day * 86400e6 + 1) if $type ne 'date' && chance(0.3);
    return moment($type, ($cut_day + number(1, 150)) * 86400e6);
}

# Types of columns, and what makes values of them.
my %values = (
    'int' => sub { number(-3, 20) },
    'bigint' => sub { number(0, 1_000_000) },
    'float8' => sub { chance(0.1) ? any("'NaN'", "'Infinity'", "'-Infinity'") : sprintf('%.3f', rand(10) - 5) },
    'real' => sub { chance(0.1) ? "'NaN'" : sprintf('%.2f', rand(100)) },
    'numeric(10,2)' => sub { chance(0.05) ? "'NaN'" : sprintf('%.2f', rand(1000)) },
    'bool' => sub { any('true', 'false') },
    'text' => sub { "'" . join(' ', map { any(qw(red green blue old new thing)) } 1 .. number(1, 4)) . "'" },
    'varchar(20)' => sub { "'" . any(qw(a b c d)) . "'" },
    'colour' => sub { "'" . any(qw(red green blue)) . "'" },
    'uuid' => sub { sprintf("'%08x-0000-0000-0000-%012x'", number(0, 1e9), number(0, 1e9)) },
    'int[]' => sub { "'{" . join(',', map { number(0, 9) } 1 .. 3) . "}'" },
    'text[]' => sub { "'{" . join(',', map { any(qw(x y z)) } 1 .. number(0, 3)) . "}'" },
    'jsonb' => sub { "'{\"a\": " . number(0, 9) . "}'" },
    'interval' => sub { "'" . number(0, 90) . " hours'" },
    'time' => sub { "'" . number(0, 23) . ":00'" });
my @numbers = ('int', 'bigint', 'float8', 'real', 'numeric(10,2)');

sub value
{
    my ($column) = @_;
    return 'NULL' if chance(0.1);
    my $value = $values{ $column->{type} }->();
    return $column->{name} eq 'amount' && $value =~ /N|I/ ? 7 : $value; # a label must be finite
}

sub names { return join ', ', map { $_->{name} } @_; }

# A key: the columns of one table that point at those of another.
sub add_key
{
    my ($child, $parent) = @_;
    my $n = @{ $child->{keys} };
    my @to = $parent->{code} && chance(0.2) ? ('code') : @{ $parent->{pk} };
    my $key = { parent => $parent, to => \@to, columns => [ map { "k${n}_$_" } @to ], index => $n,
        not_null => $child != $parent && chance(0.4), not_valid => !$child->{partitioned} && chance(0.3) };
    push @{ $child->{keys} }, $key;
    return;
}

sub make_table
{
    my ($i) = @_;
    my $table = { name => "t$i", keys => [], columns => [], late => [], rows => [] };
    my $kind = $i > 0 && chance(0.2) ? 'none' : any('int', 'int', 'text', 'uuid', 'pair');
    $table->{pk} = $kind eq 'none' ? [] : $kind eq 'pair' ? [ 'id', 'part' ] : ['id'];
    $table->{id_type} = $kind eq 'text' || $kind eq 'uuid' ? $kind : 'int';
    $table->{partitioned} = $kind ne 'none' && chance(0.15);
    $table->{code} = !$table->{partitioned} && chance(0.25);
    if (chance($i == 0 ? 0.6 : 0.75))
    {
        $table->{time} = any('date', 'timestamp', 'timestamp', 'timestamptz');
        $table->{time_name} = any('created_at', 'happened');
        $table->{null_times} = chance(0.2);
    }
    push @{ $table->{columns} }, { name => "c$_", type => any(sort keys %values) } for 1 .. number(1, 4);
    push @{ $table->{columns} }, { name => 'amount', type => any(@numbers) };
    for my $name (grep { chance(0.35) } 'shipped_at', 'closed_at')
    {
        my $late = { name => $name, type => any('date', 'timestamp', 'timestamptz'), columns => [] };
        push @{ $table->{late} }, $late;
        push @{ $late->{columns} }, { name => "${name}_$_", type => any(grep { $_ ne 'uuid' && $_ ne 'jsonb' } sort keys %values) }
            for 1 .. number(0, 2);
    }
    return $table;
}

# Does a row of the table take its time from its parents? As docs/graph.md says: the keys that give it.
sub set_inherited
{
    my ($tables, $entity) = @_;
    my %timed = map { $_->{name} => defined $_->{time} } @$tables;
    while (1)
    {
        my %next = %timed;
        for my $table (grep { !$timed{ $_->{name} } && $_ != $entity } @$tables)
        {
            $table->{giving} = [ grep { $_->{not_null} && $_->{to}[0] ne 'code' && $timed{ $_->{parent}{name} } } @{ $table->{keys} } ];
            $next{ $table->{name} } = 1 if @{ $table->{giving} };
        }
        last if join('', map { $timed{$_} ? 1 : 0 } sort keys %timed) eq join('', map { $next{$_} ? 1 : 0 } sort keys %next);
        %timed = %next;
    }
    return;
}

# The condition that a row lies after the cut; undef for a table without times.
sub later
{
    my ($table, $alias) = @_;
    return "$alias.$table->{time_name} > $cut" if defined $table->{time};
    return undef if !@{ $table->{giving} // [] };
    my @one;
    for my $key (@{ $table->{giving} })
    {
        my $parent = $alias . 'p';
        my $join = join ' AND ', map { "$parent.$key->{to}[$_] = $alias.$key->{columns}[$_]" } 0 .. $#{ $key->{to} };
        my $at = later($key->{parent}, $parent);
        push @one, "NOT EXISTS (SELECT FROM $key->{parent}{name} AS $parent WHERE $join"
            . " AND ($at) IS NOT TRUE)";
    }
    return '(' . join(' OR ', @one) . ')';
}

sub all_columns
{
    my ($table) = @_;
    my @all = map { { name => $_, type => $_ eq 'id' ? $table->{id_type} : 'int', role => 'pk' } } @{ $table->{pk} };
    push @all, { name => 'code', type => 'int', role => 'code' } if $table->{code};
    for my $key (@{ $table->{keys} })
    {
        push @all, { name => $key->{columns}[$_], role => 'key', key => $key, at => $_,
            type => $key->{to}[$_] eq 'id' ? $key->{parent}{id_type} : 'int' } for 0 .. $#{ $key->{to} };
    }
    push @all, { name => $table->{time_name}, type => $table->{time}, role => 'time' } if defined $table->{time};
    push @all, map { { %$_, role => 'value' } } @{ $table->{columns} };
    for my $late (@{ $table->{late} })
    {
        push @all, { name => $late->{name}, type => $late->{type}, role => 'late' };
        push @all, map { { %$_, role => 'value' } } @{ $late->{columns} };
    }
    return @all;
}

sub create_table
{
    my ($table) = @_;
    my %not_null = map { $_->{not_null} ? map { $_ => 1 } @{ $_->{columns} } : () } @{ $table->{keys} };
    my @items = map { "$_->{name} $_->{type}" . ($not_null{ $_->{name} } ? ' NOT NULL' : '') . ($_->{role} eq 'code' ? ' UNIQUE' : '') }
        all_columns($table);
    push @items, 'PRIMARY KEY (' . join(', ', @{ $table->{pk} }) . ')' if @{ $table->{pk} };
    my $sql = "CREATE TABLE $table->{name} (" . join(', ', @items) . ')';
    $sql .= " PARTITION BY HASH (id)" if $table->{partitioned};
    $sql .= ";\n";
    $sql .= "CREATE TABLE $table->{name}_$_ PARTITION OF $table->{name} FOR VALUES WITH (MODULUS 2, REMAINDER $_);\n"
        for $table->{partitioned} ? (0, 1) : ();
    return $sql;
}

sub create_keys
{
    my ($table) = @_;
    return join '', map {
        "ALTER TABLE $table->{name} ADD FOREIGN KEY (" . join(', ', @{ $_->{columns} })
            . ") REFERENCES $_->{parent}{name} (" . join(', ', @{ $_->{to} }) . ')' . ($_->{not_valid} ? ' NOT VALID' : '') . ";\n"
    } @{ $table->{keys} };
}

sub declarations
{
    my ($table) = @_;
    my $sql = '';
    $sql .= "SELECT moe_ml.declare('$table->{name}', '$table->{time_name}', 'time');\n" if defined $table->{time};
    for my $late (@{ $table->{late} })
    {
        $sql .= "SELECT moe_ml.declare('$table->{name}', '$_->{name}', 'known at $late->{name}');\n" for @{ $late->{columns} };
    }
    return $sql;
}

sub id_literal
{
    my ($table, $n) = @_;
    return sprintf("'00000000-0000-0000-0000-%012d'", $n) if $table->{id_type} eq 'uuid';
    return $table->{id_type} eq 'text' ? "'n$n'" : $n;
}

# One row as literals; pick chooses a parent's row.
sub make_row
{
    my ($table, $n, $is_late, $pick) = @_;
    my $part = number(1, 3);
    my (@row, %chosen);
    for my $column (all_columns($table))
    {
        my $role = $column->{role};
        if ($role eq 'pk')
        {
            push @row, $column->{name} eq 'id' ? id_literal($table, $n) : $part;
        }
        elsif ($role eq 'code') { push @row, $n * 7; }
        elsif ($role eq 'key')
        {
            my $key = $column->{key};
            $chosen{ $key->{index} } //= !$key->{not_null} && chance(0.15) ? {} : $pick->($key) // {};
            my $row = $chosen{ $key->{index} };
            my $to = $key->{to}[ $column->{at} ];
            my $missing = $key->{not_null} ? $to eq 'id' ? id_literal($key->{parent}, 999_999) : 999_999 : 'NULL';
            push @row, !exists $row->{n} ? $missing
                : $to eq 'id' ? id_literal($key->{parent}, $row->{n}) : $to eq 'code' ? $row->{n} * 7 : $row->{part};
        }
        elsif ($role eq 'time')
        {
            push @row, $is_late ? late_moment($column->{type}) : $table->{null_times} && chance(0.1) ? 'NULL' : early_moment($column->{type});
        }
        elsif ($role eq 'late')
        {
            push @row, chance(0.2) ? 'NULL' : !$is_late && chance(0.5) ? early_moment($column->{type}) : late_moment($column->{type});
        }
        else { push @row, value($column); }
    }
    push @{ $table->{rows} }, { n => $n, part => $part, late => $is_late };
    return '(' . join(', ', @row) . ')';
}

# Insert rows numbered from..; each key points at any row of its parent made so far.
sub insert_rows
{
    my ($table, $from, $n, $late_share) = @_;
    return '' if $n == 0;
    my @rows;
    for my $i (0 .. $n - 1)
    {
        my $is_late = defined later($table, 'x') && chance($late_share);
        # A row that takes its time from its parents is later by one later parent.
        my @giving = grep { grep { $_->{late} } @{ $_->{parent}{rows} } } @{ $table->{giving} // [] };
        my $by = $is_late && !defined $table->{time} ? any(@giving) : undef;
        next if $is_late && !defined $table->{time} && !$by;
        push @rows, make_row($table, $from + $i, $is_late, sub {
            my ($key) = @_;
            my @parents = @{ $key->{parent}{rows} };
            return { n => 800_000 + number(0, 20), part => 1 } if $key->{not_valid} && chance(0.1);
            @parents = grep { $_->{late} } @parents if $by && $by == $key;
            return @parents ? any(@parents) : undef;
        });
    }
    return '' if !@rows;
    my @columns = all_columns($table);
    return "INSERT INTO $table->{name} (" . names(@columns) . ") VALUES\n" . join(",\n", @rows) . ";\n";
}

# Tables, connected by keys, the entity among them with a child that it may count.
sub make_schema
{
    my @tables = map { make_table($_) } 0 .. number(2, 5);
    for my $i (1 .. $#tables)
    {
        my @parents = grep { @{ $_->{pk} } } @tables[ 0 .. $i - 1 ];
        add_key($tables[$i], any(@parents));
        add_key($tables[$i], any(@parents)) if chance(0.4);
        add_key($tables[$i], $tables[$i]) if @{ $tables[$i]{pk} } && chance(0.25);
    }
    return @tables;
}

sub key_text { return 'concat_ws(\'/\', ' . join(', ', map { "$_[1]$_" } @{ $_[0]{pk} }) . ')'; }

# Labels of one's own, and the seeds that are looked at: rows of the entity not after the cut.
sub label_tables
{
    my ($entity) = @_;
    my $key = join ', ', @{ $entity->{pk} };
    my $later = later($entity, 'e');
    my $early = defined $later ? "WHERE ($later) IS NOT TRUE" : '';
    return "CREATE TABLE seeds AS SELECT $key, " . key_text($entity, '')
        . " AS key, row_number() OVER (ORDER BY $key) AS n FROM $entity->{name} AS e $early;\n"
        . "CREATE TABLE labels AS SELECT $key, at, hashtext(key || at) % 2 = 0 AS boolean_label, (hashtext(key || at) % 100)::float8 AS number_label,"
        . " (ARRAY['x','y','z'])[1 + abs(hashtext(key || at) % 3)] AS text_label\n"
        . "FROM seeds, generate_series(timestamp '2024-02-01', '2024-08-20', '20 days') AS at;\n";
}

# Statements to try, the last of which always can be trained; final: no later row changes their training labels.
sub make_statements
{
    my ($tables, $entity) = @_;
    my @with = ('epochs = 1', 'dropout = ' . any(0, 0.1), 'max_steps = 3', 'batch_size = 64', 'seed_times = 4', 'seed = ' . number(1, 99),
        'channels = ' . any(4, 8, 12), 'blocks = ' . number(0, 2), 'ensembles = ' . number(1, 2), 'experts = \'' . join(', ', 'linear', grep { chance(0.4) } qw(history tabular retrieval arm trees graph)) . '\'',
        'convolution = ' . any(qw(sage sage gin pna gat)), 'graph_inputs = ' . any(qw(none history all)), 'residual = ' . any(qw(on off)),
        'refit = ' . any(qw(on off)), 'routing = ' . any(qw(top_k expert_choice)),
        'sampling = ' . any('latest', 'uniform'));
    my $hops = number(1, 3);
    push @with, "hops = $hops", "neighbors = '" . join(', ', map { number(1, 3) } 1 .. $hops) . "'";
    my $with = join ', ', @with;
    my $blocks = "validation_from = '2024-07-01 00:00+00', test_from = '2024-08-10 00:00+00'"; # in any time zone
    my @statements;
    my @children = grep { my $t = $_; $t != $entity && defined later($t, 'x') && 1 == grep { $_->{parent} == $entity } @{ $t->{keys} } } @$tables;
    if (@children)
    {
        my $child = any(@children);
        # Grandchildren too: their path leads over rows that have times of their own.
        my @grandchildren = grep { my $t = $_; $t != $entity && $t != $child && defined later($t, 'x')
            && !(grep { $_->{parent} == $entity } @{ $t->{keys} }) && 1 == grep { $_->{parent} == $child } @{ $t->{keys} } } @$tables;
        $child = any(@grandchildren) if @grandchildren && chance(0.5);
        my $late = any('', map { $_->{name}, names(@{ $_->{columns} }[0 .. (@{ $_->{columns} } > 0 ? 0 : -1)]) } @{ $child->{late} });
        my $by_late = $late && chance(0.3);
        my $filter = $by_late ? " WHERE $child->{name}.$late IS NOT NULL" : chance(0.3) ? " WHERE $child->{name}.amount > 0" : '';
        my $window = any(20, 30, 40);
        my $aggregate = any(
            "count($child->{name}.*$filter, 0, $window, days) > " . number(0, 1), "count($child->{name}.*$filter, 0, $window, days)",
            "sum($child->{name}.amount$filter, 0, $window, days)", "avg($child->{name}.amount$filter, 0, $window, days)",
            "count_distinct($child->{name}.amount, 0, $window, days) > 0", "last($child->{name}.amount, 0, $window, days) > 1");
        my @own = map { $_->{name}, map { $_->{name} } @{ $_->{columns} } } @{ $entity->{late} };
        my $where = any('', '', "WHERE count($child->{name}.*, -120, 0, days) > 0", "WHERE count($child->{name}.*, -INF, 0) > 0",
            "WHERE sum($child->{name}.amount, -60, 0, days) IS NOT NULL",
            $late ? "WHERE count($child->{name}.* WHERE $child->{name}.$late IS NOT NULL, -200, 0, days) = 0" : '',
            @own ? "WHERE $entity->{name}." . any(@own) . ' IS ' . any('', 'NOT ') . 'NULL' : '');
        # Labels tell what came to be, so a row on their path that comes later may change them, or what becomes known.
        my $final = !$by_late && defined $child->{time} && 1 == grep { $_->{parent} == $entity } @{ $child->{keys} };
        push @statements, { text => "PREDICT $aggregate FOR EACH $entity->{name} $where WITH ($with, $blocks)", final => $final };
    }
    if (chance(0.25))
    {
        unshift @statements, { text => "PREDICT $entity->{name}.amount FOR EACH $entity->{name} WITH ($with)", final => 0 };
    }
    my $label = any('boolean', 'number', 'text');
    my $own = 'PREDICT ' . $label . "_label FOR EACH $entity->{name} AT at WITH ($with, label_window = '20 days', $blocks) AS SELECT "
        . join(', ', @{ $entity->{pk} }, 'at', $label . '_label') . ' FROM labels';
    if ($label ne 'number' && chance(0.5)) # where there are validation rows enough, some seeds stop at the history expert
    {
        my $early = $own =~ s/experts = '[^']*'/experts = 'glance, retrieval, graph', budget = 0.5/r;
        push @statements, { text => $early, final => 1 };
    }
    push @statements, { text => $own, final => 1 };
    return @statements;
}

# What every session of such a test begins with.
our $prelude = "SET jit = off;\nSET client_min_messages = warning;\nSET timezone = 'UTC';\nSET moe_ml.notices = off;\nSET search_path = fuzz, public;\n"
    . "SET session_replication_role = replica;\n";

# Tables at random, with at least so many rows and at most so many, and labels: the tables, the entity's among them, and the SQL.
sub make_world
{
    my ($least, $most) = @_;
    my @tables = make_schema();
    my @entities = grep { @{ $_->{pk} } } @tables;
    my @parents = grep { my $t = $_; grep { my $c = $_; $c != $t && grep { $_->{parent} == $t } @{ $c->{keys} } } @tables } @entities;
    my $entity = any(@parents ? @parents : @entities);
    set_inherited(\@tables, $entity);
    my $setup = "DROP SCHEMA IF EXISTS fuzz CASCADE;\nCREATE SCHEMA fuzz;\nCREATE TYPE fuzz.colour AS ENUM ('red', 'green', 'blue');\n" . $prelude;
    $setup .= create_table($_) for @tables;
    $setup .= insert_rows($_, 1, number($least, $most), 0.3) for @tables;
    $setup .= create_keys($_) for @tables;
    $setup .= declarations($_) for @tables;
    return (\@tables, $entity, $setup . label_tables($entity) . "ANALYZE;\n");
}

1;
