-- Metrics on time-split rows, beside naive baselines; and which tables a model rests on.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE SCHEMA evaluate_test;
SET search_path = evaluate_test, public;

-- Machines report monthly; a machine with a hot reading in a month fails in the next one.
CREATE TABLE machines (machine_id integer PRIMARY KEY, model text, built_at timestamp NOT NULL);
CREATE TABLE readings (reading_id integer PRIMARY KEY, machine_id integer NOT NULL REFERENCES machines,
    taken_at timestamp NOT NULL, celsius real NOT NULL);
CREATE TABLE failures (failure_id integer PRIMARY KEY, machine_id integer NOT NULL REFERENCES machines,
    failed_at timestamp NOT NULL, cost real NOT NULL);
INSERT INTO machines SELECT i, CASE WHEN i % 10 > 0 THEN 'type ' || i % 4 END, timestamp '2023-01-01' FROM generate_series(1, 50) AS i;
INSERT INTO machines VALUES (51, 'type 1', '2024-02-10');
CREATE VIEW hot AS SELECT i, m FROM generate_series(1, 51) AS i, generate_series(0, 15) AS m
WHERE (hashint8(i * 100 + m) & 1023) % 3 = 0;
INSERT INTO readings SELECT row_number() OVER (ORDER BY i, m), i, timestamp '2023-01-15' + m * interval '30 days',
    CASE WHEN (i, m) IN (SELECT h.i, h.m FROM hot AS h) THEN 90 ELSE 20 END
FROM generate_series(1, 51) AS i, generate_series(0, 15) AS m;
INSERT INTO failures SELECT row_number() OVER (ORDER BY i, m), i, timestamp '2023-01-15' + m * interval '30 days' + interval '20 days', i % 5 + 1
FROM hot;
-- The newest row, so that the last failures' windows close.
INSERT INTO readings SELECT 10000, 1, max(failed_at) + interval '10 days', 20 FROM failures;
ANALYZE;

SELECT moe_ml.execute($$CREATE MODEL fails PREDICT count(failures.*, 0, 30, days) > 0 FOR EACH machines
    WITH (epochs = 20, channels = 8, ensembles = 1, learning_rate = 0.02, hops = 1, neighbors = '1', sampling = latest,
          validation_from = '2023-11-11', test_from = '2024-01-10')$$);

-- The model's own rows: validation lies before the cut, so that both regimes agree; test has both.
SELECT split, regime, count(*) AS metrics, min(rows) = max(rows) AS same_rows, min(rows) > 0 AS some
FROM moe_ml.evaluate('fails') GROUP BY 1, 2 ORDER BY 1 DESC, 2;
SELECT metric, model BETWEEN 0 AND 1 OR metric = 'log_loss' AS in_range FROM moe_ml.evaluate('fails') WHERE split = 'validation' ORDER BY metric;
-- The cause is found; what needs no model does not find it.
SELECT split, regime, model > 0.9 AS model, constant = 0.5 AS constant, own_past BETWEEN 0.3 AND 0.7 AS own_past
FROM moe_ml.evaluate('fails') WHERE metric = 'auroc' AND regime <> 'frozen' ORDER BY 1 DESC;

-- By hand from predictions(): the same figures.
CREATE FUNCTION test_rows() RETURNS TABLE (machine_id int, as_of timestamp, label int) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY EXECUTE format('SELECT machine_id, as_of::timestamp, label::int FROM (%s) AS q WHERE split = %L',
        moe_ml.training_query('fails'), 'test');
END $$;
SELECT r.regime, abs(avg((p.prediction - p.label::int) ^ 2) - min(e.model)) < 6e-5 AS brier, count(*) = min(e.rows) AS rows
FROM (VALUES ('rolling'), ('frozen')) AS r (regime),
     LATERAL moe_ml.predictions('fails', 'SELECT * FROM test_rows()', r.regime) AS p,
     LATERAL (SELECT * FROM moe_ml.evaluate('fails') WHERE split = 'test' AND metric = 'brier' AND regime = r.regime) AS e
GROUP BY r.regime ORDER BY 1;
SELECT e.metric, e.model = q.model AS model, e.constant = q.constant AS constant, e.own_past = q.own_past AS own_past, e.rows = q.rows AS rows
FROM moe_ml.evaluate('fails') AS e JOIN moe_ml.evaluate('fails', 'SELECT * FROM test_rows() ORDER BY hashint4(machine_id)') AS q USING (regime, metric)
WHERE e.split = 'test' AND regime = 'rolling' ORDER BY 1;

-- The baselines by hand: the share of failures in training, and each machine's own past as known at the time.
CREATE TABLE own AS SELECT * FROM test_rows() WITH NO DATA;
DO $$ BEGIN EXECUTE 'INSERT INTO own SELECT machine_id, as_of, label::int FROM (' || moe_ml.training_query('fails') || ') AS q'; END $$;
SELECT abs(avg((t.label - c.share) ^ 2) - min(e.constant)) < 6e-5 AS constant,
       abs(avg((t.label - coalesce(o.past, c.share)) ^ 2) - min(e.own_past)) < 6e-5 AS own_past
