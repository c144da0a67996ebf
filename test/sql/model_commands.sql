-- CREATE, ALTER, REFRESH and DROP MODEL as statements on objects: names, owners, transactions, dependencies.
SET moe_ml.notices = off;
CREATE SCHEMA shop;
CREATE SCHEMA archive;
SET search_path = shop;
CREATE TABLE customers (customer_id int PRIMARY KEY, joined timestamp);
CREATE TABLE orders (order_id int PRIMARY KEY, customer_id int REFERENCES customers, placed_at timestamp);
INSERT INTO customers SELECT i, '2020-01-01' FROM generate_series(1, 20) i;
INSERT INTO orders
SELECT row_number() OVER (), c, timestamp '2020-01-02' + d * interval '1 day' + c * interval '1 minute'
  FROM generate_series(1, 20) c, generate_series(0, 200) d WHERE (d + c) % CASE WHEN c % 2 = 0 THEN 5 ELSE 60 END = 0;
CREATE FUNCTION train(clauses text, options text DEFAULT '') RETURNS text LANGUAGE sql AS
$$ SELECT moe_ml.execute(clauses || ' PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers
                         WITH (epochs = 2, channels = 8' || options || ')') $$;
CREATE VIEW stored AS SELECT count(*) AS models,
       (SELECT count(DISTINCT model) FROM moe_ml.model_parameter) AS parameters,
       (SELECT count(DISTINCT model) FROM moe_ml.model_epoch) AS histories,
       (SELECT count(DISTINCT model) FROM moe_ml.model_expert) AS loads FROM moe_ml.model;

-- One name, one model.
SELECT train('CREATE MODEL churn');
SELECT train('CREATE MODEL churn');
SELECT train('CREATE MODEL IF NOT EXISTS churn');
SELECT train('CREATE MODEL orders');
SELECT train('CREATE OR REPLACE MODEL orders');
SELECT train('CREATE MODEL nowhere.churn');
SELECT train('CREATE MODEL pg_temp.churn');
TABLE stored;

-- OR REPLACE keeps the relation, with its grants and what depends on it, if its columns stay the same.
CREATE ROLE moe_analyst;
GRANT SELECT ON churn TO moe_analyst;
CREATE VIEW at_risk AS SELECT customer_id FROM churn WHERE prediction;
SELECT 'churn'::regclass::oid AS relation, options ->> 'seed' AS seed FROM moe_ml.model_relations WHERE name = 'churn' \gset before_
SELECT train('CREATE OR REPLACE MODEL churn', ', seed = 5');
SELECT relation = :before_relation AS same_relation, options ->> 'seed' AS seed,
       has_table_privilege('moe_analyst', relation, 'SELECT') AS still_granted
  FROM moe_ml.model_relations WHERE name = 'churn';
-- With other columns it is another relation, which cannot be put under the view.
SELECT moe_ml.execute('CREATE OR REPLACE MODEL churn PREDICT count(orders.*, 0, 14, days) FOR EACH customers
                       WITH (epochs = 1, channels = 8)');
DROP VIEW at_risk;
SELECT moe_ml.execute('CREATE OR REPLACE MODEL churn PREDICT count(orders.*, 0, 14, days) FOR EACH customers
                       WITH (epochs = 1, channels = 8)');
SELECT task, relation <> :before_relation AS other_relation FROM moe_ml.model_relations WHERE name = 'churn';
SELECT train('CREATE OR REPLACE MODEL churn');
TABLE stored;

-- All or nothing.
BEGIN;
SELECT train('CREATE MODEL second');
SELECT count(*) FROM second;
ROLLBACK;
BEGIN;
SELECT moe_ml.execute('DROP MODEL churn');
TABLE stored;
ROLLBACK;
TABLE stored;
BEGIN READ ONLY;
SELECT train('CREATE MODEL second');
ROLLBACK;

-- Options.
SELECT train('CREATE MODEL m', ', chanels = 8');
SELECT train('CREATE MODEL m', ', verbosity = 8');
SELECT train('CREATE MODEL m', ', epochs = 3');
SELECT train('CREATE MODEL m', ', seed = 1.5');
SELECT train('CREATE MODEL m', ', dropout = 1');
SELECT train('CREATE MODEL m', ', batch_size = many');
SELECT train('CREATE MODEL m', ', sampling = oldest');
SELECT train('CREATE MODEL m', ', experts = ''linear, graph'', top_k = 3');
SELECT train('CREATE MODEL m', ', experts = ''linear, oracle''');
SELECT train('CREATE MODEL m', ', experts = ''''');
SELECT train('CREATE MODEL m', ', hops = 1, neighbors = ''8, 4''');
SELECT train('CREATE MODEL m', ', neighbors = ''8, x''');
SELECT train('CREATE MODEL m', ', label_window = ''-3 days''');
SELECT train('CREATE MODEL m', ', seed = (1, 2)');
SELECT train('CREATE MODEL m', ', dropout');
SELECT train('CREATE MODEL m', ', label_window = ''two weeks or so''');
SELECT train('CREATE MODEL m', ', test_from = infinity');
SELECT train('CREATE MODEL m', ', test_from = ''2020-13-13''');
SELECT train('CREATE MODEL m', ', validation_from = ''2020-06-01'', test_from = ''2020-05-01''');
-- Those in effect are kept, defaults included.
SELECT train('CREATE MODEL m', ', hops = 3, neighbors = (8, 4, 2), sampling = latest, top_k = 1, experts = ''linear, tabular, graph''');
SELECT options ->> 'neighbors' AS neighbors, options ->> 'sampling' AS sampling, options ->> 'patience' AS patience,
       (SELECT count(*) FROM moe_ml.experts WHERE model = 'm') AS experts FROM moe_ml.model_relations WHERE name = 'm';
SELECT moe_ml.execute('DROP MODEL m');

-- Names that do not exist.
SELECT moe_ml.execute('CREATE MODEL m PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH custmers');
SELECT moe_ml.execute('CREATE MODEL m PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH shop.custmers');
SELECT moe_ml.execute('CREATE MODEL m PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers USING (customers, odrers)');
CREATE TABLE things (as_of int PRIMARY KEY, at timestamp);
CREATE TABLE events (thing int REFERENCES things, at timestamp);
INSERT INTO things SELECT i, '2020-01-01' FROM generate_series(1, 10) i;
INSERT INTO events SELECT i, timestamp '2020-01-01' + d * i * interval '1 day' FROM generate_series(1, 10) i, generate_series(1, 20) d;
SELECT moe_ml.execute('CREATE MODEL m PREDICT count(events.*, 0, 7, days) = 0 FOR EACH things WITH (epochs = 1, channels = 8)');

-- REFRESH trains again, from the stored parameters, wherever names point by then.
SELECT id, trained_at, validation_metric FROM moe_ml.model_relations WHERE name = 'churn' \gset before_
SET search_path = archive;
SET moe_ml.notices = on;
SET client_min_messages = warning;
SELECT moe_ml.execute('REFRESH MODEL shop.churn');
RESET client_min_messages;
SET moe_ml.notices = off;
SET search_path = shop;
SELECT id = :'before_id' AS same_model, trained_at > :'before_trained_at' AS trained_later, created_at < trained_at AS kept
  FROM moe_ml.model_relations WHERE name = 'churn';
SELECT search_path FROM moe_ml.model_relations WHERE name = 'churn';
SELECT moe_ml.execute('REFRESH MODEL chrn');
SELECT moe_ml.execute('REFRESH MODEL orders');
-- A column more: what was learned no longer fits, and the training starts afresh.
ALTER TABLE orders ADD COLUMN amount numeric;
UPDATE orders SET amount = order_id % 5;
SELECT moe_ml.execute('REFRESH MODEL churn');
SELECT count(*) FROM churn;

-- ALTER MODEL.
SELECT moe_ml.execute('ALTER MODEL churn RENAME TO orders');
SELECT moe_ml.execute('ALTER MODEL churn RENAME TO "Churn; 2"');
SELECT moe_ml.execute('ALTER MODEL "Churn; 2" SET SCHEMA archive');
SELECT moe_ml.execute('ALTER MODEL "Churn; 2" RENAME TO churn');
SELECT moe_ml.execute('ALTER MODEL IF EXISTS "Churn; 2" RENAME TO churn');
SELECT moe_ml.execute('ALTER MODEL archive."Churn; 2" RENAME TO churn');
SELECT moe_ml.execute('ALTER MODEL archive.churn SET SCHEMA shop');
SELECT moe_ml.execute('ALTER MODEL churn OWNER TO nobody_at_all');
SELECT moe_ml.execute('ALTER MODEL orders RENAME TO sales');
SELECT schema, name, owner = current_user AS mine FROM moe_ml.model_relations;

-- Only owners change models; seeing one needs SELECT.
GRANT USAGE ON SCHEMA shop TO moe_analyst;
REVOKE ALL ON churn FROM moe_analyst;
SET ROLE moe_analyst;
SELECT moe_ml.execute('DROP MODEL churn');
SELECT moe_ml.execute('REFRESH MODEL churn');
SELECT moe_ml.execute('ALTER MODEL churn RENAME TO mine');
SELECT moe_ml.execute('CREATE OR REPLACE MODEL churn PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers');
SELECT moe_ml.training_query('churn');
SELECT count(*) FROM moe_ml.models;
SELECT count(*) FROM moe_ml.training_history;
SELECT count(*) FROM moe_ml.model;
SELECT count(*) FROM moe_ml.model_parameter;
RESET ROLE;
GRANT SELECT ON churn TO moe_analyst;
SET ROLE moe_analyst;
SELECT schema, name FROM moe_ml.models;
-- The tables are read as whoever asks.
SELECT count(*) FROM churn;
RESET ROLE;
GRANT CREATE ON SCHEMA shop TO moe_analyst;
SELECT moe_ml.execute('ALTER MODEL churn OWNER TO moe_analyst');
GRANT SELECT ON customers, orders TO moe_analyst;
SET ROLE moe_analyst;
SELECT count(*) FROM churn;
SELECT moe_ml.execute('REFRESH MODEL churn');
SELECT train('CREATE MODEL of_the_analyst');
RESET ROLE;
REVOKE USAGE ON FOREIGN SERVER moe_ml FROM PUBLIC;
SET ROLE moe_analyst;
SELECT train('CREATE MODEL another');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER moe_ml TO PUBLIC;

-- DROP MODEL, and every other road out.
CREATE VIEW at_risk AS SELECT customer_id FROM churn WHERE prediction;
SELECT moe_ml.execute('DROP MODEL churn');
SELECT moe_ml.execute('DROP MODEL IF EXISTS churns, churn CASCADE');
SELECT moe_ml.execute('DROP MODEL churn');
SELECT moe_ml.execute('DROP MODEL orders');
TABLE stored;
DROP OWNED BY moe_analyst;
TABLE stored;
SELECT train('CREATE MODEL a');
SELECT train('CREATE MODEL b');
SELECT train('CREATE MODEL archive.c');
SELECT moe_ml.execute('DROP MODEL a, b');
TABLE stored;
DROP FOREIGN TABLE archive.c;
TABLE stored;
SELECT train('CREATE MODEL archive.c');
DROP TABLE customers;
DROP SCHEMA archive CASCADE;
TABLE stored;
SELECT train('CREATE MODEL a');
DROP TABLE customers CASCADE;
TABLE stored;

DROP SCHEMA shop CASCADE;
DROP ROLE moe_analyst;
