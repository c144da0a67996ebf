-- What a CREATE MODEL statement would learn: its labels as SQL.
-- The queries are compared with labels computed one by one, the slow way.
CREATE SCHEMA shop;
SET search_path = shop, public;
SET moe_ml.notices = off;

CREATE TABLE customers (id int PRIMARY KEY, name text, age int, premium boolean, joined date NOT NULL);
CREATE TABLE products (id int PRIMARY KEY, title text);
CREATE TABLE orders (
    id int PRIMARY KEY, customer_id int REFERENCES customers, placed_at timestamp, amount numeric, status text);
CREATE TABLE order_lines (
    order_id int REFERENCES orders, product_id int REFERENCES products, quantity int, PRIMARY KEY (order_id, product_id));
INSERT INTO customers
SELECT i, 'c' || i, CASE WHEN i % 5 <> 0 THEN 20 + i % 40 END, i % 2 = 0, DATE '2024-01-01' + i % 60
FROM generate_series(1, 40) AS i;
INSERT INTO products SELECT i, 'p' || i FROM generate_series(1, 7) AS i;
-- Some on the edge of a window to the microsecond, some without a customer, a time or an amount.
INSERT INTO orders
SELECT i, nullif(i * 7 % 43, 0) % 41 + 1,
       CASE WHEN i % 50 <> 0 THEN TIMESTAMP '2024-01-01' + (i * 37 % 3000) * INTERVAL '1 hour' END,
       CASE WHEN i % 11 <> 0 THEN i * 13 % 97 END, (ARRAY['paid', 'open', 'returned'])[i % 3 + 1]
FROM generate_series(1, 400) AS i
WHERE nullif(i * 7 % 43, 0) % 41 + 1 <= 40 OR i * 7 % 43 = 0;
INSERT INTO orders VALUES (1000, NULL, '2024-05-05', 1, 'paid');
INSERT INTO order_lines
SELECT o.id, p.id, o.id % 4 + 1 FROM orders AS o JOIN products AS p ON (o.id + p.id) % 3 = 0;
ANALYZE;

-- A count in the future, among customers with a past.
SELECT moe_ml.compile($$
    CREATE MODEL churn
    PREDICT count(orders.*, 0, 14, days) = 0
    FOR EACH customers
    WHERE count(orders.* WHERE status <> 'returned', -30, 0, days) > 0
    WITH (validation_from = '2024-04-01', test_from = '2024-04-15')
$$) AS sql \gset
\echo :sql
CREATE TEMP TABLE churn AS :sql;
SELECT split, count(DISTINCT as_of) AS seed_times, count(*), count(*) FILTER (WHERE label) AS positive
FROM churn GROUP BY split ORDER BY split;

-- The same, one seed at a time.
CREATE TEMP TABLE expected AS
SELECT c.id, s.as_of,
       (SELECT count(*) FROM orders AS o
        WHERE o.customer_id = c.id AND o.placed_at > s.as_of AND o.placed_at <= s.as_of + INTERVAL '14 days') = 0 AS label
FROM customers AS c, (SELECT DISTINCT as_of FROM churn) AS s
WHERE c.joined <= s.as_of
  AND (SELECT count(*) FROM orders AS o
       WHERE o.customer_id = c.id AND o.placed_at > s.as_of - INTERVAL '30 days' AND o.placed_at <= s.as_of
         AND o.status <> 'returned') > 0;
SELECT count(*) AS differences
FROM ((TABLE expected EXCEPT ALL SELECT id, as_of, label FROM churn)
      UNION ALL (SELECT id, as_of, label FROM churn EXCEPT ALL TABLE expected)) AS d;

