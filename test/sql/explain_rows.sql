-- Which rows around a key one prediction rests on: what each adds, as if it did not exist before.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET moe_ml.notices = off;
CREATE SCHEMA explain_rows;
SET search_path = explain_rows, public;

-- A sensor is broken if one of its readings is hot; of some sensors it is not known.
CREATE TABLE sensors (sensor_id integer PRIMARY KEY, broken boolean, load real);
CREATE TABLE readings (reading_id integer PRIMARY KEY, sensor_id integer NOT NULL REFERENCES sensors,
    taken_at timestamp NOT NULL, celsius real NOT NULL, weight real NOT NULL);
INSERT INTO sensors SELECT i FROM generate_series(1, 200) AS i;
INSERT INTO readings SELECT i * 10 + k, i, timestamp '2024-01-01' + ((i * 7 + k * 13) % 90) * interval '1 day',
    CASE WHEN k = 2 AND i % 3 = 0 THEN 90 ELSE 20 END, (hashint8(i * 10 + k) & 1023) / 100.0
FROM generate_series(1, 200) AS i, generate_series(1, 1 + i % 5) AS k;
INSERT INTO readings SELECT 9000, 200, '2024-06-01', 20, 1; -- the newest, which nobody is asked about
UPDATE sensors SET broken = EXISTS (SELECT FROM readings AS r WHERE r.sensor_id = sensors.sensor_id AND celsius > 50),
    load = (SELECT sum(weight) FROM readings AS r WHERE r.sensor_id = sensors.sensor_id) WHERE sensor_id % 11 > 0;
ANALYZE;
CREATE FUNCTION train(name text, target text, options text) RETURNS text LANGUAGE sql AS
$$ SELECT moe_ml.execute(format('CREATE MODEL %I PREDICT sensors.%s FOR EACH sensors USING (readings) WITH (ensembles = 1, channels = 8, hops = 1, ignored_columns = ''sensors.%s'', %s)',
    name, target, CASE target WHEN 'load' THEN 'broken' ELSE 'load' END, options)) $$;
SELECT train('graph_alone', 'broken', $$experts = graph, epochs = 40, batch_size = 16, learning_rate = 0.02, dropout = 0, neighbors = '8'$$);
SELECT train('load', 'load', $$experts = linear$$);
SELECT train('mixed', 'broken', $$epochs = 3$$);
CREATE FUNCTION told(model text, key integer, top_rows integer DEFAULT 10) RETURNS TABLE (name text, rows bigint, contribution float8) LANGUAGE sql AS
$$ SELECT name, rows, contribution FROM moe_ml.explain(model, key, timestamptz '2024-06-01', top_rows) WHERE part = 'row' $$;

-- The one row that decides stands first, above those that do not.
SELECT model, name, rows, contribution > 0.5 AS decides FROM unnest('{mixed,graph_alone}'::text[]) AS model,
    LATERAL (SELECT * FROM told(model, 33) LIMIT 1) AS t;
SELECT name, abs(contribution) < 0.05 AS matters_little FROM told('mixed', 33) WHERE rows = 1 AND name !~ 'readings 332' ORDER BY name;

-- What a row adds is what deleting it takes away: where only one table matters, averaged over the orders of its rows.
CREATE FUNCTION without(model text, key integer, gone integer[]) RETURNS float8 LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM readings WHERE reading_id = ANY (gone);
    RAISE EXCEPTION USING ERRCODE = 'UEROW', MESSAGE = moe_ml.predict(model, key, '2024-06-01');
EXCEPTION WHEN SQLSTATE 'UEROW' THEN
    RETURN SQLERRM::float8;
