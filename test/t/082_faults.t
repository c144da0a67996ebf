# Memory that is not there, in the core and in the server, and threads that do not start, at each of many moments: the
# statement ends in an error that says so, or does without; nothing is lost, and nothing half-made stays.
#
# The library is linked for the test so that a call fails on request (test/faults). MOE_ML_FAULTS says how many moments
# of each kind are tried (2000, which are all), MOE_ML_SEED which.
use strict;
use warnings;
use Test::More;
use File::Copy;
use MoeServer;
use MoeShop;

my $moments = $ENV{MOE_ML_FAULTS} // 2000;
my $seed = $ENV{MOE_ML_SEED} // 1;
srand($seed);
note("seed $seed");

# An installation of its own, since its library is not the usual one.
chomp(my $work = `test/server work`);
$ENV{MOE_ML_WORK} = "$work/faults";
mkdir $work;
system('test/server', 'install') == 0 or BAIL_OUT('the extension does not install');
system('test/faults/build', 'build/faults') == 0 or BAIL_OUT('the library for the test does not build');
chomp(my $installed = `find $work/faults/pg -name moe_ml.so`);
unlink $installed;
copy('build/faults/moe_ml.so', $installed) or BAIL_OUT("cannot install the library for the test: $!");
chmod 0755, $installed;

my $server = MoeServer->new('faults', autovacuum => 'off');
my $train = model_sql('CREATE MODEL n', channels => 4, hops => 1, experts => "'history, linear, retrieval, graph'");
$server->query("SET moe_ml.notices = off; SET client_min_messages = warning; CREATE EXTENSION moe_ml;\n" . shop_sql()
    . model_sql('CREATE MODEL m', channels => 4, hops => 1, experts => "'history, linear, retrieval, graph'") . <<'SQL');
; CREATE FUNCTION moe_fault(text, int8) RETURNS int8 LANGUAGE c AS '$libdir/moe_ml';
CREATE FUNCTION moe_blocks() RETURNS int8 LANGUAGE c AS '$libdir/moe_ml';
SQL

my $session = $server->session;
my $start = $server->query('SELECT pg_postmaster_start_time()');
$session->query('SET moe_ml.notices = off; SET moe_ml.threads = 2; SET client_min_messages = warning');
my $contexts = 'SELECT sum(total_bytes) FROM pg_backend_memory_contexts';

# How many threads the session's process has.
sub threads
{
    my @tasks = glob "/proc/$session->{pid}/task/*";
    return scalar @tasks;
}

# What a statement leaves behind when it fails is no more than when it does not: blocks of the core and threads, which a
# session may keep for the next statement. $undo: SQL after it. Returns the share of moments that end in an error.
sub try_all
{
    my ($name, $statement, $undo, $kind, $sign) = @_;
    for (1 .. 3) # caches are filled
    {
        $session->query("$statement; $undo");
    }
    $session->query("SELECT moe_fault('$kind', 0)");
    $session->query($statement);
    my $total = $session->query("SELECT moe_fault('', 0)");
    $session->query($undo);
    my $blocks = $session->query('SELECT moe_blocks()');
    my $threads = threads();
    my $bytes = $session->query($contexts);

    # The first ones, and as many at random.
    my %at = map { $_ => 1 } 1 .. ($total < $moments / 2 ? $total : $moments / 2);
    $at{ 1 + int rand $total } = 1 for 1 .. $moments / 2;
    my ($refused, @wrong) = (0);
    for my $n (sort { $a <=> $b } keys %at)
    {
        $session->query("SELECT moe_fault('$kind', " . $sign * $n . ')');
        $session->send($statement);
        my ($out, $err) = $session->answer;
        my ($after) = $session->query("SELECT moe_fault('', 0)");
        $refused++ if $err =~ /ERROR/;
        push @wrong, "$n: $err" if $err =~ /\S/ && $err !~ /ERROR:  out of memory/;
        if ($err !~ /\S/)
        {
            $session->query($undo);
        }
        # A statement that goes well drops what it kept and keeps its own.
        $session->query("$statement; $undo");
        my $left = $session->query('SELECT moe_blocks()');
        push @wrong, "$n: $left blocks instead of $blocks or less, after: $err" if $left > $blocks;
        push @wrong, "$n: " . threads() . " threads instead of $threads or less, after: $err" if threads() > $threads;
        last if @wrong > 5;
    }
    is(join("\n", @wrong), '', "$name: nothing is lost where $kind fails" . ($sign < 0 ? ' from then on' : ''));
    my $grown = $session->query($contexts) - $bytes;
    cmp_ok($grown, '<', 262144, "and the session's memory is where it was, but for $grown bytes");
    is($server->query(broken_sql()), '', 'and every model is whole');
    note(scalar(keys %at) . " of $total moments, $refused refused");
    return $refused / keys %at;
}

my $bits = $session->query('SELECT ' . bits_sql('m'));
for my $case ([ 'core', 1 ], [ 'core', -1 ], [ 'server', 1 ])
{
    my ($kind, $sign) = @$case;
    cmp_ok(try_all('CREATE MODEL', $train, 'DROP FOREIGN TABLE n', $kind, $sign), '>', 0.5, 'and most are refused');
    try_all('SELECT, kept', 'SELECT count(probability) FROM m', 'SELECT 1', $kind, $sign);
    $session->query('SET moe_ml.cache_size = 0');
    cmp_ok(try_all('SELECT', 'SELECT count(probability) FROM m', 'SELECT 1', $kind, $sign), '>', 0.5, 'and most are refused');
    $session->query('RESET moe_ml.cache_size');
    is($session->query('SELECT ' . bits_sql('m')), $bits, 'predictions are what they were');
}

# Threads that do not start are done without.
for my $sign (1, -1)
{
    try_all('CREATE MODEL', $train, 'DROP FOREIGN TABLE n', 'thread', $sign);
    is($session->query("SELECT moe_fault('thread', -1) IS NULL; SELECT " . bits_sql('m')), "f\n$bits", 'predictions are what they were');
    $session->query("SELECT moe_fault('', 0)");
}
is($server->query('SELECT pg_postmaster_start_time()'), $start, 'the server never restarted');
unlike($server->log, qr/PANIC|TRAP|terminated by signal|leak/, 'nothing to worry about is in its log');

done_testing();
