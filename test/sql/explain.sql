-- What one prediction rests on: tables, columns and experts, each of which sum to its difference from the base.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET moe_ml.notices = off;
CREATE SCHEMA explain_test;
SET search_path = explain_test, public;

-- Machines report monthly; a machine with a hot reading in a month fails in the next one. What inspectors note is noise.
CREATE TABLE machines (machine_id integer PRIMARY KEY, model text, built_at timestamp NOT NULL);
CREATE TABLE readings (reading_id integer PRIMARY KEY, machine_id integer NOT NULL REFERENCES machines,
    taken_at timestamp NOT NULL, celsius real NOT NULL, humidity real NOT NULL);
CREATE TABLE failures (failure_id integer PRIMARY KEY, machine_id integer NOT NULL REFERENCES machines,
    failed_at timestamp NOT NULL, cost real NOT NULL);
INSERT INTO machines SELECT i, CASE WHEN i % 10 > 0 THEN 'type ' || i % 4 END, timestamp '2023-01-01' FROM generate_series(1, 50) AS i;
INSERT INTO machines VALUES (51, 'type 1', '2024-02-10');
CREATE VIEW hot AS SELECT i, m FROM generate_series(1, 51) AS i, generate_series(0, 15) AS m
WHERE (hashint8(i * 100 + m) & 1023) % 3 = 0;
INSERT INTO readings SELECT row_number() OVER (ORDER BY i, m), i, timestamp '2023-01-15' + m * interval '30 days',
    CASE WHEN (i, m) IN (SELECT h.i, h.m FROM hot AS h) THEN 90 ELSE 20 END, (hashint8(i * 7 + m) & 1023) % 50
FROM generate_series(1, 51) AS i, generate_series(0, 15) AS m;
INSERT INTO failures SELECT row_number() OVER (ORDER BY i, m), i, timestamp '2023-01-15' + m * interval '30 days' + interval '20 days', i % 5 + 1
FROM hot;
-- The newest row, so that the last failures' windows close.
INSERT INTO readings SELECT 10000, 1, max(failed_at) + interval '10 days', 20, 20 FROM failures;
ANALYZE;

-- A model of each task; of one expert alone, and one that lets the glance expert answer whatever it is sure of.
CREATE FUNCTION train(name text, query text, options text) RETURNS text LANGUAGE sql AS
$$ SELECT moe_ml.execute(format('CREATE MODEL %I PREDICT %s FOR EACH machines WITH (ensembles = 1, channels = 8, hops = 1, %s)', name, query, options)) $$;
SELECT train('fails', 'count(failures.*, 0, 30, days) > 0', $$epochs = 20, learning_rate = 0.02, neighbors = '1', sampling = latest, validation_from = '2023-11-11', test_from = '2024-01-10'$$);
SELECT train('cost', 'sum(failures.cost, 0, 60, days)', 'epochs = 3');
SELECT train('kind', 'machines.model', 'epochs = 3');
SELECT train('graph_alone', 'count(failures.*, 0, 30, days) > 0', $$experts = graph, epochs = 20, learning_rate = 0.02, neighbors = '1', sampling = latest, validation_from = '2023-11-11', test_from = '2024-01-10'$$);
SELECT train('history_alone', 'count(failures.*, 0, 30, days) > 0', $$experts = history$$);
SELECT train('thrifty', 'count(failures.*, 0, 30, days) > 0', $$experts = 'glance, linear, graph', budget = 0, epochs = 1, validation_from = '2023-09-11', test_from = '2024-01-10'$$);

-- What is told of a few machines by each; a model that tells nothing would be missed.
CREATE TABLE told AS
SELECT model, key, e.*
FROM unnest('{fails,cost,kind,graph_alone,history_alone,thrifty}'::text[]) AS model, unnest('{3,7,10,20,33}'::int[]) AS key,
     LATERAL moe_ml.explain(model, key, timestamptz '2024-01-12') WITH ORDINALITY AS e (part, name, rows, prediction, contribution, share, line);
SELECT part, bool_and(name IS NULL) AS nameless, bool_and(rows IS NULL) AS no_rows, bool_and(prediction IS NULL) AS no_prediction,
       bool_and(contribution IS NULL) AS no_contribution, bool_and(share IS NULL) AS no_share
FROM told GROUP BY part ORDER BY min(line), part;

-- Tables, columns and experts each sum to prediction - base; the prediction is the model's.
CREATE VIEW sums AS
SELECT model, key, part, sum(contribution) AS sum, max(whole.prediction) AS prediction, max(whole.base) AS base
FROM told JOIN (SELECT model, key, max(prediction) FILTER (WHERE part = 'all') AS prediction, max(prediction) FILTER (WHERE part = 'base') AS base
                FROM told GROUP BY model, key) AS whole USING (model, key)
WHERE contribution IS NOT NULL GROUP BY model, key, part;
SELECT model, part, count(*), bool_and(abs(sum - (prediction - base)) < 1e-5 * greatest(1, abs(prediction))) AS sums,
       bool_or(abs(prediction - base) > 1e-3) AS differs
