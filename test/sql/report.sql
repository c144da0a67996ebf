-- A model as one page for people.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE SCHEMA report_test;
SET search_path = report_test, public;

-- Names and values as nobody should choose them: markup, entities, controls, right-to-left overrides, marks that pile up.
CREATE TABLE "shops<script>alert(1)</script>" (
    "id&amp;" integer PRIMARY KEY,
    opened timestamp NOT NULL,
    "size""'<b>" numeric(8,2) NOT NULL,
    kind text);
CREATE TABLE sales (
    sale_id integer PRIMARY KEY,
    shop_id integer NOT NULL REFERENCES "shops<script>alert(1)</script>",
    sold_at timestamp NOT NULL,
    amount numeric(10,2) NOT NULL,
    "]]><!--" text NOT NULL);
CREATE TABLE returns (
    return_id integer PRIMARY KEY,
    sale_id integer NOT NULL REFERENCES sales,
    again_of integer REFERENCES returns,
    returned_at timestamp NOT NULL);
INSERT INTO "shops<script>alert(1)</script>"
SELECT i, timestamp '2023-01-01' + i % 200 * interval '1 day', 20 + 300 * ((i * 37) % 61) / 61.0,
       (ARRAY['</text><script>', U&'b\202Ec', E'control \x01\x0b', 'd' || repeat(U&'\0301', 40), NULL])[1 + (i + i / 7) % 5]
FROM generate_series(1, 150) AS i;
INSERT INTO sales
SELECT i, 1 + i % 150, timestamp '2024-01-01' + i % 1201 * interval '5 hours', 10 + 2 * ((i % 60 * 37) % 61) + (i * 71) % 23 / 4.0,
       'product ' || i % 7
FROM generate_series(1, 2400) AS i WHERE i % 150 % 4 > 0 OR i < 1200;
INSERT INTO returns SELECT i, i * 3 + (i * 3 % 150 % 4 = 0)::int, CASE WHEN i % 9 = 8 THEN i - 4 END, timestamp '2024-01-02' + i * interval '10 hours'
FROM generate_series(1, 390) AS i;
ANALYZE;

SELECT moe_ml.execute($$CREATE MODEL "stays<&>""'" PREDICT count(sales.*, 0, 30, days) > 1 FOR EACH "shops<script>alert(1)</script>"
    WITH (epochs = 3, channels = 8, ensembles = 2, experts = 'linear, graph')$$);
SELECT moe_ml.execute($$CREATE MODEL takings PREDICT sum(sales.amount, 0, 30, days) FOR EACH "shops<script>alert(1)</script>"
    WITH (epochs = 2, channels = 8, ensembles = 1, experts = 'linear, graph')$$);
SELECT moe_ml.execute($$CREATE MODEL kind PREDICT "shops<script>alert(1)</script>".kind FOR EACH "shops<script>alert(1)</script>"
    WITH (epochs = 2, channels = 8, ensembles = 1, experts = 'linear, graph')$$);
SELECT moe_ml.execute($$CREATE MODEL plain PREDICT late FOR EACH "shops<script>alert(1)</script>" AT at
    WITH (epochs = 1, experts = 'history, linear')
    AS SELECT shop_id AS "id&amp;", sold_at AS at, sale_id % 3 = 0 AS late FROM sales$$);

-- Well-formed, and nothing in it that a browser would run or fetch.
CREATE TABLE pages AS
SELECT name, moe_ml.report(quote_ident(name)) AS page FROM unnest(ARRAY['stays<&>"''', 'takings', 'kind', 'plain']) AS name;
SELECT name, xmlparse(document page) IS DOCUMENT AS well_formed, page ~ '^[\n\x20-\x7e]*$' AS ascii,
       page ~* '<script|javascript:|onload|https?://|url\(|@import|<img|<iframe' AS foreign
FROM pages ORDER BY name;

-- What is there, by task.
CREATE FUNCTION texts(page text, path text) RETURNS text[] STABLE LANGUAGE sql AS
$$ SELECT array_agg(x::text) FROM unnest(xpath(path, xmlparse(document page))) AS x $$;
SELECT name, cardinality(xpath('//svg', xmlparse(document page))) AS drawings, texts(page, '//h2/text()') AS sections
FROM pages ORDER BY name;
SELECT name, texts(page, '//figcaption/text()') AS figures FROM pages ORDER BY name;
SELECT name, (SELECT array_agg(left(x, -2)) FROM unnest(texts(page, '//section[2]//tbody/tr/td[1]/text()')) AS x WHERE x ~ ' .$')
    <@ (SELECT array_agg(metric) FROM moe_ml.evaluate(quote_ident(name))) AS metrics,
       cardinality(texts(page, '//section[2]//tbody/tr')) = (SELECT count(*) FROM moe_ml.evaluate(quote_ident(name))) AS complete FROM pages ORDER BY name;

-- The figures are those of moe_ml.evaluate, of the views, and of the tables.
SELECT e.metric, (xpath(format('//section[2]//div[table][2]/table//tr[td[1][starts-with(text(), "%s ")]]/td[2]/text()', e.metric),
        xmlparse(document p.page)))[1]::text = to_char(e.model, 'FM0.000')
