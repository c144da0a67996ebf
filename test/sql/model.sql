-- Models: what training stores, what it depends on, and what predictions rest on.
-- Only facts that hold on every machine are printed: no raw floats.
SET moe_ml.notices = off;
CREATE SCHEMA model_test;
SET search_path = model_test;

-- Gold customers order every week, the others every ninety days.
CREATE TABLE customers (customer_id int PRIMARY KEY, plan text, joined timestamp);
CREATE TABLE orders (order_id int PRIMARY KEY, customer_id int REFERENCES customers, amount numeric, placed_at timestamp);
INSERT INTO customers
SELECT i, CASE WHEN i % 2 = 0 THEN 'gold' ELSE 'basic' END, timestamp '2020-01-01' + i * interval '1 hour'
  FROM generate_series(1, 60) i;
INSERT INTO orders
SELECT row_number() OVER (), c, 10 + (c * d) % 7, timestamp '2020-01-02' + d * interval '1 day' + c * interval '1 minute'
  FROM generate_series(1, 60) c, generate_series(0, 364) d
 WHERE CASE WHEN c % 2 = 0 THEN (d + c) % 7 = 0 ELSE (d + c) % 90 = 0 END;

-- What a model stored, apart from its name, as one number.
CREATE FUNCTION fingerprint(name text) RETURNS text LANGUAGE sql AS
$$ SELECT md5(string_agg(md5(p.data), ' ' ORDER BY p.part))
     FROM moe_ml.model_parameter p JOIN moe_ml.model_relations r ON r.id = p.model WHERE r.name = fingerprint.name $$;

