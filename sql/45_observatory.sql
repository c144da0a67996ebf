-- What a model's embeddings are like.

CREATE FUNCTION @extschema@.observatory(model text)
    RETURNS TABLE (property text, figure float8, samples bigint, meaning text)
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE COST 1000000 ROWS 18 AS 'MODULE_PATHNAME', 'moe_observatory';
COMMENT ON FUNCTION @extschema@.observatory(text)
    IS 'eight properties of a model''s embeddings of rows and tables, after Observatory (Cong et al., VLDB 2024)';
