# Trainings in the background: they outlive their sessions, hold no snapshot while they learn, run with the rights and the
# settings of who asked, and tell how they ended.
use strict;
use warnings;
use Test::More;
use Time::HiRes qw(sleep time);
use MoeServer;
use MoeShop;

my $quiet = "SET moe_ml.notices = off;\nSET client_min_messages = warning;\n";
my %long = (epochs => 10000, patience => 0, batch_size => 8, ensembles => 2, experts => "'linear, graph'");
my $server;

sub background { return model_sql($_[0], background => 'true', @_[1 .. $#_]) }
sub job { return $server->query("SELECT max(job) FROM moe_ml.jobs WHERE model = '$_[0]'") }
sub ddl { return "SELECT moe_ml.execute(\$ddl\$$_[0]\$ddl\$) IS NULL" }

# What SQL comes to say within a minute.
sub becomes
{
    my ($sql, $wanted) = @_;
    my $until = time + 60;
    my $answer = '';
    while (time < $until)
    {
        $answer = $server->query($sql);
        return $answer if $answer eq $wanted;
        sleep 0.03;
    }
    return $answer;
}

# The state of a model's last job, once it is the wanted one, and its message.
sub ends
{
    my ($model, $state) = @_;
    my $row = "FROM moe_ml.job_details WHERE model = '$model' ORDER BY job DESC LIMIT 1";
    becomes("SELECT state $row", $state);
    return $server->query("SELECT state || ': ' || coalesce(message, '') $row");
}

# Wait until a model's job is in its epochs; its process.
sub learns
{
    my ($model) = @_;
    becomes("SELECT count(*) > 0 FROM moe_ml.training_progress WHERE model = '$model' AND epoch > 1", 't');
    return $server->query("SELECT pid FROM moe_ml.job_details WHERE model = '$model' AND state = 'running'");
}

sub cancel
{
    my ($model) = @_;
    $server->query('SELECT moe_ml.cancel_job(' . job($model) . ')');
    return ends($model, 'cancelled');
}

for my $preloaded ('', 'moe_ml')
{
    my $how = $preloaded ? 'preloaded' : 'not preloaded';
    undef $server;
    $server = MoeServer->new('background', shared_preload_libraries => $preloaded, max_prepared_transactions => 2);
    $server->query("$quiet; CREATE EXTENSION moe_ml;\n" . shop_sql());

    # The client leaves; the model appears.
    my $start = time;
    my $create = $preloaded ? 'CREATE MODEL m PREDICT count(orders.*, 0, 12, days) = 0 FOR EACH customers
        WITH (epochs = 1, ensembles = 1, channels = 8, seed = 1, background)' : background('CREATE MODEL m');
    my ($status, $out, $err) = $server->psql($create);
    is($err, "psql:<stdin>:" . ($create =~ tr/\n// + 1) . ": NOTICE:  job 1 trains model \"m\" in the background
HINT:  Watch it in moe_ml.jobs and moe_ml.training_progress; stop it by SELECT moe_ml.cancel_job(1).", "$how: the statement tells the job's number and how to watch it");
    is(ends('m', 'finished'), 'finished: ', 'the model is made without the client');
    $server->query("$quiet; " . model_sql('CREATE MODEL foreground'));
    is($server->query('SELECT ' . bits_sql('m')), $server->query('SELECT ' . bits_sql('foreground')), 'its predictions are those of the foreground, to the bit');
    is($server->query(broken_sql()), '', 'and it is whole');
    $server->query("$quiet SET moe_ml.threads = 1; " . ddl('REFRESH MODEL m WITH (background)'));
    ends('m', 'finished');
    $server->query("$quiet; " . ddl('REFRESH MODEL foreground'));
    is($server->query('SELECT ' . bits_sql('m')), $server->query('SELECT ' . bits_sql('foreground')), 'so are those of REFRESH MODEL');

    # Seen from another session; no snapshot, no lock on the tables.
    my $asker = $server->session;
    $asker->query($quiet . background('CREATE MODEL endless', %long));
    my $pid = learns('endless');
    like($pid, qr/^\d+$/, 'a job that runs has a process');
    is($server->query("SELECT backend_type, state, backend_xmin IS NULL, backend_xid IS NULL, query LIKE 'CREATE MODEL endless%' FROM pg_stat_activity WHERE pid = $pid"),
        'moe_ml job|active|t|t|t', 'which holds no snapshot while it learns');
    is($server->query("SELECT string_agg(DISTINCT locktype, ',') FROM pg_locks WHERE pid = $pid"), 'virtualxid', 'nor any lock but that of its transaction');
    is($server->query("SELECT phase, expert, epoch > 1, epochs FROM moe_ml.training_progress WHERE pid = $pid"), 'training experts|graph|t|10000', 'its progress is seen');
    is($server->query("SELECT state, model, message, elapsed >= interval '0' FROM moe_ml.jobs WHERE model = 'endless'"), 'running|endless||t', 'so is the job');
    undef $asker;
    my $epoch = $server->query("SELECT epoch FROM moe_ml.training_progress WHERE pid = $pid");
    is(becomes("SELECT epoch > $epoch FROM moe_ml.training_progress WHERE pid = $pid", 't'), 't', 'it goes on when the session has gone');
    is(cancel('endless'), 'cancelled: canceling statement due to user request', 'and is cancelled');
    is($server->query("SELECT count(*) FROM moe_ml.training_progress; SELECT count(*) FROM pg_stat_activity WHERE pid = $pid; SELECT to_regclass('endless') IS NULL"), "0\n0\nt", 'without a trace but the job');

    # While it reads, it does hold a snapshot: the test above would see one.
    $server->query($quiet . ddl("CREATE MODEL asleep PREDICT y FOR EACH customers AT at WITH (epochs = 1, ensembles = 1, channels = 8, background)
        AS SELECT customer_id, placed_at AS at, amount > 3 AS y FROM orders WHERE pg_sleep(0.02) IS NOT NULL"));
    is(becomes("SELECT count(*) FROM moe_ml.training_progress JOIN pg_stat_activity USING (pid) WHERE model = 'asleep' AND phase = 'reading labels' AND backend_xmin IS NOT NULL", 1), 1, 'while it reads it holds one');
    like(cancel('asleep'), qr/^cancelled/, 'it is cancelled there too');

    # Errors
    $server->query($quiet . model_sql('CREATE MODEL fails', background => 'on', query => 'PREDICT count(orders.*, 0, 12, days) > 100000 FOR EACH customers'));
    like(ends('fails', 'failed'), qr/^failed: all \d+ training labels are the same: false\nHINT:  Change the target/, 'an error is told with its hint');
    like($server->log, qr/ERROR:  all \d+ training labels are the same/, 'and logged');
    $server->query("$quiet SET moe_ml.max_training_time = '1s'; " . background('CREATE MODEL late', %long));
    like(ends('late', 'failed'), qr/^failed: training model "late" took longer than moe_ml.max_training_time \(1 s\)\nHINT:  Raise/, 'so is the end of the time that the session allowed');

    # Ended from outside
    $server->query($quiet . background('CREATE MODEL endless', %long));
    $pid = learns('endless');
    $server->query("SELECT pg_terminate_backend($pid)");
    like(ends('endless', 'lost'), qr/^lost: its process ended without a word/, 'a process that is terminated leaves a lost job');
    $server->query($quiet . background('CREATE MODEL endless', %long));
    learns('endless');
    $server->stop('immediate');
    $server->start;
    like(ends('endless', 'lost'), qr/^lost/, 'so does a crash');
    is($server->query("SELECT count(*) FROM moe_ml.training_progress"), 0, 'which leaves no training behind');
    is($server->query("${quiet}SELECT moe_ml.cancel_job(" . job('endless') . ')'), 'f', 'a lost job cannot be cancelled');
    $server->query('SELECT moe_ml.remove_job(' . job('endless') . ')');
    $server->query($quiet . background('CREATE MODEL endless', %long));
    learns('endless');
    $server->stop;
    $server->start;
    like(ends('endless', 'lost'), qr/^lost/, 'and a restart, which waits for no job');
}

# Transactions
{
    my $session = $server->session;
    $session->query("$quiet BEGIN; " . background('CREATE MODEL later'));
    sleep 0.3;
    is($server->query("SELECT count(*) FROM moe_ml.jobs WHERE model = 'later'; SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'moe_ml job'"), "0\n0", 'nothing begins before the commit');
    $session->query('COMMIT');
    like(ends('later', 'finished'), qr/^finished/, 'then it does');
    $session->query('BEGIN; CREATE TABLE extra (customer_id int REFERENCES customers, since timestamp, x int); INSERT INTO extra SELECT i, \'2020-02-01\', i FROM generate_series(1, 30) i;'
        . model_sql('CREATE MODEL uses_extra', background => 'on', query => 'PREDICT count(orders.*, 0, 12, days) = 0 FOR EACH customers USING (orders, extra)') . '; COMMIT');
    like(ends('uses_extra', 'finished'), qr/^finished/, 'a job sees what its transaction made');
    $server->query('DROP MODEL uses_extra; DROP TABLE extra');
    $session->send("BEGIN; " . background('CREATE MODEL prepared') . "; PREPARE TRANSACTION 'p'");
    like(($session->answer)[1], qr/ERROR:  cannot PREPARE a transaction that has a model trained in the background\n.*HINT/s, 'a transaction with a job cannot be prepared');
}

# Others, meanwhile
{
    my %slow = (%long, epochs => 500);
    my $changed = qr/^failed: the tables of model "\w+" were changed while it was trained\nDETAIL.*\nHINT:  Repeat the statement/;
    for my $case (
        [ 'ALTER TABLE orders ADD COLUMN more int', $changed, 'ALTER TABLE orders DROP COLUMN more' ],
        [ 'ALTER TABLE orders RENAME TO sales', $changed, 'ALTER TABLE sales RENAME TO orders' ],
        [ 'ALTER TABLE orders DROP CONSTRAINT orders_customer_id_fkey', $changed, 'ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customers' ],
        [ 'CREATE TABLE meanwhile ()', qr/^failed: relation "meanwhile" already exists\nHINT:  Choose another name/, 'DROP TABLE meanwhile' ],
        [ 'INSERT INTO orders SELECT 1000 + i, 1, \'2020-03-01\', 1 FROM generate_series(1, 5) i', qr/^finished: $/, 'DELETE FROM orders WHERE order_id > 1000; DROP MODEL meanwhile' ])
    {
        my ($change, $wanted, $undo) = @$case;
        $server->query($quiet . background('CREATE MODEL meanwhile', %slow));
        learns('meanwhile');
        $server->query("SET lock_timeout = '500ms'; $change");
        like(ends('meanwhile', $wanted =~ /finished/ ? 'finished' : 'failed'), $wanted, "$change waits for no job, which then tells");
        $server->query("$quiet $undo");
    }
    $server->query($quiet . model_sql('CREATE MODEL again', %slow, epochs => 1));
    $server->query($quiet . ddl('ALTER MODEL again SET (epochs = 500)') . '; ' . ddl('REFRESH MODEL again WITH (background)'));
    learns('again');
    $server->query($quiet . ddl('ALTER MODEL again SET (epochs = 1)') . '; ' . ddl('REFRESH MODEL again'));
    my $bits = $server->query('SELECT ' . bits_sql('again'));
    like(ends('again', 'failed'), qr/^failed: model "again" was changed while it was trained\nDETAIL.*\nHINT:  Repeat the statement/, 'a refresh is not stored over what another session made');
    is($server->query('SELECT ' . bits_sql('again')), $bits, 'which stays');
    $server->query($quiet . ddl('ALTER MODEL again SET (epochs = 500)') . '; ' . ddl('REFRESH MODEL again WITH (background)'));
    learns('again');
    $server->query('DROP MODEL again');
    like(ends('again', 'failed'), qr/^failed: model "again" does not exist/, 'nor brought back when it was dropped');
}

# Roles
{
    $server->query(<<'SQL');
CREATE ROLE analyst; CREATE ROLE colleague IN ROLE analyst; CREATE ROLE stranger; CREATE ROLE watcher IN ROLE pg_read_all_stats;
GRANT CREATE ON SCHEMA public TO analyst; GRANT SELECT ON customers, orders TO analyst;
CREATE SCHEMA elsewhere; GRANT ALL ON SCHEMA elsewhere TO analyst;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON orders USING (order_id % 5 < current_setting('app.part')::int);
CREATE FUNCTION climb() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('role', 'none', false); RETURN true; END $$;
SQL
    my $as = "${quiet}SET ROLE analyst; SET app.part = 3; SET search_path = elsewhere, public; ";
    $server->query($as . background('CREATE MODEL theirs'));
    like(ends('theirs', 'finished'), qr/^finished/, 'a role trains in the background');
    is($server->query("SELECT schema, owner FROM moe_ml.model_relations WHERE name = 'theirs'"), 'elsewhere|analyst', 'with its search_path, and owns the model');
    $server->query($as . model_sql('CREATE MODEL foreground'));
    is($server->query($as . 'SELECT ' . bits_sql('theirs')), $server->query($as . 'SELECT ' . bits_sql('foreground')), 'row-level security sees the session\'s own settings');
    $server->query("${quiet}SET SESSION AUTHORIZATION analyst; SET app.part = 3; SET search_path = elsewhere, public; " . background('CREATE MODEL authorized'));
    like(ends('authorized', 'finished'), qr/^finished/, 'as does one by SET SESSION AUTHORIZATION');
    is($server->query($as . 'SELECT ' . bits_sql('authorized')), $server->query($as . 'SELECT ' . bits_sql('theirs')), 'with the same rights');
    $server->query("CREATE FUNCTION trains() RETURNS bool LANGUAGE sql SECURITY DEFINER SET search_path = elsewhere, public AS \$f\$ "
        . background('CREATE MODEL defined') . " \$f\$; ALTER FUNCTION trains() OWNER TO analyst; GRANT USAGE ON SCHEMA elsewhere TO stranger");
    $server->query("${quiet}SET ROLE stranger; SET app.part = 3; SELECT trains()");
    like(ends('defined', 'finished'), qr/^finished/, 'a security-definer function trains');
    is($server->query("SELECT owner FROM moe_ml.job_details WHERE model = 'defined'; " . "SELECT owner FROM moe_ml.model_relations WHERE name = 'defined'; $as SELECT " . bits_sql('defined')),
        "analyst\nanalyst\n" . $server->query($as . 'SELECT ' . bits_sql('theirs')), 'as its owner');
    $server->query("${quiet}SET app.part = 3; " . background('CREATE MODEL others'));
    like(ends('others', 'finished'), qr/^finished/, 'as a superuser does');
    is($server->query($as . 'SELECT count(*) FROM orders') < $server->query('SELECT count(*) FROM orders')
        && $server->query("${quiet}SET app.part = 3; SELECT " . bits_sql('others')) ne $server->query($as . 'SELECT ' . bits_sql('theirs')), 1, 'who sees more rows');
    $server->query("$as; " . ddl('CREATE MODEL climbs PREDICT y FOR EACH customers AT at WITH (epochs = 1, channels = 8, background)
        AS SELECT customer_id, placed_at AS at, amount > 3 AND public.climb() AS y FROM public.orders'));
    like(ends('climbs', 'failed'), qr/^failed: cannot set parameter "role" within security-definer function/, 'code that it runs does not get the rights of the session\'s user');
    $server->query("${quiet}SET moe_ml.memory_limit = '16MB'; SET ROLE analyst; SET app.part = 3; " . background('CREATE MODEL large', channels => 1024, batch_size => 4096, ensembles => 1));
    like(ends('large', 'failed'), qr/^failed: .*moe_ml.memory_limit/s, 'a limit that the session was given holds');

    $server->query($as . background('CREATE MODEL endless', %long));
    my $job = job('endless');
    learns('endless');
    is($server->query("SET ROLE stranger; SELECT count(*) FROM moe_ml.jobs; SELECT count(*) FROM moe_ml.job_details"), "0\n0", 'a stranger sees no jobs');
    for my $function ('cancel_job', 'remove_job')
    {
        like(($server->psql("SET ROLE stranger; SELECT moe_ml.$function($job)"))[2], qr/ERROR:  must be owner of job $job\n.*HINT/s, "nor may call $function");
    }
    is($server->query("SET ROLE watcher; SELECT state FROM moe_ml.job_details WHERE job = $job AND statement LIKE 'CREATE MODEL endless%'"), 'running', 'who may read all statistics sees them');
    like(($server->psql("SET ROLE watcher; SELECT moe_ml.cancel_job($job)"))[2], qr/ERROR:  must be owner/, 'and may do no more');
    is($server->query("SET ROLE analyst; SELECT count(*) FROM moe_ml.jobs WHERE model = 'others'"), 0, 'a role does not see the superuser\'s jobs');
    like(($server->psql("SET ROLE colleague; SELECT moe_ml.remove_job($job)"))[2], qr/ERROR:  job $job is running\n.*HINT:  Cancel it first/s, 'a job that runs is not removed');
    is($server->query("SET ROLE colleague; SELECT moe_ml.cancel_job($job)"), 't', 'a member of the role cancels it');
    like(ends('endless', 'cancelled'), qr/^cancelled/, 'and it ends');

    $server->query('CREATE ROLE short_lived; GRANT analyst TO short_lived');
    $server->query("${quiet}SET ROLE short_lived; SET app.part = 3; " . background('CREATE MODEL orphan', %long, epochs => 500));
    learns('orphan');
    $server->query('DROP ROLE short_lived');
    like(ends('orphan', 'failed'), qr/^failed: the role that asked for the job was dropped\nHINT/, 'the job of a role that was dropped fails');
    is($server->query("SELECT owner LIKE 'unknown%' FROM moe_ml.job_details WHERE model = 'orphan'"), 't', 'and is still listed');
    is($server->query("SELECT count(*) FROM moe_ml.job WHERE settings IS NOT NULL AND state <> 'queued'"), 0, 'no job keeps its session\'s settings');
}

# Copies
{
    my ($status, $dump) = $server->program('pg_dump', ['-a']);
    unlike($dump, qr/CREATE MODEL orphan/, 'jobs are not dumped');
    my $standby = MoeServer->standby('background_standby', $server);
    like(($standby->psql($quiet . background('CREATE MODEL x')))[2], qr/ERROR:  cannot execute CREATE MODEL in a read-only transaction/, 'a standby trains nothing');
    like(($standby->psql('SELECT moe_ml.cancel_job(max(job)) FROM moe_ml.jobs'))[2], qr/ERROR:  cannot execute moe_ml.cancel_job\(\) during recovery/, 'and cancels nothing');
    $server->query("$quiet DROP POLICY p ON orders; ALTER TABLE orders DISABLE ROW LEVEL SECURITY; " . background('CREATE MODEL endless', %long));
    my $row = 'SELECT state FROM moe_ml.jobs WHERE job = ' . job('endless');
    my $until = time + 10;
    sleep 0.05 while $standby->query($row) ne 'running' && time < $until;
    is($standby->query($row), 'running', 'the primary\'s jobs are seen there as it has written them');
    undef $standby;
    like(cancel('endless'), qr/^cancelled/, 'which runs on');
    $server->query($quiet . background('CREATE MODEL endless', %long));
    my $pid = learns('endless');
    $server->query("$quiet DROP EXTENSION moe_ml CASCADE");
    $server->query("SELECT pg_cancel_backend($pid)");
    is(becomes("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", 0), 0, 'a job ends with the extension');
    $server->query("$quiet CREATE EXTENSION moe_ml");
}

# No process left
{
    undef $server;
    $server = MoeServer->new('background', max_worker_processes => 3); # one is the launcher of logical replication
    $server->query("$quiet; CREATE EXTENSION moe_ml;\n" . shop_sql());
    $server->query($quiet . background("CREATE MODEL $_", %long)) for 'a', 'b';
    my ($status, $out, $err) = $server->psql($quiet . background('CREATE MODEL c'));
    like($err, qr/ERROR:  could not start a process for job \d+\n.*DETAIL:  All of the 3 background processes.*\n.*HINT:  Wait for a job.*max_worker_processes/s, 'without a process there is an error');
    ($status, $out, $err) = $server->psql("$quiet BEGIN; CREATE TABLE t (); " . background('CREATE MODEL c') . '; COMMIT');
    like($err, qr/ERROR:  could not start a process/, 'also at the end of a longer transaction');
    is($server->query("SELECT to_regclass('t') IS NULL; SELECT string_agg(model, ' ') FROM moe_ml.jobs"), "t\na b", 'which then leaves nothing');
    cancel('a');
    $server->query($quiet . background('CREATE MODEL c'));
    like(ends('c', 'finished'), qr/^finished/, 'and with one it goes');
}

unlike($server->log, qr/PANIC|TRAP|terminated by signal/, 'no process crashed');
done_testing();
