# CREATE MODEL and its kin as statements of their own: every way a statement reaches the server's parser, and every
# statement that must pass it unchanged. Nothing here trains: the statements drop models that do not exist.
use strict;
use warnings;
use utf8;
use Test::More;
use IPC::Run qw(run);
use MoeServer;

my $server = MoeServer->new('parser', shared_preload_libraries => 'moe_ml', log_min_messages => 'warning');
my $drop = 'DROP MODEL IF EXISTS no_such';
my $absent = qr/no_such/;

# The error output of SQL that must fail.
sub fails
{
    my ($sql, @arguments) = @_;
    my ($status, undef, $err) = $server->psql($sql, @arguments);
    return $status == 0 ? '(no error)' : $err;
}

# The column, counted in characters from 0, under which psql put its caret, and the line that it shows.
sub caret
{
    my ($err) = @_;
    utf8::decode($err);
    return '' unless $err =~ /^(LINE \d+: )(.*)\n( *)\^/m;
    return substr($2, length($3) - length($1));
}

unlike($server->log, qr/moe_ml:/, 'nothing is logged when all is well');

# Before the extension exists
like(fails("$drop;"), qr/ERROR:  extension "moe_ml" is not created in this database\nHINT:  Use CREATE EXTENSION moe_ml/,
    'a database without the extension says so');
is($server->query("DO \$\$ BEGIN IF false THEN $drop; END IF; END \$\$; SELECT 1"), '1',
    'a statement that is not reached needs no extension');
is($server->query("CREATE EXTENSION moe_ml\\; $drop\\; SELECT 1;"), '1', 'the extension may be created in the same string');
like($server->query('SELECT moe_ml.parser_status()'), qr/^active: \d+ calls of the server, and those of PL\/pgSQL$/,
    'parser_status() says that the parser is redirected');

# Simple protocol
is($server->query("$drop;"), '', 'the statement runs');
is($server->query("-- a\n/* b; */ drop /* c */ MODEL -- d;\n if exists no_such /* e */;"), '', 'comments may stand anywhere');
is($server->query("SELECT 1\\; $drop\\; SELECT ';'\\; $drop\\; SELECT 3;"), "1\n;\n3", 'several statements in one string');
is($server->query("$drop\\; SELECT 2;"), '2', 'ours first');
is($server->query("SELECT 2\\; $drop;"), '2', 'ours last');
is($server->query(";\\;$drop\\;\\; ;"), '', 'empty statements');
{
    my ($out, $err) = ('', '');
    run [ 'test/server', 'psql', 'parser', '-qAt', '-c', "SELECT 1; $drop; SELECT 2" ], \undef, \$out, \$err;
    is($out, "1\n2\n", 'psql -c with several statements');
}
is($server->query("drop/**/model if exists no_such\\; DROP--\nMODEL IF EXISTS no_such\\;\tDrop\t\r\n MODEL\nIF EXISTS no_such;"), '',
    'whatever stands between the words');
is($server->query("DO E'BEGIN DROP\\nMODEL IF EXISTS no_such; END'"), '', 'also an escape, in the text of a block');
is($server->query("BEGIN; SAVEPOINT a; $drop; ROLLBACK TO a; $drop; COMMIT; SELECT 1"), '1', 'within a transaction');

# Failed transactions: parsing must not look at the catalog
{
    my ($status, $out, $err) = $server->psql("\\set ON_ERROR_STOP 0\nBEGIN; SELECT 1/0; $drop; DROP MODEL 1;\n"
          . "ROLLBACK\\; $drop\\; SELECT 'after';");
    like($err, qr/current transaction is aborted.*syntax error at or near "1"/s, 'a failed transaction refuses it, after its syntax');
    is($out, 'after', 'ROLLBACK and ours in one string');
}

# Positions
is(caret(fails('CREATE MODEL m PREDICT t.x FOR EACH 1;')), '1;', 'a syntax error has a caret');
is(caret(fails("SELECT 'äöü'\\; CREATE MODEL m PREDICT t.x FOR EACH 1;")), '1;', 'counted in characters');
is(caret(fails("SELECT 'äöü' x y\\; $drop;")), "y; $drop;", 'and so are those of statements beside ours');
is(caret(fails("$drop\\; SELECT no_column;")), 'no_column;', 'also when they are found later');
is(caret(fails("SELECT 'ä'\\; CREATE MODEL m PREDICT t.x RANK FOR EACH t;")), 'RANK FOR EACH t;',
    'what is not supported yet');
is(caret(fails("/* model */ SELECT 'x")), "'x", 'an unterminated string is the server\'s own error');
like(fails('CREATE TABLE modelled (a no_type);'), qr/^psql[^\n]*type "no_type" does not exist\nLINE 1: CREATE TABLE modelled \(a no_type\);\n/,
    'the word alone changes nothing');

# Extended protocol
for my $mode ('extended', 'prepared')
{
    chomp(my $work = `test/server work`);
    open my $file, '>', "$work/parser.pgbench" or die $!;
    print $file "$drop;\nSELECT 1;\n";
    close $file;
    my ($out, $err) = ('', '');
    run [ $server->bin_dir . '/pgbench', '-n', '-M', $mode, '-t', '3', '-h', $server->socket_dir, '-U', 'postgres',
        '-f', "$work/parser.pgbench", 'postgres' ], \undef, \$out, \$err;
    is($?, 0, "pgbench -M $mode ends well") or diag($err);
    like($out, qr{number of transactions actually processed: 3/3}, 'and ran every statement') or diag($err);
}

