-- Every shape of key and table that a graph may have, read and joined.
CREATE SCHEMA shapes;
SET search_path = shapes;
SET DateStyle = ISO;

-- Keys of any type: text, uuid, numeric, date, timestamptz, enum, bytea, inet, char(n).
CREATE TYPE colour AS ENUM ('red', 'green');
CREATE DOMAIN code AS varchar(10);
CREATE FUNCTION try_key(type text, a text, b text) RETURNS TABLE (item text, rows bigint, nulls bigint, dangling bigint)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE parent (id %s PRIMARY KEY, v int)', type);
    EXECUTE format('CREATE TABLE child (id int PRIMARY KEY, parent_id %s REFERENCES parent)', type);
    EXECUTE format('INSERT INTO parent VALUES (%L, 1), (%L, 2)', a, b);
    EXECUTE format('INSERT INTO child VALUES (1, %L), (2, %L), (3, NULL), (4, %L)', a, b, b);
    RETURN QUERY SELECT type || ': ' || c.item, c.rows, c.nulls, c.dangling
        FROM moe_ml.graph_check('parent') c WHERE c.nulls IS NOT NULL;
    DROP TABLE child, parent;
END $$;
SELECT k.* FROM (VALUES ('smallint', '1', '-2'), ('bigint', '1', '9007199254740993'), ('text', 'a', 'ä'),
    ('code', 'a', 'b'), ('char(5)', 'a', 'b'), ('uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
    'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'), ('numeric', '1.50', 'NaN'), ('date', '2024-01-01', 'infinity'),
    ('timestamptz', '2024-01-01', '2024-01-02'), ('colour', 'red', 'green'), ('bytea', '\x00', '\x0001'),
    ('inet', '10.0.0.1', '::1'), ('float8', '0', 'Infinity'), ('bit(3)', '101', '111'), ('money', '1', '2'),
    ('int[]', '{1,2}', '{}'), ('boolean', 'true', 'false'), ('interval', '1 day', '25 hours')) t (type, a, b),
    try_key(t.type, t.a, t.b) k;

-- Types that differ between the two ends; a key that was never checked may dangle.
CREATE TABLE wide (id bigint PRIMARY KEY, label text UNIQUE, day timestamp UNIQUE, amount numeric UNIQUE);
CREATE TABLE narrow (
    id smallint, wide_id int REFERENCES wide, label varchar(20) REFERENCES wide (label),
    day date REFERENCES wide (day), amount int REFERENCES wide (amount));
INSERT INTO wide VALUES (1, 'one', '2024-01-01', 1), (2, 'two', '2024-01-02', 2.0);
INSERT INTO narrow VALUES (1, 1, 'one', '2024-01-01', 1), (2, 2, 'two', '2024-01-02', 2), (3, NULL, NULL, NULL, NULL);
ALTER TABLE narrow ADD COLUMN loose bigint;
UPDATE narrow SET loose = 5000000000;
ALTER TABLE narrow ADD CONSTRAINT narrow_loose FOREIGN KEY (loose) REFERENCES wide NOT VALID;
SELECT item, rows, nulls, dangling FROM moe_ml.graph_check('wide');
DROP TABLE narrow, wide;

-- Composite keys, in another order than the columns; partly NULL; two keys between one pair.
CREATE TABLE pair (a int, b text, v int, PRIMARY KEY (b, a));
CREATE TABLE two (x int, y text, z text, FOREIGN KEY (x, y) REFERENCES pair (a, b), FOREIGN KEY (x, z) REFERENCES pair (a, b));
INSERT INTO pair VALUES (1, 'a', 1), (1, 'b', 2), (2, 'a', 3);
INSERT INTO two VALUES (1, 'a', 'b'), (1, 'b', NULL), (NULL, 'a', 'a'), (2, 'a', 'a');
SELECT hops, table_name, link, time_column FROM moe_ml.graph('pair');
SELECT item, rows, nulls, dangling FROM moe_ml.graph_check('pair');

