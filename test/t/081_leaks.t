# A session, and a server, that make, ask and drop models again and again are in the end as large as after the first ten.
#
# MOE_ML_CYCLES says how often one session does (1000); a tenth of it is done by sessions side by side.
use strict;
use warnings;
use Test::More;
use MoeServer;
use MoeShop;

my $cycles = $ENV{MOE_ML_CYCLES} // 1000;
my $slack = 2048;    # kB of a process; fragments of the heap come and go
my $server = MoeServer->new('leaks', autovacuum => 'off');
$server->query('CREATE EXTENSION moe_ml; SET client_min_messages = warning; ' . shop_sql());

my $cycle = join ";\n",
    model_sql('CREATE MODEL m', channels => 4, hops => 1, experts => "'history, linear, retrieval, graph'"),
    'SELECT count(probability) FROM m',
    "SELECT count(probability) FROM m WHERE customer_id = 7 AND as_of = '2020-03-01'",
    "SELECT moe_ml.predict('m', 7)",
    "SELECT count(*) FROM moe_ml.explain('m', 7)",
    "SELECT moe_ml.execute('CREATE MODEL n PREDICT count(orders.none, 0, 12, days) FOR EACH customers')",    # fails
    "SELECT moe_ml.execute('DROP MODEL m')";

# Anonymous memory of a process in kB: what it has of its own, not what it has touched of the shared buffers.
sub memory
{
    my ($pid) = @_;
    open my $file, '<', "/proc/$pid/status" or die "process $pid is gone";
    my ($kilobytes) = map { /^RssAnon:\s+(\d+)/ ? $1 : () } <$file>;
    return $kilobytes;
}

sub run_cycles
{
    my ($session, $n) = @_;
    for (1 .. $n)
    {
        $session->send($cycle);
        my ($out, $err) = $session->answer;
        my @errors = $err =~ /ERROR:  (.*)/g;
        return join "\n", @errors if @errors != 1 || $errors[0] !~ /column "none"/;
    }
    return '';
}

sub tasks
{
    my ($pid) = @_;
    my @tasks = glob "/proc/$pid/task/*";
    return scalar @tasks;
}

my $session = $server->session;
$session->query('SET moe_ml.notices = off');
# The server forgets no row type it has once looked up (Type information cache), whoever's tables come and go.
my $contexts = q{SELECT sum(total_bytes), sum(used_bytes) FROM pg_backend_memory_contexts WHERE name <> 'Type information cache'};
is(run_cycles($session, 10), '', 'ten cycles');
my $before = memory($session->{pid});
my ($total, $used) = split /\|/, $session->query($contexts);
my $cached = q{SELECT used_bytes FROM pg_backend_memory_contexts WHERE name = 'CacheMemoryContext'};
my $cache = $session->query($cached);
my $files = () = glob "/proc/$session->{pid}/fd/*";
my $started = time;
is(run_cycles($session, $cycles - 10), '', "$cycles cycles in one session");
note('seconds: ' . (time - $started));
my ($total_after, $used_after) = split /\|/, $session->query($contexts);
my $grown = memory($session->{pid}) - $before;
cmp_ok($grown, '<', $slack, "the session has grown by $grown kB of $before");
$grown = $total_after - $total;
cmp_ok($grown, '<', 262144, "its memory contexts have grown by $grown bytes of $total");
$grown = $used_after - $used;
cmp_ok($grown, '<', 262144, "what is used of them by $grown of $used");
# The planner remembers of each column of a foreign table, whoever's, that pg_statistic knows nothing of it: 144 bytes.
$grown = $session->query($cached) - $cache;
cmp_ok($grown, '<', 150 * $cycles + 32768, "the catalog cache by $grown");
my $open = () = glob "/proc/$session->{pid}/fd/*";
cmp_ok($open, '<=', $files + 16, 'no file stays open');
is(tasks($session->{pid}), 1, 'no thread stays');
$session->query('SELECT pg_log_backend_memory_contexts(pg_backend_pid())');

# Sessions side by side, twice as many times the second time.
my @sessions = map { $server->session } 1 .. 4;
$_->query('SET moe_ml.notices = off; CREATE SCHEMA s' . $_->{pid} . '; SET search_path = s' . $_->{pid} . ', public') for @sessions;
my (@sizes, @failures);
for my $round (10, $cycles / 40 - 10)
{
    for (1 .. $round)
    {
        $_->send($cycle) for @sessions;
        for my $each (@sessions)
        {
            my ($out, $err) = $each->answer;
            push @failures, $err if $err =~ /ERROR:  (?!column "none")/;
        }
    }
    push @sizes, [ map { memory($_->{pid}) } @sessions ];
}
is(join("\n", @failures), '', 'sessions side by side');
for my $i (0 .. $#sessions)
{
    $grown = $sizes[1][$i] - $sizes[0][$i];
    cmp_ok($grown, '<', $slack, "session $i has grown by $grown kB of $sizes[0][$i]");
}

# The server: its other processes, its catalogs' rows, its files.
chomp(my $work = `test/server work`);
open my $pid_file, '<', "$work/leaks/data/postmaster.pid" or die 'no server';
chomp(my $postmaster = <$pid_file>);
cmp_ok(memory($postmaster), '<', 32768, 'the postmaster has not grown');
undef $session;
undef @sessions;
is($server->query('SELECT count(*) FROM moe_ml.model UNION ALL SELECT count(*) FROM moe_ml.model_parameter UNION ALL SELECT count(*) FROM moe_ml.model_epoch UNION ALL SELECT count(*) FROM moe_ml.model_expert'),
    "0\n0\n0\n0", 'nothing of a dropped model is left');
is($server->query(q{SELECT count(*) FROM pg_depend AS d WHERE classid = 'pg_class'::regclass AND objid >= 16384 AND NOT EXISTS (SELECT FROM pg_class WHERE oid = d.objid)}),
    '0', 'nor a dependency of one');
unlike($server->log, qr/PANIC|TRAP|terminated by signal|reference leak|still referenced/, 'nothing to worry about is in the log');

done_testing();
