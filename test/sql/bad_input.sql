-- What bad input gets: an ERROR with an SQLSTATE that names the object, and a HINT that says what to type next.
-- Mistakes in the query itself are in bad_query, in its grammar in statement, in options and names in model_commands.
SET moe_ml.notices = off;
SET client_min_messages = warning;
SET DateStyle = ISO;
CREATE SCHEMA bad_input;
SET search_path = bad_input;
CREATE TABLE customers (customer_id int PRIMARY KEY, name text, age int, joined timestamp);
CREATE TABLE orders (order_id int PRIMARY KEY, customer_id int REFERENCES customers, placed_at timestamp, amount float8);
CREATE TABLE items (item_id int PRIMARY KEY, order_id int REFERENCES orders, price numeric, note text);
INSERT INTO customers SELECT i, 'c' || i % 3, i, '2020-01-01' FROM generate_series(1, 20) i;
INSERT INTO orders
SELECT row_number() OVER (), c, timestamp '2020-01-02' + d * interval '1 day' + c * interval '1 minute', d % 5
  FROM generate_series(1, 20) c, generate_series(0, 100) d WHERE (d + c) % CASE WHEN c % 2 = 0 THEN 5 ELSE 40 END = 0;
INSERT INTO items SELECT order_id, order_id, order_id % 7, 'n' || order_id % 3 FROM orders;

CREATE FUNCTION train(name text, clauses text, options text DEFAULT '') RETURNS text LANGUAGE sql AS
$$ SELECT moe_ml.execute(format('CREATE MODEL %s %s WITH (epochs = 1, channels = 4, ensembles = 2, batch_size = 64, neighbors = 4%s)',
                                name, clauses, options)) $$;
