# Tables change after a model was trained on them. Where a prediction can go on, it does, with the same bits; where not, the
# error names the model, says what has changed, and that REFRESH MODEL learns it; and REFRESH does.
use strict;
use warnings;
use Test::More;
use MoeServer;
use MoeShop;

my $server = MoeServer->new('changes');
my $quiet = "SET moe_ml.notices = off;\nSET client_min_messages = warning;\n";
$server->query("$quiet CREATE EXTENSION moe_ml;\n" . shop_sql() . <<'SQL' . model_sql('CREATE MODEL m', query =>
CREATE SCHEMA elsewhere;
CREATE TABLE notes (note_id int PRIMARY KEY, order_id int REFERENCES orders, body text, at timestamp, spare int);
INSERT INTO notes SELECT i, i, 'note ' || i % 4, timestamp '2020-01-02' + i * interval '9 hours', 1 FROM generate_series(1, 300) AS i WHERE i IN (SELECT order_id FROM orders);
SELECT moe_ml.declare('notes', 'spare', 'ignore');
SQL
    'PREDICT count(orders.*, 0, 12, days) = 0 FOR EACH customers WHERE count(orders.*, -90, 0, days) > 0'));
my $predict = 'SELECT ' . bits_sql('m');
my $before = $server->query($predict);
my $refresh = "SELECT moe_ml.execute('REFRESH MODEL m') IS NULL; SELECT count(*) > 20 FROM m";

# In a transaction: change, look, refresh, look.
sub after
{
    my ($change, $sql) = @_;
    my ($status, $out, $err) = $server->psql("$quiet BEGIN; $change; $sql");
    return $status == 0 ? $out : $err;
}

