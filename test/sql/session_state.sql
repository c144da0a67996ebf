-- What a prediction may depend on: never on the session's search_path, nor on what an earlier call of it has read.
SET moe_ml.notices = off;
CREATE SCHEMA shop;
CREATE SCHEMA elsewhere;
SET search_path = shop;
CREATE TYPE tier AS ENUM ('bronze', 'silver', 'gold');
CREATE TABLE customers (customer_id varchar PRIMARY KEY, tenant int, tier tier, joined timestamp);
CREATE TABLE orders (order_id int PRIMARY KEY, customer_id varchar REFERENCES customers, placed_at timestamp);
INSERT INTO customers
SELECT 'c' || i, i % 2, CASE WHEN i <= 10 THEN 'gold' ELSE 'silver' END::tier, '2020-01-01' FROM generate_series(1, 20) i;
INSERT INTO orders
SELECT row_number() OVER (), 'c' || c, timestamp '2020-01-02' + d * interval '1 day' + c * interval '1 minute'
  FROM generate_series(1, 20) c, generate_series(0, 200) d WHERE (d + c) % CASE WHEN c % 2 = 0 THEN 5 ELSE 60 END = 0;
SELECT moe_ml.execute($$CREATE MODEL churn PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers
                        WHERE customers.tier = 'gold'::tier WITH (epochs = 1, channels = 8)$$);

-- Names in a model's own SQL are looked up where they were when it was made, whoever asks.
SELECT count(*) FROM churn;
SET search_path = elsewhere;
SELECT count(*) FROM shop.churn;
SELECT count(*) > 0 AS evaluated FROM moe_ml.evaluate('shop.churn');

-- Operators of others do not come between: none of these is asked.
CREATE FUNCTION elsewhere.trap(int, interval) RETURNS interval LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'trapped by *'; END $$;
CREATE FUNCTION elsewhere.trap(varchar, varchar) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'trapped by ='; END $$;
CREATE FUNCTION elsewhere.trap(bigint, int) RETURNS bigint LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'trapped by %%'; END $$;
CREATE OPERATOR elsewhere.* (LEFTARG = int, RIGHTARG = interval, FUNCTION = elsewhere.trap);
CREATE OPERATOR elsewhere.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = elsewhere.trap);
CREATE OPERATOR elsewhere.% (LEFTARG = bigint, RIGHTARG = int, FUNCTION = elsewhere.trap);
SET search_path = shop, elsewhere;
SELECT moe_ml.execute($$CREATE MODEL second PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers
                        WHERE count(orders.*, -90, 0, days) > 0 WITH (epochs = 1, channels = 8)$$);
SELECT count(*) > 0 AS predicted FROM second;
SELECT moe_ml.execute($$CREATE MODEL static PREDICT customers.tenant FOR EACH customers
                        WITH (epochs = 1, channels = 8, task = 'regression')$$);
DROP SCHEMA elsewhere CASCADE;
SET search_path = shop;

-- A constant without a zone counts as UTC, in training and in predicting, whatever the session's time zone.
CREATE TABLE visitors (id int PRIMARY KEY, seen timestamptz);
CREATE TABLE visits (id int PRIMARY KEY, visitor int REFERENCES visitors, at timestamptz);
INSERT INTO visitors SELECT i, timestamptz '2020-01-01 00:00+00' + i * interval '1 hour' FROM generate_series(0, 23) i;
INSERT INTO visits SELECT row_number() OVER (), v, timestamptz '2020-01-02 00:00+00' + d * interval '1 day'
  FROM generate_series(0, 23) v, generate_series(0, 60) d WHERE (d * v) % 7 < 3;
