# Models under transactions: every statement rolls back whole, a transaction sees its own rows, and two sessions at one
# model end in a wait or an error, never in half a model.
use strict;
use warnings;
use Test::More;
use MoeServer;
use MoeShop;

my $server = MoeServer->new('transactions', max_prepared_transactions => 2, deadlock_timeout => '100ms', timezone => 'UTC');
my $quiet = "SET moe_ml.notices = off;\nSET client_min_messages = warning;\n";
$server->query("CREATE EXTENSION moe_ml;\n" . shop_sql() . $quiet . <<'SQL' . model_sql('CREATE MODEL m'));
CREATE SCHEMA elsewhere;
CREATE ROLE keeper SUPERUSER;
CREATE FUNCTION ddl(statement text) RETURNS text LANGUAGE sql AS 'SELECT moe_ml.execute(statement)';
SQL

sub state { return $_[0]->query('SELECT ' . stored_sql() . ', ' . bits_sql('m')) }
sub ddl { return "SELECT ddl(\$ddl\$$_[0]\$ddl\$)" }
sub is_whole { is($server->query(broken_sql()), '', "$_[0]: every model is whole") }

# Run SQL in a new session that may fail; returns its errors.
sub errors
{
    my (undef, undef, $err) = $server->psql("$quiet$_[0]");
    return $err;
}

# All or nothing
my $other_columns = 'PREDICT count(orders.*, 0, 12, days) FOR EACH customers';
my @statements = (
    [ 'CREATE MODEL', model_sql('CREATE MODEL n', seed => 2) ],
    [ 'CREATE OR REPLACE MODEL', model_sql('CREATE OR REPLACE MODEL m', seed => 2) ],
    [ 'CREATE OR REPLACE MODEL with other columns', model_sql('CREATE OR REPLACE MODEL m', query => $other_columns) ],
    [ 'REFRESH MODEL', ddl('REFRESH MODEL m') ],
    [ 'ALTER MODEL RENAME', ddl('ALTER MODEL m RENAME TO n') ],
    [ 'ALTER MODEL SET SCHEMA', ddl('ALTER MODEL m SET SCHEMA elsewhere') ],
    [ 'ALTER MODEL OWNER', ddl('ALTER MODEL m OWNER TO keeper') ],
    [ 'DROP MODEL', ddl('DROP MODEL m') ],
    [ 'DROP TABLE CASCADE', 'DROP TABLE customers CASCADE' ],
    [ 'DROP EXTENSION CASCADE', 'DROP EXTENSION moe_ml CASCADE' ]);
my $before = state($server);
for my $case (@statements)
{
    my ($name, $sql) = @$case;
    my $session = $server->session;
    $session->query($quiet);
    $session->query("BEGIN; $sql");
    isnt($session->query('SELECT ' . ($name =~ /EXTENSION/ ? "''" : stored_sql())), (split /\|/, $before)[0], "$name does something");
    $session->query('ROLLBACK');
    is(state($session), $before, "$name is rolled back whole");
    $session->query("BEGIN; SAVEPOINT a; $sql; ROLLBACK TO a");
    is(state($session), $before, "$name is rolled back to a savepoint");
    $session->query("$sql; RELEASE a; SAVEPOINT b; ROLLBACK TO b; ROLLBACK");
    is(state($session), $before, "$name in a savepoint goes with the transaction");
    $session->query("DO \$do\$ BEGIN BEGIN EXECUTE \$sql\$$sql\$sql\$; RAISE division_by_zero;"
        . ' EXCEPTION WHEN division_by_zero THEN NULL; END; END $do$');
    is(state($session), $before, "$name is rolled back by an error");
    is(state($server), $before, "$name: another session sees nothing of it");
}

# Within one statement of the client, too, an aborted subtransaction leaves no trace in predictions.
is($server->query(<<"SQL"), 't|t', 'a block that refreshes predicts by the new parameters, and by the old after an error');
$quiet
CREATE TABLE seen (moment text, p float8);
DO \$\$ BEGIN
    INSERT INTO seen VALUES ('before', moe_ml.predict('m', 7));
    BEGIN
        PERFORM ddl('REFRESH MODEL m');
        INSERT INTO seen VALUES ('lost', moe_ml.predict('m', 7));
        RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN
        INSERT INTO seen VALUES ('restored', moe_ml.predict('m', 7));
    END;
    PERFORM ddl('REFRESH MODEL m');
    INSERT INTO seen VALUES ('refreshed', moe_ml.predict('m', 7));
END \$\$;
SELECT (SELECT p FROM seen WHERE moment = 'before') = (SELECT p FROM seen WHERE moment = 'restored'),
       (SELECT p FROM seen WHERE moment = 'before') <> (SELECT p FROM seen WHERE moment = 'refreshed');
