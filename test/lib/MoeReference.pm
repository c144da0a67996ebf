# What a model's inputs should be, by plain SQL: docs/aggregates.md and embed/history.h once more, from the names of the
# columns alone, with no regard for speed and with nothing of the engine's.
#
# reference_tables makes a schema `ref`: of every table one of the same name, with its columns and
#
#   r_id    a number of the row's own
#   r_tm    its row time, microseconds since 2000; $always, $never
#   r_k0..  the r_id of the row that each key points at
#   v_C     column C as a number (times: microseconds) or text; a flag for what has NULLs only
#   a_C     when what depends on column C became known
#
# and ref.seed: n, regime, r_id, seed time t, horizon h. input_sql turns names into SELECTs over these, each giving n,
# the row that was aggregated for, and two values a column. They differ where rows of one moment, whose order the docs leave to
# the engine, could stand either way: the least and the greatest value of all orders. That of owners far away only the latest events
# count is not in here: no owner may have 512 (test/unit/test_aggregates_large.c has more).
package MoeReference;
use strict;
use warnings;
use Exporter 'import';
use MoeFuzz;

our @EXPORT = qw(reference_tables input_sql);

my $always = '(-9223372036854775808)';
my $never = '9223372036854775807';
my $day = '86400000000.0';
my $at_once = 400; # columns of one SELECT

# A column as a number, microseconds or text; undef: it is no input.
sub value_sql
{
    my ($type, $c) = @_;
    return "nullif(nullif(nullif($c\::float8, 'NaN'), 'Infinity'), '-Infinity')" if $type =~ /^(int|bigint|float8|real|numeric.*)$/;
    return "$c\::int::float8" if $type eq 'bool';
    return "extract(epoch FROM $c)::float8" if $type eq 'time' || $type eq 'interval';
    return "CASE WHEN isfinite($c) THEN ref.us($c) END" if $type =~ /^(date|timestamp|timestamptz)$/;
    return "array_to_string($c, ' ')" if $type eq 'text[]';
    return "$c\::text" if $type =~ /^(text|varchar.*|colour)$/;
    return "$c IS NULL" if $type eq 'int[]';
    return undef;
}

