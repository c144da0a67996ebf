-- What a mixture of experts shows of itself: who there is, what each says and weighs, what all of them look at.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET moe_ml.notices = off;
CREATE SCHEMA experts_test;
SET search_path = experts_test, public;

-- Sixty customers order every 9 to 12 days; those with an odd number pay twenty times as much.
CREATE TABLE customers (customer_id integer PRIMARY KEY, country text, signed_up timestamp NOT NULL);
CREATE TABLE orders (order_id integer PRIMARY KEY, customer_id integer NOT NULL REFERENCES customers,
    placed_at timestamp NOT NULL, amount float8 NOT NULL);
INSERT INTO customers
SELECT i, CASE WHEN i % 7 > 0 THEN (ARRAY['AT','DE','FR'])[1 + i % 3] END, '2024-01-01' FROM generate_series(1, 60) AS i;
INSERT INTO orders
SELECT row_number() OVER (ORDER BY c, k), c, timestamp '2024-01-12' + (k * (9 + c % 4) + c % 7) * interval '1 day',
       (c % 5 + 1) * CASE WHEN c % 2 = 1 THEN 20 ELSE 1 END
FROM generate_series(1, 60) AS c, generate_series(0, 35) AS k
WHERE timestamp '2024-01-12' + (k * (9 + c % 4) + c % 7) * interval '1 day' < timestamp '2024-12-31';
ANALYZE;

SELECT moe_ml.execute($$CREATE MODEL spend PREDICT sum(orders.amount, 0, 30, days) FOR EACH customers
    WITH (epochs = 2, channels = 8, ensembles = 1, show = experts)$$);
SELECT moe_ml.execute($$CREATE MODEL rich PREDICT sum(orders.amount, 0, 30, days) > 20 FOR EACH customers
    WITH (epochs = 2, channels = 8, ensembles = 1, experts = 'graph, linear', show = experts)$$);
SELECT moe_ml.execute($$CREATE MODEL home PREDICT customers.country FOR EACH customers
    WITH (epochs = 2, channels = 8, ensembles = 1)$$);

-- All of them by default, those that do most first; loads add up to one.
SELECT array_agg(expert ORDER BY expert) AS experts, sum(load) BETWEEN 0.999 AND 1.001 AS together,
       array_agg(load) = array_agg(load ORDER BY load DESC) AS ordered, bool_and(alone > 0) AS measured,
       bool_and(parameters >= 0) AS counted, bool_and(seconds >= 0) AS timed
FROM moe_ml.experts('spend');
SELECT model, array_agg(expert) AS experts, bool_and(parameters > 0) AS learned FROM moe_ml.experts
WHERE schema = 'experts_test' AND model <> 'spend' GROUP BY model ORDER BY model;
SELECT moe_ml.experts('nobody');
SELECT options ->> 'experts' AS experts, options ->> 'top_k' AS top_k FROM moe_ml.model_relations WHERE name = 'rich';
-- The order in which they are named is of no importance, nor is naming one twice.
SELECT moe_ml.execute($$CREATE MODEL rich_again PREDICT sum(orders.amount, 0, 30, days) > 20 FOR EACH customers
    WITH (epochs = 2, channels = 8, ensembles = 1, experts = (Linear, linear, graph))$$);
SELECT count(*), bool_and(a.probability = b.probability) AS same FROM rich AS a JOIN rich_again AS b USING (customer_id);

-- A range holds its prediction, and most of what comes.
SELECT count(*), bool_and(lower <= prediction AND prediction <= upper) AS holds, bool_and(lower < upper) AS is_wide FROM spend;
SELECT split, model BETWEEN 0.75 AND 1 AS coverage, constant, own_past FROM moe_ml.evaluate('spend') WHERE metric = 'coverage' AND split = 'validation';
-- With too few validation rows there is none.
SELECT moe_ml.execute($$CREATE MODEL few PREDICT amount FOR EACH customers AT at
    WITH (epochs = 1, channels = 8, ensembles = 1)
    AS SELECT customer_id, placed_at AS at, amount,
              CASE WHEN order_id % 20 > 0 THEN 'train' WHEN order_id < 200 THEN 'validation' ELSE 'test' END AS split
       FROM orders$$);