-- Self reference; a table without any key but a foreign one.
CREATE TABLE staff (id int PRIMARY KEY, boss int REFERENCES staff, hired date);
CREATE TABLE notes (staff_id int REFERENCES staff, body text);
INSERT INTO staff VALUES (1, NULL, '2020-01-01'), (2, 1, '2021-01-01'), (3, 1, NULL), (4, 2, '-infinity');
INSERT INTO notes VALUES (1, 'x'), (1, 'x'), (NULL, 'y');
SELECT item, rows, nulls, dangling, first_time, last_time FROM moe_ml.graph_check('staff');
DROP TABLE notes, staff, two, pair;

-- Names that need quotes, other schemas, dropped columns.
CREATE SCHEMA "Größe";
CREATE TABLE "Größe"."my ""table""" ("Der Schlüssel" int PRIMARY KEY, gone int, "select" text);
ALTER TABLE "Größe"."my ""table""" DROP COLUMN gone;
CREATE TABLE "from" ("where" int REFERENCES "Größe"."my ""table""", "Created At" timestamp, gone int, "it's" float4);
ALTER TABLE "from" DROP COLUMN gone;
INSERT INTO "Größe"."my ""table""" VALUES (1, 'x'), (2, NULL);
INSERT INTO "from" VALUES (1, '2024-02-29 12:00', 'NaN'), (2, 'infinity', 1);
SELECT hops, table_name, link, time_column FROM moe_ml.graph('"Größe"."my ""table"""');
SELECT item, rows, nulls, dangling, not_finite, last_time FROM moe_ml.graph_check('"Größe"."my ""table"""');
SELECT item FROM moe_ml.graph_check('"Größe"."my ""table"""', time_columns => ARRAY['"from"."Created At"']);
DROP TABLE "from";
DROP SCHEMA "Größe" CASCADE;

-- Partitioned tables: the root takes part, as child and as parent; keys that only partitions declare count once.
CREATE TABLE events (event_id int, day date NOT NULL, kind text, PRIMARY KEY (event_id, day)) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE TABLE actors (actor_id int PRIMARY KEY);
CREATE TABLE visits (
    actor_id int, event_id int, day date, paid_on date,
    FOREIGN KEY (event_id, day) REFERENCES events) PARTITION BY HASH (event_id);
CREATE TABLE visits_0 PARTITION OF visits FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE visits_1 PARTITION OF visits FOR VALUES WITH (MODULUS 2, REMAINDER 1);
ALTER TABLE visits_0 ADD CONSTRAINT visits_0_actor FOREIGN KEY (actor_id) REFERENCES actors;
ALTER TABLE visits_1 ADD CONSTRAINT visits_1_actor FOREIGN KEY (actor_id) REFERENCES actors;
INSERT INTO events VALUES (1, '2024-01-10', 'a'), (2, '2024-02-10', 'b');
INSERT INTO actors VALUES (1), (2);
INSERT INTO visits VALUES (1, 1, '2024-01-10', NULL), (2, 2, '2024-02-10', NULL), (NULL, 2, '2024-02-10', NULL);
SELECT hops, table_name, link, time_column FROM moe_ml.graph('actors');
SELECT name, child, parent FROM moe_ml.graph_edges WHERE child = 'visits'::regclass;
SELECT item, rows, nulls, dangling FROM moe_ml.graph_check('events');
SELECT hops, table_name, link, time_column FROM moe_ml.graph('events_1');
DROP TABLE visits, events, actors;

-- Views and foreign tables take part through declarations.
CREATE TABLE people (id int PRIMARY KEY, seen timestamptz);
CREATE VIEW calls AS SELECT g AS call_id, g % 3 AS person, now() AS at FROM generate_series(1, 6) g;
INSERT INTO people VALUES (1, '2024-01-01 12:00+00'), (2, '2024-01-01 12:00+02');
SELECT hops, table_name, link, time_column FROM moe_ml.graph('people', using_tables => '{calls}');
SELECT moe_ml.declare('calls', 'person', 'references shapes.people');
SELECT moe_ml.declare('calls', 'call_id', 'key');
SELECT item, rows, nulls, dangling FROM moe_ml.graph_check('people');
SELECT table_name, link FROM moe_ml.graph('calls');
DROP VIEW calls;
DROP TABLE people;