# The row time of a table's rows, of alias x; parents' tables exist.
sub row_time_sql
{
    my ($table) = @_;
    return "coalesce(ref.us(x.$table->{time_name}), $always)" if defined $table->{time};
    my @parents = map {
        my $key = $_;
        my $join = join ' AND ', map { "p.$key->{to}[$_] = x.$key->{columns}[$_]" } 0 .. $#{ $key->{to} };
        "coalesce((SELECT p.r_tm FROM ref.$key->{parent}{name} AS p WHERE $join), $never)"
    } @{ $table->{giving} // [] };
    return @parents ? 'greatest(' . join(', ', @parents) . ')' : "$always\::bigint";
}

sub table_sql
{
    my ($table) = @_;
    my @items = ('row_number() OVER () AS r_id', row_time_sql($table) . ' AS r_tm');
    for my $column (grep { $_->{role} =~ /^(value|late|code)$/ } all_columns($table))
    {
        my $value = value_sql($column->{type}, "x.$column->{name}");
        push @items, "$value AS v_$column->{name}" if defined $value;
        push @items, "coalesce(ref.us(x.$column->{name}), $never) AS a_$column->{name}" if $column->{role} eq 'late';
    }
    return "CREATE TABLE ref.$table->{name} AS SELECT x.*, " . join(', ', @items) . " FROM $table->{name} AS x;\n"
        . join '', map { "ALTER TABLE ref.$table->{name} ADD r_k$_->{index} bigint;\n" } @{ $table->{keys} };
}

sub link_sql
{
    my ($table) = @_;
    return join '', map {
        my $key = $_;
        my $join = join ' AND ', map { "p.$key->{to}[$_] = x.$key->{columns}[$_]" } 0 .. $#{ $key->{to} };
        "UPDATE ref.$table->{name} AS x SET r_k$key->{index} = p.r_id FROM ref.$key->{parent}{name} AS p WHERE $join;\n"
    } @{ $table->{keys} };
}

# Columns whose values are compared with siblings': numbers that are known with their row.
sub compared_columns
{
    my ($table) = @_;
    my @known = ((grep { $_->{role} eq 'code' } all_columns($table)), @{ $table->{columns} });
    return map { $_->{name} } grep { $_->{type} =~ /^(int|bigint|float8|real|numeric.*|bool|time|interval)$/ } @known;
}

# ref.T_of_K: rank and difference of each row of T among those that share its key K.
sub siblings_sql
{
    my ($table, $key) = @_;
    my $k = "r_k$key->{index}";
    my @items = map {
        my $c = "c.v_$_";
        "CASE WHEN $c IS NOT NULL THEN ((count(*) FILTER (WHERE s.v_$_ < $c) + count(*) FILTER (WHERE s.v_$_ = $c) / 2.0)"
            . " / nullif(count(s.v_$_), 0))::real::float8 END AS rank_$_, ($c - avg(s.v_$_))::real::float8 AS less_$_"
    } compared_columns($table);
    return "CREATE TABLE ref.$table->{name}_of_$key->{index} AS SELECT c.r_id AS child, " . join(', ', @items)
        . "\nFROM ref.$table->{name} AS c LEFT JOIN LATERAL (SELECT s.* FROM ref.$table->{name} AS s"
        . " JOIN ref.$key->{parent}{name} AS p ON p.r_id = s.$k WHERE s.$k = c.$k AND p.r_tm <= c.r_tm AND s.r_tm <= c.r_tm"
        . " AND s.r_id <> c.r_id ORDER BY s.r_tm DESC LIMIT 64) AS s ON true GROUP BY c.r_id"
        . join('', map { ", c.v_$_" } compared_columns($table)) . ";\n";
}

# ref.T_K_beyond_B: of each row of T what there was, at its own time, of the rows of U whose key B leads where its key K does.
sub partners_sql
{
    my ($table, $key, $beyond) = @_;
    my $timed = "s.r_tm > $always";
    my @items = ("count(s.r_id) AS n", "CASE WHEN count(*) FILTER (WHERE $timed) > 1 THEN count(*) FILTER (WHERE $timed)"
        . " / nullif((c.r_tm::numeric - min(s.r_tm) FILTER (WHERE $timed)) / $day, 0) END::float8 AS n_a_day");
    push @items, map { "avg(s.v_$_) FILTER (WHERE s.place <= 64) AS mean_$_" } compared_columns($beyond->{table});
    my $except = $beyond->{key} == $key ? ' AND s.r_id <> c.r_id' : '';
    return "CREATE TABLE ref.$table->{name}_$key->{index}_beyond_$beyond->{table}{name}_$beyond->{key}{index} AS SELECT c.r_id AS child, "
        . join(', ', @items) . "\nFROM ref.$table->{name} AS c JOIN ref.$key->{parent}{name} AS p ON p.r_id = c.r_k$key->{index} AND p.r_tm <= c.r_tm"
        . " LEFT JOIN LATERAL (SELECT s.*, row_number() OVER (ORDER BY s.r_tm DESC) AS place FROM ref.$beyond->{table}{name} AS s"
        . " WHERE s.r_k$beyond->{key}{index} = p.r_id AND s.r_tm <= c.r_tm$except) AS s ON true GROUP BY c.r_id, c.r_tm;\n";
}

sub reference_tables
{
    my ($tables) = @_;
    my $times = join ' UNION ALL ', map { "SELECT r_tm FROM ref.$_->{name}" } @$tables;
    my $sql = <<"SQL";
DROP SCHEMA IF EXISTS ref CASCADE;
CREATE SCHEMA ref;
CREATE FUNCTION ref.us(timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS \$\$
    SELECT CASE \$1 WHEN 'infinity' THEN $never WHEN '-infinity' THEN $always
        ELSE (extract(epoch FROM \$1) * 1000000)::bigint - 946684800000000 END \$\$;
CREATE FUNCTION ref.exponential(float8[], half_life float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS \$\$
    SELECT sum(x * weight) / sum(weight)
    FROM (SELECT x, 2 ^ ((i - cardinality(\$1)) / half_life) AS weight FROM unnest(\$1) WITH ORDINALITY AS u (x, i)) AS w \$\$;
SQL
    $sql .= table_sql($_) for @$tables;
    $sql .= link_sql($_) for @$tables;
    for my $table (@$tables)
    {
        $sql .= siblings_sql($table, $_) for compared_columns($table) ? @{ $table->{keys} } : ();
        for my $key (@{ $table->{keys} })
        {
            my @beyond = map { my $other = $_; map { { table => $other, key => $_ } } grep { $_->{parent} == $key->{parent} } @{ $other->{keys} } } @$tables;
            $sql .= partners_sql($table, $key, $_) for @beyond;
        }
    }
    $sql .= "CREATE FUNCTION ref.newest(bigint) RETURNS bigint LANGUAGE sql STABLE AS \$\$\n"
        . "    SELECT coalesce(max(r_tm), \$1) FROM ($times) AS t WHERE r_tm > $always AND r_tm <= \$1 \$\$;\n";
    return $sql;
}

# What names are about. A key is named where two lead from one table to the same other.
sub find_key
{
    my ($tables, $child, $parent, $by) = @_;
    my @keys = grep { $_->{parent}{name} eq $parent && (!defined $by || $_->{name} eq $by) } @{ $tables->{$child}{keys} };
    die "which key from $child to $parent" . (defined $by ? " by $by" : '') . "?\n" if @keys != 1;
    return $keys[0];
}

# The value that a name is of: its table, whose rows have alias e, its expression, and the column that tells when it is known.
sub parse_value
{
    my ($tables, $text) = @_;
    my ($what, $table, $column, $code) = $text =~ /^(NULL in |days to |days since |)(t\d+)\.(\w+?)(?: = ('[^']*'|-?[\d.e+-]+))?$/
        or die "unknown value \"$text\"\n";
    my $late = '';
    for my $group (@{ $tables->{$table}{late} })
    {
        $late = $group->{name} if grep { $_ eq $column } $group->{name}, map { $_->{name} } @{ $group->{columns} };
    }
    my ($type) = map { $_->{type} } grep { $_->{name} eq $column } all_columns($tables->{$table});
    defined $type && defined value_sql($type, '') or die "no value \"$text\"\n";
    my $value = "e.v_$column";
    my $null = $type eq 'int[]' ? $value : "$value IS NULL";
    my $sql = $what eq 'NULL in ' ? "CASE WHEN e.r_id IS NOT NULL THEN ($null)::int END"
        : $what eq 'days to ' ? "($value - nullif(e.r_tm, $always)) / $day"
        : $what eq 'days since ' ? "(s.t - $value) / $day"
        : defined $code ? "($value = $code)::int" : $value;
    return { table => $table, sql => "($sql)::float8", late => $late, column => $column,
        kind => ($what =~ s/ $//r || (defined $code ? 'code' : 'number')) };
}

# "count of t1", "t1.c1 = 3 (by key) through t2 (by other)", ...: a stream of rows of alias e with event time et.
sub parse_stream
{
    my ($tables, $owner, $subject) = @_;
    my $key = qr/(?: \(by (\w+)\))?/;
    my ($what, $first, $through, $second) = $subject =~ /^(.*?)$key(?: through (t\d+)$key)?$/ or die "unknown stream \"$subject\"\n";
    my ($value, $table, $late);
    if ($what =~ /^(t\d+)(?: with (\w+) known)?$/)
    {
        $table = $1;
        $late = defined $2 ? parse_value($tables, "NULL in $1.$2")->{late} : '';
    }
    else
    {
        $value = parse_value($tables, $what);
        ($table, $late) = @$value{qw(table late)};
    }
    my @times = ('e.r_tm', $late ? "e.a_$late" : ());
    my $from = "ref.$table AS e";
    my $where;
    if (defined $through)
    {
        my $below = find_key($tables, $table, $through, $first);
        $from .= " JOIN ref.$through AS m ON m.r_id = e.r_k$below->{index}";
        $where = 'm.r_k' . find_key($tables, $through, $owner, $second)->{index};
        push @times, 'm.r_tm';
    }
    else
    {
        $where = 'e.r_k' . find_key($tables, $table, $owner, $first)->{index};
    }
    return { table => $table, value => $value, from => $from, where => $where, times => 'greatest(' . join(', ', @times) . ')',
        kind => (defined $through ? 'grandchildren' : 'children') . ($late ? ' late' : '') };
}

# "the mean of t3.c1 of the t2 of t1", "t2.c1 = 3 of the t2 (by key) of t1", ...: of events of alias e of t1 what they knew of a
# partner, as a value of alias e; undef if the subject is no such.
sub parse_partner
{
    my ($tables, $owner, $subject) = @_;
    my $key = qr/(?: \(by (\w+)\))?/;
    my ($what, $partner, $by, $child, $child_by) = $subject =~ /^(.*) of the (t\d+)$key of (t\d+)$key$/ or return undef;
    my $first = find_key($tables, $child, $owner, $child_by);
    my $other = find_key($tables, $child, $partner, $by);
    my %stream = (from => "ref.$child AS e", where => "e.r_k$first->{index}", times => 'e.r_tm', value => 1);
    if ($what =~ /^the (count|count a day|mean) of (t\d+)(?:\.(\w+))?$key(?: in ([\d.]+) (days|hours))?$/)
    {
        my ($op, $table, $column, $beyond_by, $n, $unit) = ($1, $2, $3, $4, $5, $6);
        my $beyond = find_key($tables, $table, $partner, $beyond_by);
        my $more = "$child\_$other->{index}_beyond_$table\_$beyond->{index}";
        return { %stream, kind => 'partners window', v => 'e.n_in_span', more => ", CASE WHEN x.child IS NULL THEN NULL WHEN e.r_tm = $always THEN 0 ELSE"
            . " (SELECT count(*) FROM ref.$table AS u WHERE u.r_k$beyond->{index} = e.r_k$other->{index} AND u.r_tm <= e.r_tm AND u.r_tm > e.r_tm - "
            . $n * ($unit eq 'days' ? 86400e6 : 3600e6) . ($beyond == $other ? ' AND u.r_id <> e.r_id' : '') . ') END::float8 AS n_in_span',
            from => "$stream{from} LEFT JOIN ref.$more AS x ON x.child = e.r_id" } if defined $n;
        return { %stream, kind => "partners $op", v => 'e.' . ($op eq 'mean' ? "mean_$column" : $op eq 'count' ? 'n' : 'n_a_day'),
            from => "$stream{from} LEFT JOIN ref.$more AS x ON x.child = e.r_id", more => ', x.*' };
    }
    my $value = parse_value($tables, $what);
    $value->{table} eq $partner or die "whose is \"$subject\"?\n";
    return { %stream, kind => "partners own $value->{kind}", v => $value->{sql} =~ s/\be\./(e.p)./gr, more => ', p',
        from => "$stream{from} LEFT JOIN ref.$partner AS p ON p.r_id = e.r_k$other->{index} AND p.r_tm <= e.r_tm" };
}

# Whose rows: SQL that gives n, t, h and owner, several for a seed where the latest child could be one of several.
sub parse_path
{
    my ($tables, $entity, $name) = @_;
    my $from = "SELECT s.n, s.t, s.h, s.r_id AS owner FROM ref.seed AS s";
    return ($name, { owner => $entity, sql => $from, kind => '' })
        if $name !~ s/, of the (t\d+)(?: \(by (\w+)\))? of the (?:row|latest (t\d+)(?: \(by (\w+)\))?)$//;
    my ($owner, $by, $child, $child_by) = ($1, $2, $3, $4);
    if (!defined $child)
    {
        my $key = find_key($tables, $entity, $owner, $by);
        return ($name, { owner => $owner, kind => 'of the row', sql => "SELECT s.n, s.t, s.h, p.r_id AS owner FROM ref.seed AS s"
            . " JOIN ref.$entity AS e USING (r_id) LEFT JOIN ref.$owner AS p ON p.r_id = e.r_k$key->{index} AND p.r_tm <= s.h" });
    }
    my $key = find_key($tables, $child, $entity, $child_by);
    my $other = find_key($tables, $child, $owner, $by);
    return ($name, { owner => $owner, kind => 'of the latest', sql => "SELECT DISTINCT s.n, s.t, s.h, l.owner FROM ref.seed AS s"
        . " LEFT JOIN LATERAL (SELECT p.r_id AS owner, rank() OVER (ORDER BY greatest(c.r_tm, p.r_tm) DESC) AS place FROM ref.$child AS c"
        . " JOIN ref.$owner AS p ON p.r_id = c.r_k$other->{index} WHERE c.r_k$key->{index} = s.r_id AND greatest(c.r_tm, p.r_tm) <= s.h)"
        . " AS l ON l.place = 1" });
}

# Least and greatest of what an operation gives over values v, in windows of `span` microseconds where there is one.
sub operation_sql
{
    my ($op, $v, $span) = @_;
    my $in = defined $span ? " FILTER (WHERE e.et > s.h - $span)" : '';
    my $sorted = sub { "array_agg($v ORDER BY e.et, $v $_[0]) FILTER (WHERE $v IS NOT NULL)" };
    my @one = $op eq 'count' ? "count(e.r_id)$in"
        : $op eq 'days since the last' ? "(s.h - nullif(max(e.et), $always)) / $day"
        : $op eq 'days since the first' ? "(s.h - min(e.et) FILTER (WHERE e.et > $always)) / $day"
        : $op eq 'mean' ? "avg($v)$in"
        : $op eq 'sum' ? "coalesce(sum($v)$in, 0)"
        : ();
    return ($one[0]) x 2 if @one;
    my @orders = map { $sorted->($_) } 'DESC', 'ASC';
    return map { "ref.exponential($_, $1)" } @orders if $op =~ /^exponential mean \(half-life (\d+)\)$/;
    return map { "($_)[count($v)]" } @orders if $op eq 'last';
    die "unknown operation \"$op\"\n";
}

# One aggregate: the SELECT it belongs to, its two expressions, and what it is for people.
sub parse_aggregate
{
    my ($tables, $entity, $full) = @_;
    my $season = $full eq 'time of year, sine' ? 'sin(turn)' : $full eq 'time of year, cosine' ? 'cos(turn)'
        : $full eq 'days since the horizon' ? "(s.t - s.h) / $day" : undef;
    return { from => "(SELECT s.*, r_id AS owner, 2 * pi() * (s.t / $day)::float8 / 365.2425 AS turn FROM ref.seed AS s) AS s",
        group => '', sql => [ $season, $season ], kind => 'season' } if defined $season;
    my ($name, $path) = parse_path($tables, $entity, $full);
    my $span = $name =~ s/ over ([\d.]+) (days|hours)$// ? $1 * ($2 eq 'days' ? 86400e6 : 3600e6) : undef;
    if ($name !~ s/^(count|days since the (?:last|first)|exponential mean \(half-life \d+\)|mean|sum|last) of //)
    {
        my $value = parse_value($tables, $name);
        $value->{table} eq $path->{owner} or die "whose is \"$full\"?\n";
        my $hidden = $value->{late} ? "e.a_$value->{late} > s.h" : 'false';
        my $sql = "CASE WHEN e.r_id IS NULL THEN NULL WHEN $hidden THEN " . ($value->{kind} eq 'NULL in' ? 1 : 'NULL') . " ELSE $value->{sql} END";
        return { from => "($path->{sql}) AS s LEFT JOIN ref.$path->{owner} AS e ON e.r_id = s.owner", group => '',
            sql => [ $sql, $sql ], kind => join ' ', 'own', $value->{kind}, $path->{kind} };
    }
    my $op = $1;
    my ($siblings, $siblings_by, $compared) = $name =~ s/^rank of (.*) among the same (t\d+)(?: \(by (\w+)\))?$/$1/ ? ($2, $3, 'rank')
        : $name =~ s/^(.*) less the mean of the same (t\d+)(?: \(by (\w+)\))?$/$1/ ? ($2, $3, 'less') : ();
    my $stream = parse_partner($tables, $path->{owner}, $name) // parse_stream($tables, $path->{owner}, $name);
    my $v = $stream->{v} // ($stream->{value} ? $stream->{value}{sql} : '1');
    my $events = $stream->{from};
    my $more = $stream->{more} // '';
    if ($compared)
    {
        my $key = find_key($tables, $stream->{table}, $siblings, $siblings_by);
        $events .= " JOIN ref.$stream->{table}_of_$key->{index} AS c ON c.child = e.r_id";
        $more = ', c.*';
        $v = "e.$compared\_$stream->{value}{column}";
    }
    my @sql = map { "CASE WHEN s.owner IS NOT NULL THEN $_ END" } operation_sql($op, $v, $span);
    return { from => "($path->{sql}) AS s LEFT JOIN LATERAL (SELECT e.*, $stream->{times} AS et$more FROM $events"
            . " WHERE $stream->{where} = s.owner AND $stream->{times} <= s.h) AS e ON true",
        group => ' GROUP BY s.n, s.owner, s.h', sql => \@sql,
        kind => join ' ', grep { $_ } $compared // ($stream->{v} ? '' : $stream->{value} ? $stream->{value}{kind} : ''), $stream->{kind}, $path->{kind}, $op,
            (defined $span ? 'window' : '') };
}

# One column of the label history, over ref.own (n, place, time, label: the row's own labels, latest first) and ref.train
# (label: of the training rows); w is the window.
sub parse_history
{
    my ($name, $w) = @_;
    if ($name =~ /^everyone's (?:mean label|share of class (\d+)), last (?:window|(\d+) windows)$/)
    {
        my ($class, $windows) = ($1, $2 // 1);
        my $known = "p.regime = s.regime AND coalesce(p.n, s.n) = s.n AND p.time <= s.h - $w";
        return '(SELECT avg(' . (defined $class ? "(p.label = $class)::int" : 'p.label') . ")::float8 FROM ref.past AS p WHERE $known"
            . " AND p.time > (SELECT max(p.time) FROM ref.past AS p WHERE $known) - $windows * $w)";
    }
    my $class = $name =~ s/ of class (\d+)// ? $1 : $name =~ /^last label is class (\d+)$/ ? $1 : undef;
    my $y = defined $class ? "(label = $class)::int::float8" : 'label';
    my $own = "FROM ref.own WHERE n = s.n";
    my $g = "(SELECT avg($y) FROM ref.train)";
    return "(SELECT label $own AND time <= s.h - $1 * $w AND time > s.h - ($1 + 1) * $w ORDER BY time DESC LIMIT 1)"
        if $name =~ /^label (\d) windows? ago$/;
    return "(SELECT $y $own AND place = 0)" if $name =~ /^last label( is class \d+)?$/;
    return "(SELECT label $own AND place = $1)" if $name =~ /^label (\d) before the last$/;
    return "(SELECT (s.h - max(time))::float8 / $w $own)" if $name eq 'windows since the last label';
    return "(SELECT ln(1 + count(*)) $own)" if $name eq 'number of past labels';
    return "(SELECT (coalesce(sum($y * 2 ^ (-place / $1.0)), 0) + $g) / (coalesce(sum(2 ^ (-place / $1.0)), 0) + 1) $own)"
        if $name =~ /^own mean, half-life (\d+) labels$/;
    return "(SELECT (coalesce(sum($y), 0) + $g) / (count(*) + 1) $own)" if $name eq 'own mean';
    return undef;
}

# SELECTs for names, as { names, sql, kinds }: each row is n, owner, then least and greatest of each name. Dies of names
# that are not known.
sub input_sql
{
    my ($all_tables, $entity, $window, @names) = @_;
    my %tables = map { $_->{name} => $_ } @$all_tables;
    my (%selects, @order);
    for my $name (@names)
    {
        my $past = parse_history($name, $window);
        my $c = defined $past ? { from => 'ref.seed AS s', group => '', sql => [ $past, $past ], kind => 'history ' . $name =~ s/\d+/N/gr }
            : eval { parse_aggregate(\%tables, $entity, $name) } // die "\"$name\" has no reference: $@";
        my $owner = defined $past ? 's.r_id' : 's.owner';
        my $id = "$owner FROM $c->{from}$c->{group}";
        my $last = $selects{$id}[-1];
        push @{ $selects{$id} }, $last = { owner => $owner, tail => "FROM $c->{from}$c->{group}", names => [], items => [], kinds => [] }
            if !$last || @{ $last->{names} } == $at_once;
        push @order, $last if !@{ $last->{names} };
        push @{ $last->{names} }, $name;
        push @{ $last->{items} }, @{ $c->{sql} };
        push @{ $last->{kinds} }, $c->{kind};
    }
    return map { { names => $_->{names}, kinds => $_->{kinds},
        sql => "SELECT s.n, $_->{owner}, " . join(",\n    ", @{ $_->{items} }) . "\n$_->{tail};\n" } } @order;
}

1;
