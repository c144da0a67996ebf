-- Where models are trained.

CREATE FUNCTION @extschema@.device_info(
        OUT device text, OUT name text, OUT usable boolean, OUT memory_total bigint, OUT memory_free bigint,
        OUT detail text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'moe_device_info'
    LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100000 ROWS 2;
COMMENT ON FUNCTION @extschema@.device_info() IS
    'the processor and the CUDA devices that moe_ml.device chooses from, and why one cannot be used; memory in bytes';
