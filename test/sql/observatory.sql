-- Eight properties of a model's embeddings.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE SCHEMA observatory_test;
SET search_path = observatory_test, public;

-- A shop sells by its size, and a product belongs to one department.
CREATE TABLE shops (shop_id integer PRIMARY KEY, city text NOT NULL, area numeric(8,2) NOT NULL, opened date NOT NULL);
CREATE TABLE sales (
    sale_id integer PRIMARY KEY,
    shop_id integer NOT NULL REFERENCES shops,
    sold_at timestamp NOT NULL,
    product text NOT NULL,
    department text NOT NULL,
    amount numeric(10,2) NOT NULL,
    weight numeric(10,2));
INSERT INTO shops
SELECT i, (ARRAY['Graz', 'Linz', 'Wien'])[1 + i % 3], 20 + 300 * ((i * 37) % 61) / 61.0, date '2023-01-01' + i % 50
FROM generate_series(1, 60) AS i;
INSERT INTO sales
SELECT i, 1 + i % 60, timestamp '2024-01-01' + i % 1201 * interval '5 hours',
       'product ' || p, 'department ' || p / 4, 10 + 2 * ((i % 60 * 37) % 61) + (i * 71) % 23 / 4.0 + p,
       CASE WHEN i % 9 > 0 THEN 1 + (i * 31) % 101 / 7.0 + p END
FROM generate_series(1, 1200) AS i, LATERAL (SELECT (i * 7 + i / 60) % 12 AS p) AS s;
ANALYZE;

SELECT moe_ml.execute($$CREATE MODEL takings PREDICT sum(sales.amount, 0, 30, days) FOR EACH shops
    WITH (epochs = 2, channels = 8, ensembles = 1, experts = 'linear, graph')$$);
SELECT moe_ml.execute($$CREATE MODEL pair PREDICT sum(sales.amount, 0, 30, days) FOR EACH shops
    WITH (epochs = 2, channels = 8, ensembles = 2, experts = 'linear, graph')$$);
SELECT moe_ml.execute($$CREATE MODEL without PREDICT sum(sales.amount, 0, 30, days) FOR EACH shops
    WITH (epochs = 1, experts = 'linear')$$);

-- Every figure lies where it can: cosines and correlations within 1, shares from 0 on.
SELECT property, meaning, samples > 0 AS measured,
       figure BETWEEN CASE WHEN meaning LIKE 'spread%' OR property = 'entity stability' THEN 0 ELSE -1 END
              AND CASE WHEN meaning LIKE 'spread%' THEN 2 ELSE 1 END AS in_range
FROM moe_ml.observatory('pair');

-- Two members have neighbours to compare, a single one has not.
SELECT p.meaning, p.figure IS NOT NULL AS pair, t.figure IS NOT NULL AS single, t.samples
FROM moe_ml.observatory('pair') AS p JOIN moe_ml.observatory('takings') AS t USING (property, meaning)
WHERE property = 'entity stability';

-- Comparisons, each of which could come out otherwise.
CREATE VIEW figures AS SELECT meaning, figure FROM moe_ml.observatory('pair');
CREATE FUNCTION figure(text) RETURNS float8 STABLE LANGUAGE sql AS $$ SELECT figure FROM figures WHERE meaning = $1 $$;
SELECT round(figure('cosine, rows shuffled')::numeric, 4) AS rows,
       round(figure('cosine, columns shuffled')::numeric, 4) AS columns;
SELECT figure('cosine, same parent') > figure('cosine, other parents') AS linked_rows_are_closer,
       figure('rank corr.: overlap, cosine') > 0.1 AS parts_that_join_are_closer;
SELECT figure('spread where A gives B') < figure('spread, B shuffled') AS dependencies_show;
SELECT figure('cosine, 25 % of the rows') < figure('cosine, 50 % of the rows') AS half_is_closer_than_a_quarter,
       figure('cosine, 50 % of the rows') < figure('cosine, 75 % of the rows') AS three_quarters_than_a_half;
SELECT figure('cosine, numbers +- 0.1 sd') > figure('cosine, one value NULL') AS noise_matters_less_than_null,
       figure('cosine, one value NULL') > figure('cosine, another row') AS null_less_than_another_row;
SELECT figure('cosine, numbers hidden') > figure('cosine, column alone') AS some_context_is_closer_than_none;
SELECT figure('same nearest, two members') > 2 * figure('the same by chance') AS members_agree;

-- The same rows, the same figures: neither their place in the table nor rows of the future count.
CREATE TABLE before AS TABLE figures;
UPDATE sales SET amount = amount WHERE sale_id % 5 = 0;
INSERT INTO shops VALUES (61, 'Rom', 999, '2023-02-01');
DELETE FROM shops WHERE shop_id = 61;
INSERT INTO sales SELECT 2000 + i, i, '2200-01-01', 'never', 'seen', 1e6, 1e6 FROM generate_series(1, 60) AS i;
SELECT count(*) AS others FROM ((TABLE before EXCEPT TABLE figures) UNION ALL (TABLE figures EXCEPT TABLE before)) AS d;
DELETE FROM sales WHERE sale_id > 2000;
SET moe_ml.threads = 1;
SELECT count(*) AS others FROM (TABLE before EXCEPT TABLE figures) AS d;
RESET moe_ml.threads;

-- Other rows, other figures.
BEGIN;
UPDATE sales SET amount = 500 - amount;
SELECT count(*) > 5 AS others FROM (TABLE before EXCEPT TABLE figures) AS d;
ROLLBACK;

-- Nothing to see is NULL, not an error.
BEGIN;
TRUNCATE sales, shops;
SELECT count(*), count(figure), sum(samples) FROM moe_ml.observatory('pair');
ROLLBACK;

-- Refused.
SELECT * FROM moe_ml.observatory('without');
SELECT * FROM moe_ml.observatory('taking');
SELECT * FROM moe_ml.observatory('shops');
CREATE ROLE observatory_guest;
GRANT USAGE ON SCHEMA observatory_test TO observatory_guest;
GRANT SELECT ON takings TO observatory_guest;
SET ROLE observatory_guest;
SELECT * FROM moe_ml.observatory('takings');
SELECT * FROM moe_ml.observatory('pair');
RESET ROLE;
SET moe_ml.memory_limit = '16MB';
SELECT count(*) FROM moe_ml.observatory('pair');
RESET moe_ml.memory_limit;

DROP SCHEMA observatory_test CASCADE;
DROP ROLE observatory_guest;
