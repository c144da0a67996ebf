# Training on a device, in a process of its own: what a session sees of it, and what is left after every way it can
# fail. The device is the emulated one (test/cuda): the real module's code, run by the processor.
use strict;
use warnings;
use lib 'test/lib';
use File::Copy qw(copy move);
use MoeServer;
use Test::More;

my $folder = 'build/cuda-emulated';
system('test/cuda/build', $folder) == 0 or BAIL_OUT('the emulated module does not build');
system('test/server', 'install') == 0 or BAIL_OUT('no private installation');
chomp(my $work = `test/server work`);
chomp(my $library = `\${PG_CONFIG:-pg_config} --pkglibdir`);
my $module = "$work/pg$library/moe_ml_cuda.so";
my $real = -e $module ? "$module.real" : undef;
move($module, $real) if defined $real;

END { defined $real ? move($real, $module) : unlink($module // ()) }

my $tables = <<'SQL';
CREATE TABLE customers (customer_id int PRIMARY KEY, kind text, since timestamp);
CREATE TABLE orders (order_id int PRIMARY KEY, customer_id int REFERENCES customers, placed_at timestamp, amount float8);
INSERT INTO customers SELECT i, 'kind ' || i % 3, '2020-01-01' FROM generate_series(1, 30) i;
INSERT INTO orders SELECT i, 1 + i % 30, timestamp '2020-01-01' + i * interval '9 hours', i % 7
  FROM generate_series(1, 600) i WHERE i * 7919 % 13 <> i % 30 % 13;
SQL
# The emulated device is slow: of the networks only a narrow tabular one is trained on it, and once.
my %options = (epochs => 1, ensembles => 2, channels => 8, neighbors => '(4, 4)', seed_times => 3, batch_size => 64, experts => "'linear, graph'");
my %more = (experts => "'history, linear, tabular, retrieval, graph'", max_columns => 2);

sub options
{
    my (%with) = (%options, @_);
    return join ', ', map { "$_ = $with{$_}" } sort keys %with;
}

sub model
{
    my ($name, %with) = @_;
    return "SELECT moe_ml.execute(\$\$CREATE MODEL $name PREDICT count(orders.*, 0, 12, days) = 0 FOR EACH customers "
      . 'WITH (' . options(%with) . ")\$\$) IS NULL;\n";
}

sub server
{
    my (%environment) = @_;
    local @ENV{ keys %environment } = values %environment;
    my $server = MoeServer->new('device');
    $server->query("CREATE EXTENSION moe_ml;\n$tables");
    return $server;
}

sub workers { return $_[0]->query("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'") }

my $quiet = "SET moe_ml.notices = off;\n";

{
    my $server = server();
    like($server->query('SELECT * FROM moe_ml.device_info()'),
        qr/^cpu\|.*\ncuda\|\|f\|\|\|The device module .* is not installed\.$/, 'without the module there is no device');
    my ($status, undef, $err) = $server->psql("SET moe_ml.device = cuda;\n" . model('m'));
    isnt($status, 0, 'and training on one is an error');
    like($err, qr/no CUDA device can be used.*DETAIL:.*is not installed.*HINT:.*moe_ml\.device = 'auto'/s, 'that says why');
    $server->query($quiet . model('m'));
    is($server->query('SELECT device FROM moe_ml.model_relations'), 'cpu', 'while auto trains on the CPU');
}

copy("$folder/moe_ml_cuda.so", $module) or BAIL_OUT("cannot install the emulated module: $!");
chmod 0755, $module;

{
    my $server = server();
    like($server->query('SELECT device, usable, detail FROM moe_ml.device_info()'),
        qr/^cpu\|t\|.*\ncuda:0\|t\|compute capability 8\.0, 3 multiprocessors/, 'the module\'s device is listed');

    my (undef, undef, $err) = $server->psql(model('on_device', %more));
    like($err, qr/NOTICE:  training on emulated device 0/, 'a training says where it runs');
    $server->query("$quiet SET moe_ml.device = cpu;\n" . model('on_cpu', %more));
    is($server->query('SELECT name, device FROM moe_ml.model_relations ORDER BY 1'),
        "on_cpu|cpu\non_device|emulated device 0", 'and is known by it');
    is($server->query('SELECT count(*), max(abs(a.probability - b.probability)) < 0.01
                         FROM on_device a JOIN on_cpu b USING (customer_id, as_of)'),
        '30|t', 'the same seed gives nearly the same model');
    $server->query("$quiet CREATE TABLE before AS SELECT * FROM on_device;
                    SELECT moe_ml.execute('REFRESH MODEL on_device') IS NULL;");
    is($server->query("SELECT device, bool_or(b.probability <> a.probability) FROM moe_ml.model_relations,
                       before b JOIN on_device a USING (customer_id) WHERE name = 'on_device' GROUP BY 1"),
        'emulated device 0|t', 'a refresh goes on from there, on the device');

    $server->query("$quiet" . model('again') . model('and_again'));
    is($server->query('SELECT count(*) FROM again a JOIN and_again b USING (customer_id) WHERE a.probability = b.probability'),
        '30', 'the same seed gives the same model');

    is($server->query("$quiet BEGIN; DELETE FROM orders WHERE order_id % 2 = 0;\n" . model('uncommitted')
          . "SELECT device FROM moe_ml.model_relations WHERE name = 'uncommitted'; ROLLBACK;"),
        "f\nemulated device 0", 'the device\'s process sees the transaction\'s own changes');
    is($server->query("SELECT count(*) FROM moe_ml.model_relations WHERE name = 'uncommitted'"), '0', 'which roll back');

    my $labels = "CREATE TEMP TABLE labels AS SELECT customer_id, timestamp '2020-05-01' + customer_id % 5 * interval '10 days' AS at,
                  customer_id % 2 = 0 AS y FROM customers;\n";
    my $own = 'SELECT moe_ml.execute($$CREATE OR REPLACE MODEL own PREDICT y FOR EACH customers AT at WITH ('
      . options(seed_times => 5) . ") AS SELECT customer_id, at, y FROM labels\$\$) IS NULL;";
    is($server->query("$quiet $labels $own SELECT device FROM moe_ml.model_relations WHERE name = 'own'"),
        "f\ncpu", 'a model that reads a temporary table is trained on the CPU');
    (undef, undef, $err) = $server->psql("$quiet SET moe_ml.device = cuda; $labels $own");
    like($err, qr/no CUDA device can be used.*DETAIL:.*temporary tables/s, 'or not at all');

    (undef, undef, $err) = $server->psql("$quiet SET moe_ml.device = cuda; SET statement_timeout = '1s';\n"
          . model('long', epochs => 10000, patience => 0));
    like($err, qr/canceling statement due to statement timeout/, 'a training on the device can be cancelled');
    is(workers($server), '0', 'and its process is gone');
    is($server->query("SELECT count(*) FROM moe_ml.model_relations WHERE name = 'long'"), '0', 'with nothing left');

    my $session = $server->session;
    $session->query($quiet);
    $session->send(model('long', epochs => 10000, patience => 0));
    my $seen = '';
    for (1 .. 200)
    {
        $seen = $server->query('SELECT pid, model, phase, expert FROM moe_ml.training_progress');
        last if $seen =~ /\|graph$/; # the expert: there is a phase "building graph" as well
        select undef, undef, undef, 0.05;
    }
    is($seen, "$session->{pid}|long|training experts|graph", 'while it trains, the session is shown once, with what its process does');
    is($session->is_in("wait_event_type = 'Extension'"), 1, 'and waits for that process, as its wait event tells');
    $server->query("SELECT pg_cancel_backend($session->{pid})");
    $session->answer;
    is($server->query('SELECT count(*) FROM moe_ml.training_progress'), '0', 'and no longer');
    (undef, undef, $err) = $server->psql("$quiet SET moe_ml.device = cuda; SET moe_ml.max_training_time = 1;\n" . model('long', epochs => 10000, patience => 0));
    like($err, qr/ERROR:  training model "long" took longer than moe_ml.max_training_time/, 'its time can be limited');

    (undef, undef, $err) = $server->psql("SET moe_ml.gpu_memory_limit = '40MB';\n" . model('large', channels => 512));
    like($err, qr/device's memory.*HINT:.*moe_ml\.gpu_memory_limit/s, 'the limit on the device\'s memory is kept');

    $server->query('CREATE ROLE stranger; GRANT CREATE ON SCHEMA public TO stranger; GRANT SELECT ON customers TO stranger');
    (undef, undef, $err) = $server->psql("$quiet SET ROLE stranger;\n" . model('strange'));
    like($err, qr/permission denied for .*table "orders"/, 'the device\'s process has the session\'s privileges');

    $server->query("$quiet SELECT moe_ml.execute(\$\$CREATE MODEL background PREDICT count(orders.*, 0, 12, days) = 0 FOR EACH customers WITH (background, "
          . options() . ')$$)');
    my $ended = 'SELECT state FROM moe_ml.jobs';
    select undef, undef, undef, 0.05 while $server->query($ended) =~ /queued|running/;
    is($server->query("$ended; SELECT device FROM moe_ml.model_relations WHERE name = 'background'"), "finished\nemulated device 0", 'a training in the background has the device in its own process');
    $server->query("$quiet SET moe_ml.device = cpu; SELECT moe_ml.execute('REFRESH MODEL background WITH (background)')");
    select undef, undef, undef, 0.05 while $server->query($ended) =~ /queued|running/;
    is($server->query("SELECT device FROM moe_ml.model_relations WHERE name = 'background'"), 'cpu', 'or none, as the session\'s setting says');

    my ($status, $out) = $server->psql("SET max_parallel_workers = 0; $quiet\n" . model('no_worker')
          . "SELECT device FROM moe_ml.model_relations WHERE name = 'no_worker'");
    is($out, "f\ncpu", 'without a free process a model is trained on the CPU');
}

{
    my $server = server(MOE_EMULATED_DEVICES => 0);
    like($server->query('SELECT device, usable, detail FROM moe_ml.device_info()'), qr/\ncuda\|f\|.+/, 'no card: said why');
    $server->query($quiet . model('m'));
    is($server->query('SELECT device FROM moe_ml.model_relations'), 'cpu', 'and trained on the CPU');
    my (undef, undef, $err) = $server->psql("$quiet SET moe_ml.device = cuda;\n" . model('n'));
    like($err, qr/no CUDA device can be used.*DETAIL:.+HINT:/s, 'or an error');
}

{
    my $server = server(MOE_EMULATED_DEVICES => 'driver');
    like($server->query('SELECT detail FROM moe_ml.device_info()'), qr/driver/, 'a driver that is too old is named');
}

{
    my $server = server(MOE_EMULATED_FAIL => 'cudaMemcpyAsync');
    my $start = $server->query('SELECT pg_postmaster_start_time()');
    my ($status, $out, $err) = $server->psql("\\set ON_ERROR_STOP 0\n$quiet" . model('broken')
          . "SELECT 'the session lives';\nSET moe_ml.device = cpu;\n" . model('mended')
          . 'SELECT name, device FROM moe_ml.model_relations');
    like($err, qr/ERROR:  .*cudaMemcpyAsync.*an illegal memory access.*HINT:  SET moe_ml\.device = 'cpu'/s,
        'a failed call is an error that names it');
    is($out, "the session lives\nf\nmended|cpu", 'the next statements work');
    is(workers($server), '0', 'the process that owned the device is gone');
    is($server->query('SELECT pg_postmaster_start_time()'), $start, 'and no other');
    unlike($server->log, qr/terminated by signal|database system was not properly shut down/, 'the server never restarted');
}

done_testing();
