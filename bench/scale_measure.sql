-- What bench/scale measures on the schema that scale.sql made.
-- psql variables: orders (their number), threads, json (0 or 1).
SET moe_ml.notices = off;
SET moe_ml.memory_limit = '20GB';
SET moe_ml.threads = :threads;
SET search_path = star;
SET max_parallel_workers_per_gather = 0; -- what the server's settings are must not decide a comparison

-- The executor's milliseconds for the SELECTs that the reader runs, rows thrown away.
CREATE FUNCTION pg_temp.null_time() RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    query text;
    plan json;
    total float8 := 0;
BEGIN
    FOREACH query IN ARRAY ARRAY[
        'SELECT c.signed_up, c.country, c.segment, c.birth_year, c.newsletter, c.customer_id FROM star.customers c',
        'SELECT c.placed_at, c.quantity, c.amount, c.discount, c.weight, c.online, c.channel, c.note, c.customer_id, c.product_id, c.store_id FROM star.orders c',
        'SELECT c.listed_at, c.category, c.title, c.price, c.weight, c.product_id FROM star.products c',
        'SELECT c.opened_at, c.city, c.floor_m2, c.store_id FROM star.stores c']
    LOOP
        EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ' || query INTO plan;
        total := total + (plan->0->>'Execution Time')::float8;
    END LOOP;
    RETURN total;
END $$;

-- Processor milliseconds so far: of all threads of this backend, and of the one that runs the executor.
CREATE FUNCTION pg_temp.processor(OUT all_ms float8, OUT one_ms float8) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    fields text[];
BEGIN
    fields := string_to_array(split_part(pg_read_file('/proc/self/stat'), ') ', 2), ' ');
    all_ms := 10 * (fields[12]::float8 + fields[13]::float8);
    fields := string_to_array(split_part(pg_read_file('/proc/self/task/' || pg_backend_pid() || '/stat'), ') ', 2), ' ');
    one_ms := 10 * (fields[12]::float8 + fields[13]::float8);
END $$;

CREATE FUNCTION pg_temp.high_water() RETURNS float8 LANGUAGE sql AS
$$ SELECT substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\s+(\d+)')::float8 / 1024 $$;

-- 32 batches of seeds a model, whatever the size: 16,384 customers for training, 1,024 each for validation and test.
SELECT pg_temp.null_time() AS null_before \gset
SELECT all_ms AS cpu_0 FROM pg_temp.processor() \gset
SELECT min(pg_temp.null_time()) AS null_again FROM generate_series(1, 2) \gset
SELECT all_ms AS cpu_1, one_ms AS one_1 FROM pg_temp.processor() \gset
SELECT moe_ml.graph_check('star.customers') \g /dev/null
SELECT moe_ml.graph_check('star.customers') \g /dev/null
SELECT all_ms AS cpu_2, one_ms AS one_2 FROM pg_temp.processor() \gset
SELECT moe_ml.execute(format($model$
    CREATE MODEL star.quiet PREDICT label FOR EACH customers AT as_of
    AS SELECT c.customer_id, t.as_of, pg_catalog.count(o.customer_id) = 0 AS label, t.split
       FROM (SELECT customer_id, signed_up, pg_catalog.hashint4(customer_id) & 2147483647 AS h FROM star.customers) AS c
       CROSS JOIN (VALUES (timestamp '2024-09-01', 'train', 16384), ('2024-10-01', 'validation', 1024),
           ('2024-11-01', 'test', 1024)) AS t (as_of, split, wanted)
       LEFT JOIN star.orders AS o ON o.customer_id = c.customer_id AND o.placed_at > t.as_of AND o.placed_at <= t.as_of + interval '30 days'
       WHERE c.h::pg_catalog.float8 / 2147483647 < wanted::pg_catalog.float8 / %s AND c.signed_up <= t.as_of
       GROUP BY 1, 2, 4
    WITH (split_column = split, epochs = 2, patience = 0, ensembles = 1)$model$, :orders / 20)) \g /dev/null
SELECT pg_temp.high_water() AS backend_mb, pg_temp.null_time() AS null_after \gset

