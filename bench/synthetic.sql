-- Data whose truth is known, for bench/synthetic. Labels are drawn with a probability that is kept beside them, so that
-- the best AUROC there can be is known: that of the probability itself. Variables: customers (how many), seed.
SET client_min_messages = warning;
SET max_parallel_workers_per_gather = 0;
CREATE SCHEMA truth;
SELECT setseed(:seed / 1000.0);
CREATE FUNCTION truth.normal() RETURNS float8 LANGUAGE sql VOLATILE AS
    'SELECT sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())';
CREATE FUNCTION truth.sigmoid(x float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT 1 / (1 + exp(-x))';

CREATE TABLE customers (id int PRIMARY KEY, a float8, b float8, c float8, since timestamp);
INSERT INTO customers SELECT i, truth.normal(), truth.normal(), truth.normal(), '2020-01-01' FROM generate_series(1, :customers) AS i;
CREATE TABLE month AS SELECT n, timestamp '2022-01-01' + n * interval '30 days' AS at FROM generate_series(0, 35) AS n;

-- Three hops away: purchases from suppliers, whose returns tell the bad ones from the good. One customer's purchases
-- say nothing of it, nor do a supplier's own columns.
CREATE TABLE suppliers (id int PRIMARY KEY, founded timestamp, size float8);
CREATE TABLE truth.supplier AS SELECT i AS id, random() < 0.5 AS bad FROM generate_series(1, 200) AS i;
INSERT INTO suppliers SELECT id, '2019-01-01', truth.normal() FROM truth.supplier;
CREATE TABLE returns (id serial PRIMARY KEY, supplier_id int REFERENCES suppliers, at timestamp, weight float8);
INSERT INTO returns (supplier_id, at, weight)
SELECT s.id, m.at + random() * interval '30 days', truth.normal()
FROM truth.supplier AS s, month AS m, generate_series(1, CASE WHEN s.bad THEN 4 ELSE 1 END);
CREATE TABLE purchases (id serial PRIMARY KEY, customer_id int REFERENCES customers, supplier_id int REFERENCES suppliers, at timestamp, amount float8);
CREATE TABLE truth.taste AS SELECT id AS customer_id, 1 + floor(random() * 200)::int AS favourite, random() AS loyal FROM customers;
INSERT INTO purchases (customer_id, supplier_id, at, amount)
SELECT t.customer_id, CASE WHEN random() < t.loyal THEN t.favourite ELSE 1 + floor(random() * 200)::int END,
       m.at + random() * interval '30 days', truth.normal()
FROM truth.taste AS t, month AS m WHERE m.n % 3 = 0 AND random() < 0.8;

-- In order: visits whose amounts rise or fall. All orders have the same amounts.
CREATE TABLE visits (id serial PRIMARY KEY, customer_id int REFERENCES customers, at timestamp, spent float8);
CREATE TABLE truth.trend AS SELECT c.id AS customer_id, m.n / 6 AS half, random() < 0.5 AS rises FROM customers AS c, month AS m WHERE m.n % 6 = 0;
INSERT INTO visits (customer_id, at, spent)
SELECT t.customer_id, timestamp '2022-01-01' + (t.half * 6 + k) * interval '30 days' - interval '15 days' + random() * interval '10 days',
       CASE WHEN t.rises THEN k ELSE 5 - k END + 0.3 * truth.normal()
FROM truth.trend AS t, generate_series(0, 5) AS k;

-- A state that drifts, seen once a month through noise.
CREATE TABLE readings (id serial PRIMARY KEY, customer_id int REFERENCES customers, at timestamp, value float8);
CREATE TABLE truth.state (customer_id int, n int, q float8);
INSERT INTO truth.state
WITH RECURSIVE walk AS (
    SELECT id AS customer_id, 0 AS n, truth.normal() AS q FROM customers
    UNION ALL SELECT customer_id, n + 1, 0.85 * q + 0.527 * truth.normal() FROM walk WHERE n < 35)
SELECT * FROM walk;
INSERT INTO readings (customer_id, at, value)
SELECT customer_id, timestamp '2022-01-01' + n * interval '30 days' - random() * interval '5 days', q + 0.5 * truth.normal() FROM truth.state;

-- Labels: as of half-years 2 to 5 for what is asked in order, as of every month for what drifts. Test times are the last.
CREATE TABLE labels AS
WITH moment AS (SELECT n, at FROM month WHERE n IN (11, 17, 23, 29, 35)),
bought AS (
    SELECT c.id, m.n, coalesce(avg(s.bad::int) - 0.5, 0) AS share
    FROM customers AS c CROSS JOIN moment AS m LEFT JOIN purchases AS p ON p.customer_id = c.id AND p.at <= m.at
    LEFT JOIN truth.supplier AS s ON s.id = p.supplier_id GROUP BY c.id, m.n),
probability AS (
    SELECT 'hops' AS task, id, n, truth.sigmoid(6 * share) AS p FROM bought
    UNION ALL SELECT 'sequence', t.customer_id, m.n, truth.sigmoid(CASE WHEN t.rises THEN 1.5 ELSE -1.5 END) FROM truth.trend AS t JOIN moment AS m ON m.n = t.half * 6 + 5
    UNION ALL SELECT 'cross', c.id, m.n, truth.sigmoid(2.5 * c.a * c.b) FROM customers AS c, moment AS m
    UNION ALL SELECT 'nothing', c.id, m.n, 0.5 FROM customers AS c, moment AS m
    UNION ALL SELECT 'drift', s.customer_id, s.n, truth.sigmoid(2 * s.q) FROM truth.state AS s WHERE s.n >= 6)
SELECT task, id, m.n, m.at, p, random() < p AS y FROM probability JOIN month AS m USING (n);
ANALYZE;
CREATE EXTENSION IF NOT EXISTS moe_ml;
