# Models leave the server: by pg_dump in its forms, by pg_upgrade, by streaming to a standby. What arrives predicts the same, bit for bit,
# and has the same owner, grants, comments and options.
use strict;
use warnings;
use File::Temp qw(tempdir);
use Test::More;
use Time::HiRes qw(sleep);
use MoeServer;
use MoeShop;

my $server = MoeServer->new('backup');
my $quiet = "SET moe_ml.notices = off;\nSET client_min_messages = warning;\n";
my @models = ('m', 'spend', 'home', 'own', '"Else; where".odd');
my $definitions = join ";\n", model_sql('CREATE MODEL m', seed => 3),
    model_sql('CREATE MODEL spend', query => 'PREDICT sum(orders.amount, 0, 12, days) FOR EACH customers WHERE count(orders.*, -60, 0, days) > 0'),
    model_sql('CREATE MODEL home', query => 'PREDICT customers.kind FOR EACH customers'),
    "SELECT moe_ml.execute('CREATE MODEL own PREDICT y FOR EACH customers AT at WITH (epochs = 1, ensembles = 1, channels = 8)
        AS SELECT customer_id, placed_at AS at, amount > 3 AS y FROM orders') IS NULL",
    model_sql('CREATE MODEL "Else; where".odd');
$server->query("$quiet CREATE EXTENSION moe_ml;\n" . shop_sql() . <<"SQL");
UPDATE customers SET kind = NULL WHERE customer_id % 5 = 0;
CREATE ROLE analyst; CREATE ROLE reader;
GRANT USAGE ON SCHEMA moe_ml TO analyst;
CREATE SCHEMA "Else; where";
ALTER TABLE orders ADD COLUMN shipped_at timestamp, ADD COLUMN weight float8;
UPDATE orders SET shipped_at = placed_at + interval '3 days', weight = order_id % 5;
SELECT moe_ml.declare('orders', 'weight', 'known at shipped_at'), moe_ml.declare('orders', 'placed_at', 'time');
$definitions;
GRANT SELECT ON customers, orders TO reader, analyst;
COMMENT ON FOREIGN TABLE m IS 'who leaves';
GRANT SELECT ON m, spend TO reader;
GRANT CREATE ON SCHEMA public TO analyst;
SELECT moe_ml.execute('ALTER MODEL spend OWNER TO analyst');
CREATE VIEW at_risk AS SELECT customer_id FROM m WHERE probability > 0.1;
SQL

# Predictions of all models; and what else a model is, without what an OID is in.
sub bits
{
    my ($on, @database) = @_;
    return join "\n", map { $on->query('SELECT ' . bits_sql($_), @database) } @models;
}
my $properties = q{SELECT r.schema, r.name, r.owner, c.relacl, obj_description(c.oid), to_jsonb(r) - 'relation',
    (SELECT string_agg(h::text, ',' ORDER BY h::text) FROM moe_ml.training_history AS h WHERE (h.schema, h.name) = (r.schema, r.name))
    FROM moe_ml.model_relations AS r JOIN pg_class AS c ON c.oid = r.relation ORDER BY 1, 2};
my $labels = 'SELECT objname, label FROM pg_seclabels ORDER BY 1';
my $bits = bits($server);
my $known = $server->query("$properties; $labels");
like($known, qr/analyst=arwdDxt.*reader=r.*known at shipped_at/s, 'there are grants and declarations');

# Dump a database of this server, or die.
sub dump_of
{
    my ($status, $out, $err) = $server->program('pg_dump', [@_]);
    is($status, 0, "pg_dump @_") or diag($err);
    return $out;
}

sub is_restored_on
{
    my ($on, $name, @database) = @_;
    is(bits($on, @database), $bits, "$name: predictions are the same, bit for bit");
    is($on->query("$properties; $labels", @database), $known, "$name: so are owners, grants, comments, options, history and declarations");
    is($on->query(broken_sql(), @database), '', "$name: every model is whole");
    return;
}

sub is_restored
{
    my ($database, $name) = @_;
    return is_restored_on($server, $name, '-d', $database);
}