FROM sums GROUP BY model, part ORDER BY model, part;
SELECT model, bool_and(prediction = moe_ml.predict(model, key, '2024-01-12')) AS the_models_own FROM told WHERE part = 'all' AND model <> 'kind' GROUP BY model ORDER BY model;
SELECT bool_and(prediction = score) AS of_the_class_predicted FROM told JOIN kind ON machine_id = key AND as_of = '2024-01-12' WHERE part = 'all' AND model = 'kind';
-- The columns of a table sum to the table, as far as they are told one by one.
SELECT count(*) FROM (SELECT name, contribution FROM told WHERE model = 'history_alone' AND part = 'table' AND contribution <> 0
    EXCEPT SELECT name, contribution FROM told WHERE model = 'history_alone' AND part = 'column') AS d;
SELECT t.key, abs(t.contribution - sum(c.contribution)) < 1e-5 AS sums
FROM told AS t JOIN told AS c ON c.model = t.model AND c.key = t.key AND c.part = 'column' AND c.name ~ '(^|\W)readings'
WHERE t.model = 'graph_alone' AND t.part = 'table' AND t.name = 'readings' GROUP BY t.key, t.contribution ORDER BY t.key;
-- The base knows nothing of a row: it is one for all whom the same experts answer.
SELECT model, count(DISTINCT prediction) AS bases FROM told WHERE part = 'base' AND model NOT IN ('fails', 'cost', 'kind') GROUP BY model ORDER BY model;
SELECT abs(max(prediction) - 0.33) < 0.1 AS about_the_share_of_failures FROM told WHERE part = 'base' AND model = 'history_alone';

-- The cause is found, by the graph expert alone too: it is the temperature, not the humidity beside it.
SELECT i AS hot FROM hot WHERE m = 12 AND i IN (3, 7, 10, 33) ORDER BY i;
SELECT DISTINCT ON (model, key) model, key, name FROM told WHERE part = 'table' AND model IN ('fails', 'graph_alone') AND key IN (10, 33) ORDER BY model, key, abs(contribution) DESC;
SELECT model, key, max(contribution) FILTER (WHERE name = 'readings.celsius') > 0.5 AS hot,
       coalesce(max(abs(contribution)) FILTER (WHERE name = 'readings.humidity'), 0) < 0.1 AS not_humid
FROM told WHERE part = 'column' AND model IN ('fails', 'graph_alone') AND key IN (10, 33) GROUP BY model, key ORDER BY model, key;
SELECT max(contribution) < 0.1 AS cold FROM told WHERE part = 'column' AND model IN ('fails', 'graph_alone') AND key IN (3, 7) AND name = 'readings.celsius';

-- What had no part in a prediction has none in what is told: the history expert looks at past labels alone.
SELECT model, array_agg(DISTINCT name) AS parts FROM told
WHERE model IN ('history_alone', 'thrifty') AND part IN ('table', 'column') AND contribution <> 0 GROUP BY model ORDER BY model;
SELECT name, min(share), max(share), count(prediction) AS asked, count(nullif(contribution, 0)) > 0 AS contributes FROM told WHERE model = 'thrifty' AND part = 'expert' GROUP BY name ORDER BY min(line);

-- Lines: largest first, the columns cut at ten with the others together; visible rows; shares.
SELECT part, bool_and(size <= previous) AS sorted
FROM (SELECT part, abs(contribution) AS size, lag(abs(contribution)) OVER (PARTITION BY model, key, part ORDER BY line) AS previous
      FROM told WHERE part IN ('table', 'column') AND name !~ '^\d+ other') AS t GROUP BY part ORDER BY part;
ALTER TABLE readings ADD COLUMN a real, ADD COLUMN b real, ADD COLUMN c real, ADD COLUMN d real, ADD COLUMN e real, ADD COLUMN f real, ADD COLUMN g real;
UPDATE readings SET a = celsius + reading_id % 3, b = celsius - reading_id % 4, c = celsius + reading_id % 5, d = reading_id % 6, e = reading_id % 7,
    f = reading_id % 8, g = reading_id % 9;
SELECT train('wide', 'count(failures.*, 0, 30, days) > 0', $$experts = 'linear, graph', epochs = 1$$);
CREATE TABLE told_wide AS SELECT * FROM moe_ml.explain('wide', 7, '2024-01-12');
SELECT count(*), count(*) FILTER (WHERE name ~ '^[1-9]\d* others?$') AS others,
       abs(sum(contribution) - (SELECT sum(contribution) FROM told_wide WHERE part = 'table')) < 1e-5 AS sums
FROM told_wide WHERE part = 'column';
SELECT part, name, rows FROM told WHERE model = 'fails' AND key = 7 AND rows IS NOT NULL AND part <> 'row' ORDER BY part, name;
SELECT DISTINCT abs(sum(share) - 1) < 1e-3 AS shares FROM told WHERE part = 'expert' GROUP BY model, key;

-- The same for the same, whatever came before; nothing for who is not there, and every kind of key.
SELECT count(*) FROM (SELECT part, name, rows, prediction, contribution, share FROM told WHERE model = 'cost' AND key = 7
    EXCEPT SELECT * FROM moe_ml.explain('cost', '7', '2024-01-12')) AS d;
SELECT bool_and(p.prediction = t.prediction) AS untouched FROM (SELECT DISTINCT ON (key) key, prediction FROM told WHERE model = 'graph_alone' AND part = 'all') AS t,
    LATERAL (SELECT moe_ml.predict('graph_alone', key, '2024-01-12') AS prediction) AS p;
SELECT count(*) FROM moe_ml.explain('fails', 1000);
SELECT count(*) FROM moe_ml.explain('fails', 51, '2024-01-12');

DROP SCHEMA explain_test CASCADE;
