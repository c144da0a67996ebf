# A model leaves its database as bytes and arrives in another: it predicts the same, bit for bit; bytes that are cut, spoilt or
# forged arrive nowhere.
use strict;
use warnings;
no warnings 'portable'; # 64-bit hexadecimal numbers
use Test::More;
use MoeServer;
use MoeShop;

my $server = MoeServer->new('export');
my $quiet = "SET moe_ml.notices = off;\nSET client_min_messages = warning;\n";
my $setup = "$quiet CREATE EXTENSION moe_ml;\n" . shop_sql() . "UPDATE customers SET kind = NULL WHERE customer_id % 5 = 0;\nCREATE SCHEMA shop;\n";
my %models = (
    m     => model_sql('CREATE MODEL m', seed => 3, ensembles => 2),
    spend => model_sql('CREATE MODEL spend', query => 'PREDICT sum(orders.amount, 0, 12, days) FOR EACH customers WHERE count(orders.*, -60, 0, days) > 0'),
    home  => model_sql('CREATE MODEL home', query => 'PREDICT customers.kind FOR EACH customers'),
    own   => "SELECT moe_ml.execute('CREATE MODEL own PREDICT y FOR EACH customers AT at WITH (epochs = 1, ensembles = 1, channels = 8)
        AS SELECT customer_id, placed_at AS at, amount > 3 AS y FROM orders') IS NULL");
$server->query("$setup CREATE ROLE analyst; CREATE ROLE reader; CREATE ROLE maker;" . join(";\n", values %models));
$server->query("CREATE DATABASE elsewhere");
$server->query($setup, '-d', 'elsewhere');

my %bytes = map { $_ => $server->query("SELECT moe_ml.export_model('$_')") } keys %models;
my $properties = q{SELECT to_jsonb(r) - 'relation' - 'id' - 'created_at' - 'schema' - 'name', (SELECT string_agg(to_jsonb(h)::text, ',' ORDER BY h.ensemble, h.epoch)
    FROM moe_ml.training_history AS h WHERE h.name = r.name), (SELECT string_agg(e::text, ',' ORDER BY e::text) FROM moe_ml.experts('%s') AS e)
    FROM moe_ml.model_relations AS r WHERE r.relation = '%s'::regclass};

# Import, as a statement, at most so many bytes or with others.
sub import_sql
{
    my ($name, $hex) = @_;
    return "$quiet SELECT moe_ml.import_model('$name', '$hex')";
}

for my $model (sort keys %models)
{
    my ($status, $out, $err) = $server->psql(import_sql($model, $bytes{$model}), '-d', 'elsewhere');
    is("$status $err", '0 ', "$model is imported");
    my @there = ('-d', 'elsewhere');
    is($server->query('SELECT ' . bits_sql($model), @there), $server->query('SELECT ' . bits_sql($model)), 'and predicts the same, bit for bit');
    my $known = $properties =~ s/%s/$model/gr;
    is($server->query($known, @there), $server->query($known), 'its definition, queries, options, history and experts are the same');
    my $evaluate = "$quiet SELECT * FROM moe_ml.evaluate('$model')";
    is($server->query($evaluate, @there), $server->query($evaluate), 'it is evaluated to the same');
    is($server->query("SELECT moe_ml.export_model('$model')", @there), $bytes{$model}, 'and exported to the same bytes');
    my $refresh = "$quiet SELECT moe_ml.execute('REFRESH MODEL $model'); SELECT " . bits_sql($model) . ';';
    is($server->query("BEGIN; $refresh ROLLBACK", @there), $server->query("BEGIN; $refresh ROLLBACK"), 'and refreshed to the same model');
}
is($server->query(broken_sql(), '-d', 'elsewhere'), '', 'every imported model is whole');
like(($server->psql('DROP TABLE customers', '-d', 'elsewhere'))[2], qr/foreign table m depends on table customers/, 'dropping the table names them');
is($server->query("$quiet SELECT moe_ml.execute('DROP MODEL home')", '-d', 'elsewhere'), 'DROP MODEL', 'an imported model is dropped');

# Names
{
    my @there = ('-d', 'elsewhere');
    like(($server->psql(import_sql('m', $bytes{m}), @there))[2], qr/relation "m" already exists.*HINT:  Import it under another name/s, 'a name that is taken is refused');
    is($server->query(import_sql('shop."Odd name"', $bytes{m}), @there), '', 'another schema and name will do');
    is($server->query('SELECT ' . bits_sql('shop."Odd name"'), @there), $server->query('SELECT ' . bits_sql('m')), 'with the same predictions');
    like(($server->psql(import_sql('nowhere.m', $bytes{m}), @there))[2], qr/schema "nowhere" does not exist/, 'but not a schema that there is not');
    like(($server->psql(import_sql('pg_temp.m', $bytes{m}), @there))[2], qr/a model cannot be temporary/, 'nor a temporary one');
    is($server->query("BEGIN; " . import_sql('gone', $bytes{m}) . "; ROLLBACK; SELECT count(*) FROM moe_ml.models WHERE name = 'gone'", @there), "\n0", 'an import is rolled back');
    like(($server->psql("BEGIN READ ONLY; " . import_sql('gone', $bytes{m}), @there))[2], qr/cannot execute moe_ml.import_model\(\) in a read-only transaction/, 'and is a write');
}

# Rights
{
    $server->query('GRANT SELECT ON m TO reader; GRANT SELECT ON customers, orders TO reader, maker; GRANT USAGE ON SCHEMA moe_ml TO maker, reader; GRANT CREATE ON SCHEMA shop TO maker, analyst; GRANT USAGE ON SCHEMA shop, moe_ml TO analyst');
    like(($server->psql("SET ROLE reader; SELECT moe_ml.export_model('m')"))[2], qr/must be owner of model m/, 'who may ask a model may not take it along');
    like(($server->psql("SELECT moe_ml.export_model('n')"))[2], qr/model "n" does not exist/, 'a model that is not there is not exported');
    like(($server->psql("SELECT moe_ml.export_model('orders')"))[2], qr/"orders" is not a model/, 'nor is a table');
    my $into = sub { ($server->psql("SET ROLE $_[0]; " . import_sql($_[1], $bytes{m})))[2] };
    like($into->('maker', 'public.n'), qr/permission denied for schema public/, 'importing needs CREATE on the schema');
    like($into->('analyst', 'shop.n'), qr/permission denied for column "customer_id" of table "customers"/, 'SELECT on the tables');
    $server->query('REVOKE USAGE ON FOREIGN SERVER moe_ml FROM PUBLIC');
    like($into->('maker', 'shop.n'), qr/permission denied to create models/, 'and USAGE on the server');
    $server->query('GRANT USAGE ON FOREIGN SERVER moe_ml TO maker');
    is($into->('maker', 'shop.n'), '', 'with these, anyone may');
    is($server->query("SELECT owner FROM moe_ml.model_relations WHERE name = 'n'"), 'maker', 'and owns the model');
    is($server->query("SELECT count(*) FROM moe_ml.models WHERE name = 'n'; GRANT USAGE ON SCHEMA shop TO maker; SET ROLE maker; SELECT octet_length(moe_ml.export_model('shop.n')) > 0"), "1\nt", 'which the owner may export');
}

# Tables that do not fit
{
    my @there = ('-d', 'unlike');
    $server->query('CREATE DATABASE unlike');
    $server->query('CREATE EXTENSION moe_ml', @there);
    my $say = sub { ($server->psql(import_sql('m', $bytes{m}), @there))[2] };
    like($say->(), qr/ERROR:  the tables of this database do not fit model "m"\nDETAIL:  public.customers: There is no such table.\npublic.orders: There is no such table.\nHINT/, 'all missing tables are named');
    $server->query("$quiet " . shop_sql() . 'ALTER TABLE orders DROP COLUMN placed_at CASCADE, ALTER COLUMN amount TYPE text; ALTER TABLE customers RENAME COLUMN kind TO sort', @there);
    like($say->(), qr/public.customers: Column "kind" no longer exists.\npublic.orders: Column "placed_at" no longer exists.\npublic.orders: The type of column "amount" was double precision and is now text/, 'so are all columns');
    $server->query('DROP TABLE orders; CREATE SEQUENCE orders', @there);
    like($say->(), qr/public.orders: It is no longer a table or view/, 'and what is no table');
    is($server->query('SELECT count(*) FROM moe_ml.models', @there), 0, 'nothing is left of it');
    $server->query("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    $server->query("$quiet CREATE EXTENSION moe_ml; " . shop_sql(), '-d', 'latin');
    like(($server->psql(import_sql('m', $bytes{m}), '-d', 'latin'))[2], qr/exported from a database of encoding UTF8; this one has LATIN1/, 'an encoding of its own is told');
}

# Bytes that are cut or spoilt: every one is refused. The bytes are taken from a table, so that it is quick.
$server->query("CREATE TABLE exported AS SELECT moe_ml.export_model('m') AS data; " . <<'SQL');
CREATE FUNCTION attempt(data bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM moe_ml.import_model('spoilt', data);
    EXECUTE 'SELECT count(*) FROM spoilt';
    RAISE EXCEPTION USING ERRCODE = 'P0099';
EXCEPTION WHEN invalid_binary_representation THEN
    RETURN 'refused';
WHEN SQLSTATE 'P0099' THEN
    RETURN 'imported';
WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SQL
is($server->query('SELECT DISTINCT attempt(substr(data, 1, n)) FROM exported, generate_series(0, 200) AS n'), 'refused', 'the first bytes are no model');
is($server->query('SELECT DISTINCT attempt(substr(data, 1, n)) FROM exported, generate_series(0, octet_length(data) - 1, greatest(octet_length(data) / 300, 1)) AS n'), 'refused', 'nor is any other beginning');
is($server->query('SELECT DISTINCT attempt(set_bit(data, b, 1 - get_bit(data, b))) FROM exported, generate_series(0, 28 * 8 - 1) AS b'), 'refused', 'a bit of the header turned is found');
is($server->query('SELECT DISTINCT attempt(set_bit(data, b::bigint, 1 - get_bit(data, b::bigint))) FROM exported, generate_series(224, octet_length(data)::bigint * 8 - 1, greatest(octet_length(data)::bigint * 8 / 300, 1)) AS b'), 'refused', 'and any other');
is($server->query("SELECT attempt(data || '\\x00'), attempt(''), attempt('\\x00'), attempt(data || data) FROM exported"), 'refused|refused|refused|refused', 'so are more bytes, and none');
like(($server->psql("SELECT moe_ml.import_model('spoilt', substr(data, 1, 1000)) FROM exported"))[2], qr/ERROR:  the exported model is not complete\nHINT:  Export the model again/, 'the hint says what to do');
like(($server->psql("SELECT moe_ml.import_model('spoilt', 'hello')"))[2], qr/the bytes are not an exported model/, 'and the message what is wrong');

# Forged bytes: both checksums are made to match, so that what stands behind them is on its own.
sub mix
{
    use integer;
    my $x = $_[0] + 0x9e3779b97f4a7c15;
    $x = ($x ^ (($x >> 30) & 0x3FFFFFFFF)) * 0xbf58476d1ce4e5b9;
    $x = ($x ^ (($x >> 27) & 0x1FFFFFFFFF)) * 0x94d049bb133111eb;
    return $x ^ (($x >> 31) & 0x1FFFFFFFF);
}

sub hash_of
{
    my ($bytes, $key) = @_;
    my $length = length $bytes;
    my $hash = mix($key ^ mix($length));
    $hash = mix($hash ^ $_) for unpack 'q<*', $bytes . "\0" x (-$length % 8);
    return $hash;
}

# Make lengths and checksums of exported bytes match their content.
sub sealed
{
    my ($bytes) = @_;
    my $inner = index $bytes, "moe_ml\r\n";
    my $head = sub { my ($at, $key) = @_; my $content = substr $bytes, $at + 28; substr $bytes, $at + 12, 16, pack 'q<q<', length $content, hash_of($content, $key); };
    if ($inner >= 0)
    {
        $head->($inner, 0x6d6f655f6d6c0001);
        substr $bytes, $inner - 8, 8, pack 'q<', length($bytes) - $inner;
    }
    $head->(0, 0x6d6f655f65787001);
    return $bytes;
}

sub raw { return pack 'H*', substr $_[0], 2 }
sub hex_of { return '\x' . unpack 'H*', $_[0] }
is(hex_of(sealed(raw($bytes{$_}))), $bytes{$_}, "the checksums of $_ are understood") for sort keys %bytes;

# SQL that others would run is the definition's, whatever the bytes say.
{
    my $bytes = raw($bytes{spend});
    $server->query("CREATE FUNCTION evil() RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''evil''; END'");
    for my $column (qw(population history_query training_query))
    {
        my $sql = $server->query("SELECT $column FROM moe_ml.model_relations WHERE name = 'spend'");
        my $evil = 'SELECT customer_id FROM public.customers WHERE public.evil()';
        my $at = index $bytes, pack('q<', length $sql) . $sql;
        cmp_ok($at, '>', 0, "$column stands in the bytes");
        substr $bytes, $at, 8 + length $sql, pack('q<', length $evil) . $evil;
    }
    is($server->query(import_sql('shop.forged', hex_of(sealed($bytes)))), '', 'a model with SQL of its maker is imported');
    is($server->query('SELECT ' . bits_sql('shop.forged')), $server->query('SELECT ' . bits_sql('spend')), 'without that SQL');
    my $sql = "SELECT concat_ws('; ', population, history_query, training_query) FROM moe_ml.model_relations WHERE name";
    is($server->query("$sql = 'forged'"), $server->query("$sql = 'spend'"), 'which is stored nowhere');
}

# Any bit turned, or a word of eight bytes replaced, behind matching checksums
{
    my $seed = $ENV{MOE_ML_SEED} // 1;
    my $trials = $ENV{MOE_ML_FORGERIES} // 60;
    note("seed $seed");
    srand $seed;
    my @words = (0, -1, 1, 0x7FFFFFFFFFFFFFFF, -0x7FFFFFFFFFFFFFFF, 0x7FFFFFFF, 0x100000000, 0x7FF8000000000000, 0x7FF0000000000000, 1000000);
    my %outcome;
    for my $model (sort keys %bytes)
    {
        my $whole = raw($bytes{$model});
        my $inner = index $whole, "moe_ml\r\n";
        for my $first (1 .. $trials / 20)
        {
            my @forged;
            for my $trial (1 .. 20)
            {
                my $bytes = $whole;
                # Every other one in the record, which is small beside the parameters.
                my $at = 28 + int rand($trial % 2 ? $inner - 36 : length($whole) - 36);
                if ($trial % 4 < 2) { vec($bytes, $at * 8 + int rand 8, 1) ^= 1; }
                else { substr $bytes, $at, 8, pack 'q<', $words[rand @words]; }
                push @forged, hex_of(sealed($bytes));
            }
            my $calls = join ",\n", map { "attempt('$_')" } @forged;
            my ($status, $out, $err) = $server->psql("SET moe_ml.notices = off; SET client_min_messages = error; SELECT unnest(ARRAY[$calls])");
            is($status, 0, "$model: forged bytes do not break the session") or diag("$err");
            $outcome{s/(stored row of |"[^"]*"|\d{3,}).*//r =~ /^(imported|refused|\w{5} )/ ? $1 : $_}++ for split /\n/, $out;
        }
    }
    note(join ', ', map { "$_: $outcome{$_}" } sort keys %outcome);
    ok(!exists $outcome{'XX000 '}, 'none ends in an internal error');
    cmp_ok($outcome{refused} // 0, '>', 0, 'some are refused');
    unlike($server->log, qr/PANIC|TRAP|terminated by signal/, 'no process crashed');
    is($server->query(broken_sql()), '', 'and no half of a model is left');
}

done_testing();