-- A new connection, as the memory of a training is not that of predicting.
\c
SET moe_ml.memory_limit = '20GB';
SET moe_ml.threads = :threads;
SET search_path = star;
CREATE FUNCTION pg_temp.high_water() RETURNS float8 LANGUAGE sql AS
$$ SELECT substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\s+(\d+)')::float8 / 1024 $$;
-- 8,192 keys, spread over all customers: the first ones order the more, the more customers there are.
CREATE FUNCTION pg_temp.predict_plan(customers bigint) RETURNS json LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM star.quiet WHERE customer_id = ANY ($keys$'
        || (SELECT array_agg(1 + i * customers / 8192) FROM generate_series(0, 8191) AS i)::text || '$keys$)' INTO plan;
    RETURN plan->0->'Plan';
END $$;
SELECT p->>'Seeds Scored' AS seeds, p->>'Score Time' AS score_ms, p->>'Read Time' AS predict_read_ms FROM pg_temp.predict_plan(:orders / 20) AS p \gset
SELECT pg_temp.high_water() AS predict_backend_mb \gset

-- docs/performance.md, "Memory": bytes per row of each table as read, linked and encoded, bytes per parameter and batch.
SELECT round((orders.bytes + customers.bytes + products.bytes + stores.bytes + inputs.bytes + training.bytes) / 1048576, 1) AS predicted_mb
FROM (SELECT :orders * (8 + 5 * 8 + (8 + 3.75) + (8 + 4.7) + 2 -- time, numbers, texts, NULL flags
        + 3 * (4 + 4)                                          -- foreign keys
        + 4 * 18 + 4 * 3 + (8 + 4 * 4.94)) AS bytes) AS orders, -- dense inputs, categories, a bag
    (SELECT :orders / 20 * (8 + 2 * 8 + (8 + 9.7) + (8 + 8.1) + 1 + (8 + 4) + 8 + 4 * 2 + 4 * 3) AS bytes) AS customers,
    (SELECT :orders / 1000 * (8 + 2 * 8 + (8 + 10.8) + (8 + 15) + 1 + 8 + 4 * 11 + 4 + (8 + 4 * 19)) AS bytes) AS products,
    (SELECT :orders / 20000 * (8 + 8 + (8 + 7) + 8 + 4 * 5 + 4 + (8 + 4 * 2)) AS bytes) AS stores,
    -- 5 numbers of a fact side by side, made when the order of events is done with; comparisons of them along 3 keys; inputs of training
    -- rows, thrice stale, too, and of validation rows
    (SELECT greatest(32.0, 5 * 8) * :orders + 5 * 8.0 * :orders * least(3, floor(268435456 / (5 * 8.0 * :orders)))
        + 4.0 * (4 * train_rows + 2 * 1024) * (SELECT count(*) FROM moe_ml.input_names('star.quiet')) AS bytes
     FROM moe_ml.model_relations WHERE name = 'quiet') AS inputs,
    (SELECT 20 * parameters + 3000.0 * 512 * 64 AS bytes FROM moe_ml.model_relations WHERE name = 'quiet') AS training \gset

CREATE TEMPORARY TABLE result AS
SELECT :orders AS orders, n AS rows, round(n / (stages->>'read')::numeric) AS read_rows_per_s,
    round(n / (stages->>'graph')::numeric) AS graph_rows_per_s, round(n / (stages->>'features')::numeric) AS features_rows_per_s,
    round(2 * train_rows / ((stages->>'sample')::numeric + (stages->>'encode')::numeric + (stages->>'forward')::numeric
        + (stages->>'backward')::numeric), 1) AS train_seeds_per_s,
    round(:seeds / (:score_ms::numeric / 1000), 1) AS predict_seeds_per_s,
    round((stages->>'read')::numeric * 1000 / least(:null_before, :null_after, :null_again)::numeric, 2) AS read_to_null,
    round((:cpu_2 - :cpu_1)::numeric / greatest(:cpu_1 - :cpu_0, 10)::numeric, 2) AS read_to_null_processor,
    round((:one_2 - :one_1)::numeric / greatest(:cpu_1 - :cpu_0, 10)::numeric, 2) AS read_to_null_thread,
    round(least(:null_before, :null_after, :null_again)::numeric / 1000, 3) AS null_seconds,
    round(peak_memory::numeric / n, 1) AS bytes_per_row, :predicted_mb AS predicted_mb,
    round(peak_memory / 1048576.0, 1) AS job_mb, round(peak_memory / 1048576.0 / :predicted_mb, 2) AS job_to_predicted,
    round(:backend_mb::numeric, 1) AS backend_mb,
    round(:backend_mb::numeric / (:predicted_mb + 128), 2) AS backend_to_predicted, -- with the shared buffers
    round(:predict_backend_mb::numeric, 1) AS predict_backend_mb,
    train_rows, train_seconds, stages
FROM moe_ml.model_relations, (SELECT sum(reltuples)::numeric AS n FROM pg_class WHERE relnamespace = 'star'::regnamespace AND relkind = 'r') AS t
WHERE name = 'quiet';

SELECT :json = 1 AS as_json \gset
\if :as_json
SELECT row_to_json(result) FROM result;
\else
\pset format aligned
\pset expanded on
\pset tuples_only off
SELECT * FROM result;
\endif
SELECT moe_ml.execute('DROP MODEL star.quiet') \g /dev/null