SELECT moe_ml.execute($$CREATE OR REPLACE MODEL few PREDICT amount FOR EACH customers AT at
    WITH (epochs = 1, channels = 8, ensembles = 1, split_column = split)
    AS SELECT customer_id, placed_at AS at, amount,
              CASE WHEN order_id % 20 > 0 THEN 'train' WHEN order_id < 200 THEN 'validation' ELSE 'test' END AS split
       FROM orders$$);
SELECT count(*), count(prediction) AS predictions, count(lower) + count(upper) AS ranges FROM few;

-- The weights of a row.
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
WHERE c.relnamespace = 'experts_test'::regnamespace AND c.relname IN ('rich', 'spend') AND c.relkind = 'f' AND a.attnum > 2
ORDER BY c.relname, a.attnum;
SELECT count(*), bool_and((SELECT sum(value::float8) BETWEEN 0.999 AND 1.001 FROM jsonb_each(experts))) AS together,
       min((SELECT string_agg(key, ', ' ORDER BY key) FROM jsonb_each(experts))) AS names FROM rich;
SELECT experts -> 'linear' IS NOT NULL AS linear FROM rich WHERE customer_id = 7;

-- What each says of a row is mixed to the prediction by its weights.
CREATE FUNCTION spend_rows() RETURNS text LANGUAGE sql AS
$$ SELECT 'SELECT customer_id, timestamp ''2024-11-01'' + customer_id % 3 * interval ''10 days'' AS as_of, NULL::float8 AS label FROM experts_test.customers' $$;
SELECT count(*) AS lines, count(DISTINCT key) AS keys, count(DISTINCT expert) AS experts, count(class) AS classes
FROM moe_ml.expert_predictions('spend', spend_rows());
WITH mixed AS (
    SELECT key, sum(weight) AS weight, sum(weight * prediction) AS prediction
    FROM moe_ml.expert_predictions('spend', spend_rows()) GROUP BY key)
SELECT count(*), max(abs(weight - 1)) < 1e-5 AS together, max(abs(m.prediction - p.prediction) / (1 + abs(p.prediction))) < 1e-4 AS mixed
FROM mixed AS m JOIN moe_ml.predictions('spend', spend_rows()) AS p USING (key);
-- A column's experts are those of explain and of expert_predictions.
SELECT count(*), max(abs(weight - (s.experts ->> e.expert)::float8)) < 1e-4 AS same
FROM moe_ml.expert_predictions('spend', $$SELECT customer_id, timestamp '2024-11-01' AS as_of, 0 AS label FROM experts_test.customers WHERE customer_id < 9$$) AS e
JOIN spend AS s ON s.customer_id = e.key::int AND s.as_of = '2024-11-01';
SELECT count(*), max(abs(e.share - (s.experts ->> e.name)::float8)) < 1e-4 AS same
FROM moe_ml.explain('spend', 7, '2024-11-01') AS e, spend AS s
WHERE e.part = 'expert' AND s.customer_id = 7 AND s.as_of = '2024-11-01';
SELECT * FROM moe_ml.expert_predictions('spend', spend_rows(), 'yesterday');

-- What they look at: columns with names, each about a table; SQL gives the same numbers.
SELECT count(*) > 20 AS many, min(number) = 1 AND max(number) = count(*) AS numbered, count(DISTINCT name) = count(*) AS named,
       array_agg(DISTINCT about ORDER BY about) FILTER (WHERE about IS NOT NULL) = ARRAY['customers'::regclass, 'orders'::regclass] AS about
FROM moe_ml.input_names('spend');
SELECT name, about FROM moe_ml.input_names('spend') WHERE name IN ('last label', 'count of orders', 'mean of orders.amount', 'mean of orders.amount over 360 days') ORDER BY number;
SELECT bool_and(cardinality(input) = (SELECT count(*) FROM moe_ml.input_names('spend'))) AS whole FROM moe_ml.inputs('spend', spend_rows());
SELECT n.name, count(*), bool_and(CASE n.name
           WHEN 'count of orders' THEN i.input[n.number] = (SELECT count(*) FROM orders WHERE customer_id = i.key::int AND placed_at <= i.as_of)
           ELSE abs(i.input[n.number] - (SELECT avg(amount) FROM orders WHERE customer_id = i.key::int AND placed_at <= i.as_of)) < 1e-4 END) AS as_in_sql