FROM test_rows() AS t
CROSS JOIN (SELECT avg(label) AS share FROM own WHERE as_of + interval '30 days' <= '2023-11-11') AS c
CROSS JOIN LATERAL (SELECT avg(o.label) AS past FROM own AS o WHERE o.machine_id = t.machine_id AND o.as_of + interval '30 days' <= t.as_of) AS o
CROSS JOIN (SELECT * FROM moe_ml.evaluate('fails') WHERE split = 'test' AND regime = 'rolling' AND metric = 'brier') AS e;
SELECT abs(avg((t.label - coalesce(o.past, c.share)) ^ 2) - min(e.own_past)) < 6e-5 AS own_past_frozen
FROM test_rows() AS t
CROSS JOIN (SELECT avg(label) AS share FROM own WHERE as_of + interval '30 days' <= '2023-11-11') AS c
CROSS JOIN LATERAL (SELECT avg(o.label) AS past FROM own AS o WHERE o.machine_id = t.machine_id AND o.as_of + interval '30 days' <= least(t.as_of, '2024-01-10')) AS o
CROSS JOIN (SELECT * FROM moe_ml.evaluate('fails') WHERE split = 'test' AND regime = 'frozen' AND metric = 'brier') AS e
WHERE t.machine_id <> 51; -- not yet built at the cut

-- Queries: names of columns, splits of one's own, rows left out.
SELECT DISTINCT split, regime, rows FROM moe_ml.evaluate('fails', 'SELECT machine_id, day AS seen, bad FROM
    (VALUES (1, date ''2023-06-01'', true), (2, date ''2023-06-01'', false), (3, date ''2023-07-01'', false)) AS v (machine_id, day, bad)');
SELECT DISTINCT split, rows FROM moe_ml.evaluate('fails', $$SELECT machine_id, as_of, label, CASE WHEN machine_id % 2 = 0 THEN 'even' ELSE 'odd' END AS split
    FROM test_rows() WHERE machine_id <= 20$$) WHERE regime = 'rolling' ORDER BY 1;
SET client_min_messages = notice;
SELECT DISTINCT split, rows FROM moe_ml.evaluate('fails', $$VALUES (1, timestamp '2023-06-01', 1), (2, '2023-06-01', NULL), (1000, '2023-06-01', 0)$$);
SELECT DISTINCT split, rows FROM moe_ml.evaluate('fails',
    $$SELECT * FROM (VALUES (1, timestamp '2023-06-01', 1), (2, '2023-06-01', NULL), (1000, '2023-06-01', 0)) AS v (machine_id, as_of, label)$$);
SET client_min_messages = warning;
SELECT moe_ml.evaluate('fails', 'SELECT 1 AS machine_id, now() AS as_of, 1 AS label WHERE false');
SELECT moe_ml.evaluate('fails', 'SELECT 1 AS machine_id, 1 AS label');
SELECT moe_ml.evaluate('fails', 'SELECT 1 AS machine_id, now() AS a, now() AS b, 1 AS label');
SELECT moe_ml.evaluate('fails', 'SELECT 1 AS machine_id, now() AS as_of');
SELECT moe_ml.evaluate('fails', 'SELECT 1 AS machine_id, now() AS as_of, 1 AS a, 2 AS b');
SELECT moe_ml.evaluate('fails', $$SELECT 1 AS machine_id, timestamp '2023-06-01' AS as_of, 'yes' AS label$$);
SELECT moe_ml.evaluate('fails', $$SELECT 1 AS machine_id, timestamp '2023-06-01' AS as_of, 7 AS label$$);
SELECT moe_ml.evaluate('fails', 'DELETE FROM failures');
SELECT moe_ml.evaluate('fails', 'SELECT nonsense');
SELECT * FROM moe_ml.predictions('fails', 'SELECT 1 AS machine_id, now() AS as_of', 'melted');
-- Labels may be missing where only predictions are asked for.
SELECT key, as_of, label, prediction BETWEEN 0 AND 1 AS probability, class = (prediction >= 0.5)::text AS class
FROM moe_ml.predictions('fails', $$SELECT 7 AS machine_id, timestamp '2024-01-01' AS as_of$$);

-- Regression and several classes.
SELECT moe_ml.execute($$CREATE MODEL cost PREDICT sum(failures.cost, 0, 60, days) FOR EACH machines
    WITH (epochs = 3, channels = 8, ensembles = 1)$$);
SELECT split, regime, metric, model IS NOT NULL AS model, constant IS NOT NULL AS constant FROM moe_ml.evaluate('cost') WHERE split = 'validation' ORDER BY metric;
SELECT moe_ml.execute($$CREATE MODEL kind PREDICT machines.model FOR EACH machines WITH (epochs = 3, channels = 8, ensembles = 1)$$);
SELECT split, metric, model BETWEEN 0 AND 1 OR metric = 'log_loss' AS model, constant BETWEEN 0 AND 1 OR metric = 'log_loss' AS constant, own_past FROM moe_ml.evaluate('kind') ORDER BY split, metric;
SELECT moe_ml.evaluate('kind', $$SELECT 1 AS machine_id, timestamp '2024-01-01' AS as_of, 'type 9' AS label$$);
SELECT key, label, class ~ '^type [0-3]$' AS class, prediction BETWEEN 0.25 AND 1 AS score
FROM moe_ml.predictions('kind', $$SELECT 1 AS machine_id, timestamp '2024-01-01' AS as_of, 'type 1' AS label$$);

-- Which tables mattered: the readings carry the cause.
SELECT table_name, metric, value_with > 0.9 AS value_with, value_without < 0.8 AS value_without, "drop" > 0.2 AS matters
FROM moe_ml.importance('fails') ORDER BY "drop" DESC;
SELECT count(*), bool_and(abs(abs(value_with - value_without) - abs("drop")) < 1e-9) AS consistent FROM moe_ml.importance('cost');

DROP SCHEMA evaluate_test CASCADE;