SQL
$server->query($quiet . model_sql('CREATE OR REPLACE MODEL m'));

# Rows of one's own
is($server->query(<<"SQL" . model_sql('CREATE MODEL own') . <<'SQL2'), "1\nt\nf\nt", 'a transaction predicts for its own rows, and trains on them');
$quiet BEGIN;
INSERT INTO customers VALUES (1000, 'new', '2020-01-01');
INSERT INTO orders SELECT 1000 + i, 1000, timestamp '2020-01-01' + i * interval '9 hours', 1 FROM generate_series(1, 300) AS i;
SELECT count(*) FROM m WHERE customer_id = 1000;
SELECT moe_ml.predict('m', 1000) > 0;
SQL
;
SELECT (SELECT train_rows FROM moe_ml.model_relations WHERE name = 'own') > (SELECT train_rows FROM moe_ml.model_relations WHERE name = 'm');
ROLLBACK;
SQL2
is($server->query('SELECT moe_ml.predict(\'m\', 1000)'), '', 'which are gone after ROLLBACK');
for my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
    my $session = $server->session;
    $session->query("$quiet BEGIN ISOLATION LEVEL $level");
    my $bits = $session->query('SELECT ' . bits_sql('m'));
    $server->query('INSERT INTO orders SELECT 5000 + i, i, \'2020-04-23\', 1 FROM generate_series(1, 30) AS i');
    is($session->query('SELECT ' . bits_sql('m')), $bits, "$level: rows that came since change no prediction");
    $session->query(model_sql('CREATE MODEL n') . '; COMMIT');
    is($session->query("SELECT min(as_of) = '2020-04-23' FROM n"), 't', "$level: a model made in it is there afterwards");
    $server->query(ddl('DROP MODEL n') . '; DELETE FROM orders WHERE order_id > 5000');
}

