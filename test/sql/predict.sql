-- A model as a relation, and predictions as functions.
SET client_min_messages = warning;
SET moe_ml.cache_size = 0; -- every statement reads anew
SET timezone = 'UTC';
CREATE SCHEMA predict_test;
SET search_path = predict_test, public;

-- Sixty customers; those with an odd number stop ordering in summer.
CREATE TABLE customers (
    customer_id integer PRIMARY KEY,
    name varchar(20) NOT NULL UNIQUE,
    country text,
    signed_up timestamp NOT NULL);
CREATE TABLE orders (
    order_id integer PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES customers,
    placed_at timestamp NOT NULL,
    amount numeric(8,2) NOT NULL);
INSERT INTO customers
SELECT i, 'customer ' || i, CASE WHEN i % 7 > 0 THEN (ARRAY['AT','DE','FR'])[1 + i % 3] END, timestamp '2024-01-01' + i % 10 * interval '1 day'
FROM generate_series(1, 60) AS i;
INSERT INTO orders
SELECT row_number() OVER (ORDER BY c, k), c, timestamp '2024-01-12' + (k * (9 + c % 4) + c % 7) * interval '1 day', 5 + c % 11 + k
FROM generate_series(1, 60) AS c, generate_series(0, 35) AS k
WHERE timestamp '2024-01-12' + (k * (9 + c % 4) + c % 7) * interval '1 day'
      < CASE WHEN c % 2 = 1 THEN timestamp '2024-07-01' ELSE timestamp '2024-12-31' END;
-- One customer comes late.
INSERT INTO customers VALUES (61, 'customer 61', NULL, '2024-12-01');
ANALYZE;

SELECT moe_ml.execute($$CREATE MODEL quiet PREDICT count(orders.*, 0, 30, days) = 0 FOR EACH customers
    WITH (epochs = 3, channels = 8, ensembles = 2)$$);
SELECT moe_ml.execute($$CREATE MODEL spend PREDICT sum(orders.amount, 0, 30, days) FOR EACH customers
    WHERE count(orders.*, -60, 0, days) > 0 WITH (epochs = 2, channels = 8, ensembles = 1)$$);
SELECT moe_ml.execute($$CREATE MODEL home PREDICT customers.country FOR EACH customers
    WITH (epochs = 2, channels = 8, ensembles = 1)$$);
SELECT moe_ml.execute($$CREATE MODEL by_name PREDICT count(orders.*, 0, 30, days) FOR EACH customers.name
    WITH (epochs = 1, channels = 8, ensembles = 1)$$);

-- Columns: the key, as_of, then by task.
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
WHERE c.relnamespace = 'predict_test'::regnamespace AND c.relkind = 'f' AND a.attnum > 0 ORDER BY c.relname, a.attnum;

-- Without as_of a prediction is as of the newest row.
SELECT count(*), count(DISTINCT customer_id), min(as_of) = (SELECT max(placed_at) FROM orders) AS newest,
       bool_and(probability BETWEEN 0 AND 1) AS in_range, bool_and(prediction = (probability >= 0.5)) AS agrees FROM quiet;
-- What WHERE does not count, has no row: the odd ones stopped long ago.
SELECT count(*), bool_or(customer_id % 2 = 1) AS stopped FROM spend;
-- A column is filled in where it is NULL.
SELECT count(*), bool_and(class IN ('AT', 'DE', 'FR')) AS known, bool_and(score > 0.3) AS best FROM home;

-- A key filter scores those keys only.
EXPLAIN (COSTS OFF) SELECT * FROM quiet WHERE customer_id = 42;
EXPLAIN (COSTS OFF) SELECT * FROM quiet WHERE customer_id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
EXPLAIN (COSTS OFF) SELECT * FROM quiet;
EXPLAIN (COSTS OFF) SELECT * FROM quiet WHERE probability > 0.5;
CREATE FUNCTION explained(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) ' || query LOOP
        CONTINUE WHEN line ~ '^ *[a-z]+: \d+%'; -- the experts, on another line
        RETURN NEXT regexp_replace(line, '(Experts: ).*', '\1...');
    END LOOP;
END $$;
SELECT * FROM explained('SELECT * FROM quiet WHERE customer_id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)');
-- LIMIT stops the scoring early: after the first of three moments.
SELECT * FROM explained('SELECT * FROM quiet WHERE as_of IN (''2024-04-01'', ''2024-06-01'', ''2024-09-01'') LIMIT 3');