-- Run a query and undo it: its first column, or the error's code, message, detail and hint.
CREATE FUNCTION try(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE result text; detail text; hint text;
BEGIN
    BEGIN
        EXECUTE query INTO result;
        result := coalesce(result, 'NULL');
        RAISE 'undo' USING ERRCODE = 'ZZZZZ';
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
        IF SQLSTATE = 'ZZZZZ' THEN
            RETURN NEXT result;
        ELSE
            RETURN NEXT SQLSTATE || ': ' || SQLERRM;
            RETURN QUERY SELECT '  ' || line FROM unnest(ARRAY['DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, '')]) AS line
                WHERE line IS NOT NULL;
        END IF;
    END;
END $$;
CREATE FUNCTION try_train(clauses text, options text DEFAULT '') RETURNS SETOF text LANGUAGE sql AS
$$ SELECT try(format('SELECT train(%L, %L, %L)', 'attempt', clauses, options)) $$;
\pset format unaligned
\pset tuples_only on

-- Labels of one's own: nothing in them, wrong things in them, and queries that fail or write.
CREATE FUNCTION try_labels(query text, options text DEFAULT '') RETURNS SETOF text LANGUAGE sql AS
$$ SELECT try_train('PREDICT y FOR EACH customers AT at AS ' || query, options) $$;
SELECT try_labels('SELECT customer_id, placed_at AS at FROM orders');
SELECT try_labels('SELECT customer_id, 1 AS y FROM orders');
SELECT try_labels('SELECT placed_at AS at, 1 AS y FROM orders');
SELECT try_labels('TABLE orders');
SELECT try_labels('SELECT customer_id, placed_at AS at, 1 AS y FROM orders WHERE false');
SELECT try_labels('SELECT customer_id, placed_at AS at, NULL::int AS y FROM orders');
SELECT try_labels('SELECT customer_id, NULL::timestamp AS at, 1 AS y FROM orders');
SELECT try_labels('SELECT NULL::int AS customer_id, placed_at AS at, 1 AS y FROM orders');
SELECT try_labels('SELECT customer_id, placed_at::time AS at, 1 AS y FROM orders');
SELECT try_labels('SELECT customer_id, timestamp ''infinity'' AS at, order_id AS y FROM orders');
SELECT try_labels('SELECT customer_id, placed_at AS at, order_id AS y FROM orders UNION ALL SELECT 1, ''-infinity'', 1');
SELECT try_labels('SELECT customer_id, placed_at AS at, ''x'' AS y FROM orders');
SELECT try_labels('SELECT customer_id, placed_at AS at, float8 ''NaN'' AS y FROM orders');
SELECT try_labels('SELECT customer_id, placed_at AS at, numeric ''1e400'' AS y FROM orders');
SELECT try_labels('SELECT customer_id, placed_at AS at, float8 ''1e39'' AS y FROM orders');
SELECT try_labels('SELECT customer_id, placed_at AS at, order_id % 3 AS y FROM orders', ', task = binary');
SELECT try_labels('SELECT customer_id, placed_at AS at, i AS y FROM orders, generate_series(1, 1001) i', ', task = multiclass');
SELECT try_labels('SELECT customer_id, placed_at AS at, amount AS y, ''exam''::text AS part FROM orders', ', split_column = part');
SELECT try_labels('SELECT customer_id, placed_at AS at, amount AS y, NULL::text AS part FROM orders', ', split_column = part');
SELECT try_labels('SELECT customer_id, placed_at AS at, amount AS y, ''test''::text AS part FROM orders', ', split_column = part');
SELECT try_labels('SELECT customer_id, placed_at AS at, 1 / (order_id - 5) AS y FROM orders');
SELECT try_labels('SELECT customer_id, placed_at AS at, 1 AS y FROM orders FOR UPDATE');
CREATE FUNCTION deletes() RETURNS int LANGUAGE plpgsql AS $$ BEGIN DELETE FROM items; RETURN 1; END $$;
CREATE FUNCTION creates() RETURNS int LANGUAGE plpgsql AS $$ BEGIN CREATE TABLE side (a int); RETURN 1; END $$;
CREATE FUNCTION drops() RETURNS int LANGUAGE plpgsql AS $$ BEGIN DROP TABLE customers CASCADE; RETURN 1; END $$;
SELECT try_labels('SELECT customer_id, placed_at AS at, deletes() AS y FROM orders');
SELECT try_labels('SELECT customer_id, placed_at AS at, creates() AS y FROM orders');
SELECT try_labels('SELECT customer_id, placed_at AS at, drops() AS y FROM orders');
SELECT try('SELECT moe_ml.compile(''CREATE MODEL m PREDICT y FOR EACH customers AT at AS SELECT customer_id, placed_at AS at, deletes() AS y FROM orders'')');
-- What the training forbade, its transaction may do again.
BEGIN;
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers') IS NOT NULL;
SELECT deletes();
SELECT count(*) FROM try_labels('SELECT customer_id, placed_at AS at, deletes() AS y FROM orders');
CREATE TABLE written (a int);
ROLLBACK;

-- More nesting than a parser takes.
SELECT try_train('PREDICT age FOR EACH customers WHERE ' || repeat('(', 20000) || 'age = 1' || repeat(')', 20000));
SELECT try_train('PREDICT age FOR EACH customers WHERE ' || repeat('NOT ', 200000) || 'age = 1');

-- Labels that a query of ours gives.
SELECT try_train('PREDICT sum(orders.amount, 0, 14, days) * 2 FOR EACH customers');
SELECT try_train('PREDICT count(orders.*, 0, 14, days) >= 0 FOR EACH customers');
CREATE TABLE voids (id int PRIMARY KEY, customer_id int REFERENCES customers, n int, t text, f float8, at timestamp, b boolean, d date[]);
INSERT INTO voids SELECT i, i FROM generate_series(1, 20) i;
SELECT try_train('PREDICT n FOR EACH voids');
SELECT try_train('PREDICT t FOR EACH voids');
SELECT try_train('PREDICT b FOR EACH voids');
SELECT try_train('PREDICT customer_id FOR EACH customers');
SELECT try_train('PREDICT joined FOR EACH customers');
-- All-NULL columns are no obstacle; a table whose times are all NULL is visible always, but gives no labels.
SELECT try_train('PREDICT sum(orders.amount, 0, 14, days) FOR EACH customers');
SELECT try_train('PREDICT count(voids.*, 0, 14, days) FOR EACH customers');

-- NaN and infinite values count as NULL, and are counted; as labels they are errors.
CREATE TABLE wild (customer_id int REFERENCES customers, v float8, w real, at timestamp, until timestamp);
INSERT INTO wild SELECT i, (ARRAY['NaN', 'Infinity', '-Infinity', '1e308'])[1 + i % 4]::float8, 'NaN',
       CASE i % 5 WHEN 0 THEN '-infinity' WHEN 1 THEN 'infinity' ELSE timestamp '2020-02-01' + i * interval '1 day' END, 'infinity'
  FROM generate_series(1, 20) i;
SELECT item, rows, not_finite, first_time, last_time FROM moe_ml.graph_check('customers', using_tables => '{wild}');
SELECT train('unshaken', 'PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers USING (customers, orders, wild)');
SELECT count(*), bool_and(probability BETWEEN 0 AND 1) FROM unshaken;
SELECT try_train('PREDICT count(wild.*, 0, 2, days) FOR EACH customers USING (customers, wild)');
SELECT try_train('PREDICT sum(wild.v, 0, 2, days) FOR EACH customers USING (customers, wild)');
SELECT try_train('PREDICT avg(wild.w, 0, 2, days) FOR EACH customers USING (customers, wild)');
UPDATE wild SET at = 'infinity';
SELECT try_train('PREDICT count(wild.*, 0, 2, days) FOR EACH customers USING (customers, wild)');
DROP TABLE wild, voids CASCADE;

-- Empty tables, a table of one row, tables without a column to learn from, tables without a key.
CREATE TABLE lonely (id int PRIMARY KEY, at timestamp);
CREATE TABLE events (id int REFERENCES lonely, customer_id int REFERENCES customers, at timestamp, v int);
SELECT try_train('PREDICT count(events.*, 0, 14, days) = 0 FOR EACH lonely');
SELECT try_labels('SELECT 1 AS customer_id, timestamp ''2020-02-01'' AS at, 1 AS y');
SELECT try_train('PREDICT y FOR EACH lonely AT at AS SELECT i AS id, timestamp ''2020-01-01'' + i * interval ''1 day'' AS at, i AS y FROM generate_series(1, 30) i');
SELECT try_train('PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers');
INSERT INTO lonely VALUES (1, '2020-01-01');
SELECT try_train('PREDICT count(events.*, 0, 14, days) = 0 FOR EACH lonely');
SELECT try_train('PREDICT at > ''2020-01-01'' FOR EACH lonely');
INSERT INTO events SELECT 1, 1, timestamp '2020-01-01' + i * i * interval '1 day' FROM generate_series(1, 30) i;
SELECT train('one_row', 'PREDICT count(events.*, 0, 30, days) > 1 FOR EACH lonely');
SELECT count(*) FROM one_row;
SELECT try_train('PREDICT v FOR EACH events');
SELECT try_train('PREDICT v FOR EACH events.v');
SELECT train('emptied', 'PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers');
BEGIN;
TRUNCATE customers CASCADE;
SELECT count(*) FROM emptied;
SELECT moe_ml.predict('emptied', 1);
SELECT * FROM moe_ml.explain('emptied', 1);
SELECT try('SELECT moe_ml.evaluate(''emptied'')');
SELECT try('SELECT moe_ml.importance(''emptied'')');
SELECT try('SELECT moe_ml.execute(''REFRESH MODEL emptied'')');
ROLLBACK;
SELECT moe_ml.execute('DROP MODEL emptied');
DROP TABLE lonely, events CASCADE;

-- A window needs a time: the hint shows how to declare one.
CREATE TABLE visits (customer_id int REFERENCES customers, n int);
SELECT try_train('PREDICT count(visits.*, 0, 14, days) FOR EACH customers');
DROP TABLE visits;

-- Predicting for what is not there, of another type, or at no time.
SELECT train('m', 'PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers WHERE count(orders.*, -60, 0, days) > 0');
SELECT moe_ml.predict('m', 99), moe_ml.predict('m', 1.5), moe_ml.predict('m', 2.4::float8), moe_ml.predict('m', 'NaN'::float8),
       moe_ml.predict('m', '-Infinity'::float4), moe_ml.predict('m', 1e300::float8), moe_ml.predict('m', 'NaN'::numeric),
       moe_ml.predict('m', ROW(NULL)), moe_ml.predict('m', 2::float8) IS NOT NULL, moe_ml.predict('m', ROW(2)) IS NOT NULL;
SELECT try('SELECT moe_ml.predict(''m'', ' || key || ')')
  FROM (VALUES ('true'), ('ARRAY[1]'), ('ROW()'), ('ROW(1, 2)'), ('''''')) AS v (key);
SELECT try('SELECT moe_ml.predict(''m'', 2, ''' || at || ''')')
  FROM (VALUES ('infinity'), ('-infinity'), ('290000-01-01 BC')) AS v (at);
SELECT moe_ml.predict('m', 2, '0001-01-01'), moe_ml.predict('m', 2, NULL) IS NOT NULL;
SELECT count(*) FROM m WHERE as_of = '0001-01-01';
SELECT try('SELECT moe_ml.predict(' || name || ', 2)')
  FROM (VALUES ('''orders'''), ('''n'''), (''''''), ('''a.b.c.d'''), ('''"'''), ('repeat(''x'', 100)')) AS v (name);
SELECT try('SELECT moe_ml.predictions(''m'', $$' || query || '$$)')
  FROM (VALUES ('SELECT 2 AS customer_id, timestamp ''infinity'' AS as_of'), ('SELECT 1; SELECT 2'), (''), ('rubbish'),
               ('SELECT 1 / 0 AS customer_id, now() AS as_of'), ('SELECT 2 AS customer_id'), ('SELECT now() AS as_of')) AS v (query);

-- Predicting reads only, whatever the query of the user's calls.
SELECT try('SELECT count(*) FROM moe_ml.predictions(''m'', ''SELECT customer_id, now() AS as_of, deletes() AS label FROM customers'')');
SELECT try('SELECT count(*) FROM moe_ml.evaluate(''m'', ''SELECT customer_id, now() AS as_of, deletes() AS label FROM customers'')');

-- NULL arguments: no row or NULL, or an error that says what is missing.
SELECT moe_ml.execute(NULL), moe_ml.compile(NULL), moe_ml.training_query(NULL), moe_ml.predict(NULL, 1), moe_ml.predict(NULL, 'x'),
       moe_ml.predict('m', NULL), moe_ml.predict('m', NULL::int), moe_ml.predict_class(NULL, 1), moe_ml.predict_class('m', NULL);
SELECT (SELECT count(*) FROM moe_ml.evaluate(NULL)), (SELECT count(*) FROM moe_ml.evaluate('m', NULL)),
       (SELECT count(*) FROM moe_ml.predictions('m', NULL)), (SELECT count(*) FROM moe_ml.predictions('m', 'SELECT 1', NULL)),
       (SELECT count(*) FROM moe_ml.explain(NULL, 1)), (SELECT count(*) FROM moe_ml.explain('m', NULL)), (SELECT count(*) FROM moe_ml.importance(NULL));
SELECT try('SELECT moe_ml.declare(NULL, NULL, NULL)');
SELECT try('SELECT moe_ml.graph_check(NULL)');
SELECT count(*) FROM moe_ml.graph('customers', NULL, '{NULL}', '{NULL}', '{NULL}');
SELECT try('SELECT moe_ml.fdw_validator(''{NULL}'', 3118)');
SELECT try('SELECT moe_ml.language_call()');
SELECT try('SELECT moe_ml.forget_dropped_models()');

-- Tables that have changed since: predictions say what; REFRESH MODEL learns them as they are.
CREATE FUNCTION refreshed() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM moe_ml.execute('REFRESH MODEL m');
    RETURN format('refreshed, predicts %s', (SELECT count(*) FROM m));
END $$;
CREATE FUNCTION change(what text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE what;
    RETURN NEXT what;
    RETURN QUERY SELECT '  ' || line FROM try('SELECT format(''predicts %s'', count(*)) FROM m') AS line;
    RETURN QUERY SELECT '  ' || line FROM try('SELECT refreshed()') AS line;
    RAISE 'undo' USING ERRCODE = 'ZZZZZ';
EXCEPTION WHEN SQLSTATE 'ZZZZZ' THEN
END $$;
SELECT change(what) FROM (VALUES
    ('ALTER TABLE orders DROP COLUMN amount'),
    ('ALTER TABLE orders RENAME amount TO total'),
    ('ALTER TABLE orders RENAME placed_at TO at'),
    ('ALTER TABLE orders ALTER amount TYPE text'),
    ('ALTER TABLE orders ALTER placed_at TYPE date'),
    ('ALTER TABLE customers ALTER customer_id TYPE bigint'),
    ('ALTER TABLE customers RENAME customer_id TO id'),
    ('ALTER TABLE customers RENAME TO clients'),
    ('DROP TABLE items'),
    ('DROP TABLE items; CREATE SEQUENCE items'),
    ('DROP TABLE items; CREATE VIEW items AS SELECT 1 AS item_id'),
    ('ALTER TABLE items SET SCHEMA public'),
    ('ALTER TABLE items ADD COLUMN more int'),
    -- The columns still say which rows belong together, so a dropped constraint matters to the next training only.
    ('ALTER TABLE items DROP CONSTRAINT items_order_id_fkey'),
    ('ALTER TABLE orders DROP CONSTRAINT orders_customer_id_fkey'),
    ('ALTER TABLE customers DROP CONSTRAINT customers_pkey CASCADE'),
    ('ALTER FOREIGN TABLE m DROP COLUMN probability'),
    ('ALTER FOREIGN TABLE m OPTIONS (DROP model)')) AS v (what);
BEGIN;
ALTER TABLE customers RENAME TO clients;
SELECT moe_ml.execute('REFRESH MODEL m');
ROLLBACK;
SELECT try('DROP TABLE orders');
SELECT try('DROP TABLE customers');

-- Damaged parameters: whatever byte is changed, whatever part is missing.
SELECT id AS m FROM moe_ml.model_relations WHERE name = 'm' \gset
CREATE FUNCTION damaged(what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
    EXECUTE what;
    SELECT t INTO line FROM try('SELECT format(''predicts %s'', count(*)) FROM m') AS t LIMIT 1;
    RAISE 'undo' USING ERRCODE = 'ZZZZZ';
EXCEPTION WHEN SQLSTATE 'ZZZZZ' THEN
    RETURN line;
END $$;
SELECT damaged(format('UPDATE moe_ml.model_parameter SET data = set_byte(data, %s, get_byte(data, %1$s) # %s) WHERE model = %L AND part = %s', at, 1 << at % 8, :'m', part)), count(*) > 100
  FROM moe_ml.model_parameter, generate_series(0, length(data) - 1, CASE WHEN length(data) > 2000 THEN length(data) / 400 ELSE 1 END) AS at
 WHERE model = :'m' GROUP BY 1;
SELECT damaged(format('UPDATE moe_ml.model_parameter SET data = substr(data, 1, %s) WHERE model = %L AND part = %s', n, :'m', part)), count(*) > 100
  FROM moe_ml.model_parameter, generate_series(0, length(data) - 1, 1 + length(data) / 150) AS n WHERE model = :'m' GROUP BY 1;
SELECT damaged(format(what, :'m')) FROM (VALUES
    ('DELETE FROM moe_ml.model_parameter WHERE model = %L'),
    ('UPDATE moe_ml.model_parameter SET part = part + 100 WHERE model = %L'),
    ('UPDATE moe_ml.model_parameter SET part = -1 - part WHERE model = %L'),
    ('INSERT INTO moe_ml.model_parameter SELECT model, part + 100, data FROM moe_ml.model_parameter WHERE model = %L'),
    ('UPDATE moe_ml.model_parameter SET data = data || data WHERE model = %L'),
    ('DELETE FROM moe_ml.model WHERE id = %L'),
    ('UPDATE moe_ml.model SET task = ''magic'' WHERE id = %L'),
    ('UPDATE moe_ml.model SET task = ''multiclass'' WHERE id = %L'),
    ('UPDATE moe_ml.model SET task = ''regression'' WHERE id = %L'),
    ('UPDATE moe_ml.model SET n_classes = 1000000 WHERE id = %L'),
    ('UPDATE moe_ml.model SET classes = ''{{a,b},{c,NULL}}'' WHERE id = %L'),
    ('UPDATE moe_ml.model SET ensembles = 2000000000 WHERE id = %L'),
    ('UPDATE moe_ml.model SET experts = 2000000000 WHERE id = %L'),
    ('UPDATE moe_ml.model SET entity = ''"'' WHERE id = %L'),
    ('UPDATE moe_ml.model SET population = ''SELECT text ''''a'''''' WHERE id = %L'),
    ('UPDATE moe_ml.model SET population = ''SELECT'' WHERE id = %L'),
    ('UPDATE moe_ml.model SET population = ''DELETE FROM bad_input.orders'' WHERE id = %L'),
    ('UPDATE moe_ml.model SET definition = ''rubbish'' WHERE id = %L')) AS v (what);
-- REFRESH MODEL repairs the parameters; what it needs itself, it asks for.
SELECT change(format('DELETE FROM moe_ml.model_parameter WHERE model = %L', :'m')) OFFSET 1;
SELECT change(format('UPDATE moe_ml.model SET task = ''magic'' WHERE id = %L', :'m')) OFFSET 1;
SELECT change(format('UPDATE moe_ml.model SET definition = ''DROP MODEL m'' WHERE id = %L', :'m')) OFFSET 1;
SELECT change(format('UPDATE moe_ml.model SET search_path = ''nowhere'' WHERE id = %L', :'m')) OFFSET 1;

-- A model is no table to learn from, and does not read itself.
SELECT try_train('PREDICT probability FOR EACH m.customer_id');
SELECT try_train('PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers USING (customers, orders, m)');
CREATE VIEW notes AS SELECT 1 AS n, 1 AS customer_id;
SELECT moe_ml.declare('notes', 'customer_id', 'references bad_input.customers');
SELECT train('narcissus', 'PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers USING (customers, orders, notes)');
CREATE OR REPLACE VIEW notes AS SELECT count(*)::int AS n, 1 AS customer_id FROM narcissus;
SELECT try('SELECT count(*) FROM narcissus');
SELECT try('SELECT moe_ml.execute(''REFRESH MODEL narcissus'')');
SELECT count(*) > 0 FROM m;
DROP VIEW notes;

-- Names: quotes, semicolons, comments, 63 bytes of UTF-8.
CREATE TABLE "it's; a ""table"" --" ("k'; DROP TABLE orders; --" int PRIMARY KEY, "v "" x" int, "select" timestamp);
INSERT INTO "it's; a ""table"" --" SELECT i, i, '2020-01-01' FROM generate_series(1, 20) i;
CREATE TABLE "ä€😀; child" ("parent ' "" ;" int REFERENCES "it's; a ""table"" --", "when" timestamp, "Wert" numeric);
INSERT INTO "ä€😀; child" SELECT i, timestamp '2020-01-01' + i * d * interval '5 hours', i FROM generate_series(1, 20) i, generate_series(1, 20) d;
SELECT train('"M; ''x"" --"', 'PREDICT sum("ä€😀; child"."Wert", 0, 7, days) FOR EACH "it''s; a ""table"" --"');
SELECT count(*) FROM "M; 'x"" --" WHERE "k'; DROP TABLE orders; --" = 7;
SELECT moe_ml.predict('"M; ''x"" --"', 7) IS NOT NULL;
SELECT count(*) > 0 FROM moe_ml.evaluate('"M; ''x"" --"');
SELECT moe_ml.execute('REFRESH MODEL "M; ''x"" --"');
SELECT train('"' || repeat('ä', 31) || 'x"', 'PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers');
SELECT moe_ml.predict('"' || repeat('ä', 31) || 'x"', 7, '2020-03-01') IS NOT NULL;
SELECT try('SELECT train(''"' || repeat('ä', 31) || 'xy"'', ''PREDICT age FOR EACH customers'')');
SELECT moe_ml.execute('DROP MODEL "M; ''x"" --", "' || repeat('ä', 31) || 'x"');

-- Names that are taken: nothing but a model is ever replaced or dropped as one.
CREATE VIEW a_view AS SELECT 1 AS a;
CREATE INDEX an_index ON orders (amount);
CREATE TYPE a_type AS (a int);
CREATE SEQUENCE a_sequence;
SELECT try('SELECT moe_ml.execute(''CREATE MODEL ' || name || ' PREDICT age FOR EACH customers'')'),
       try('SELECT moe_ml.execute(''CREATE OR REPLACE MODEL ' || name || ' PREDICT age FOR EACH customers'')'),
       try('SELECT moe_ml.execute(''DROP MODEL IF EXISTS ' || name || ''')')
  FROM (VALUES ('orders'), ('a_view'), ('an_index'), ('a_type'), ('a_sequence'), ('pg_catalog.pg_class')) AS v (name);
SELECT try('SELECT moe_ml.execute(''REFRESH MODEL a_view'')');
SELECT try('SELECT moe_ml.execute(''ALTER MODEL orders RENAME TO x'')');
SELECT count(*) > 0 FROM orders;

-- Keys of several types.
CREATE TABLE by_text (id text PRIMARY KEY, v int);
CREATE TABLE by_uuid (id uuid PRIMARY KEY, v int);
CREATE TABLE by_both (a date, b text, v int, PRIMARY KEY (a, b));
INSERT INTO by_text SELECT 'k' || i, NULLIF(i, 1) FROM generate_series(1, 50) i;
INSERT INTO by_uuid SELECT lpad(i::text, 32, '0')::uuid, NULLIF(i, 1) FROM generate_series(1, 50) i;
INSERT INTO by_both SELECT date '2020-01-01' + i, 'k', NULLIF(i, 1) FROM generate_series(1, 50) i;
SELECT train(name, 'PREDICT v FOR EACH ' || substr(name, 3)) FROM (VALUES ('m_by_text'), ('m_by_uuid'), ('m_by_both')) AS v (name);
SELECT moe_ml.predict('m_by_text', 'k1') IS NOT NULL, moe_ml.predict('m_by_text', 1) IS NULL, moe_ml.predict('m_by_text', 'none') IS NULL,
       moe_ml.predict('m_by_uuid', '00000000000000000000000000000001') IS NOT NULL, moe_ml.predict('m_by_both', ROW(date '2020-01-02', 'k')) IS NOT NULL, moe_ml.predict('m_by_both', ROW('2020-01-02', 'k')) IS NOT NULL;
SELECT try('SELECT moe_ml.predict(''m_by_' || key || ')')
  FROM (VALUES ('uuid'', ''k'''), ('uuid'', 1'), ('both'', 1'), ('both'', ROW(1, ''k'')'), ('both'', ROW(''x'', ''k'')')) AS v (key);

-- More than the memory there may be; longer than it may last. The next statement works.
CREATE TABLE hub (id int PRIMARY KEY);
CREATE TABLE many (hub_id int REFERENCES hub, at timestamp, v float8, w float8);
INSERT INTO hub SELECT generate_series(1, 100);
INSERT INTO many SELECT i % 100 + 1, timestamp '2020-01-01' + i * interval '1 minute', i, i FROM generate_series(1, 600000) i;
SET moe_ml.memory_limit = '16MB';
CREATE FUNCTION without_numbers(line text) RETURNS text LANGUAGE sql AS $$ SELECT regexp_replace(line, '[0-9]+ MB more', '... MB more') $$;
SELECT without_numbers(line) FROM try_train('PREDICT count(many.*, 0, 30, days) FOR EACH hub') AS line;
SELECT without_numbers(line) FROM try('SELECT moe_ml.graph_check(''hub'')') AS line;
SELECT without_numbers(line) FROM try('SELECT moe_ml.execute(''CREATE MODEL wide PREDICT count(orders.*, 0, 14, days) FOR EACH customers WITH (channels = 1024)'')') AS line;
SELECT count(*) > 0 FROM m;
RESET moe_ml.memory_limit;
SELECT clock_timestamp() AS start \gset
SET statement_timeout = '200ms';
\set VERBOSITY terse
SELECT moe_ml.execute('CREATE MODEL slow PREDICT count(orders.*, 0, 14, days) FOR EACH customers WITH (epochs = 10000, channels = 256, patience = 0)');
\set VERBOSITY default
RESET statement_timeout;
SELECT clock_timestamp() - :'start' < interval '10 seconds';
SELECT to_regclass('slow'), count(*) > 0 FROM m;
DROP TABLE many, hub;

-- Privileges: on every table read, column by column, at training and at predicting, by every road.
CREATE ROLE bad_input_reader;
GRANT USAGE, CREATE ON SCHEMA bad_input TO bad_input_reader;
GRANT SELECT ON m, customers, items TO bad_input_reader;
SET ROLE bad_input_reader;
SELECT try_train('PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers');
SELECT try_train('PREDICT age > 9 FOR EACH customers USING (customers)');
SELECT try_train('PREDICT y FOR EACH customers AT at USING (customers) AS SELECT customer_id, placed_at AS at, order_id % 2 AS y FROM orders');
SELECT line, count(*) FROM (VALUES ('SELECT count(*) FROM m'), ('SELECT moe_ml.predict(''m'', 2)'), ('SELECT moe_ml.evaluate(''m'')'),
    ('SELECT moe_ml.explain(''m'', 2)'), ('SELECT moe_ml.importance(''m'')'),
    ('SELECT moe_ml.predictions(''m'', ''SELECT 2 AS customer_id, now() AS as_of'')')) AS v (query), try(query) AS line GROUP BY 1 ORDER BY 1 DESC;
RESET ROLE;
GRANT SELECT (order_id, customer_id, placed_at) ON orders TO bad_input_reader;
SET ROLE bad_input_reader;
SELECT try('SELECT count(*) FROM m');
SELECT try_train('PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers');
SELECT train('theirs', 'PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers', ', ignored_columns = (orders.amount)');
SELECT count(*) FROM theirs;
RESET ROLE;
REVOKE USAGE ON SCHEMA bad_input FROM bad_input_reader;
SET ROLE bad_input_reader;
SELECT moe_ml.predict('bad_input.theirs', 2);
RESET ROLE;
GRANT USAGE ON SCHEMA bad_input TO bad_input_reader;
-- Row-level security: whoever asks sees the predictions of the rows that he sees.
ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON customers TO bad_input_reader USING (customer_id <= 10);
SET ROLE bad_input_reader;
SELECT count(*), count(*) FILTER (WHERE customer_id = 15) FROM theirs;
SELECT moe_ml.predict('theirs', 15), (SELECT count(*) FROM moe_ml.explain('theirs', 15));
SELECT moe_ml.execute('REFRESH MODEL theirs');
SET row_security = off;
SELECT try('SELECT count(*) FROM theirs');
SELECT try('SELECT moe_ml.execute(''REFRESH MODEL theirs'')');
RESET row_security;
RESET ROLE;
SELECT count(*) FROM theirs;
DROP POLICY few ON customers;
SET ROLE bad_input_reader;
SELECT count(*) FROM theirs;
SELECT try('SELECT moe_ml.execute(''REFRESH MODEL theirs'')');
RESET ROLE;

DROP SCHEMA bad_input CASCADE;
DROP OWNED BY bad_input_reader;
DROP ROLE bad_input_reader;
SELECT count(*) FROM moe_ml.model;