# Plain, into a fresh database
my $plain = dump_of('postgres');
$server->query('CREATE DATABASE plain');
{
    my ($status, undef, $err) = $server->program('psql', [ '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', 'plain' ], $plain);
    is($status, 0, 'psql restores it') or diag($err);
    is($err, '', 'without a word');
    is_restored('plain', 'a plain dump');
    is($server->query('SELECT count(*) > 0 FROM at_risk', '-d', 'plain'), 't', 'a view over a model works');
    is((sort { $a cmp $b } $server->query("SET ROLE reader; SELECT count(*) FROM m", '-d', 'plain'))[0], '30', 'and so does a grant');
    my (undef, undef, $refused) = $server->psql('SET ROLE reader; SELECT count(*) FROM home', '-d', 'plain');
    like($refused, qr/permission denied for foreign table home/, 'what was not granted is not');
    my $refresh = "$quiet SELECT moe_ml.execute('REFRESH MODEL m') IS NULL; SELECT " . bits_sql('m') . ';';
    is($server->query($refresh, '-d', 'plain'), $server->query("BEGIN; $refresh ROLLBACK"), 'it is refreshed to the same model');
    like(($server->psql('DROP TABLE customers', '-d', 'plain'))[2], qr/foreign table m depends on table customers/,
        'after which the table\'s DROP names it again');
    $server->query("SET client_min_messages = warning; DROP FOREIGN TABLE home; SELECT moe_ml.execute('DROP MODEL own') IS NULL", '-d', 'plain');
    is($server->query(broken_sql(), '-d', 'plain'), '', 'restored models are dropped with what they stored');
}