-- Types: what has an encoding, and what is left out.
CREATE SCHEMA elsewhere;
CREATE EXTENSION citext SCHEMA elsewhere;
CREATE TABLE hub (id int PRIMARY KEY);
CREATE TABLE types (
    hub_id int REFERENCES hub, b boolean, i2 smallint, i8 bigint, f4 real, n numeric(5, 2), m money, t text, v code,
    c char(3), ci elsewhere.citext, e colour, u uuid, d date, tm time, iv interval, ia int[], na numeric[], ta text[], ts tsvector,
    j jsonb, by bytea, r int4range, p point, x xml, ip inet, bt bit(3), q "char", nm name,
    g int GENERATED ALWAYS AS (i2 * 2) STORED);
SELECT column_name, role, encoding, reason FROM moe_ml.graph_columns WHERE table_name = 'types'::regclass;
SELECT moe_ml.declare('types', 'u', 'category');
SELECT moe_ml.declare('types', 'j', 'text');
INSERT INTO hub VALUES (1);
INSERT INTO types VALUES (1, true, 1, 2, 'Infinity', 3.5, 4, 'text', 'code', 'abc', 'Ci', 'red',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'infinity', '12:30', '1 month 2 days', '{1,NULL,3}', '{1,NaN}', '{a,NULL,b}',
    'fat cats'::tsvector, '{"a": 1}', '\x00', '[1,2)', '(1,2)', '<a/>', '::1', '101', 'q', 'nm');
INSERT INTO types (hub_id, n) VALUES (1, NULL);
SELECT item, rows, nulls, not_finite FROM moe_ml.graph_check('hub');

-- Numbers too large for a double are not finite.
CREATE TABLE large (hub_id int REFERENCES hub, n numeric);
INSERT INTO large VALUES (1, '1e400'), (1, '-Infinity'), (1, 1);
SELECT item, rows, not_finite FROM moe_ml.graph_check('hub', using_tables => '{large}');

-- More than eight times of becoming known: the rest is left out. Empty tables are read, too.
CREATE TABLE many (hub_id int REFERENCES hub, t0 date, t1 date, t2 date, t3 date, t4 date, t5 date, t6 date, t7 date, t8 date, t9 date);
SELECT column_name, role, known_at, reason FROM moe_ml.graph_columns WHERE table_name = 'many'::regclass AND column_name >= 't7';
SELECT item, rows, first_time FROM moe_ml.graph_check('hub', using_tables => '{many}');

-- A table without a time column is visible since what it must refer to, over any number of steps.
CREATE TABLE sales (sale elsewhere.citext PRIMARY KEY, hub_id int REFERENCES hub, sold_at timestamptz);
CREATE TABLE promises (promise int PRIMARY KEY, made_on date NOT NULL);
CREATE TABLE lines (
    sale elsewhere.citext NOT NULL REFERENCES sales, line int, promise int NOT NULL REFERENCES promises,
    PRIMARY KEY (sale, line));
CREATE TABLE remarks (sale elsewhere.citext NOT NULL, line int NOT NULL, maybe int REFERENCES promises, body text,
    FOREIGN KEY (sale, line) REFERENCES lines);
INSERT INTO sales VALUES ('A', 1, '2024-01-01'), ('B', 1, '2024-03-01'), ('C', 1, NULL);
INSERT INTO promises VALUES (1, '2024-02-01'), (2, '2025-01-01');
INSERT INTO lines VALUES ('a', 1, 1), ('b', 1, 1), ('c', 1, 1);
INSERT INTO remarks VALUES ('A', 1, 2, 'x'), ('B', 1, 2, 'y');
SELECT hops, table_name, time_column FROM moe_ml.graph('hub', using_tables => '{sales,promises,lines,remarks}');
SELECT item, rows, nulls, dangling, first_time, last_time
FROM moe_ml.graph_check('hub', using_tables => '{sales,promises,lines,remarks}');
SELECT item, first_time FROM moe_ml.graph_check('hub', using_tables => '{sales,promises,lines,remarks}',
    time_columns => '{lines.none}');