-- A binary model is a relation with the key, as_of, prediction and probability.
SELECT moe_ml.execute('CREATE MODEL churn PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers
                       WITH (ensembles = 1, epochs = 12, channels = 16, batch_size = 128, seed = 2)');
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
 WHERE attrelid = 'churn'::regclass AND attnum > 0 ORDER BY attnum;
SELECT schema, name, entity, task, rows, validation > 0.9 AS learned FROM moe_ml.models;
SELECT avg(probability) FILTER (WHERE plan = 'basic') - avg(probability) FILTER (WHERE plan = 'gold') > 0.3 AS learned,
       count(*), bool_and(prediction = (probability >= 0.5)) AS consistent
  FROM churn JOIN customers USING (customer_id);

-- History and loads.
SELECT ensemble, count(*) <= 12 AS stopped_in_time, count(*) FILTER (WHERE best) AS best, min(epoch) AS first,
       (array_agg(validation ORDER BY validation DESC))[1] = max(validation) FILTER (WHERE best) AS best_is_best
  FROM moe_ml.training_history WHERE name = 'churn' GROUP BY ensemble;
SELECT count(*) AS experts, round(sum(load), 2) AS together FROM moe_ml.experts
 WHERE model = 'churn';
SELECT options ->> 'channels' AS channels, options ->> 'dropout' AS dropout, label_window, peak_memory > 0 AS measured
  FROM moe_ml.model_relations WHERE name = 'churn';
SELECT moe_ml.training_query('model_test.churn') LIKE '%count(*)%' AS is_sql;
SELECT moe_ml.training_query('churned');

-- A seed gives the same bytes, for any number of threads and any physical order of rows.
SELECT fingerprint('churn') AS original \gset
SET moe_ml.threads = 1;
CREATE TABLE moved AS SELECT * FROM orders ORDER BY md5(order_id::text);
DELETE FROM orders;
INSERT INTO orders SELECT * FROM moved;
DROP TABLE moved;
SELECT moe_ml.execute('CREATE MODEL again PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers
                       WITH (ensembles = 1, epochs = 12, channels = 16, batch_size = 128, seed = 2)');
RESET moe_ml.threads;
SELECT fingerprint('again') = :'original' AS same;
SELECT moe_ml.execute('CREATE OR REPLACE MODEL again PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers
                       WITH (ensembles = 1, epochs = 12, channels = 16, batch_size = 128, seed = 3)');
SELECT fingerprint('again') <> :'original' AS another_seed_another_model;

-- Rows later than as_of change no prediction in any bit.
CREATE TEMPORARY TABLE before AS SELECT * FROM churn WHERE as_of = '2020-10-01';
INSERT INTO orders SELECT 100000 + i, i % 60 + 1, 99, timestamp '2020-10-01 00:00:01' + i * interval '1 hour'
  FROM generate_series(1, 500) i;
INSERT INTO customers SELECT i, 'gold', '2020-10-02' FROM generate_series(100, 120) i;
SELECT count(*), bool_and(a.probability = b.probability) AS same
  FROM before a JOIN (SELECT * FROM churn WHERE as_of = '2020-10-01') b USING (customer_id);
-- One at that very moment does.
INSERT INTO orders VALUES (200000, 1, 5, '2020-10-01');
SELECT bool_or(a.probability <> b.probability) AS changed
  FROM before a JOIN (SELECT * FROM churn WHERE as_of = '2020-10-01') b USING (customer_id);
DELETE FROM orders WHERE order_id >= 100000;
DELETE FROM customers WHERE customer_id >= 100;

-- Within one transaction every statement sees what the ones before it wrote, and what a savepoint undid.
BEGIN;
SELECT count(*) FROM churn;
SAVEPOINT s;
INSERT INTO customers VALUES (999, 'gold', '2020-01-01');
SELECT count(*) FROM churn;
ROLLBACK TO s;
SELECT count(*) FROM churn;
COMMIT;

-- A regression, with an ensemble; predictions stay within the 2nd and 98th percentile of the training labels.
SELECT moe_ml.execute('CREATE MODEL spend PREDICT sum(orders.amount, 0, 28, days) FOR EACH customers
                       WITH (epochs = 6, channels = 16, batch_size = 128, ensembles = 2, neighbors = 8, hops = 1)');
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
 WHERE attrelid = 'spend'::regclass AND attnum > 2 ORDER BY attnum;
SELECT avg(prediction) FILTER (WHERE plan = 'gold') > avg(prediction) FILTER (WHERE plan = 'basic') + 15 AS learned,
       min(prediction) >= 0 AS clamped FROM spend JOIN customers USING (customer_id);
SELECT ensemble, count(*) FROM moe_ml.training_history WHERE name = 'spend' AND best GROUP BY ensemble ORDER BY ensemble;

-- Several classes, from labels of the user's own; classes are in byte order.
SELECT moe_ml.execute($$CREATE MODEL size PREDICT bucket FOR EACH customers AT at AS
  SELECT customer_id, at, CASE WHEN n = 0 THEN 'none' WHEN n = 1 THEN 'Few' ELSE 'many' END AS bucket
    FROM (SELECT c.customer_id, at, (SELECT count(*) FROM orders o WHERE o.customer_id = c.customer_id
                                        AND o.placed_at > at AND o.placed_at <= at + interval '28 days') AS n
            FROM customers c, generate_series(timestamp '2020-02-01', timestamp '2020-11-01', interval '1 month') at) s
  WITH (ensembles = 1, epochs = 8, channels = 16, batch_size = 64, balance = 'classes')$$);
SELECT task, classes, rows, label_window / 86400000000 AS window_days FROM moe_ml.model_relations
  JOIN moe_ml.models USING (schema, name, task) WHERE name = 'size';
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
 WHERE attrelid = 'size'::regclass AND attnum > 2 ORDER BY attnum;
SELECT count(DISTINCT customer_id), bool_and(score BETWEEN 0 AND 1) AS shares FROM size;

-- Labels that cannot be trained on.
SELECT moe_ml.execute('CREATE MODEL m PREDICT count(orders.*, 0, 14, days) >= 0 FOR EACH customers');
SELECT moe_ml.execute($$CREATE MODEL m PREDICT label FOR EACH customers AT at AS
  SELECT customer_id + 1000 AS customer_id, timestamp '2020-03-01' + customer_id * interval '1 day' AS at,
         customer_id % 2 = 0 AS label FROM customers$$);
SELECT moe_ml.execute($$CREATE MODEL m PREDICT label FOR EACH customers AT at AS
  SELECT customer_id, timestamp '2020-03-01' + customer_id * interval '1 day' AS at,
         CASE WHEN customer_id % 20 = 0 THEN float8 'NaN' ELSE customer_id END AS label FROM customers$$);
SELECT moe_ml.execute($$CREATE MODEL m PREDICT label FOR EACH customers AT at AS
  SELECT customer_id, timestamp '2020-03-01' + customer_id * interval '1 day' AS at,
         customer_id % 3 AS label FROM customers WITH (task = 'binary')$$);
SELECT moe_ml.execute($$CREATE MODEL m PREDICT label FOR EACH customers AT at AS
  SELECT customer_id, timestamp '2020-03-01' + customer_id * interval '1 day' AS at,
         NULL::int AS label FROM customers$$);
SELECT moe_ml.execute($$CREATE MODEL m PREDICT label FOR EACH customers AT at AS
  SELECT customer_id, timestamp '2019-03-01' + customer_id * interval '1 day' AS at,
         customer_id % 2 AS label FROM customers$$);
SELECT count(*) FROM moe_ml.models WHERE name = 'm';

-- REFRESH goes on from the stored parameters: its first epoch is better than the first epoch ever.
BEGIN;
SELECT train_loss AS loss FROM moe_ml.training_history WHERE name = 'churn' AND epoch = 1 \gset first_
SELECT moe_ml.execute('REFRESH MODEL churn');
SELECT train_loss < :first_loss - 0.05 AS warm, fingerprint('churn') <> :'original' AS changed
  FROM moe_ml.training_history WHERE name = 'churn' AND epoch = 1;
ROLLBACK;
SELECT fingerprint('churn') = :'original' AS rolled_back;

-- Stored parameters are checked before use; REFRESH repairs them.
BEGIN;
UPDATE moe_ml.model_parameter p SET data = set_byte(data, 5000, (get_byte(data, 5000) + 1) % 256)
  FROM moe_ml.model_relations r WHERE r.id = p.model AND r.name = 'churn' AND part = 0;
SAVEPOINT s;
SELECT count(*) FROM churn;
ROLLBACK TO s;
SELECT moe_ml.execute('REFRESH MODEL churn');
SELECT count(*), fingerprint('churn') = :'original' AS trained_afresh FROM churn;
ROLLBACK;
BEGIN;
DELETE FROM moe_ml.model_parameter p USING moe_ml.model_relations r WHERE r.id = p.model AND r.name = 'churn';
SAVEPOINT s;
SELECT count(*) FROM churn;
ROLLBACK TO s;
DELETE FROM moe_ml.model m USING moe_ml.model_relations r WHERE r.id = m.id AND r.name = 'churn';
SELECT count(*) FROM churn;
ROLLBACK;
SELECT count(*) FROM churn;

DROP SCHEMA model_test CASCADE;
SELECT count(*) FROM moe_ml.model;
SELECT count(*) FROM moe_ml.model_parameter;
SELECT count(*) FROM moe_ml.model_epoch;
SELECT count(*) FROM moe_ml.model_expert;
