-- What a statement would learn.

CREATE FUNCTION @extschema@.compile(statement text, population boolean DEFAULT false) RETURNS text
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'moe_label_query_sql_compile';
COMMENT ON FUNCTION @extschema@.compile(text, boolean) IS
    'the SQL of a CREATE MODEL statement, without training: its labelled seeds, or the keys that count at $1';