-- Who counts at a moment: the same condition, for $1.
SELECT moe_ml.compile($$
    CREATE MODEL churn PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers
    WHERE count(orders.* WHERE status <> 'returned', -30, 0, days) > 0
$$, population => true) AS sql \gset
\echo :sql
PREPARE population (timestamp) AS :sql;
CREATE TEMP TABLE counted AS EXECUTE population('2024-03-04');
SELECT count(*) AS differences
FROM ((SELECT id FROM counted EXCEPT ALL SELECT id FROM expected WHERE as_of = '2024-03-04')
      UNION ALL (SELECT id FROM expected WHERE as_of = '2024-03-04' EXCEPT ALL SELECT id FROM counted)) AS d;
-- Without WHERE everyone counts, and no query is needed.
SELECT moe_ml.compile('CREATE MODEL m PREDICT sum(orders.amount, 0, 14, days) FOR EACH customers', true) IS NULL AS everyone;

-- A label window holds its end and not its start.
BEGIN;
DELETE FROM order_lines;
DELETE FROM orders WHERE id <> 1000;
INSERT INTO orders VALUES
    (1, 1, '2024-02-01', 1), (2, 1, '2024-05-01', 10), (3, 1, '2024-05-01 00:00:00.000001', 100),
    (4, 1, '2024-05-11', 1000), (5, 1, '2024-05-11 00:00:00.000001', 10000), (6, 1, '2024-06-01', NULL);
SELECT moe_ml.compile($$
    CREATE MODEL spent PREDICT sum(orders.amount, 0, 10, days) FOR EACH customers
    WITH (validation_from = '2024-04-21', test_from = '2024-05-01')
$$) AS sql \gset
SELECT as_of, label, split FROM (:sql) AS t WHERE id = 1 AND as_of >= '2024-04-01' ORDER BY as_of;
ROLLBACK;

-- Every aggregate, over an empty window too. Ties of first and last go by the value.
CREATE FUNCTION labels(target text, OUT rows bigint, OUT labels text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT count(*), string_agg(label::text, '', '' ORDER BY as_of, id) FROM (%s) AS t '
        'WHERE id IN (3, 5) AND as_of >= ''2024-03-01''',
        moe_ml.compile(format('CREATE MODEL m PREDICT %s FOR EACH customers '
            'WITH (validation_from = ''2024-04-01'', test_from = ''2024-04-11'')', target))) INTO rows, labels;
END $$;
SELECT target, (labels(target || ', 0, 10, days)')).*
FROM unnest(ARRAY['count(orders.*', 'count(orders.amount', 'count_distinct(orders.status', 'sum(orders.amount',
                  'avg(orders.amount', 'min(orders.amount', 'max(orders.status', 'first(orders.status',
                  'last(orders.status', 'count(orders.* WHERE amount BETWEEN 10 AND 50 OR status IN (''open'')']) AS target;
SELECT labels('avg(orders.amount, 0, 10, days) > 40'), labels('NOT count(orders.*, 0, 240, hours) > 1'),
       labels('last(orders.status, 0, 10, days) LIKE ''p%'''), labels('min(orders.amount, 5, 10, days) IS NULL');

-- Conditions on several aggregates and on the entity's own columns.
SELECT moe_ml.compile($$
    CREATE MODEL m
    PREDICT count(orders.*, 0, 7, days) > 0 AND (sum(orders.amount, 0, 14, days) > 10 OR avg(orders.amount, 0, 14, days) > 5)
    FOR EACH customers WHERE premium = true AND NOT name = 'c4'
    ASSUMING count(orders.*, 0, 14, days) > 0
$$) AS sql \gset
\echo :sql
SELECT count(*) > 0 AS runs FROM (:sql) AS t;

-- Two steps away, with the time of the order in between; months go by the calendar.
SELECT moe_ml.compile($$
    CREATE MODEL m PREDICT sum(order_lines.quantity, 0, 1, months) FOR EACH customers
    WHERE count(order_lines.*, -INF, 0) > 0
$$) AS sql \gset
\echo :sql
CREATE TEMP TABLE lines AS :sql;
SELECT count(*) AS differences
FROM lines AS l
WHERE label IS DISTINCT FROM
      (SELECT coalesce(sum(x.quantity), 0) FROM order_lines AS x JOIN orders AS o ON o.id = x.order_id
       WHERE o.customer_id = l.id AND o.placed_at > l.as_of AND o.placed_at <= l.as_of + INTERVAL '1 month')
   OR NOT EXISTS (SELECT FROM order_lines AS x JOIN orders AS o ON o.id = x.order_id
                  WHERE o.customer_id = l.id AND o.placed_at <= l.as_of);