# PL/pgSQL, SQL functions
is($server->query("DO \$\$ BEGIN $drop; END \$\$"), '', 'a plain statement in a DO block');
is($server->query("DO \$\$ BEGIN EXECUTE '$drop'; EXECUTE format('DROP MODEL IF EXISTS %I', 'X y'); END \$\$"), '', 'EXECUTE');
is($server->query(<<"SQL"), "a\na", 'a function, called twice');
CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN $drop; IF true THEN $drop; END IF; RETURN 'a'; END \$\$;
SELECT f(); SELECT f();
SQL
is(caret(fails("CREATE FUNCTION g() RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN\n DROP MODEL 1; END \$\$;")), '1; END $$;',
    'a syntax error is found when the function is created');
like(fails("SET check_function_bodies = off; CREATE FUNCTION g() RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN DROP MODEL 1; END \$\$; SELECT g();"),
    qr/syntax error at or near "1"\nLINE 1: DROP MODEL 1\n +\^\nQUERY:  DROP MODEL 1\nCONTEXT:  PL\/pgSQL function g\(\)/,
    'or when it runs, with the statement as the query');
is($server->query("CREATE FUNCTION h() RETURNS int LANGUAGE sql AS '$drop; SELECT 5'; SELECT h();"), '5', 'a function in SQL');
is($server->query("DO \$\$ BEGIN $drop; EXCEPTION WHEN OTHERS THEN RAISE; END \$\$"), '', 'in a block with a handler');

# The other doors are there too
is($server->query("SELECT moe_ml.execute('$drop')"), 'DROP MODEL', 'the function');
is($server->query("DO LANGUAGE moe_ml \$\$ $drop; $drop \$\$"), '', 'the language');

# What only looks like ours
is($server->query(<<'SQL'), "1\n7\n1", 'the word as a name');
CREATE TABLE model (model int); INSERT INTO model VALUES (1); SELECT model AS model FROM model AS model;
CREATE FUNCTION model() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 7 AS model; END;
SELECT model();
CREATE RULE model AS ON UPDATE TO model DO ALSO (DELETE FROM model WHERE false; INSERT INTO model SELECT 2 WHERE false);
SELECT count(*) FROM model;
SQL
is($server->query("CREATE OR REPLACE FUNCTION model() RETURNS int BEGIN ATOMIC SELECT 8; SELECT 9; END\\; $drop\\; SELECT model();"),
    '9', 'a body of BEGIN ATOMIC beside ours');
is($server->query("CREATE MATERIALIZED VIEW model_view AS SELECT 1 AS a; REFRESH MATERIALIZED VIEW model_view; TABLE model_view"),
    '1', 'REFRESH MATERIALIZED VIEW');
is($server->query("SELECT 'a'::pg_catalog.text /* model */, 'DROP MODEL x; DROP MODEL y'"), 'a|DROP MODEL x; DROP MODEL y', 'strings');
my ($status, undef, $err) = $server->psql(
    "SELECT 1 AS a23456789_123456789_123456789_123456789_123456789_123456789_1234 -- model\n;");
is(() = $err =~ /will be truncated/g, 1, 'a long name is noticed once');
($status, undef, $err) = $server->psql("$drop\\; SELECT 1 AS a23456789_123456789_123456789_123456789_123456789_123456789_1234;");
is(() = $err =~ /will be truncated/g, 1, 'beside ours, too');
is($server->query("SET standard_conforming_strings = off; SET escape_string_warning = off;\nSELECT 'it\\'s; DROP MODEL x; ';"),
    "it's; DROP MODEL x; ", 'strings as the session reads them');

# Ordinary users
$server->query('CREATE ROLE plain LOGIN');
{
    local $ENV{PGUSER} = 'plain';
    is($server->query("$drop; SELECT moe_ml.execute('$drop'); DO LANGUAGE moe_ml '$drop'"), 'DROP MODEL', 'anyone may use the doors');
}

# What the processes inherit: nothing is writable and executable
{
    my $maps = $server->query("SELECT pg_read_file('/proc/self/maps', 0, 1000000)");
    unlike($maps, qr/ rwx/, 'no page is writable and executable');
}

# Switched off, or not preloaded
$server->stop;
$server->start('moe_ml.bare_statements=off');
like(fails("$drop;"), qr/syntax error at or near "MODEL"/, 'switched off, the statement is unknown');
is($server->query('SELECT moe_ml.parser_status()'), 'inactive: moe_ml.bare_statements is off', 'and parser_status() says why');
is($server->query("SELECT moe_ml.execute('$drop')"), 'DROP MODEL', 'the other doors stay');
$server->stop;
$server->start('shared_preload_libraries=');
is($server->query("SELECT moe_ml.parser_status(); SHOW moe_ml.bare_statements"),
    "inactive: moe_ml is not in shared_preload_libraries\noff", 'without preloading');

done_testing();
