# Data that stops: predictions long after the newest row are less sure, and say so. A state that wanders, seen once a day, is
# predicted: the longer ago it was seen last, the less is known of it.
use strict;
use warnings;
use Test::More;
use MoeServer;
use MoeShop;

my $server = MoeServer->new('stale', autovacuum => 'off');
my $quiet = 'SET moe_ml.notices = off; SET client_min_messages = warning';
# Some machines appear in the validation block: before, nothing can be known of them.
$server->query(<<"SQL");
$quiet; CREATE EXTENSION moe_ml;
SELECT setseed(0.5);
CREATE TABLE machines (machine_id int PRIMARY KEY, built timestamp);
INSERT INTO machines SELECT i, timestamp '2020-01-01' + CASE WHEN i > 250 THEN interval '1 day' * (i % 40 + 50) ELSE interval '0' END FROM generate_series(1, 300) AS i;
CREATE TABLE readings (reading_id int PRIMARY KEY, machine_id int REFERENCES machines, taken_at timestamp, level float8);
INSERT INTO readings SELECT row_number() OVER (), machine_id, at, sum(sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())) OVER (PARTITION BY machine_id ORDER BY at)
    FROM machines, generate_series(timestamp '2020-01-01', '2020-05-01', '1 day') AS at WHERE at >= built;
ANALYZE;
SQL

# The levels of tomorrow; training, then validation over days, then a test block.
sub statement
{
    my ($name, %with) = @_;
    my $wanted = delete $with{wanted} // 'level';
    my %options = (experts => "'linear, graph'", channels => 4, hops => 1, epochs => 1, ensembles => 1, seed => 1, staleness => "'off'", label_window => "'1 day'", validation_from => "'2020-03-01'", test_from => "'2020-04-01'", %with);
    my $options = join ', ', map { "$_ = $options{$_}" } sort keys %options;
    return "$quiet; SELECT moe_ml.execute(\$moe\$CREATE MODEL $name PREDICT y FOR EACH machines AT at WITH ($options)
        AS SELECT machine_id, taken_at - interval '1 day' AS at, $wanted AS y FROM readings WHERE taken_at > '2020-01-10' AND taken_at - interval '1 day' >= (SELECT built FROM machines AS m WHERE m.machine_id = readings.machine_id)\$moe\$)";
}

sub figures
{
    my ($name, $regime, $metric) = @_;
    return $server->query("$quiet; SELECT model FROM moe_ml.evaluate('$name') WHERE split = 'test' AND regime = '$regime' AND metric = '$metric'");
}

# Numbers: ranges. The second model has one day of validation, which tells nothing of later ones.
$server->query(statement('level'));
$server->query(statement('level_of_a_day', validation_from => "'2020-03-31'"));
my ($rolling, $frozen, $blind) = (figures('level', 'rolling', 'coverage'), figures('level', 'frozen', 'coverage'), figures('level_of_a_day', 'frozen', 'coverage'));
note("coverage: rolling $rolling, frozen $frozen, without stale validation rows $blind");
cmp_ok(abs($rolling - 0.8), '<', 0.12, 'ranges hold what they should in time');
cmp_ok(abs($frozen - 0.8), '<', 0.15, 'and of stale data');
cmp_ok($blind, '<', 0.6, 'which they would not without rows that tell of it');
my $width = "SELECT avg(upper - lower) FROM level WHERE as_of = ";
cmp_ok($server->query("$width timestamp '2020-06-01'"), '>', 2 * $server->query("$width timestamp '2020-05-01'"), 'they are wider a month after the last row than on its day');

# Yes or no: probabilities.
$server->query(statement('high', wanted => 'level > 0', experts => "'linear'"));
$server->query(statement('high_of_a_day', wanted => 'level > 0', experts => "'linear'", validation_from => "'2020-03-29'"));
($frozen, $blind) = (figures('high', 'frozen', 'log_loss'), figures('high_of_a_day', 'frozen', 'log_loss'));
note("log loss, frozen: $frozen, without stale validation rows $blind");
cmp_ok($frozen, '<', $blind, 'probabilities are as unsure as they should be');

# Rows that come later, and machines that do, change nothing of it.
my $all = join ', ', map { "(SELECT md5(string_agg($_\::text, ' ' ORDER BY $_\::text)) FROM $_ WHERE as_of = '2020-05-20')" } 'level', 'high';
my $before = $server->query("$quiet; SELECT $all");
$server->query("INSERT INTO machines VALUES (301, '2020-05-21'); INSERT INTO readings SELECT 100000 + i, 1 + i % 301, timestamp '2020-05-21' + i * interval '1 hour', 1e6 FROM generate_series(1, 602) AS i");
is($server->query("$quiet; SELECT $all"), $before, 'nothing later changes a bit');

done_testing();
