-- Models as relations, and functions over predictions.

CREATE FUNCTION @extschema@.fdw_handler() RETURNS fdw_handler
    LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'moe_fdw_handler';
COMMENT ON FUNCTION @extschema@.fdw_handler() IS 'entry point of the foreign-data wrapper moe_ml';

CREATE FUNCTION @extschema@.fdw_validator(options text[], catalog oid) RETURNS void
    LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'moe_fdw_validator';
COMMENT ON FUNCTION @extschema@.fdw_validator(text[], oid) IS 'checks the options of a model''s foreign table';

CREATE FOREIGN DATA WRAPPER moe_ml
    HANDLER @extschema@.fdw_handler VALIDATOR @extschema@.fdw_validator;
COMMENT ON FOREIGN DATA WRAPPER moe_ml IS 'models as relations';

CREATE SERVER moe_ml FOREIGN DATA WRAPPER moe_ml;
COMMENT ON SERVER moe_ml IS 'the models of this database';
GRANT USAGE ON FOREIGN SERVER moe_ml TO PUBLIC;

-- A key is given as any type, or as an untyped literal, which the key's own type reads.
CREATE FUNCTION @extschema@.predict(model text, key anyelement, as_of timestamptz DEFAULT NULL) RETURNS float8
    LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'moe_predict';
COMMENT ON FUNCTION @extschema@.predict(text, anyelement, timestamptz)
    IS 'a model''s prediction for one key: the probability, or the value';
CREATE FUNCTION @extschema@.predict(model text, key text, as_of timestamptz DEFAULT NULL) RETURNS float8
    LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'moe_predict_text';
COMMENT ON FUNCTION @extschema@.predict(text, text, timestamptz)
    IS 'a model''s prediction for one key: the probability, or the value';

CREATE FUNCTION @extschema@.predict_class(model text, key anyelement, as_of timestamptz DEFAULT NULL) RETURNS text
    LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'moe_predict_class';
COMMENT ON FUNCTION @extschema@.predict_class(text, anyelement, timestamptz)
    IS 'a model''s prediction for one key: the class';
CREATE FUNCTION @extschema@.predict_class(model text, key text, as_of timestamptz DEFAULT NULL) RETURNS text
    LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'moe_predict_class_text';
COMMENT ON FUNCTION @extschema@.predict_class(text, text, timestamptz)
    IS 'a model''s prediction for one key: the class';

CREATE FUNCTION @extschema@.evaluate(name text)
    RETURNS TABLE (split text, regime text, metric text, model float8, constant float8, own_past float8, rows bigint)
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE COST 1000000 ROWS 20 AS 'MODULE_PATHNAME', 'moe_evaluate';
COMMENT ON FUNCTION @extschema@.evaluate(text)
    IS 'metrics on the model''s own validation and test rows, beside two naive baselines';
CREATE FUNCTION @extschema@.evaluate(name text, query text)
    RETURNS TABLE (split text, regime text, metric text, model float8, constant float8, own_past float8, rows bigint)
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE COST 1000000 ROWS 20 AS 'MODULE_PATHNAME', 'moe_evaluate';
COMMENT ON FUNCTION @extschema@.evaluate(text, text)
    IS 'metrics on the rows of a query that gives key, as_of and label, beside two naive baselines';

CREATE FUNCTION @extschema@.evaluate(name text, budgets float8[])
    RETURNS TABLE (budget float8, split text, regime text, metric text, model float8, asked float8, reads float8)
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE COST 1000000 ROWS 60 AS 'MODULE_PATHNAME', 'moe_evaluate_budgets';
COMMENT ON FUNCTION @extschema@.evaluate(text, float8[])
    IS 'metrics on the model''s own validation and test rows as if it had each of these budgets';
CREATE FUNCTION @extschema@.evaluate(name text, query text, budgets float8[])
    RETURNS TABLE (budget float8, split text, regime text, metric text, model float8, asked float8, reads float8)
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE COST 1000000 ROWS 60 AS 'MODULE_PATHNAME', 'moe_evaluate_budgets';
COMMENT ON FUNCTION @extschema@.evaluate(text, text, float8[])
    IS 'metrics on the rows of a query that gives key, as_of and label, as if the model had each of these budgets';