-- The result does not depend on the session's settings.
CREATE TABLE moments (hub_id int REFERENCES hub, created timestamp);
CREATE TABLE instants (hub_id int REFERENCES hub, created timestamptz);
INSERT INTO moments VALUES (1, '2024-06-01 00:00');
INSERT INTO instants VALUES (1, '2024-06-01 00:00+00');
SET TimeZone = 'America/New_York';
SELECT item, first_time FROM moe_ml.graph_check('hub', using_tables => '{moments,instants}');
RESET TimeZone;

-- A foreign key's collation need not be that of the key it points at, which decides what is equal: here whether case
-- matters, where the server knows such collations. Labels are those that plain SQL gives; no row dangles.
DO $$ BEGIN
    CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
EXCEPTION WHEN feature_not_supported THEN
    CREATE COLLATION nocase FROM "POSIX";
END $$;
CREATE FUNCTION upper_if_alike(key text, number integer) RETURNS text LANGUAGE sql AS
$$ SELECT CASE WHEN collisdeterministic OR number % 2 = 0 THEN key ELSE upper(key) END FROM pg_collation WHERE collname = 'nocase' AND collnamespace = 'shapes'::regnamespace $$;
CREATE TABLE clients (id text COLLATE nocase PRIMARY KEY, code text COLLATE "C" UNIQUE);
CREATE COLLATION plain FROM "C";
CREATE TABLE bills (bill_id text COLLATE plain PRIMARY KEY, id text COLLATE "POSIX", placed_at timestamp);
SELECT moe_ml.declare('bills', 'id', 'references clients');
CREATE TABLE items (bill_id text COLLATE "POSIX" NOT NULL REFERENCES bills, code text COLLATE "POSIX" REFERENCES clients (code));
INSERT INTO clients SELECT 'c' || i, 'k' || i FROM generate_series(1, 50) AS i;
INSERT INTO bills SELECT 'b' || i, upper_if_alike('c' || 1 + (i * i) / 3 % 50, i), timestamp '2024-01-01' + i * interval '7 hours' FROM generate_series(1, 1000) AS i;
INSERT INTO items SELECT 'b' || i, 'k' || 1 + i % 50 FROM generate_series(1, 1000) AS i;
SELECT item, rows, dangling FROM moe_ml.graph_check('clients') WHERE nulls IS NOT NULL;
SET moe_ml.notices = off;
SELECT moe_ml.execute('CREATE MODEL quiet PREDICT count(bills.*, 0, 12, days) = 0 FOR EACH clients WHERE count(items.*, -90, 0, days) > 0 WITH (experts = ''history, linear, graph'', epochs = 1, ensembles = 1)');
SELECT moe_ml.training_query('quiet') AS training \gset
CREATE TABLE labels AS :training;
SELECT count(*) > 500 AS many, count(*) FILTER (WHERE label) > 100 AS quiet, count(*) FILTER (WHERE label <> NOT EXISTS (
    SELECT FROM bills AS b WHERE b.id COLLATE nocase = l.id AND placed_at > as_of AND placed_at <= as_of + interval '12 days')) AS wrong FROM labels AS l;
SELECT count(*) AS missing FROM (SELECT DISTINCT as_of FROM labels) AS s, clients AS c
WHERE EXISTS (SELECT FROM items AS i JOIN bills AS b ON b.bill_id = i.bill_id COLLATE "C" WHERE i.code COLLATE "C" = c.code AND placed_at > as_of - interval '90 days' AND placed_at <= as_of)
    AND NOT EXISTS (SELECT FROM labels AS l WHERE l.id = c.id AND l.as_of = s.as_of);
SELECT count(*) > 10 AS predicted, count(*) = count(DISTINCT id) AS once FROM quiet;

SET client_min_messages = warning;
DROP SCHEMA shapes, elsewhere CASCADE;