# No OID of an object of this database stands in the models' stored rows. (That a database with other OIDs predicts the
# same says so of the bytes of parameters.)
{
    my %oid = map { $_ => 1 } split /\n/, $server->query('SELECT oid FROM pg_class WHERE oid >= 16384 UNION SELECT oid FROM pg_type WHERE oid >= 16384
        UNION SELECT oid FROM pg_constraint WHERE oid >= 16384 UNION SELECT oid FROM pg_namespace WHERE oid >= 16384 UNION SELECT oid FROM pg_roles WHERE oid >= 16384');
    my @blocks = $plain =~ /^(COPY moe_ml\..*?^\\\.$)/gms;
    is(scalar(@blocks), 4, 'four tables are dumped');
    my @found = grep { $oid{$_} } map { /(?<![\w.-])(\d+)(?![\w.-])/g } @blocks;
    is("@found", '', 'no OID is among their values');
}

# Custom format, parallel: several sessions, so the declarations need the library to be loaded by each.
{
    my $folder = tempdir(CLEANUP => 1);
    dump_of('-Fc', '-f', "$folder/dump", 'postgres');
    $server->query('CREATE DATABASE parallel; ALTER DATABASE parallel SET session_preload_libraries = moe_ml');
    my ($status, undef, $err) = $server->program('pg_restore', [ '-j', '3', '-d', 'parallel', "$folder/dump" ]);
    is("$status $err", '0 ', 'pg_restore -j restores it');
    is_restored('parallel', 'a parallel restore');
    ($status, undef, $err) = $server->program('pg_restore', [ '--clean', '--if-exists', '--single-transaction', '-d', 'parallel', "$folder/dump" ]);
    is("$status $err", '0 ', 'pg_restore --clean restores it over itself');
    is_restored('parallel', 'a restore over itself');
}

# Without data, or one model alone: what is missing is said.
{
    $server->query('CREATE DATABASE bare');
    my ($status, undef, $err) = $server->program('psql', [ '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', 'bare' ], dump_of('--schema-only', 'postgres'));
    is("$status $err", '0 ', 'a dump without data is restored');
    (undef, undef, $err) = $server->psql('SELECT * FROM m', '-d', 'bare');
    like($err, qr/ERROR:  what model "m" learned is not stored\n.*HINT:  Restore the data of schema moe_ml/s, 'and a model without its data says so');
    ($status, undef, $err) = $server->program('psql', [ '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', 'bare' ],
        dump_of('--data-only', '--disable-triggers', 'postgres'));
    is($status, 0, 'the data may come afterwards') or diag($err);
    is_restored('bare', 'schema and data in two dumps');
}

# pg_upgrade, here to the same version; databases other than the one with all the models would only take time
{
    $server->query("DROP DATABASE $_") for qw(plain parallel bare);
    my $upgraded = MoeServer->new('backup_upgraded');
    $_->stop for $server, $upgraded;
    is(system('test/server', 'upgrade', 'backup', 'backup_upgraded'), 0, 'pg_upgrade takes the server over');
    $upgraded->start;
    is_restored_on($upgraded, 'pg_upgrade');
    is($upgraded->query("SELECT moe_ml.execute('REFRESH MODEL m')"), 'REFRESH MODEL', 'and trains');
    $server->start;
}

# A standby
{
    my $standby = MoeServer->standby('backup_standby', $server);
    my $catch_up = sub {
        my $lsn = $server->query('SELECT pg_current_wal_lsn()');
        for (1 .. 200)
        {
            return if $standby->query("SELECT pg_last_wal_replay_lsn() >= '$lsn'") eq 't';
            sleep 0.05;
        }
        die 'the standby does not catch up';
    };
    is($standby->query('SELECT pg_is_in_recovery()'), 't', 'the standby stands by');
    is(bits($standby), $bits, 'it predicts the same, bit for bit');
    is($standby->query("$properties; $labels"), $known, 'and shows the same models');
    is($standby->query("SELECT moe_ml.predict('m', 7)"), $server->query("SELECT moe_ml.predict('m', 7)"), 'by the function, too');
    is($standby->query("SELECT * FROM moe_ml.explain('m', 7)"), $server->query("SELECT * FROM moe_ml.explain('m', 7)"), 'explains');
    is($standby->query("SELECT * FROM moe_ml.evaluate('m')"), $server->query("SELECT * FROM moe_ml.evaluate('m')"), 'and evaluates');
    for my $statement ('CREATE MODEL n PREDICT count(orders.*, 0, 12, days) = 0 FOR EACH customers', 'CREATE OR REPLACE MODEL m PREDICT count(orders.*, 0, 12, days) FOR EACH customers',
        'REFRESH MODEL m', 'DROP MODEL m', 'ALTER MODEL m RENAME TO n')
    {
        my ($tag) = $statement =~ /(\w+ (?:OR REPLACE )?MODEL)/;
        $tag =~ s/OR REPLACE //;
        my (undef, undef, $err) = $standby->psql("SELECT moe_ml.execute('$statement')");
        like($err, qr/ERROR:  cannot execute $tag in a read-only transaction/, "$statement is refused");
    }
    $server->query("$quiet SELECT moe_ml.execute('REFRESH MODEL m'); INSERT INTO orders SELECT 900 + i, i, '2020-04-23', 2 FROM generate_series(1, 20) AS i");
    $catch_up->();
    isnt(bits($standby), $bits, 'a refresh reaches it');
    is(bits($standby), bits($server), 'and it predicts the same again');
    my $reader = $standby->session;
    $reader->query('BEGIN; SELECT count(*) FROM spend');
    $server->query("SELECT moe_ml.execute('DROP MODEL spend')");
    $catch_up->();
    my $gone = (eval { $reader->query('SELECT count(*) FROM spend') } // $@);
    like($gone, qr/conflict with recovery|server closed the connection/, 'what is dropped there goes here, from under whoever reads it');
    like(($standby->psql('SELECT count(*) FROM spend'))[2], qr/relation "spend" does not exist/, 'and is gone');
    is($standby->query(broken_sql()), '', 'every model on the standby is whole');
    $server->stop('immediate');
    $standby->query('SELECT pg_promote()');
    @models = grep { $_ ne 'spend' } @models;
    my $promoted = bits($standby);
    is($standby->query("$quiet SELECT moe_ml.execute('REFRESH MODEL m')"), 'REFRESH MODEL', 'promoted, it trains');
    isnt(bits($standby), $promoted, 'and predicts by it');
    unlike($_->log, qr/PANIC|TRAP|terminated by signal/, 'no process crashed') for $server, $standby;
}

done_testing();