-- Keys that do not exist, that are NULL, and that occur twice.
SELECT count(*) FROM quiet WHERE customer_id = 1000;
SELECT count(*) FROM quiet WHERE customer_id = NULL;
SELECT count(*) FROM quiet WHERE customer_id = ANY ('{7, 7, NULL, 8, 1000}');
-- Integers of other widths, and values no key can equal.
SELECT count(*) FROM quiet WHERE customer_id = 42::bigint;
SELECT count(*) FROM quiet WHERE customer_id = 42::smallint;
SELECT count(*) FROM quiet WHERE customer_id = 4200000000;
SELECT count(*) FROM quiet WHERE customer_id = ANY ('{42, 4200000000}'::bigint[]);
SELECT count(*) FROM by_name WHERE name = 'customer 7';
SELECT count(*) FROM by_name WHERE name IN ('customer 7', 'customer 8', 'nobody');
EXPLAIN (COSTS OFF) SELECT * FROM by_name WHERE name IN ('customer 7', 'customer 8', 'nobody');

-- as_of: one, several, NULL, none that is an equality.
SELECT count(*), min(as_of), max(as_of) FROM quiet WHERE as_of = '2024-06-01';
SELECT as_of, count(*) FROM quiet WHERE as_of IN ('2024-06-01', '2024-09-01', '2024-06-01') GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM quiet WHERE as_of = date '2024-06-01' AND customer_id = 42;
SELECT as_of FROM quiet WHERE as_of = timestamptz '2024-06-01 02:00+02' AND customer_id = 42;
SELECT count(*) FROM quiet WHERE as_of IS NULL;
SELECT count(*) FROM quiet WHERE as_of = NULL;
SELECT count(*) FROM quiet WHERE as_of > '2024-06-01';
SELECT count(*) FROM quiet WHERE as_of < '2024-06-01';
EXPLAIN (COSTS OFF) SELECT * FROM quiet WHERE as_of = '2024-06-01' AND customer_id = 42;
-- Before a customer signed up there is nothing to say; nor before any data.
SELECT count(*) FROM quiet WHERE customer_id = 61 AND as_of = '2024-11-30';
SELECT count(*) FROM quiet WHERE customer_id = 61 AND as_of = '2024-12-01';
SELECT count(*) FROM quiet WHERE as_of = '1990-01-01';
-- Far in the future is allowed; infinity is not a time.
SELECT count(*) FROM quiet WHERE as_of = '2100-01-01';
SELECT count(*) FROM quiet WHERE as_of = 'infinity';

-- Prepared statements: parameters are pushed down.
SET plan_cache_mode = force_generic_plan;
PREPARE ask(int, timestamp) AS SELECT customer_id, as_of FROM quiet WHERE customer_id = $1 AND as_of = $2;
EXPLAIN (COSTS OFF) EXECUTE ask(42, '2024-06-01');
EXECUTE ask(42, '2024-06-01');
EXECUTE ask(1000, '2024-06-01');
PREPARE many(int[]) AS SELECT count(*) FROM quiet WHERE customer_id = ANY ($1);
EXECUTE many('{1, 2, 3}');
EXECUTE many('{}');
DEALLOCATE ALL;
RESET plan_cache_mode;

-- Joins: a small other side gives the keys, in either order of writing. Which side a version's planner writes first is its own affair.
CREATE TABLE picked AS SELECT i * 7 AS id, timestamp '2024-06-01' + i * interval '10 days' AS at FROM generate_series(1, 3) AS i;
ANALYZE picked;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_material = off;
SET enable_memoize = off;
SELECT replace(line, '(customer_id = p.id)', '(p.id = customer_id)') AS explained FROM explained('SELECT * FROM picked AS p JOIN quiet AS q ON q.customer_id = p.id') AS line;
SELECT replace(line, '(customer_id = p.id)', '(p.id = customer_id)') AS explained FROM explained('SELECT * FROM quiet AS q JOIN picked AS p ON p.id = q.customer_id') AS line;
SELECT * FROM explained('SELECT * FROM picked AS p LEFT JOIN quiet AS q ON q.customer_id = p.id AND q.probability >= 0');
RESET enable_hashjoin;
RESET enable_mergejoin;
RESET enable_material;
RESET enable_memoize;
SELECT count(*) FROM customers JOIN quiet USING (customer_id);
SELECT count(*) FROM quiet JOIN customers USING (customer_id) WHERE country = 'DE';

