-- Metrics in SQL, for predictions that no model made alone: of predictions and labels in the same order.
CREATE FUNCTION auroc(prediction float8[], label float8[]) RETURNS float8 LANGUAGE SQL AS $$
    WITH pair AS (SELECT p, y FROM unnest(prediction, label) AS t(p, y)),
    placed AS (SELECT y, rank() OVER (ORDER BY p) + (count(*) OVER (PARTITION BY p) - 1) / 2.0 AS place FROM pair),
    total AS (SELECT sum(y) AS positive, sum(1 - y) AS negative, sum(y * place) AS places FROM placed)
    SELECT (places - positive * (positive + 1) / 2) / nullif(positive * negative, 0) FROM total
$$;
CREATE FUNCTION mae(prediction float8[], label float8[]) RETURNS float8 LANGUAGE SQL AS $$
    SELECT avg(abs(p - y)) FROM unnest(prediction, label) AS t(p, y)
$$;