END $$;
CREATE VIEW truth AS
SELECT model, 55 AS key, 'readings 551 (2024-02-08)' AS name, without(model, 55, '{}') - without(model, 55, '{551}') AS adds FROM unnest('{graph_alone,load}'::text[]) AS model
UNION ALL SELECT model, 66, 'no rows of readings', without(model, 66, '{661,662}') - (SELECT prediction FROM moe_ml.explain(model, 66, '2024-06-01') WHERE part = 'base')
FROM unnest('{graph_alone,load}'::text[]) AS model
UNION ALL SELECT model, 66, name, (without(model, 66, other) - without(model, 66, '{661,662}') + without(model, 66, '{}') - without(model, 66, this)) / 2
FROM unnest('{graph_alone,load}'::text[]) AS model, (VALUES ('readings 661 (2024-01-26)', '{661}'::int[], '{662}'::int[]), ('readings 662 (2024-02-08)', '{662}', '{661}')) AS v (name, this, other);
SELECT model, key, name, abs(adds) > 1e-4 AS adds, abs(adds - contribution) < 2e-5 AS as_told
FROM truth LEFT JOIN LATERAL told(model, key) USING (name) ORDER BY model, key, name;

-- Rows sum to what tables, columns and experts sum to, however few are told, and those of a table to the table.
SELECT model, key, top, bool_and(abs(sum - whole.contribution) < 1e-5 * greatest(1, abs(whole.prediction))) AS sums, max(n) FILTER (WHERE part = 'row') AS told
FROM unnest('{mixed,load,graph_alone}'::text[]) AS model, unnest('{11,33,66,99}'::int[]) AS key, unnest('{1,10}'::int[]) AS top,
    LATERAL (SELECT part, sum(contribution) AS sum, count(*) FILTER (WHERE name ~ '^readings') AS n FROM moe_ml.explain(model, key, '2024-06-01', top) WHERE contribution IS NOT NULL GROUP BY part) AS s,
    LATERAL (SELECT max(prediction) FILTER (WHERE part = 'all') AS prediction, max(prediction) FILTER (WHERE part = 'all') - max(prediction) FILTER (WHERE part = 'base') AS contribution FROM moe_ml.explain(model, key, '2024-06-01', 0)) AS whole
GROUP BY model, key, top ORDER BY model, key, top;
SELECT abs(sum(contribution) - (SELECT contribution FROM moe_ml.explain('mixed', 33, '2024-06-01') WHERE part = 'table' AND name = 'readings')) < 1e-5 AS sums FROM told('mixed', 33) WHERE name ~ 'readings';
SELECT name, rows FROM told('mixed', 33, 1) ORDER BY rows DESC, name;
SELECT count(*) FROM told('mixed', 33, 0);
SELECT count(*) FROM told('mixed', 33, NULL);
SELECT count(*) FROM told('mixed', 33, -1);
SELECT count(*) FROM told('mixed', 33, 1001);

-- What comes later is not there.
CREATE TABLE before AS SELECT model, key, t.* FROM unnest('{mixed,load,graph_alone}'::text[]) AS model, unnest('{11,33,66,99}'::int[]) AS key, LATERAL told(model, key) AS t;
SELECT model, key, t.* FROM unnest('{mixed,load,graph_alone}'::text[]) AS model, unnest('{99,66,33,11}'::int[]) AS key, LATERAL told(model, key) AS t EXCEPT ALL TABLE before;
INSERT INTO readings SELECT i * 10 + 9, i, '2024-06-02', 90, 1000 FROM generate_series(1, 200) AS i;
SELECT count(*) FROM before;
(SELECT model, key, t.* FROM unnest('{mixed,load,graph_alone}'::text[]) AS model, unnest('{11,33,66,99}'::int[]) AS key, LATERAL told(model, key) AS t EXCEPT ALL TABLE before)
UNION ALL (TABLE before EXCEPT ALL SELECT model, key, t.* FROM unnest('{mixed,load,graph_alone}'::text[]) AS model, unnest('{11,33,66,99}'::int[]) AS key, LATERAL told(model, key) AS t);
SELECT name FROM moe_ml.explain('mixed', 33, '2024-06-02') WHERE part = 'row' AND name ~ '339';
DELETE FROM readings WHERE taken_at = '2024-06-02';

-- More rows than are looked at one by one, and than are told.
INSERT INTO readings SELECT 33000 + i, 33, timestamp '2024-05-01' + i * interval '1 minute', 20, 1 FROM generate_series(1, 60) AS i;
SELECT count(*) FILTER (WHERE name ~ '^readings') AS told, max(rows) FILTER (WHERE name ~ 'other rows') AS others, bool_and(name !~ 'readings 332 ') AS the_old_are_summed FROM told('mixed', 33);
SELECT count(*) FILTER (WHERE name ~ '^readings') BETWEEN 40 AND 60 AS told FROM told('mixed', 33, 60);
DELETE FROM readings WHERE reading_id > 33000;