FROM moe_ml.inputs('spend', spend_rows()) AS i, moe_ml.input_names('spend') AS n
WHERE n.name IN ('count of orders', 'mean of orders.amount') GROUP BY n.name ORDER BY n.name;

-- Experts that have nothing to learn from are left out, or asked for in vain.
SELECT array_agg(expert ORDER BY expert) AS experts FROM moe_ml.experts('home');
SELECT moe_ml.execute($$CREATE MODEL none PREDICT customers.country FOR EACH customers WITH (experts = history)$$);
CREATE TABLE bare (id integer PRIMARY KEY, v text);
INSERT INTO bare SELECT i, CASE WHEN i > 5 THEN 'kind ' || i % 3 END FROM generate_series(1, 60) AS i;
SELECT moe_ml.execute($$CREATE MODEL keys_alone PREDICT v FOR EACH bare WITH (epochs = 1, channels = 8)$$);
SELECT (SELECT array_agg(expert) FROM moe_ml.experts('keys_alone')) AS experts, count(*), count(class) AS classes FROM keys_alone;
SELECT count(*) AS inputs FROM moe_ml.input_names('keys_alone');
SELECT moe_ml.execute($$CREATE MODEL none PREDICT v FOR EACH bare WITH (experts = 'linear, tabular')$$);
-- Without the graph there is no network of tables, and no epoch.
SELECT moe_ml.execute($$CREATE MODEL quick PREDICT sum(orders.amount, 0, 30, days) FOR EACH customers WITH (experts = 'linear', max_columns = 5)$$);
SELECT count(*) AS predictions, (SELECT count(*) FROM moe_ml.training_history WHERE name = 'quick') AS epochs,
       (SELECT count(*) FILTER (WHERE about IS NOT NULL) <= 5 FROM moe_ml.input_names('quick')) AS few_columns FROM quick;
SELECT moe_ml.execute('REFRESH MODEL quick');
-- Past labels of one's own are kept with the model, by keys of any number of columns.
CREATE TABLE seats (hall text, number integer, rows_back integer, PRIMARY KEY (hall, number));
INSERT INTO seats SELECT 'hall "' || i % 2 || '", left', i, i % 9 FROM generate_series(1, 40) AS i;
SELECT moe_ml.execute($$CREATE MODEL sold PREDICT y FOR EACH seats AT at WITH (epochs = 1, channels = 8, ensembles = 1)
    AS SELECT hall, number, date '2024-01-01' + 7 * k AS at, number % 4 = 0 AS y FROM seats, generate_series(1, 20) AS k$$);
SELECT count(*), round(exp(min(i.input[n.number]))) - 1 AS fewest, round(exp(max(i.input[n.number]))) - 1 AS most
FROM moe_ml.inputs('sold', $$SELECT hall, number, date '2024-05-14' AS as_of FROM experts_test.seats$$) AS i, moe_ml.input_names('sold') AS n
WHERE n.name = 'number of past labels';
SELECT count(*), moe_ml.predict('sold', ROW('hall "1", left', 3)) IS NOT NULL AS predicts FROM sold;

-- One expert a row: the others weigh nothing.
SELECT moe_ml.execute($$CREATE MODEL alone PREDICT sum(orders.amount, 0, 30, days) FOR EACH customers
    WITH (experts = 'history, linear, retrieval, arm', top_k = 1, show = experts, validation_from = '2024-05-01', test_from = '2024-11-01')$$);
SELECT count(*) FILTER (WHERE load > 0) < 4 AS some_idle FROM moe_ml.experts('alone');
SELECT count(*), max((SELECT count(*) FROM jsonb_each(experts) WHERE value::float8 > 0)) AS at_most FROM alone;

DROP SCHEMA experts_test CASCADE;