-- A time for each key, from the other side: whatever the join, the answer is the same.
SELECT p.id, q.as_of, abs(q.probability - moe_ml.predict('quiet', p.id, p.at)) < 1e-5 AS same
FROM picked AS p JOIN quiet AS q ON q.customer_id = p.id AND q.as_of = p.at ORDER BY 1;
SELECT p.id, q.as_of FROM picked AS p LEFT JOIN quiet AS q ON q.customer_id = p.id AND q.as_of = p.at - interval '1 year' ORDER BY 1;
SELECT c.customer_id, q.as_of FROM customers AS c, picked AS p, quiet AS q
WHERE q.customer_id = c.customer_id AND q.as_of = p.at AND c.customer_id = p.id ORDER BY 1;
SELECT count(*) FROM quiet AS q, (SELECT at FROM picked) AS p WHERE q.as_of = p.at;
SELECT count(*) FROM picked AS p WHERE EXISTS (SELECT 1 FROM quiet AS q WHERE q.customer_id = p.id AND q.as_of = p.at);
SELECT count(*) FROM picked AS p, customers AS c
WHERE c.customer_id = p.id AND EXISTS (SELECT 1 FROM quiet AS q WHERE q.customer_id = c.customer_id AND q.as_of = p.at);
SELECT count(*) FROM picked AS p, quiet AS q
WHERE q.as_of = p.at AND EXISTS (SELECT 1 FROM quiet AS r WHERE r.as_of = q.as_of AND r.customer_id = q.customer_id);
SELECT count(*) FROM picked AS p, customers AS c, (SELECT customer_id, as_of FROM quiet UNION ALL SELECT customer_id, as_of FROM spend) AS u
WHERE u.as_of = p.at AND u.customer_id = c.customer_id;
SELECT c.customer_id, q.as_of FROM customers AS c LEFT JOIN (picked AS p JOIN quiet AS q ON q.as_of = p.at AND q.customer_id = p.id)
    ON c.customer_id = p.id WHERE c.customer_id BETWEEN 6 AND 8 ORDER BY 1;
SELECT count(*) FROM quiet AS q LEFT JOIN picked AS p ON q.as_of = p.at;
SELECT count(*) FROM quiet AS a JOIN spend AS b ON a.customer_id = b.customer_id AND a.as_of = b.as_of;
SELECT count(*) FROM quiet WHERE as_of = ANY (ARRAY(SELECT at FROM picked));
SELECT count(*) FROM quiet WHERE as_of IN (SELECT at FROM picked);

-- The value does not depend on the road to it, but for rounding in sums over batches of other sizes.
SELECT count(*), max(abs(probability - moe_ml.predict('quiet', customer_id))) < 1e-5 AS same FROM quiet;
SELECT count(*), max(abs(k.probability - q.probability)) < 1e-5 AS same
FROM quiet AS q, LATERAL (SELECT * FROM quiet AS k WHERE k.customer_id = q.customer_id OFFSET 0) AS k;

-- predict(): keys of any type that fits, and literals read by the key's own type.
SELECT moe_ml.predict('quiet', 42) = moe_ml.predict('predict_test.quiet', '42') AS same,
       moe_ml.predict('quiet', 42) = moe_ml.predict('quiet', 42::bigint) AS bigint,
       moe_ml.predict('quiet', 42) = moe_ml.predict('quiet', 42.0) AS numeric,
       moe_ml.predict('quiet', 42) = moe_ml.predict('quiet', ROW(42)) AS record,
       moe_ml.predict('quiet', 42, NULL) = moe_ml.predict('quiet', 42, (SELECT max(placed_at) FROM orders)) AS newest;
SELECT moe_ml.predict('quiet', 1000) AS missing, moe_ml.predict('quiet', 42.5) AS fraction,
       moe_ml.predict('quiet', 4200000000) AS too_wide, moe_ml.predict('quiet', NULL) AS none,
       moe_ml.predict('quiet', 61, '2024-11-30') AS not_yet, moe_ml.predict('spend', 1) AS not_counted;
SELECT moe_ml.predict('by_name', 'customer 7') IS NOT NULL AS literal,
       moe_ml.predict('by_name', 'customer 7'::text) IS NOT NULL AS text,
       moe_ml.predict('by_name', 'customer 7'::varchar) IS NOT NULL AS varchar;
SELECT moe_ml.predict_class('home', 42) IN ('AT', 'DE', 'FR') AS class,
       moe_ml.predict_class('quiet', 42) = (moe_ml.predict('quiet', 42) >= 0.5)::text AS binary;
SELECT moe_ml.predict('home', 42);
SELECT moe_ml.predict_class('spend', 42);
SELECT moe_ml.predict('quiet', 'abc');
SELECT moe_ml.predict('quiet', now());
SELECT moe_ml.predict('quiet', ROW(1, 2));
SELECT moe_ml.predict('quite', 42);
SELECT moe_ml.predict('customers', 42);