FROM pages AS p, moe_ml.evaluate('"stays<&>""''"') AS e WHERE p.name LIKE 'stays%' AND e.split = 'test' AND e.regime IN ('both', 'rolling')
  AND e.metric IN ('auroc', 'average_precision', 'log_loss') ORDER BY 1;
-- Charts are of the same predictions as the metrics, own past labels included.
SELECT p.name, (xpath('//figure[figcaption="ROC curve"]/p/text()', xmlparse(document p.page)))[1]::text LIKE format('Area %s.%%', to_char(e.model, 'FM0.000')) AS same_area
FROM pages AS p, moe_ml.evaluate(quote_ident(p.name)) AS e WHERE p.name IN ('plain', 'stays<&>"''') AND e.split = 'test' AND e.regime IN ('both', 'rolling') AND e.metric = 'auroc' ORDER BY 1;
SELECT texts(page, '//section[h2="Experts"]//tbody/tr/td[1]/text()') = (SELECT array_agg(expert) FROM moe_ml.experts('takings')) AS experts
FROM pages WHERE name = 'takings';
SELECT cardinality(xpath('//section[h2="How the graph expert learnt"]//polyline', xmlparse(document page))) AS curves
FROM pages WHERE name LIKE 'stays%';
SELECT texts(page, '//figure[figcaption="Tables and foreign keys"]//g[rect]/text[2]/text()') AS rows,
       cardinality(xpath('//path[@class="head"]', xmlparse(document page))) AS arrows FROM pages WHERE name = 'takings';
-- A confusion's cells add up to the rows that it is of.
SELECT (SELECT sum(x::text::int) FROM unnest(xpath('//figure[figcaption="Confusion"]//text[contains(@class, "m")][not(contains(@class, "s"))]/text()', xmlparse(document page))) AS x)
     = (SELECT min(rows) FROM moe_ml.evaluate('kind') WHERE split = 'test') AS complete FROM pages WHERE name = 'kind';

-- Hostile text is text: it comes back from the page as it was, where it can.
SELECT texts(page, '//h1/text()') AS name, (xpath('//title', xmlparse(document page)))[1]::text AS title FROM pages WHERE name LIKE 'stays%';
SELECT (xpath('//pre/text()', xmlparse(document page)))[1]::text AS definition FROM pages WHERE name = 'kind';
SELECT unnest(texts(page, '//figure[figcaption="Confusion"]//text[@class="e"]/text()')) COLLATE "C" AS class FROM pages WHERE name = 'kind' ORDER BY 1;
SELECT page LIKE '%&#x26;amp;%' AS ampersand, page LIKE '%]]&#x3E;&#x3C;!--%' AS comment, strpos(page, '&#x202E;') AS turned, strpos(page, '&#x1;') AS control
FROM (SELECT string_agg(page, '') AS page FROM pages) AS p;

-- The same model and data, the same page: whatever the session's settings, the threads and the place of rows.
CREATE VIEW others AS SELECT name FROM pages WHERE page <> moe_ml.report('report_test.' || quote_ident(name));
SELECT count(*) FROM others;
SET search_path = pg_catalog; SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'; SET extra_float_digits = -5; SET moe_ml.threads = 1;
SELECT count(*) FROM report_test.others;
RESET timezone; RESET datestyle; RESET extra_float_digits; RESET moe_ml.threads;
SET search_path = report_test, public;
UPDATE sales SET amount = amount WHERE sale_id % 5 = 0;
SELECT count(*) FROM others;
BEGIN READ ONLY;
SELECT count(*) FROM others;
ROLLBACK;
BEGIN;
UPDATE sales SET amount = 500 - amount;
SELECT count(*) > 0 AS changed FROM others;
ROLLBACK;

-- Rows gone, the page says so.
BEGIN;
TRUNCATE "shops<script>alert(1)</script>" CASCADE;
SELECT xmlparse(document page) IS DOCUMENT AS well_formed, page LIKE '%has no validation or test rows today%' AS told
FROM moe_ml.report('takings') AS page;
ROLLBACK;

-- Privileges: of the model, and of the tables that it reads.
CREATE ROLE report_guest;
GRANT USAGE ON SCHEMA report_test TO report_guest;
GRANT SELECT ON takings TO report_guest;
SET ROLE report_guest;
SELECT moe_ml.report('kind');
SELECT moe_ml.report('takings');
RESET ROLE;
GRANT SELECT ON "shops<script>alert(1)</script>", sales, returns TO report_guest;
SET ROLE report_guest;
SELECT length(moe_ml.report('takings')) > 1000 AS readable;
RESET ROLE;
\set VERBOSITY terse
SET statement_timeout = '5ms';
SELECT moe_ml.report('takings');
RESET statement_timeout;
\set VERBOSITY default
SELECT moe_ml.report('taking');
SELECT moe_ml.report('sales');
SELECT moe_ml.report(NULL);

DROP SCHEMA report_test CASCADE;
DROP ROLE report_guest;
