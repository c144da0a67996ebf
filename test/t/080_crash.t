# The server is stopped at once, or the session's process killed, at random moments of CREATE, REFRESH, REPLACE and DROP
# MODEL. Afterwards each model is as it was before or as it was to be: whole, and predicting the same, bit for bit.
#
# MOE_ML_CRASHES says how often (20), MOE_ML_SEED where the random moments start from.
use strict;
use warnings;
use List::Util qw(max);
use Test::More;
use Time::HiRes qw(sleep time);
use MoeServer;
use MoeShop;

my $crashes = $ENV{MOE_ML_CRASHES} // 20;
my $seed = $ENV{MOE_ML_SEED} // 1;
srand $seed;
note("seed $seed");

my $quiet = "SET moe_ml.notices = off;\nSET client_min_messages = warning;\n";
my $server = MoeServer->new('crash', log_checkpoints => 'off');
$server->query("CREATE EXTENSION moe_ml;\nCREATE EXTENSION amcheck;\n" . shop_sql());

# Parameters of some hundred kilobytes, trained in a few tenths of a second.
my %options = (ensembles => 2, epochs => 6, patience => 0, channels => 96);
my $drop = "SELECT moe_ml.execute('DROP MODEL m')";
my $refresh = "SELECT moe_ml.execute('REFRESH MODEL m')";
my $create = model_sql('CREATE MODEL m', %options);
my $replace = model_sql('CREATE OR REPLACE MODEL m', %options, seed => 2);

# Predictions of each state that a statement may leave; "none" without a model.
sub state_now
{
    my ($session) = @_;
    return 'none' if $session->query("SELECT to_regclass('m') IS NULL") eq 't';
    return $session->query('SELECT ' . bits_sql('m'));
}

# What each kind of round starts from and then does in a loop. Each loop comes back to where it began.
my %rounds = (
    create => { prepare => "SELECT moe_ml.execute('DROP MODEL IF EXISTS m')", loop => [ $create, 'SELECT pg_sleep(0.1)', $drop ] },
    refresh => { prepare => model_sql('CREATE OR REPLACE MODEL m', %options), loop => [ $refresh, $refresh, model_sql('CREATE OR REPLACE MODEL m', %options) ] },
    replace => { prepare => model_sql('CREATE OR REPLACE MODEL m', %options), loop => [ $replace, model_sql('CREATE OR REPLACE MODEL m', %options) ] },
    drop => { prepare => model_sql('CREATE OR REPLACE MODEL m', %options), loop => [ "BEGIN; $drop; SELECT pg_sleep(0.05); COMMIT; SELECT pg_sleep(0.05)", $create ] });

# Go through each loop once: the states that it passes, and how long it takes.
for my $round (@rounds{ sort keys %rounds })
{
    my $session = $server->session;
    $session->query("$quiet$round->{prepare}");
    $round->{states}{state_now($session)} = 'before';
    my $start = time;
    for my $i (0 .. $#{ $round->{loop} })
    {
        $session->query($round->{loop}[$i]);
        $round->{seconds} = time - $start;
        $round->{states}{state_now($session)} //= "after step $i";
    }
}
is(scalar(keys %{ $rounds{refresh}{states} }), 3, 'each refresh gives other predictions, and training again the first');
is(scalar(keys %{ $rounds{$_}{states} }), 2, "$_ has two states") for qw(create replace drop);
note('parts of the parameters: ' . $server->query("$quiet$rounds{create}{prepare}; $create; SELECT max(part) + 1 FROM moe_ml.model_parameter"));

# Every third time the session's process dies alone, as by the kernel's want of memory, and the server restarts itself.
sub crash
{
    my ($session, $i) = @_;
    my $killed = $i % 3 == 0;
    kill 'KILL', $session->{pid} if $killed;
    $server->stop('immediate') if !$killed;
    my (undef, $err) = $session->answer;
    like($err, qr/server closed the connection|terminating connection|connection to server was lost/,
        $killed ? 'its process is killed' : 'the server is stopped');
    $server->start if !$killed;
    for (1 .. 100)
    {
        last if !$killed || ($server->psql('SELECT 1'))[0] == 0;
        sleep 0.1;
    }
    return;
}

my %left;
for my $i (1 .. $crashes)
{
    my $kind = (sort keys %rounds)[ $i % keys %rounds ];
    my $round = $rounds{$kind};
    $server->query("$quiet$round->{prepare}");
    my $session = $server->session;
    $session->query($quiet);
    my $moment = rand(2 * $round->{seconds});
    $session->send(join ";\n", (@{ $round->{loop} }) x 20);
    sleep $moment;
    note(sprintf '%s, %.3f s after the start', $kind, $moment);
    crash($session, $i);
    is($server->query(broken_sql()), '', 'every model is whole');
    my $session_after = $server->session;
    my $state = state_now($session_after);
    ok(exists $round->{states}{$state}, 'it is in a state that a statement leaves: ' . ($round->{states}{$state} // $state));
    $left{"$kind " . ($round->{states}{$state} // '')}++;
    $session_after->query("SELECT bt_index_check(indexrelid, true) FROM pg_index WHERE indrelid::regclass::text LIKE 'moe_ml.%'");
}
note(join ', ', map { "$_: $left{$_}" } sort keys %left);
unlike($server->log, qr/PANIC|TRAP|by signal (?!9:)|could not open file|invalid page/, 'no process crashed by itself');

done_testing();
