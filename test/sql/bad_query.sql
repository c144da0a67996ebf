-- Every mistake in a predictive query gets an error that names the object, its place, and what to type next.
CREATE SCHEMA bad;
SET search_path = bad, public;
SET moe_ml.notices = off;

CREATE TABLE customers (id int PRIMARY KEY, name text, age int, joined date, tags int[]);
CREATE TABLE orders (
    id int PRIMARY KEY, customer_id int REFERENCES customers, placed_at timestamp, amount numeric, status text, gift boolean,
    how_long interval);
CREATE TABLE stores (id int PRIMARY KEY, city text);
CREATE TABLE visits (customer_id int REFERENCES customers, store_id int REFERENCES stores);
CREATE TABLE messages (
    sender int CONSTRAINT messages_sender REFERENCES customers,
    receiver int CONSTRAINT messages_receiver REFERENCES customers, sent_at timestamp);
CREATE TABLE unrelated (id int PRIMARY KEY, at timestamp);
INSERT INTO customers SELECT i, 'c' || i, i, DATE '2023-01-01' FROM generate_series(1, 10) AS i;
INSERT INTO orders SELECT i, i % 10 + 1, TIMESTAMP '2024-01-01' + i * INTERVAL '1 day', i, 'paid' FROM generate_series(1, 100) AS i;

\set VERBOSITY default
-- Names
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(order.*, 0, 30, days) > 0 FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT sum(orders.amont, 0, 30, days) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.* WHERE state = ''paid'', 0, 30, days) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT agee FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 30, days) FOR EACH customers WHERE zzz = 1');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 30, days) FOR EACH customers WHERE orders.amount > 3');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.* WHERE customers.age > 3, 0, 30, days) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(amount, 0, 30, days) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT sum(orders.*, 0, 30, days) FOR EACH customers');

-- Paths
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(unrelated.*, 0, 30, days) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 30, days) FOR EACH stores');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(messages.*, 0, 30, days) FOR EACH customers');

-- Windows
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, -30, 0, days) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, -INF, 30, days) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 30, 30, days) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 30, days) FOR EACH customers WHERE count(orders.*, 0, 30, days) > 0');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 30, days) FOR EACH customers WHERE count(orders.*) > 0');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 30, days) FOR EACH customers ASSUMING count(orders.*, -9, 0, days) > 0');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(visits.*, 0, 30, days) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(visits.*) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 999999999, months) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT age FOR EACH customers ASSUMING count(orders.*, 0, 9, days) > 0');

-- Types, found by the server in the SQL and shown in the statement
SELECT moe_ml.compile('CREATE MODEL m PREDICT sum(orders.gift, 0, 30, days) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT avg(orders.status, 0, 30, days) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT max(orders.gift, 0, 30, days) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 30, days) > ''many'' FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 30, days) > 0 FOR EACH customers WHERE name > 3');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.* WHERE amount LIKE ''1%'', 0, 30, days) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.* WHERE status = NULL, 0, 30, days) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT max(orders.how_long, 0, 30, days) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT tags FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT name FOR EACH customers WITH (task = ''regression'')');
SELECT moe_ml.compile('CREATE MODEL m PREDICT age > 3 AND name = ''c1'' FOR EACH customers');

-- Too little data
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 60, days) FOR EACH customers');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 9, days) FOR EACH customers WITH (test_from = ''2024-06-01'')');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 9, days) FOR EACH customers WITH (validation_from = ''2023-06-01'')');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 9, days) FOR EACH customers
    WITH (validation_from = ''2024-03-01'', test_from = ''2024-03-05'')');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 9, days) FOR EACH customers WITH (split_column = part)');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 9, days) FOR EACH customers WITH (test_from = ''294276-12-31'')');
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 99999, months) FOR EACH customers');
BEGIN;
TRUNCATE orders;
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(orders.*, 0, 9, days) FOR EACH customers');
ROLLBACK;

-- A query of one's own
SELECT moe_ml.compile('CREATE MODEL m PREDICT y FOR EACH customers AT t AS SELECT id, placed_at AS t, amount AS label FROM orders');
SELECT moe_ml.compile('CREATE MODEL m PREDICT y FOR EACH customers AT t AS SELECT customer_id, placed_at AS t, amount AS y FROM orders');
SELECT moe_ml.compile('CREATE MODEL m PREDICT y FOR EACH customers AT t AS SELECT customer_id AS id, amount AS t, amount AS y FROM orders');
SELECT moe_ml.compile('CREATE MODEL m PREDICT y FOR EACH customers AT t AS SELECT customer_id AS id, placed_at AS t, amunt AS y FROM orders');
SELECT moe_ml.compile('CREATE MODEL m PREDICT y FOR EACH customers AT t AS SELECT customer_id AS id, placed_at AS t, how_long AS y FROM orders');
SELECT moe_ml.compile('CREATE MODEL m PREDICT y FOR EACH customers AT t AS SELECT customer_id AS id, placed_at AS t, 1 AS y, 2 AS y FROM orders');
SELECT moe_ml.compile('CREATE MODEL m PREDICT y FOR EACH customers AT t AS DELETE FROM orders RETURNING customer_id AS id, placed_at AS t, 1 AS y');
SELECT moe_ml.compile('CREATE MODEL m PREDICT y FOR EACH customers AT t AS WITH d AS (DELETE FROM orders RETURNING *)
    SELECT customer_id AS id, placed_at AS t, 1 AS y FROM d');
SELECT moe_ml.compile('CREATE MODEL m PREDICT y FOR EACH customers AT t AS SELECT customer_id AS id, placed_at AS t, amount AS y FROM orders WHERE false');
SELECT moe_ml.compile('CREATE MODEL m PREDICT y FOR EACH customers AT t WITH (split_column = part)
    AS SELECT customer_id AS id, placed_at AS t, amount AS y FROM orders');
SELECT moe_ml.compile('CREATE MODEL m PREDICT y FOR EACH customers AT t WITH (test_from = ''2029-01-01'')
    AS SELECT customer_id AS id, placed_at AS t, amount AS y FROM orders');
SELECT moe_ml.compile('CREATE MODEL m PREDICT y FOR EACH customers AT t
    AS SELECT status AS id, placed_at AS t, amount AS y FROM orders') IS NOT NULL AS checked_when_read;

-- Other statements
SELECT moe_ml.compile('DROP MODEL m');
SELECT moe_ml.compile('CREATE MODEL m PREDICT age FOR EACH nobody');

SET client_min_messages = warning;
DROP SCHEMA bad CASCADE;