# Predictions go on, and the model is refreshed.
for my $case (
    [ 'ALTER TABLE orders ADD COLUMN more int DEFAULT 1', 'a column added' ],
    [ 'ALTER TABLE notes DROP COLUMN spare', 'a column dropped that was ignored' ],
    [ 'ALTER TABLE notes RENAME COLUMN spare TO other', 'a column renamed that was ignored' ],
    [ 'ALTER TABLE notes ALTER COLUMN spare TYPE text', 'a column retyped that was ignored' ],
    [ 'ALTER TABLE orders DROP CONSTRAINT orders_customer_id_fkey', 'a foreign key dropped', qr/ERROR:  no path of foreign keys leads from "orders" to "customers"/ ],
    [ 'ALTER TABLE notes DROP CONSTRAINT notes_order_id_fkey', 'a foreign key dropped that no label needs' ],
    [ 'ALTER TABLE customers RENAME CONSTRAINT customers_pkey TO other', 'a constraint renamed' ],
    [ 'ALTER TABLE orders ALTER COLUMN amount SET DEFAULT 5', 'a default changed' ],
    [ 'CREATE TABLE more (customer_id int REFERENCES customers, at timestamp)', 'a table added' ],
    [ 'ALTER TABLE notes DROP COLUMN spare; ALTER TABLE notes ADD COLUMN spare2 text', 'columns in other places' ],
    [ 'ALTER SCHEMA elsewhere RENAME TO nowhere', 'another schema renamed' ],
    [ 'ALTER FOREIGN TABLE m RENAME TO n; CREATE VIEW m AS TABLE n; ALTER FOREIGN TABLE n SET SCHEMA elsewhere', 'the model renamed and moved under a view',
        qr/ERROR:  "m" is not a model/ ],
    [ 'CREATE TABLE elsewhere.orders (); SET LOCAL search_path = elsewhere, public', 'a table of the same name earlier on the path' ])
{
    my ($change, $name, $error) = @$case;
    is(after($change, $predict), $before, "$name: predictions go on as they were");
    like(after($change, $refresh), $error // qr/^f\nt$/, "$name: REFRESH MODEL " . ($error ? 'says what it lacks' : 'learns it'));
}

# Predictions stop, with an error that says why.
my $hint = qr/HINT:  .*REFRESH MODEL m /s;
for my $case (
    [ 'ALTER TABLE orders DROP COLUMN amount', 'a column dropped', qr/ERROR:  table "orders" has changed since model "m" was trained\nDETAIL:  Column "amount" no longer exists\.\n$hint/ ],
    [ 'ALTER TABLE orders RENAME COLUMN amount TO total', 'a column renamed', qr/ERROR:  table "orders" has changed since model "m" was trained\nDETAIL:  Column "amount" no longer exists\.\n$hint/ ],
    [ 'ALTER TABLE orders ALTER COLUMN amount TYPE text', 'a column retyped',
        qr/ERROR:  table "orders" has changed since model "m" was trained\nDETAIL:  The type of column "amount" was double precision and is now text\.\n$hint/ ],
    [ 'ALTER TABLE orders ALTER COLUMN customer_id TYPE bigint', 'a foreign key column retyped',
        qr/DETAIL:  The type of column "customer_id" was integer and is now bigint\.\n$hint/ ],
    [ 'ALTER TABLE notes RENAME TO remarks', 'a table renamed', qr/ERROR:  table "notes" of model "m" no longer exists\nDETAIL:.*public\.notes.*\n$hint/ ],
    [ 'ALTER TABLE notes SET SCHEMA elsewhere', 'a table moved', qr/ERROR:  table "notes" of model "m" no longer exists\nDETAIL:.*public\.notes.*\n$hint/, 'search_path' ],
    [ 'DROP TABLE notes', 'a table dropped', qr/ERROR:  table "notes" of model "m" no longer exists\n.*$hint/s ],
    [ 'ALTER TABLE notes RENAME TO remarks; CREATE TABLE notes (a int)', 'another table of the name', qr/ERROR:  table "notes" has changed since model "m" was trained\nDETAIL:  Column "note_id" no longer exists\.\n$hint/ ],
    [ 'ALTER TABLE customers RENAME TO clients', 'the table that is predicted for renamed', qr/ERROR:  table "customers" of model "m" no longer exists\n.*$hint/s,
        qr/ERROR:  table "customers" does not exist.*CONTEXT:  definition of model "m", which CREATE OR REPLACE MODEL can change/s ],
    [ 'ALTER TABLE orders RENAME COLUMN placed_at TO at', 'the time column renamed', qr/ERROR:  table "orders" has changed .*Column "placed_at" no longer exists\.\n$hint/s ],
    [ 'ALTER TABLE customers RENAME COLUMN customer_id TO id', 'the key renamed', qr/ERROR:  table "customers" has changed .*Column "customer_id" no longer exists\.\n$hint/s,
        qr/ERROR:  the columns of model "m" would change\n.*HINT:  CREATE OR REPLACE MODEL/s ],
    [ 'ALTER TABLE orders DROP CONSTRAINT orders_customer_id_fkey; ALTER TABLE orders ALTER COLUMN customer_id TYPE text', 'a foreign key dropped and its column retyped',
        qr/DETAIL:  The type of column "customer_id" was integer and is now text\.\n$hint/, qr/ERROR:  no path of foreign keys/ ])
{
    my ($change, $name, $error, $refreshed) = @$case;
    for my $road ($predict, "SELECT moe_ml.predict('m', 8)", "SELECT * FROM moe_ml.explain('m', 8)", "SELECT * FROM moe_ml.evaluate('m')", "SELECT * FROM moe_ml.importance('m')")
    {
        like(after($change, $road), $error, "$name: " . ($road =~ /moe_ml\.(\w+)/ ? $1 : 'the relation'));
    }
    $refreshed = undef if ($refreshed // '') eq 'search_path';
    like(after($change, $refresh), $refreshed // qr/^f\nt$/, "$name: REFRESH MODEL " . ($refreshed ? 'says what it lacks' : 'learns it'));
}

# A definition that names what is gone says so when it is trained again; until then its model predicts.
$server->query($quiet . model_sql('CREATE MODEL strict', ignored_columns => '(notes.spare)'));
like(after('ALTER TABLE notes DROP COLUMN spare; SELECT count(*) FROM strict', "SELECT moe_ml.execute('REFRESH MODEL strict')"),
    qr/ERROR:  column "spare" of table "notes" does not exist\n.*CONTEXT:  definition of model "strict", which CREATE OR REPLACE MODEL can change/s,
    'an option that names a dropped column');

# What must go together does.
is(after("ALTER TABLE orders RENAME COLUMN amount TO total; $refresh; ALTER TABLE orders RENAME COLUMN total TO amount", 'SELECT 1 FROM m LIMIT 1') =~ /Column "total" no longer exists/ ? 1 : 0,
    1, 'a refreshed model holds to the new names');
is(after("ALTER TABLE orders RENAME COLUMN amount TO total; ALTER TABLE orders RENAME COLUMN total TO amount", $predict), $before, 'a change taken back is none');
like(after('DROP TABLE customers', 'SELECT 1'), qr/cannot drop table customers because other objects depend on it\nDETAIL:.*foreign table m depends on table customers/s,
    'the table that is predicted for is not dropped from under a model');
is($server->query($predict), $before, 'nothing of this is left');
unlike($server->log, qr/PANIC|TRAP|terminated by signal/, 'the server never crashed');

done_testing();