# Others go on with the old parameters until a refresh commits; then it holds at once, as other DDL does.
{
    my ($reader, $writer) = ($server->session, $server->session);
    $_->query($quiet) for $reader, $writer;
    my $old = $reader->query('SELECT ' . bits_sql('m'));
    my $rows = 'SELECT p::text FROM m AS p';
    my $old_rows = join "\n", sort split /\n/, $reader->query($rows);
    $writer->query('BEGIN; ' . ddl('REFRESH MODEL m'));
    my $new = $writer->query('SELECT ' . bits_sql('m'));
    isnt($new, $old, 'a refresh changes predictions');
    is($reader->query('SELECT ' . bits_sql('m')), $old, 'but not those of others, while it is not committed');
    my $first_row = $reader->query("BEGIN; DECLARE c CURSOR FOR $rows; FETCH 1 FROM c");
    $writer->query('COMMIT');
    is(join("\n", sort $first_row, split /\n/, $reader->query('FETCH ALL FROM c')), $old_rows, 'an open cursor goes on with the old');
    is($reader->query('SELECT ' . bits_sql('m')), $new, 'and after the commit the new ones hold');
    $reader->query('COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
    $writer->query(model_sql('CREATE OR REPLACE MODEL m'));
    is($reader->query('SELECT ' . bits_sql('m')), $old, 'as they do in a transaction of REPEATABLE READ that had begun before');
}

# Two-phase commit
$server->query("$quiet BEGIN; " . model_sql('CREATE MODEL n') . "; PREPARE TRANSACTION 'kept'");
$server->query("$quiet BEGIN; " . model_sql('CREATE MODEL lost') . "; PREPARE TRANSACTION 'lost'");
is($server->query("SELECT count(*) FROM moe_ml.models"), '1', 'a prepared transaction shows nothing yet');
$server->query("COMMIT PREPARED 'kept'; ROLLBACK PREPARED 'lost'");
is($server->query('SELECT string_agg(name, \' \') FROM moe_ml.models; SELECT count(*) FROM n'), "m n\n30", 'then one model stays, one does not');
$server->query(ddl('DROP MODEL n'));
is_whole('after rollbacks');

# A cursor outlives its model's transaction
is($server->query("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT customer_id FROM m ORDER BY 1; COMMIT; "
    . "BEGIN; " . ddl('DROP MODEL m') . '; MOVE 29 IN c; FETCH c; ROLLBACK'), "DROP MODEL\n30", 'a held cursor');

# Two sessions: run $first in an open transaction, then $second beside it, which must wait; end the first by COMMIT or
# ROLLBACK, and look at what the second says.
sub beside
{
    my ($first, $second, $end, $check, $name) = @_;
    my ($a, $b) = ($server->session, $server->session);
    $_->query($quiet) for $a, $b;
    $a->query("BEGIN; $first");
    $b->send($second);
    ok($b->is_waiting, "$name: it waits");
    $a->query($end);
    my ($out, $err) = $b->answer;
    $check->($out, $err, $name);
    is_whole($name);
    return;
}

sub fails_with
{
    my ($pattern) = @_;
    return sub { like($_[1], $pattern, "$_[2]: then a clear error") };
}

sub answers
{
    my ($pattern) = @_;
    return sub { is($_[1], '', "$_[2]: then no error"); like($_[0], $pattern, "$_[2]: and an answer") };
}

my $create = model_sql('CREATE MODEL n');
beside($create, $create, 'COMMIT', fails_with(qr/ERROR:  relation "n" already exists.*HINT:.*CREATE OR REPLACE MODEL/s),
    'two sessions create one model');
is($server->query(ddl('DROP MODEL n')), 'DROP MODEL', 'and one model is there');
beside($create, $create, 'ROLLBACK', answers(qr/^f$/), 'two sessions create one model, the first rolls back');
$server->query(ddl('DROP MODEL n'));
beside('CREATE TABLE n ()', $create, 'COMMIT', fails_with(qr/ERROR:  duplicate key value violates unique constraint/),
    'a table of the model\'s name is being created');
$server->query('DROP TABLE n');
my $replace = model_sql('CREATE OR REPLACE MODEL m', seed => 3);
beside($replace, model_sql('CREATE OR REPLACE MODEL m', seed => 4), 'COMMIT', answers(qr/^f$/), 'two sessions replace one model');
is($server->query("SELECT options ->> 'seed' FROM moe_ml.model_relations"), '4', 'and the second one\'s stays');
beside(ddl('REFRESH MODEL m'), ddl('REFRESH MODEL m'), 'COMMIT', answers(qr/^REFRESH MODEL$/), 'two sessions refresh one model');
beside(ddl('DROP MODEL m'), ddl('REFRESH MODEL m'), 'ROLLBACK', answers(qr/^REFRESH MODEL$/), 'refreshing what is being dropped, but is not');
beside(ddl('ALTER MODEL m RENAME TO n'), ddl('REFRESH MODEL m'), 'COMMIT', fails_with(qr/ERROR:  model "m" does not exist.*HINT:  Did you mean model n\?/s),
    'refreshing what is being renamed');
$server->query(ddl('ALTER MODEL n RENAME TO m'));
beside(ddl('DROP MODEL m'), ddl('DROP MODEL m'), 'ROLLBACK', answers(qr/^DROP MODEL$/), 'two sessions drop one model');
$server->query($quiet . model_sql('CREATE MODEL m'));

# Predicting beside DDL
for my $case ([ 'SELECT count(*) FROM m', qr/ERROR:  relation "m" does not exist/ ],
    [ "SELECT moe_ml.predict('m', 7)", qr/ERROR:  model "m" does not exist/ ])
{
    my ($predict, $gone) = @$case;
    beside(ddl('DROP MODEL m'), $predict, 'ROLLBACK', answers(qr/^[\d.]+$/), "$predict while the model is being dropped, but is not");
    beside(ddl('DROP MODEL m'), $predict, 'COMMIT', fails_with($gone), "$predict while the model is being dropped");
    $server->query($quiet . model_sql('CREATE MODEL m'));
    beside('DROP TABLE orders', $predict, 'COMMIT',
        fails_with(qr/ERROR:  table "orders" of model "m" no longer exists.*HINT:.*REFRESH MODEL/s), "$predict while a table is being dropped");
    is_deeply([ map { ($_ =~ /ERROR:  (.*)/)[0] } errors(ddl('REFRESH MODEL m')) ], ['table "orders" does not exist'],
        'and REFRESH says what is missing');
    $server->query("DROP TABLE customers CASCADE;\n$quiet" . shop_sql() . model_sql('CREATE MODEL m'));
    beside('ALTER TABLE orders DROP COLUMN amount', $predict, 'COMMIT',
        fails_with(qr/ERROR:  table "orders" has changed.*Column "amount" no longer exists.*REFRESH MODEL/s), "$predict while a column is being dropped");
    $server->query("ALTER TABLE orders ADD COLUMN amount float8; UPDATE orders SET amount = order_id % 7; " . ddl('REFRESH MODEL m'));
    beside($predict, ddl('DROP MODEL m'), 'COMMIT', answers(qr/^DROP MODEL$/), "DROP MODEL while another has done $predict");
    $server->query($quiet . model_sql('CREATE MODEL m'));
    beside($predict, 'ALTER TABLE orders ALTER COLUMN amount TYPE numeric', 'ROLLBACK', answers(qr/^$/), "ALTER TABLE while another has done $predict");
    $server->query('ALTER TABLE orders ALTER COLUMN amount TYPE float8');
}

# Training beside DDL
beside('ALTER TABLE orders ADD COLUMN more int DEFAULT 1', ddl('REFRESH MODEL m'), 'COMMIT', answers(qr/^REFRESH MODEL$/), 'refreshing while a column is being added');
is($server->query('SELECT count(*) FROM m'), '30', 'and the model predicts');
beside('ALTER TABLE orders DROP COLUMN more', ddl('REFRESH MODEL m'), 'COMMIT', answers(qr/^REFRESH MODEL$/), 'refreshing while a column is being dropped');
is($server->query('SELECT count(*) FROM m'), '30', 'and the model predicts');
beside('DROP TABLE customers CASCADE', $create, 'COMMIT', fails_with(qr/ERROR:  table "customers" does not exist/), 'creating while the table is being dropped');
$server->query("DROP TABLE orders;\n$quiet" . shop_sql() . model_sql('CREATE MODEL m'));
beside($create, 'DROP TABLE customers', 'COMMIT',
    fails_with(qr/ERROR:  cannot drop table customers because other objects depend on it\nDETAIL:.*foreign table n depends on table customers/s),
    'dropping the table while a model of it is being created');
$server->query(ddl('DROP MODEL n'));

# A training that takes long can be cancelled while others wait for it, and leaves nothing.
{
    my ($trainer, $admin) = ($server->session, $server->session);
    $_->query($quiet) for $trainer, $admin;
    $trainer->send(model_sql('CREATE MODEL long', epochs => 10000, patience => 0, max_steps => 0));
    ok($trainer->is_in("state = 'active' AND EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = $trainer->{pid} AND relation = 'orders'::regclass)"),
        'a training holds its tables');
    is($server->query('SELECT count(*) FROM m; UPDATE orders SET amount = amount; SELECT count(*) FROM orders'), "30\n249",
        'others read and write them');
    $admin->send('ALTER TABLE orders ADD COLUMN more int');
    ok($admin->is_waiting, 'ALTER TABLE waits');
    is($server->query("SELECT pg_cancel_backend($trainer->{pid})"), 't', 'the training is cancelled');
    my (undef, $err) = $trainer->answer;
    like($err, qr/canceling statement due to user request/, 'and says so');
    is(($admin->answer)[1], '', 'ALTER TABLE goes on');
    $trainer->send(model_sql('CREATE MODEL long', epochs => 10000, patience => 0, max_steps => 0));
    $trainer->is_in("state = 'active'");
    $server->query("SELECT pg_terminate_backend($trainer->{pid}, 5000)");
    is($server->query('SELECT count(*) FROM moe_ml.model'), '1', 'a training whose session is terminated leaves nothing, too');
    is_whole('after cancelled trainings');
    $server->query('ALTER TABLE orders DROP COLUMN more');
}

# A deadlock ends in an error for one of the two.
{
    my ($a, $b) = ($server->session, $server->session);
    $_->query("$quiet BEGIN") for $a, $b;
    $a->query('LOCK TABLE orders IN ACCESS EXCLUSIVE MODE');
    $b->query(ddl('ALTER MODEL m RENAME TO n'));
    $b->send(ddl('REFRESH MODEL n'));
    ok($b->is_waiting, 'the one waits for a table');
    $a->send(ddl('DROP MODEL m'));
    my @errors = (($a->answer)[1], $a->query('ROLLBACK'), ($b->answer)[1]);
    like(join('', @errors), qr/ERROR:  deadlock detected/, 'while the other waits for the model: one is told of the deadlock');
    $b->query('ROLLBACK');
    is_whole('after a deadlock');
}

# Dependencies
like(errors('DROP TABLE customers'), qr/ERROR:  cannot drop table customers.*foreign table m depends on table customers/s,
    'dropping the table that is predicted for names the model');
like(errors('DROP EXTENSION moe_ml'), qr/ERROR:  cannot drop extension moe_ml.*foreign table m depends on server moe_ml/s,
    'as does dropping the extension');
$server->query('SET client_min_messages = warning; DROP TABLE customers CASCADE');
is($server->query('SELECT ' . join ', ', map { "(SELECT count(*) FROM moe_ml.$_)" } qw(model model_parameter model_epoch model_expert)),
    '0|0|0|0', 'CASCADE takes the model along, with all that it stored');
is_whole('at the end');
unlike($server->log, qr/PANIC|TRAP|terminated by signal/, 'the server never crashed');

done_testing();