-- A role is told what it may see.
CREATE ROLE regress_explain_rows;
GRANT USAGE ON SCHEMA explain_rows, moe_ml TO regress_explain_rows;
GRANT SELECT ON sensors, mixed TO regress_explain_rows;
GRANT SELECT (sensor_id, taken_at, celsius, weight) ON readings TO regress_explain_rows; -- not the key
BEGIN;
DELETE FROM readings WHERE reading_id = 332;
CREATE TEMP TABLE deleted ON COMMIT PRESERVE ROWS AS SELECT regexp_replace(name, 'readings \d+ \((.*)\)', 'readings of sensor_id 33 (\1 00:00:00)') AS name, rows, contribution FROM told('mixed', 33);
INSERT INTO readings SELECT 332, 33, '2024-03-18', 90, (hashint8(332) & 1023) / 100.0;
COMMIT;
GRANT SELECT ON deleted TO regress_explain_rows;
CREATE POLICY cool ON readings USING (celsius < 50);
ALTER TABLE readings ENABLE ROW LEVEL SECURITY;
SET ROLE regress_explain_rows;
SELECT name, rows FROM told('mixed', 33) WHERE rows = 1 ORDER BY name;
(SELECT * FROM told('mixed', 33) EXCEPT ALL TABLE deleted) UNION ALL (TABLE deleted EXCEPT ALL SELECT * FROM told('mixed', 33));
RESET ROLE;
DROP OWNED BY regress_explain_rows;
DROP ROLE regress_explain_rows;

-- Rows of any table that the model looks at, however many keys away, by the names they have: a key, a composite
-- one with the day that the parent gives, and where there is no key what the row points at.
CREATE TABLE customers (code text PRIMARY KEY, city text);
CREATE TABLE products (product_id integer PRIMARY KEY, price real);
CREATE TABLE orders (order_id integer PRIMARY KEY, customer text REFERENCES customers, placed_at timestamptz);
CREATE TABLE lines (order_id integer REFERENCES orders, line integer, product_id integer REFERENCES products, quantity integer, PRIMARY KEY (order_id, line));
CREATE TABLE visits (customer text REFERENCES customers, product_id integer REFERENCES products, seconds integer);
INSERT INTO customers SELECT 'c' || i, 'city ' || i % 5 FROM generate_series(1, 60) AS i;
INSERT INTO products SELECT i, i * 3 FROM generate_series(1, 8) AS i;
INSERT INTO orders SELECT i, 'c' || 1 + i % 60, timestamptz '2024-01-01 00:00+00' + i * interval '7 hours' FROM generate_series(1, 900) AS i;
INSERT INTO lines SELECT o, l, 1 + (o * 5 + l * 3) % 8, 1 + o % 4 FROM generate_series(1, 900) AS o, generate_series(1, 1 + o % 2) AS l;
INSERT INTO visits SELECT 'c' || 1 + i % 60, 1 + i % 8, i % 11 FROM generate_series(1, 90) AS i;
ANALYZE;
SELECT moe_ml.execute('CREATE MODEL quiet PREDICT count(orders.*, 0, 10, days) = 0 FOR EACH customers WITH (experts = ''linear, graph'', ensembles = 1, channels = 8, hops = 3, neighbors = ''2, 2, 1'', sampling = latest, epochs = 1)');
CREATE TABLE quiet_rows AS SELECT * FROM moe_ml.explain('quiet', 'c8', '2024-08-01', 1000) WHERE part = 'row' AND rows = 1;
SELECT DISTINCT ON (split_part(name, ' ', 1)) name FROM quiet_rows ORDER BY split_part(name, ' ', 1), name;
SELECT part, abs(sum(contribution) - sum(sum(contribution)) FILTER (WHERE part = 'table') OVER ()) < 1e-5 AS sums FROM moe_ml.explain('quiet', 'c8', '2024-08-01') WHERE contribution IS NOT NULL GROUP BY part ORDER BY part;
SELECT count(*) FROM moe_ml.explain('quiet', 'c99', '2024-08-01');

DROP SCHEMA explain_rows CASCADE;