SELECT DISTINCT as_of, split FROM lines ORDER BY as_of;

-- The time of a parent that is not on the path: a line came with its order.
SELECT moe_ml.compile('CREATE MODEL m PREDICT sum(order_lines.quantity, 0, 10, days) FOR EACH products') AS sql \gset
\echo :sql
CREATE TEMP TABLE sold AS :sql;
SELECT count(*) > 50 AS enough, count(*) FILTER (WHERE label IS DISTINCT FROM
      (SELECT coalesce(sum(x.quantity), 0) FROM order_lines AS x JOIN orders AS o ON o.id = x.order_id
       WHERE x.product_id = s.id AND o.placed_at > s.as_of AND o.placed_at <= s.as_of + INTERVAL '10 days')) AS differences
FROM sold AS s;

-- All of the past: a sum of it, and whether there is any.
SELECT moe_ml.compile($$
    CREATE MODEL m PREDICT count(orders.*, 0, 14, days) FOR EACH customers
    WHERE sum(orders.amount, -INF, 0) > 50 OR count(orders.*, -INF, -20, days) = 0
$$) AS sql \gset
CREATE TEMP TABLE past AS :sql;
CREATE TEMP TABLE expected_past AS
SELECT c.id, s.as_of, (SELECT count(*) FROM orders AS o WHERE o.customer_id = c.id AND o.placed_at > s.as_of
                       AND o.placed_at <= s.as_of + INTERVAL '14 days') AS label
FROM customers AS c, (SELECT DISTINCT as_of FROM past) AS s
WHERE c.joined <= s.as_of
  AND ((SELECT sum(o.amount) FROM orders AS o WHERE o.customer_id = c.id AND o.placed_at <= s.as_of) > 50
       OR NOT EXISTS (SELECT FROM orders AS o WHERE o.customer_id = c.id AND o.placed_at <= s.as_of - INTERVAL '20 days'));
SELECT count(*) > 50 AS enough,
       (SELECT count(*) FROM ((TABLE expected_past EXCEPT ALL SELECT id, as_of, label FROM past)
                              UNION ALL (SELECT id, as_of, label FROM past EXCEPT ALL TABLE expected_past)) AS d) AS differences
FROM past;

-- Without moments given, the last windows of the data are held out; seed_times keeps the newest.
SELECT moe_ml.compile($$
    CREATE MODEL m PREDICT count(orders.*, 0, 14, days) FOR EACH customers WITH (seed_times = 2)
$$) AS sql \gset
SELECT DISTINCT split, as_of FROM (:sql) AS t ORDER BY as_of;

-- A column of the entity: known values to learn from, unknown ones to fill in.
SELECT moe_ml.compile('CREATE MODEL m PREDICT age FOR EACH customers') AS sql \gset
\echo :sql
SELECT count(*), count(label) AS known, count(DISTINCT split) AS blocks, count(DISTINCT as_of) AS moments FROM (:sql) AS t;
SELECT moe_ml.compile('CREATE MODEL m PREDICT customers.age > 30 FOR EACH customers WHERE count(orders.*, -90, 0) > 0', true) AS sql \gset
\echo :sql
PREPARE unknown (timestamp) AS :sql;
CREATE TEMP TABLE filled AS EXECUTE unknown('2024-05-01');
SELECT count(*), bool_and(id % 5 = 0) AS unknown FROM filled;

