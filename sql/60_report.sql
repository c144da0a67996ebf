-- A model as one page for people.

CREATE FUNCTION @extschema@.report(model text) RETURNS text
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE COST 1000000 AS 'MODULE_PATHNAME', 'moe_report_page';
COMMENT ON FUNCTION @extschema@.report(text)
    IS 'an HTML page, complete in itself: what a model predicts, how well, and by what';