CREATE FUNCTION train_visits(name text) RETURNS text LANGUAGE sql AS
$$ SELECT moe_ml.execute(format('CREATE MODEL %I PREDICT count(visits.*, 0, 3, days) = 0 FOR EACH visitors
     WHERE visitors.seen >= ''2020-01-01 12:00'' WITH (epochs = 1, channels = 8, test_from = ''2020-02-20'')', name)) $$;
SELECT train_visits('in_utc');
SET TimeZone = 'Asia/Tokyo';
SELECT train_visits('in_tokyo');
SELECT count(*) FROM in_utc;
SELECT count(*) FROM in_tokyo;
RESET TimeZone;
SELECT count(*) FROM in_tokyo;
SELECT count(DISTINCT train_rows) = 1 AS same_rows, count(DISTINCT test_from) = 1 AS same_split
  FROM moe_ml.model_relations WHERE name IN ('in_utc', 'in_tokyo');

-- Through a view it is the view's owner who reads the tables; what the caller's query brings runs as the caller.
CREATE ROLE moe_guest;
GRANT USAGE ON SCHEMA shop TO moe_guest;
CREATE VIEW at_risk AS SELECT * FROM churn;
GRANT SELECT ON at_risk TO moe_guest;
CREATE FUNCTION whoever() RETURNS varchar LANGUAGE plpgsql STABLE AS
    $$ BEGIN RAISE NOTICE 'asked as %', current_user; RETURN 'c2'; END $$;
SET ROLE moe_guest;
SELECT count(*) FROM churn;
SELECT count(*) FROM at_risk;
SELECT customer_id FROM at_risk WHERE customer_id = ANY (ARRAY(SELECT whoever()));
SELECT moe_ml.predict('churn', 'c1');
RESET ROLE;
GRANT SELECT ON churn TO moe_guest;
SET ROLE moe_guest;
SELECT count(*) FROM churn;
SELECT count(*) FROM at_risk;
RESET ROLE;

-- A policy may depend on a setting: within one statement, each call sees the rows that the setting allows.
CREATE ROLE moe_tenant;
GRANT USAGE ON SCHEMA shop TO moe_tenant;
GRANT SELECT ON ALL TABLES IN SCHEMA shop TO moe_tenant;
ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_tenant ON customers USING (tenant = current_setting('app.tenant')::int);
SET ROLE moe_tenant;
DO $$
DECLARE
    c1 float8;
    c2 float8;
BEGIN
    FOR t IN 0..1 LOOP
        PERFORM set_config('app.tenant', t::text, true);
        c1 := moe_ml.predict('churn', 'c1');
        c2 := moe_ml.predict('churn', 'c2');
        RAISE NOTICE 'tenant % sees c1: %, c2: %', t, c1 IS NOT NULL, c2 IS NOT NULL;
    END LOOP;
END $$;
RESET ROLE;
ALTER TABLE customers DISABLE ROW LEVEL SECURITY;

-- A cursor outlives the training of its model: with more experts and classes than when it was opened.
SELECT moe_ml.execute($$CREATE MODEL grade PREDICT customers.tier FOR EACH customers
                        WITH (epochs = 1, channels = 8, experts = 'linear')$$);
UPDATE customers SET tier = NULL;
BEGIN;
DECLARE predictions CURSOR FOR SELECT count(class) AS answered, bool_and(score BETWEEN 0 AND 1) AS sane FROM grade;
UPDATE customers SET tier = CASE customer_id WHEN 'c1' THEN 'gold' WHEN 'c2' THEN 'silver' ELSE 'bronze' END::tier;
SELECT moe_ml.execute($$CREATE OR REPLACE MODEL grade PREDICT customers.tier FOR EACH customers
                        WITH (epochs = 1, channels = 8, ensembles = 1, experts = 'linear, retrieval, graph')$$);
UPDATE customers SET tier = NULL;
FETCH ALL FROM predictions;
COMMIT;

-- The server renamed, no model is taken for a dropped one.
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nothing FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE unrelated (a int) SERVER nothing;
SELECT count(*) AS models FROM moe_ml.model;
ALTER SERVER moe_ml RENAME TO moe_ml_old;
DROP FOREIGN TABLE unrelated;
ALTER SERVER moe_ml_old RENAME TO moe_ml;
SELECT count(*) AS models FROM moe_ml.model;

-- One user's declaration does not get in another's way.
BEGIN READ ONLY;
SELECT moe_ml.declare('orders', 'customer_id', 'references customers');
ROLLBACK;
SELECT moe_ml.declare('orders', 'customer_id', 'references a..b');
SELECT moe_ml.declare('orders', 'customer_id', 'references one.two.three');
CREATE SCHEMA hidden;
CREATE TABLE hidden.things (id int PRIMARY KEY);
CREATE VIEW shop.notes AS SELECT 1 AS id, 1 AS thing;
SELECT moe_ml.declare('notes', 'thing', 'references hidden.things');
SET ROLE moe_tenant;
SELECT count(*) > 0 AS listed FROM moe_ml.graph_tables;
RESET ROLE;

DROP SCHEMA hidden CASCADE;
DROP SERVER nothing;
DROP FOREIGN DATA WRAPPER nothing;
DROP SCHEMA shop CASCADE;
DROP ROLE moe_tenant, moe_guest;