-- Labels from a query of one's own.
CREATE TABLE my_labels AS
SELECT i % 40 + 1 AS id, DATE '2024-01-01' + i / 40 * 10 AS day, i % 3 = 0 AS good, (ARRAY['train', 'Val', 'test'])[i % 3 + 1] AS part
FROM generate_series(0, 399) AS i;
SELECT moe_ml.compile($$
    CREATE MODEL m PREDICT good FOR EACH customers AT day WITH (split_column = 'part')
    AS SELECT id, day, good, part FROM my_labels WHERE id > 0 -- a comment at the end
$$) AS sql \gset
\echo :sql
SELECT split, count(*) FROM (:sql) AS t GROUP BY split ORDER BY split;
SELECT moe_ml.compile('CREATE MODEL m PREDICT good FOR EACH customers AT day AS SELECT * FROM my_labels') AS sql \gset
SELECT split, min(as_of), max(as_of), count(*) FROM (:sql) AS t GROUP BY split ORDER BY min(as_of);
SELECT moe_ml.compile('CREATE MODEL m PREDICT good FOR EACH customers AT day
    AS SELECT * FROM my_labels WHERE day = ''2024-02-10''') AS sql \gset
SELECT count(DISTINCT split) AS blocks, count(DISTINCT as_of) AS moments FROM (:sql) AS t;
SELECT moe_ml.compile('CREATE MODEL m PREDICT good FOR EACH customers AT day
    WITH (test_from = ''2024-03-11'') AS SELECT * FROM my_labels') AS sql \gset
SELECT split, min(as_of), max(as_of), count(*) FROM (:sql) AS t GROUP BY split ORDER BY min(as_of);

-- With time zones a day is 24 hours and a month UTC's, whatever the session's zone.
CREATE TABLE users ("user" text PRIMARY KEY);
CREATE TABLE "Visits" (who text REFERENCES users, "At" timestamptz, "select" int);
INSERT INTO users VALUES ('o''hara'), ('b');
INSERT INTO "Visits"
SELECT CASE WHEN i % 2 = 0 THEN 'o''hara' ELSE 'b' END, TIMESTAMPTZ '2024-03-01 00:30:00+00' + i * INTERVAL '7 hours', i
FROM generate_series(0, 300) AS i;
SELECT moe_ml.compile($$CREATE MODEL m PREDICT max("Visits"."select", 0, 5, days) FOR EACH users WHERE "user" <> 'it''s'$$) AS sql \gset
\echo :sql
SET timezone = 'Europe/Berlin';
CREATE TEMP TABLE berlin AS :sql;
SET timezone = 'America/New_York';
CREATE TEMP TABLE york AS :sql;
RESET timezone;
SELECT count(*) > 0 AS labelled, count(*) = (SELECT count(*) FROM (TABLE york INTERSECT ALL TABLE berlin) AS same) AS equal
FROM berlin;
SELECT moe_ml.compile('CREATE MODEL m PREDICT count("Visits".*, 0, 1, months) FOR EACH users') AS sql \gset
\echo :sql
SELECT DISTINCT as_of, split FROM (:sql) AS t ORDER BY as_of;

-- Composite keys, and a table that points at itself.
CREATE TABLE seats (room int, seat int, parent_room int, parent_seat int, since timestamp, PRIMARY KEY (room, seat),
    FOREIGN KEY (parent_room, parent_seat) REFERENCES seats);
INSERT INTO seats SELECT i, i + 1, nullif(i / 3, 0), i / 3 + 1, TIMESTAMP '2024-01-01' + i * INTERVAL '1 day'
FROM generate_series(1, 100) AS i;
SELECT moe_ml.compile('CREATE MODEL m PREDICT count(seats.*, 0, 10, days) FOR EACH seats') AS sql \gset
\echo :sql
CREATE TEMP TABLE seated AS :sql;
SELECT count(*) AS differences FROM seated AS l
WHERE label <> (SELECT count(*) FROM seats AS s WHERE (s.parent_room, s.parent_seat) = (l.room, l.seat)
                AND s.since > l.as_of AND s.since <= l.as_of + INTERVAL '10 days');

SET client_min_messages = warning;
DROP SCHEMA shop CASCADE;
