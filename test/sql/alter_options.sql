-- ALTER MODEL ... SET and RESET: the definition changes, the next REFRESH MODEL trains with it, and `show` counts at once.
SET moe_ml.notices = off;
SET check_function_bodies = off;
CREATE SCHEMA shop;
SET search_path = shop;
CREATE TABLE customers (customer_id int PRIMARY KEY, joined timestamp);
CREATE TABLE orders (order_id int PRIMARY KEY, customer_id int REFERENCES customers, placed_at timestamp);
INSERT INTO customers SELECT i, '2020-01-01' FROM generate_series(1, 20) i;
INSERT INTO orders
SELECT row_number() OVER (), c, timestamp '2020-01-02' + d * interval '1 day' + c * interval '1 minute'
  FROM generate_series(1, 20) c, generate_series(0, 120) d WHERE (d + c) % CASE WHEN c % 2 = 0 THEN 5 ELSE 60 END = 0;
CREATE VIEW definition AS SELECT definition, options ->> 'epochs' AS epochs, options ->> 'show' AS show FROM moe_ml.model_relations;
CREATE FUNCTION bits() RETURNS text LANGUAGE sql AS
$$ SELECT md5(string_agg(concat(customer_id, as_of, prediction, probability), ' ' ORDER BY customer_id)) FROM churn $$;

SELECT moe_ml.execute('CREATE MODEL churn
  PREDICT count(orders.*, 0, 14, days) = 0 -- a comment stays
  FOR EACH customers WITH (epochs = 2, channels = 8, ensembles = 1, experts = (linear, graph), learning_rate = 0.01)');
SELECT bits() \gset before_

-- Options of the training.
SELECT moe_ml.execute('ALTER MODEL churn SET (epochs = 1, "seed" = -3, experts = ''linear, graph'', weight_decay = 1e-3, composite = off)');
TABLE definition;
SELECT bits() = :'before_bits' AS as_before;
SELECT moe_ml.execute('REFRESH MODEL churn');
TABLE definition;
SELECT moe_ml.execute('ALTER MODEL churn RESET (seed, weight_decay, composite, hops)');
TABLE definition;
SELECT moe_ml.execute('ALTER MODEL churn RESET (epochs, channels, experts, learning_rate, ensembles)');
TABLE definition;
SELECT moe_ml.execute('ALTER MODEL churn SET (time_columns = (orders.placed_at, customers."joined"), epochs = 2, channels = 8, ensembles = 1)');
TABLE definition;

-- The same options give the same model, however they came to be.
SELECT moe_ml.execute('ALTER MODEL churn RESET (time_columns)');
SELECT moe_ml.execute('ALTER MODEL churn SET (experts = (linear, graph), learning_rate = 0.01)');
SELECT definition AS altered FROM definition \gset
SELECT moe_ml.execute('DROP MODEL churn');
SELECT moe_ml.execute(:'altered');
SELECT bits() = :'before_bits' AS as_before;

-- The column of the experts.
CREATE VIEW upon AS SELECT * FROM churn;
SELECT moe_ml.execute('ALTER MODEL churn SET (show = experts)');
SELECT count(*), bool_and(experts ?& '{linear,graph}') FROM churn;
SELECT bits() = :'before_bits' AS as_before, count(*) FROM churn WHERE customer_id IN (1, 2);
SELECT moe_ml.execute('ALTER MODEL churn SET (show = experts)');
CREATE VIEW weights AS SELECT customer_id, experts FROM churn;
SELECT moe_ml.execute('ALTER MODEL churn RESET (show)');
DROP VIEW weights;
SELECT moe_ml.execute('ALTER MODEL churn SET (show = predictions)');
SELECT bits() = :'before_bits' AS as_before;
SELECT * FROM churn WHERE false;
SELECT moe_ml.execute('ALTER MODEL churn SET (show = experts, epochs = 1)');
SELECT * FROM churn WHERE false;
SELECT customer_id, (SELECT count(*) FROM jsonb_object_keys(experts)) FROM churn WHERE customer_id = 3;
SELECT customer_id, c.joined, experts IS NULL FROM customers c JOIN churn USING (customer_id) WHERE customer_id < 3 ORDER BY 1;
SELECT moe_ml.execute('REFRESH MODEL churn');
TABLE definition;
SELECT count(*) FROM upon;

-- Labels of one's own: before or after the query.
SELECT moe_ml.execute('CREATE MODEL own PREDICT y FOR EACH customers AT at WITH (epochs = 1, channels = 8, experts = linear)
  AS (SELECT customer_id, placed_at AS at, order_id % 2 = 0 AS y FROM orders) USING (orders) WITH (seed = 2)');
SELECT moe_ml.execute('ALTER MODEL own SET (seed = 3)');
SELECT definition FROM definition WHERE definition LIKE '%own%';
SELECT moe_ml.execute('REFRESH MODEL own');
SELECT moe_ml.execute('ALTER MODEL own RESET (epochs, channels, experts, seed)');
SELECT definition FROM definition WHERE definition LIKE '%own%';
SELECT moe_ml.execute('ALTER MODEL own SET (experts = linear)');
SELECT definition FROM definition WHERE definition LIKE '%own%';
SELECT moe_ml.execute('REFRESH MODEL own');

-- What is refused leaves everything as it was.
SELECT definition AS kept FROM definition WHERE definition LIKE '%churn%' \gset
SELECT moe_ml.execute('ALTER MODEL churn SET (epoch = 1)');
SELECT moe_ml.execute('ALTER MODEL churn RESET (epoch)');
SELECT moe_ml.execute('ALTER MODEL churn SET (seed = 2, epochs = many)');
SELECT moe_ml.execute('ALTER MODEL churn SET (epochs = 1, epochs = 2)');
SELECT moe_ml.execute('ALTER MODEL churn RESET (epochs = 1)');
SELECT moe_ml.execute('ALTER MODEL churn SET ()');
SELECT moe_ml.execute('ALTER MODEL churn SET (task = regression)');
SELECT moe_ml.execute('ALTER MODEL churn SET (background)');
SELECT moe_ml.execute('ALTER MODEL churn RESET (background)');
SELECT moe_ml.execute('ALTER MODEL churn SET (top_k = 6)');
SELECT moe_ml.execute('ALTER MODEL churn SET (ignored_columns = orders.placd_at)');
SELECT moe_ml.execute('ALTER MODEL orders SET (seed = 1)');
SELECT moe_ml.execute('ALTER MODEL chrn SET (seed = 1)');
SELECT moe_ml.execute('ALTER MODEL IF EXISTS chrn SET (seed = 1)');
CREATE ROLE moe_other;
GRANT USAGE ON SCHEMA shop TO moe_other;
SET ROLE moe_other;
SELECT moe_ml.execute('ALTER MODEL churn SET (seed = 1)');
RESET ROLE;
BEGIN;
SELECT moe_ml.execute('ALTER MODEL churn SET (seed = 7, show = predictions)');
ROLLBACK;
SELECT definition = :'kept' AS as_before FROM definition WHERE definition LIKE '%churn%';

DROP OWNED BY moe_other;
DROP ROLE moe_other;
SET client_min_messages = warning;
DROP SCHEMA shop CASCADE;
