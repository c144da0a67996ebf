# Trainings are seen from other sessions while they run, by those with a right to it, and are gone when they end, whichever way;
# moe_ml.max_training_time ends them.
use strict;
use warnings;
use Test::More;
use Time::HiRes qw(sleep time);
use MoeServer;
use MoeShop;

my $quiet = "SET moe_ml.notices = off; SET client_min_messages = warning";
my $endless = model_sql('CREATE MODEL endless', epochs => 10000, patience => 0, batch_size => 8, ensembles => 2, experts => "'linear, graph'");
my $asleep = "SELECT moe_ml.execute('CREATE MODEL asleep PREDICT y FOR EACH customers AT at WITH (epochs = 1, ensembles = 1, channels = 8)
    AS SELECT customer_id, placed_at AS at, amount > 3 AS y FROM orders WHERE pg_sleep(0.02) IS NOT NULL')";
my $server;

# The first row that fits the condition within ten seconds.
sub seen
{
    my ($columns, $condition) = @_;
    my $until = time + 10;
    while (time < $until)
    {
        my $row = $server->query("SELECT $columns FROM moe_ml.training_progress WHERE $condition LIMIT 1");
        return $row if $row ne '';
        sleep 0.02;
    }
    return 'nothing';
}

sub nothing_is_left
{
    my ($name) = @_;
    is($server->query("SELECT count(*) FROM moe_ml.training_progress; SELECT count(*) FROM pg_ls_dir('pg_stat_tmp') AS f WHERE f LIKE 'moe_ml%'"), "0\n0", "$name: no trace is left");
    return;
}

for my $preloaded ('', 'moe_ml')
{
    my $how = $preloaded ? 'preloaded' : 'not preloaded';
    undef $server;
    $server = MoeServer->new('progress', shared_preload_libraries => $preloaded);
    $server->query("$quiet; CREATE EXTENSION moe_ml;\n" . shop_sql() . 'CREATE ROLE guest; CREATE ROLE watcher IN ROLE pg_read_all_stats; GRANT USAGE ON SCHEMA moe_ml TO guest, watcher');
    nothing_is_left("$how, before");

    my $trainer = $server->session;
    $trainer->query($quiet);
    $trainer->send($endless);
    is(seen('pid, database, user_name, model, phase, expert, member, members, epochs', 'epoch > 1'), "$trainer->{pid}|postgres|postgres|endless|training experts|graph|1|2|10000", "$how: a training is seen");
    is(seen('batches_done <= batches_total, loss > 0, metric BETWEEN 0 AND 1, elapsed > interval \'0\', remaining > elapsed, started + elapsed <= clock_timestamp()', 'epoch > 2'), 't|t|t|t|t|t', 'with how far it is');
    my $epoch = seen('epoch', 'true');
    cmp_ok(seen('epoch', "epoch > $epoch"), '>', $epoch, 'and goes on');
    is($server->query('SET ROLE guest; SELECT pid, database, user_name, model, phase, elapsed FROM moe_ml.training_progress'), "$trainer->{pid}|postgres|postgres|||", 'others see that there is one');
    is($server->query('SET ROLE watcher; SELECT model FROM moe_ml.training_progress'), 'endless', 'those who may read all statistics what it is');
    my @epochs = split /\n/, $server->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT epoch FROM moe_ml.training_progress; SELECT pg_sleep(0.5) IS NULL; SELECT epoch FROM moe_ml.training_progress');
    cmp_ok($epochs[2], '>', $epochs[0], 'live within one transaction');
    my $second = $server->session;
    $second->query($quiet);
    $second->send($asleep);
    is(seen('pid, phase', "model = 'asleep' AND phase NOT IN ('preparing', 'reading tables')"), "$second->{pid}|reading labels", 'two trainings at once are two rows');
    is($server->query("SELECT pg_cancel_backend(pid) FROM moe_ml.training_progress"), "t\nt", 'both are cancelled');
    like(($_->answer)[1], qr/canceling statement due to user request/, 'and end') for $trainer, $second;
    nothing_is_left("$how, cancelled");

    # Errors that are caught, and a session that ends
    $trainer->query("DO \$\$ BEGIN PERFORM moe_ml.execute('CREATE MODEL fails PREDICT count(orders.*, 0, 12, days) > 1000000 FOR EACH customers'); EXCEPTION WHEN OTHERS THEN NULL; END \$\$");
    nothing_is_left("$how, failed and caught");
    $trainer->send($endless);
    seen('pid', 'epoch > 1');
    $server->query("SELECT pg_terminate_backend($trainer->{pid})");
    $trainer->answer;
    sleep 0.2;
    nothing_is_left("$how, terminated");
    $server->query("$quiet; " . model_sql('CREATE MODEL m') . "; SELECT moe_ml.execute('REFRESH MODEL m')");
    nothing_is_left("$how, done");
}

