-- Models as bytes, from one database to another.

-- Parameters are the owner's: SELECT on a model is no right to them.
CREATE FUNCTION moe_ml.export_model(model text) RETURNS bytea
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'moe_export_model';
COMMENT ON FUNCTION moe_ml.export_model(text) IS
    'a model that one owns, with all that it learned, as bytes for moe_ml.import_model';

CREATE FUNCTION moe_ml.import_model(name text, data bytea) RETURNS void
    LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'moe_import_model';
COMMENT ON FUNCTION moe_ml.import_model(text, bytea) IS
    'make a model of what moe_ml.export_model gave, over the tables of the same names here';
