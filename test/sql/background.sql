-- Trainings in the background: what is told at once, what the list shows, and what is refused. Times, crashes and other
-- sessions are in t/088_background.t.
SET moe_ml.notices = off;
CREATE SCHEMA shop;
SET search_path = shop;
CREATE TABLE customers (customer_id int PRIMARY KEY, joined timestamp);
CREATE TABLE orders (order_id int PRIMARY KEY, customer_id int REFERENCES customers, placed_at timestamp);
INSERT INTO customers SELECT i, '2020-01-01' FROM generate_series(1, 20) i;
INSERT INTO orders
SELECT row_number() OVER (), c, timestamp '2020-01-02' + d * interval '1 day' + c * interval '1 minute'
  FROM generate_series(1, 20) c, generate_series(0, 120) d WHERE (d + c) % CASE WHEN c % 2 = 0 THEN 5 ELSE 60 END = 0;
CREATE FUNCTION train(clauses text, options text DEFAULT ', background') RETURNS text LANGUAGE sql AS
$$ SELECT moe_ml.execute(clauses || ' PREDICT count(orders.*, 0, 14, days) = 0 FOR EACH customers
                         WITH (epochs = 1, channels = 8, ensembles = 1' || options || ')') $$;
CREATE PROCEDURE wait() LANGUAGE plpgsql AS
$$ BEGIN WHILE EXISTS (SELECT FROM moe_ml.jobs WHERE state IN ('queued', 'running')) LOOP PERFORM pg_sleep(0.02); END LOOP; END $$;
SELECT setval('moe_ml.job_number', 1, false);

-- The model is there when the job has ended, and is what it would have been in the foreground.
SELECT train('CREATE MODEL churn');
CALL wait();
SELECT job, state, model, asked <= now() AS asked, elapsed IS NOT NULL AS elapsed, message FROM moe_ml.jobs;
SELECT job, state, schema, model, owner = current_user AS mine, statement, asked <= started AND started < ended AS in_order, pid, sqlstate FROM moe_ml.job_details;
SELECT definition FROM moe_ml.model_relations;
SELECT train('CREATE MODEL same', ', background = off');
SELECT definition FROM moe_ml.model_relations WHERE name = 'same';
SELECT count(*) FROM (TABLE churn EXCEPT TABLE same) d;
SELECT moe_ml.execute('REFRESH MODEL churn WITH (background)');
CALL wait();
SELECT moe_ml.execute('REFRESH MODEL same WITH (background = false)');
SELECT count(*) FROM (TABLE churn EXCEPT TABLE same) d;
SELECT train('CREATE OR REPLACE MODEL churn', ', seed = 2, background = on');
CALL wait();
SELECT options ->> 'seed' FROM moe_ml.model_relations WHERE name = 'churn';
SELECT job, state, model FROM moe_ml.jobs;

-- Mistakes are told at once.
SELECT train('CREATE MODEL churn');
SELECT train('CREATE MODEL IF NOT EXISTS churn');
SELECT train('CREATE MODEL m', ', background, seed = x');
SELECT train('CREATE MODEL m', ', background = maybe');
SELECT train('CREATE MODEL m', ', background = (on, off)');
SELECT train('CREATE MODEL m', ', background, background');
SELECT train('CREATE MODEL m', ', backgrund');
SELECT moe_ml.execute('CREATE MODEL m PREDICT count(oders.*, 0, 14, days) = 0 FOR EACH customers WITH (background)');
SELECT moe_ml.execute('CREATE MODEL m PREDICT y FOR EACH customers AT placed_at WITH (background) AS SELECT customer_id, placed_at, x AS y FROM orders');
SELECT moe_ml.execute('REFRESH MODEL chrn WITH (background)');
SELECT moe_ml.execute('REFRESH MODEL churn WITH (background, epochs = 3)');
SELECT moe_ml.execute('REFRESH MODEL churn WITH ()');
CREATE TEMPORARY TABLE marks AS SELECT customer_id, placed_at, true AS y FROM orders;
SELECT moe_ml.execute('CREATE MODEL m PREDICT y FOR EACH customers AT placed_at WITH (background) AS TABLE marks');
BEGIN TRANSACTION READ ONLY;
SELECT train('CREATE MODEL m');
ROLLBACK;

-- A job begins when its transaction commits, or never.
BEGIN;
SELECT train('CREATE MODEL m');
SELECT job, state, model, message FROM moe_ml.jobs WHERE model = 'm';
SAVEPOINT s;
SELECT train('CREATE MODEL n');
ROLLBACK TO s;
SELECT train('CREATE MODEL o');
SELECT moe_ml.cancel_job(max(job)) FROM moe_ml.jobs;
SELECT train('CREATE MODEL p');
SELECT moe_ml.remove_job(max(job)) FROM moe_ml.jobs;
COMMIT;
CALL wait();
SELECT job, state, model, message FROM moe_ml.jobs WHERE job > 3;
BEGIN;
SELECT train('CREATE MODEL n');
ROLLBACK;
SELECT name FROM moe_ml.models;

-- What goes wrong later is told by the list.
SELECT moe_ml.execute('CREATE MODEL fails PREDICT count(orders.*, 0, 14, days) > 100000 FOR EACH customers WITH (background)');
CALL wait();
SELECT state, sqlstate, message FROM moe_ml.job_details WHERE model = 'fails';

-- Jobs that have ended.
SELECT moe_ml.cancel_job(1);
SELECT moe_ml.cancel_job(1000);
SELECT moe_ml.remove_job(1000);
SELECT moe_ml.cancel_job(NULL), moe_ml.remove_job(NULL), moe_ml.job_is_lost(1), moe_ml.job_is_lost(1000);
CREATE ROLE moe_other;
SET ROLE moe_other;
SELECT count(*) FROM moe_ml.jobs;
SELECT moe_ml.cancel_job(1);
SELECT moe_ml.remove_job(1);
TABLE moe_ml.job;
RESET ROLE;
DROP ROLE moe_other;
SELECT count(moe_ml.remove_job(job)) FROM moe_ml.jobs;
TABLE moe_ml.jobs;
SELECT name FROM moe_ml.models;

SET client_min_messages = warning;
DROP SCHEMA shop CASCADE;