# What is no record of a running process is not shown.
{
    my $idle = $server->session;
    $server->query("COPY (SELECT 'x') TO PROGRAM 'head -c 300 /dev/urandom > pg_stat_tmp/moe_ml.training.$idle->{pid}; head -c 300 /dev/urandom > pg_stat_tmp/moe_ml.training.4000000; touch pg_stat_tmp/moe_ml.training.x'");
    is($server->query('SELECT count(*) FROM moe_ml.training_progress'), 0, 'files that are no records are not shown');
    is($server->query("SELECT count(*) FROM pg_ls_dir('pg_stat_tmp') AS f WHERE f LIKE 'moe_ml%'"), 1, 'and removed unless they are of a live process');
}

# A crash
{
    my $trainer = $server->session;
    $trainer->query($quiet);
    $trainer->send($endless);
    seen('pid', 'epoch > 1');
    $server->stop('immediate');
    $server->start;
    is($server->query('SELECT count(*) FROM moe_ml.training_progress'), 0, 'what a crash left behind is not shown');
}

# Waits: loops over wide rows are shared out, and at the end of one the session may wait for the other threads.
{
    my $trainer = $server->session;
    $trainer->query("$quiet; SET moe_ml.threads = 2");
    $trainer->send(model_sql('CREATE MODEL wide', epochs => 10000, patience => 0, batch_size => 512, channels => 256, experts => "'graph'"));
    seen('pid', 'epoch > 1');
    my $until = time + 60;
    my %events;
    $events{$server->query("SELECT coalesce(wait_event_type, 'none') FROM pg_stat_activity WHERE pid = $trainer->{pid}")}++
        while time < $until && keys %events < 2;
    is(join(' ', sort keys %events), 'Extension none', 'waits for threads are wait events, and computing is none');
    $server->query("SELECT pg_cancel_backend($trainer->{pid})");
    $trainer->answer;
}

# The limit
{
    my $trainer = $server->session;
    $trainer->query("$quiet; SET moe_ml.max_training_time = '1s'");
    for my $training ($endless, $asleep)
    {
        my $start = time;
        $trainer->send($training);
        my ($out, $err) = $trainer->answer;
        like($err, qr/ERROR:  training model "\w+" took longer than moe_ml.max_training_time \(1 s\)\nHINT:  Raise moe_ml.max_training_time/, 'a training that takes too long ends');
        cmp_ok(time - $start, '<', 3, 'in time');
    }
    $trainer->send("DO \$\$ BEGIN PERFORM moe_ml.execute('CREATE MODEL e PREDICT count(orders.*, 0, 12, days) = 0 FOR EACH customers WITH (epochs = 10000, patience = 0, batch_size = 8, channels = 8)'); EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(1.5); RAISE WARNING '%', SQLERRM; END \$\$");
    like(($trainer->answer)[1], qr/WARNING:  training model "e" took longer/, 'it can be caught, and bothers nobody afterwards');
    is($trainer->query(model_sql('CREATE MODEL quick') . '; SELECT pg_sleep(1.2) IS NULL'), "f\nf", 'what is done in time is not ended, nor what comes after it');
    is($server->query("SELECT count(*) FROM moe_ml.models WHERE name IN ('endless', 'asleep', 'e')"), 0, 'nothing is left of those that were');
}

unlike($server->log, qr/PANIC|TRAP|terminated by signal/, 'no process crashed');
done_testing();
