-- The language: what is accepted, what each mistake is answered, and the doors that need no preloading.
-- A routine of language moe_ml is checked when it is created, and runs nothing: that shows what the grammar takes.

SET client_min_messages = warning;

-- The predictive query
CREATE PROCEDURE accepted() LANGUAGE moe_ml AS $$
    CREATE MODEL churn PREDICT count(orders.*, 0, 30, days) = 0 FOR EACH customers
        WHERE count(orders.*, -90, 0, days) > 0;
    CREATE OR REPLACE MODEL app.churn PREDICT count(orders.*, 0, 30) FOR EACH app.customers.id;
    CREATE MODEL IF NOT EXISTS "Churn" PREDICT sum(orders."Price", 0, 1, month) >= 10.5 FOR EACH customers
        ASSUMING count(orders.*, 0, 2, weeks_do_not_exist) > 0;
$$;
CREATE PROCEDURE accepted() LANGUAGE moe_ml AS $$
    CREATE MODEL churn PREDICT count(orders.*, 0, 30, days) = 0 FOR EACH customers
        WHERE count(orders.*, -90, 0, days) > 0;
    CREATE OR REPLACE MODEL app.churn PREDICT count(orders.*, 0, 30) FOR EACH app.customers.id;
    CREATE MODEL IF NOT EXISTS "Churn" PREDICT sum(orders."Price", 0, 1, month) >= 10.5 FOR EACH customers
        ASSUMING count(orders.*, 0, 1, hour) > 0;
    CREATE MODEL driver_dnf PREDICT count(results.* WHERE "statusId" <> 1, 0, 30, days) > 0 FOR EACH drivers
        ASSUMING count(results.*, 0, 30, days) > 0;
    CREATE MODEL age PREDICT users.age FOR EACH users;
    CREATE MODEL past PREDICT max(o.x, 0, 90, minutes) FOR EACH t
        WHERE (NOT count(o.*, -INF, 0) = 0 OR t.kind IN ('a', 'b', -1)) AND t.name NOT LIKE 'x%' AND t.d IS NOT NULL
          AND t.c BETWEEN DATE '2020-01-01' AND '2021-01-01'::date AND t.b != true AND t.s ILIKE E'\\x'
          AND first(o.y WHERE o.kind = 'it''s' AND o.n NOT IN (1.5, 2e3) OR NOT (o.n IS NULL), -10, 0) <= 3;
    CREATE MODEL options PREDICT t.x FOR EACH t USING (a, app.b, "C")
        WITH (one = 1, two = -2.5, three = 'x', four = word, five = true, six, seven = (a.b, "C".d, 'e', 7), eight = a.b);
$$;

-- Words of the language are names where a name stands
CREATE PROCEDURE words() LANGUAGE moe_ml AS $$
    CREATE MODEL model PREDICT predict FOR EACH each;
    CREATE MODEL if PREDICT rank.top RANK TOP 3 FOR EACH forecast;
$$;
CREATE PROCEDURE words() LANGUAGE moe_ml AS $$
    CREATE MODEL model PREDICT predict FOR EACH each;
    CREATE MODEL if PREDICT rank.top FOR EACH forecast.between WHERE at.inf BETWEEN 1 AND 2 USING (drop, alter.if);
    DROP MODEL if, exists, "select" CASCADE;
    DROP MODEL IF EXISTS if RESTRICT;
    ALTER MODEL set RENAME TO to_;
    ALTER MODEL IF EXISTS owner OWNER TO current_user;
    ALTER MODEL schema SET SCHEMA schema;
    ALTER MODEL m OWNER TO owner;
    REFRESH MODEL refresh.refresh
$$;