CREATE FUNCTION @extschema@.budget(model text)
    RETURNS TABLE (reads float8, asked float8, loss float8, threshold float8, chosen boolean)
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE COST 100000 ROWS 64 AS 'MODULE_PATHNAME', 'moe_budget';
COMMENT ON FUNCTION @extschema@.budget(text)
    IS 'log loss on validation rows by the share of what is around them that is read';

CREATE FUNCTION @extschema@.predictions(model text, query text, regime text DEFAULT 'rolling')
    RETURNS TABLE (key text, as_of timestamptz, label text, prediction float8, class text)
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE COST 1000000 ROWS 1000 AS 'MODULE_PATHNAME', 'moe_predictions';
COMMENT ON FUNCTION @extschema@.predictions(text, text, text)
    IS 'predictions for the rows of a query that gives key, as_of and label';

CREATE FUNCTION @extschema@.expert_predictions(model text, query text, regime text DEFAULT 'rolling')
    RETURNS TABLE (key text, as_of timestamptz, label text, expert text, weight float8, prediction float8, class text)
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE COST 1000000 ROWS 4000 AS 'MODULE_PATHNAME', 'moe_expert_predictions';
COMMENT ON FUNCTION @extschema@.expert_predictions(text, text, text)
    IS 'what each expert says of the rows of a query that gives key, as_of and label, and its weight';

CREATE FUNCTION @extschema@.inputs(model text, query text, regime text DEFAULT 'rolling')
    RETURNS TABLE (key text, as_of timestamptz, label text, input real[])
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE COST 1000000 ROWS 1000 AS 'MODULE_PATHNAME', 'moe_inputs_of';
COMMENT ON FUNCTION @extschema@.inputs(text, text, text)
    IS 'label history and relational aggregates of the rows of a query that gives key, as_of and label';

CREATE FUNCTION @extschema@.input_names(model text)
    RETURNS TABLE (number integer, name text, about regclass)
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE COST 100000 ROWS 1000 AS 'MODULE_PATHNAME', 'moe_input_names';
COMMENT ON FUNCTION @extschema@.input_names(text)
    IS 'the names of a model''s inputs, in the order of moe_ml.inputs, and the table each is about';

CREATE FUNCTION @extschema@.explain(model text, key anyelement, as_of timestamptz DEFAULT NULL, top_rows integer DEFAULT 10)
    RETURNS TABLE (part text, name text, rows bigint, prediction float8, contribution float8, share float8)
    LANGUAGE C STABLE PARALLEL UNSAFE COST 100000 ROWS 30 AS 'MODULE_PATHNAME', 'moe_explain';
COMMENT ON FUNCTION @extschema@.explain(text, anyelement, timestamptz, integer)
    IS 'what tables, columns, rows and experts contribute to one prediction: each sums to its difference from the base';
CREATE FUNCTION @extschema@.explain(model text, key text, as_of timestamptz DEFAULT NULL, top_rows integer DEFAULT 10)
    RETURNS TABLE (part text, name text, rows bigint, prediction float8, contribution float8, share float8)
    LANGUAGE C STABLE PARALLEL UNSAFE COST 100000 ROWS 30 AS 'MODULE_PATHNAME', 'moe_explain_text';
COMMENT ON FUNCTION @extschema@.explain(text, text, timestamptz, integer)
    IS 'what tables, columns, rows and experts contribute to one prediction: each sums to its difference from the base';

CREATE FUNCTION @extschema@.importance(model text)
    RETURNS TABLE (table_name text, metric text, value_with float8, value_without float8, "drop" float8)
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE COST 1000000 ROWS 20 AS 'MODULE_PATHNAME', 'moe_importance';
COMMENT ON FUNCTION @extschema@.importance(text)
    IS 'how much worse the model is on its validation rows with each table hidden';
