-- The tour: what an analyst would type. Run by docs/demo/run on the shop of shop.sql.
\set QUIET on
\pset footer off
\pset border 1
SET search_path = shop, public;
CREATE EXTENSION IF NOT EXISTS moe_ml;

\echo
\echo '== The tables, and how they hang together (found from the foreign keys)'
\echo
SELECT * FROM moe_ml.graph('customers');

\echo '== One statement: who will not order in the next 30 days, of those who did in the last 90?'
\set ECHO queries

CREATE MODEL churn
  PREDICT count(orders.*, 0, 30, days) = 0
  FOR EACH customers
  WHERE count(orders.*, -90, 0, days) > 0;

\set ECHO none
\echo
\echo '== The model is a table: the five customers most likely gone'
\set ECHO queries

SELECT c.customer_id, c.name, c.country, round(p.probability::numeric, 3) AS probability
FROM customers AS c JOIN churn AS p USING (customer_id)
ORDER BY p.probability DESC, c.customer_id LIMIT 5;

SELECT customer_id, as_of, prediction, round(probability::numeric, 3) AS probability
FROM churn WHERE customer_id = 42 AND as_of = '2025-07-01';

\set ECHO none
\echo '== How good is it, on months it has not seen, beside guesses that need no model?'
\set ECHO queries

SELECT split, regime, metric, round(model::numeric, 3) AS model,
       round(constant::numeric, 3) AS constant, round(own_past::numeric, 3) AS own_past
FROM moe_ml.evaluate('churn') WHERE metric IN ('auroc', 'average_precision', 'log_loss');

\set ECHO none
\echo '== Who is in the mixture: each expert''s weight, and how good it is alone'
\set ECHO queries

SELECT * FROM moe_ml.experts('churn');

\set ECHO none
\echo '== Which tables mattered? (What the metric loses when a table is hidden.)'
\echo '   The shop has a hidden cause: who waits over two days for an answer to a support ticket leaves.'
\set ECHO queries

SELECT table_name, metric, round(value_with::numeric, 3) AS "with", round(value_without::numeric, 3) AS without,
       round("drop"::numeric, 3) AS "drop"
FROM moe_ml.importance('churn');

\set ECHO none
\echo '== And for one customer who waited:'
\set ECHO queries

SELECT t.customer_id AS waited FROM support_tickets AS t JOIN churn AS p USING (customer_id)
WHERE t.hours_to_answer > 48 ORDER BY p.probability DESC, t.ticket_id LIMIT 1 \gset
SELECT * FROM moe_ml.explain('churn', :waited);