-- The user's own labels: the query ends where the options begin, or with the statement
CREATE PROCEDURE labels() LANGUAGE moe_ml AS $$
    CREATE MODEL a PREDICT label FOR EACH customers AT seen_at AS
        SELECT id, seen_at, x > 1 AS label FROM t JOIN u USING (id) -- a comment; with a semicolon
        WHERE s <> 'WITH (' ORDER BY 1
        WITH (test_from = '2020-01-01');
    CREATE MODEL b PREDICT label FOR EACH customers AT seen_at USING (t) WITH (seeds = 3) AS
        WITH q (a, b, label) AS (SELECT 1, now(), 2) SELECT * FROM q;
    CREATE MODEL c PREDICT label FOR EACH customers.id AT at AS (SELECT id, at, label FROM t) USING (t, u) WITH (seeds = 3);
    CREATE MODEL d PREDICT label FOR EACH customers AT at AS (SELECT 1) UNION (SELECT 2)
$$;

-- Mistakes carry a position
SELECT moe_ml.execute('CREATE MODEL churn PREDICT count(orders.* 0, 30, days) = 0 FOR EACH customers');
SELECT moe_ml.execute('CREATE MODEL churn PREDICT count(orders.*, 0, 30, days) = 0 FOR customers');
SELECT moe_ml.execute('CREATE MODEL churn
  PREDICT count(orders.*, 0, 30, days) = 0
  FOR EACH customers WHERE');
SELECT moe_ml.execute('CREATE MODEL churn PREDICT total(orders.price, 0, 30, days) FOR EACH customers');
SELECT moe_ml.execute('CREATE MODEL churn PREDICT sum(orders.*, 0, 30, days) FOR EACH customers');
SELECT moe_ml.execute('CREATE MODEL churn PREDICT count(orders.*, 0, 30, fortnights) FOR EACH customers');
SELECT moe_ml.execute('CREATE MODEL churn PREDICT count(orders.*, 30, 0, days) FOR EACH customers');
SELECT moe_ml.execute('CREATE MODEL churn PREDICT count(orders.*, 0, -INF, days) FOR EACH customers');
SELECT moe_ml.execute('CREATE MODEL churn PREDICT count(orders.*, 0, 1.5, days) FOR EACH customers');
SELECT moe_ml.execute('CREATE MODEL churn PREDICT count(orders.*, 0, 99999999999, days) FOR EACH customers');
SELECT moe_ml.execute('CREATE MODEL churn PREDICT count(orders.* WHERE count(x.*) > 1, 0, 1) FOR EACH customers');
SELECT moe_ml.execute('CREATE MODEL churn PREDICT sum(o.x, 0, 1) = NULL FOR EACH customers');
SELECT moe_ml.execute('CREATE MODEL churn PREDICT sum(o.x, 0, 1) = o.y FOR EACH customers');
SELECT moe_ml.execute('CREATE MODEL a.b.c PREDICT t.x FOR EACH t');
SELECT moe_ml.execute('CREATE MODEL m PREDICT t.x FOR EACH a.b.c.d');
SELECT moe_ml.execute('CREATE MODEL m PREDICT a.b.c.d FOR EACH a');
SELECT moe_ml.execute('CREATE MODEL m PREDICT t.x FOR EACH t WITH (a = 1, b = 2, a = 3)');
SELECT moe_ml.execute('CREATE MODEL m PREDICT t.x FOR EACH t WITH (a = )');
SELECT moe_ml.execute('CREATE MODEL m PREDICT t.x FOR EACH t USING ()');
SELECT moe_ml.execute('CREATE MODEL select PREDICT where FOR EACH t');
SELECT moe_ml.execute('CREATE MODEL U&"m" PREDICT t.x FOR EACH t');
SELECT moe_ml.execute('CREATE MODEL "m PREDICT t.x FOR EACH t');
SELECT moe_ml.execute('CREATE MODEL ü PREDICT "ä" + FOR EACH t');
SELECT moe_ml.execute('ALTER MODEL m RENAME x');
SELECT moe_ml.execute('REFRESH MODEL a, b');

-- ... in the user's query too
SELECT moe_ml.execute('CREATE MODEL m PREDICT l FOR EACH t AT a AS SELEC 1');
SELECT moe_ml.execute('CREATE MODEL m PREDICT l FOR EACH t AT a AS SELECT ''ü'', 1 +');
SELECT moe_ml.execute('CREATE MODEL m PREDICT l FOR EACH t AT a AS SELECT 1) FROM (SELECT 2');
SELECT moe_ml.execute('CREATE MODEL m PREDICT l FOR EACH t AT a AS SELECT 1; SELECT 2');
SELECT moe_ml.execute('CREATE MODEL m PREDICT l FOR EACH t AT a AS DELETE FROM t');
SELECT moe_ml.execute('CREATE MODEL m PREDICT l FOR EACH t AT a AS SELECT 1 INTO x');
SELECT moe_ml.execute('CREATE MODEL m PREDICT l FOR EACH t AT a AS SELECT $1');
SELECT moe_ml.execute('CREATE MODEL m PREDICT l FOR EACH t AT a AS');
SELECT moe_ml.execute('CREATE MODEL m PREDICT l FOR EACH t AT a AS WITH (x = 1)');
SELECT moe_ml.execute('CREATE MODEL m PREDICT t.l FOR EACH t AT a AS SELECT 1');
SELECT moe_ml.execute('CREATE MODEL m PREDICT l FOR EACH t AT a USING (x) AS (SELECT 1) USING (y)');
SELECT moe_ml.execute('CREATE MODEL m PREDICT l FOR EACH t AS SELECT 1');

-- Parsed, but not supported yet
SELECT moe_ml.execute('CREATE MODEL m PREDICT sum(o.x, 0, 7) FORECAST 4 TIMEFRAMES FOR EACH t');
SELECT moe_ml.execute('CREATE MODEL m PREDICT list_distinct(o.x, 0, 7) RANK TOP 12 FOR EACH t');
SELECT moe_ml.execute('CREATE MODEL m PREDICT t.x CLASSIFY FOR EACH t');
SELECT moe_ml.execute('CREATE MODEL m PREDICT t.x RANK FOR EACH t WHERE list_distinct(o.x, -1, 0) = 1 +');
SELECT moe_ml.execute('ALTER MODEL m SET (channels = 3)');

-- The doors
SELECT moe_ml.execute('DROP MODEL IF EXISTS no_such_model');
SELECT moe_ml.execute('  /* a */ drop model if exists no_such_model; -- b');
SELECT moe_ml.execute(format('DROP MODEL IF EXISTS %I', 'No such "model"'));
SELECT moe_ml.execute('DROP MODEL IF EXISTS a; DROP MODEL IF EXISTS b');
SELECT moe_ml.execute('SELECT 1');
SELECT moe_ml.execute('');
SELECT moe_ml.execute(NULL) IS NULL AS strict;
DO LANGUAGE moe_ml $$
    DROP MODEL IF EXISTS no_such_model; -- one; two
    DROP MODEL IF EXISTS "no;such";;
$$;
DO LANGUAGE moe_ml '';
DO LANGUAGE moe_ml $$
    DROP MODEL IF EXISTS a;
    DROP MODLE b
$$;
CREATE PROCEDURE tidy() LANGUAGE moe_ml AS 'DROP MODEL IF EXISTS a; DROP MODEL IF EXISTS b';
CALL tidy();
CREATE FUNCTION tidy_too() RETURNS void LANGUAGE moe_ml AS 'DROP MODEL IF EXISTS a';
SELECT tidy_too();
CREATE FUNCTION wrong(int) RETURNS int LANGUAGE moe_ml AS 'DROP MODEL IF EXISTS a';
CREATE FUNCTION wrong() RETURNS void LANGUAGE moe_ml AS 'DROP MODEL IF EXISTS';

-- A syntax error leaves no trace in the next statement's positions
SELECT moe_ml.execute('DROP MODEL 1');
SELECT 1 +;

-- Without preloading the bare statement is the server's own syntax error, and parser_status() says why
CREATE MODEL m PREDICT t.x FOR EACH t;
SELECT moe_ml.parser_status();

DROP PROCEDURE accepted, words, labels, tidy;
DROP FUNCTION tidy_too;