-- Composite keys.
CREATE TABLE shelves (store bigint, shelf text, height real, PRIMARY KEY (store, shelf));
CREATE TABLE readings (store bigint, shelf text, taken_at timestamptz NOT NULL, grams double precision,
    FOREIGN KEY (store, shelf) REFERENCES shelves);
INSERT INTO shelves SELECT s, 'shelf ' || f, s + f FROM generate_series(1, 4) AS s, generate_series(1, 5) AS f;
INSERT INTO readings SELECT s, 'shelf ' || f, timestamptz '2024-01-01 00:00+00' + d * interval '1 day', s * 10 + f + d % 7
FROM generate_series(1, 4) AS s, generate_series(1, 5) AS f, generate_series(0, 200, 5) AS d;
ANALYZE;
SELECT moe_ml.execute($$CREATE MODEL weight PREDICT avg(readings.grams, 0, 10, days) FOR EACH shelves
    WITH (epochs = 1, channels = 8, ensembles = 1)$$);
EXPLAIN (COSTS OFF) SELECT * FROM weight WHERE store = 2 AND shelf IN ('shelf 1', 'shelf 3', 'shelf 9');
SELECT store, shelf FROM weight WHERE store = 2 AND shelf IN ('shelf 1', 'shelf 3', 'shelf 9') ORDER BY 1, 2;
-- Half a key is a filter like any other.
EXPLAIN (COSTS OFF) SELECT * FROM weight WHERE store = 2;
SELECT count(*) FROM weight WHERE store = 2;
SELECT count(*), count(w.prediction) FROM shelves JOIN weight AS w USING (store, shelf);
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT count(*) FROM explained('SELECT * FROM (VALUES (1, ''shelf 1''), (2, ''shelf 2'')) AS v (s, f) JOIN weight AS w ON w.store = v.s AND w.shelf = v.f')
    AS line WHERE line ~ 'Seeds Scored: 2';
RESET enable_hashjoin;
RESET enable_mergejoin;
SELECT moe_ml.predict('weight', ROW(2, 'shelf 3')) = w.prediction AS same,
       moe_ml.predict('weight', ROW(2::bigint, 'shelf 3'::text)) = w.prediction AS typed
FROM weight AS w WHERE store = 2 AND shelf = 'shelf 3';
SELECT moe_ml.predict('weight', 2);
SELECT moe_ml.predict('weight', '2');
SELECT moe_ml.predict('weight', ROW(2, 'shelf 3', 1));

-- A cursor keeps its data while other statements go on.
BEGIN;
DECLARE c CURSOR FOR SELECT customer_id FROM quiet ORDER BY customer_id;
FETCH 1 FROM c;
DELETE FROM orders WHERE customer_id = 60;
DELETE FROM customers WHERE customer_id = 60;
SELECT count(*) FROM quiet;
MOVE FORWARD 58 IN c;
FETCH 5 FROM c;
ROLLBACK;

-- Read-only; and nobody comes by a model by copying its uuid.
INSERT INTO quiet (customer_id) VALUES (1);
DELETE FROM quiet;
UPDATE quiet SET probability = 1;
DO $$
BEGIN
    EXECUTE (SELECT format('CREATE FOREIGN TABLE copied (customer_id int, as_of timestamp, prediction bool, probability float8) SERVER moe_ml OPTIONS (model %L)',
                           option_value)
             FROM pg_foreign_table, pg_options_to_table(ftoptions) WHERE ftrelid = 'quiet'::regclass);
EXCEPTION WHEN duplicate_object THEN
    RAISE WARNING '%', regexp_replace(SQLERRM, '[0-9a-f-]{36}', '...');
END $$;
CREATE FOREIGN TABLE odd (a int) SERVER moe_ml OPTIONS (colour 'red');
CREATE FOREIGN TABLE odd (a int) SERVER moe_ml OPTIONS (model 'not a uuid');

-- Privileges: on the model, and on what it reads.
CREATE ROLE predict_reader;
GRANT USAGE ON SCHEMA predict_test TO predict_reader;
SET ROLE predict_reader;
SELECT count(*) FROM quiet;
SELECT moe_ml.predict('quiet', 42);
RESET ROLE;
GRANT SELECT ON quiet TO predict_reader;
SET ROLE predict_reader;
SELECT count(*) FROM quiet;
RESET ROLE;
GRANT SELECT ON customers, orders TO predict_reader;
SET ROLE predict_reader;
SELECT count(*) FROM quiet;
RESET ROLE;

-- Columns changed by hand are noticed.
ALTER FOREIGN TABLE home ADD COLUMN more int;
SELECT * FROM home;

DROP SCHEMA predict_test CASCADE;
DROP ROLE predict_reader;
