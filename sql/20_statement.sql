-- The doors to the language.

CREATE FUNCTION @extschema@.execute(statement text) RETURNS text
    AS 'MODULE_PATHNAME', 'moe_statement_sql_execute'
    LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.execute(text) IS
    'run one CREATE, ALTER, REFRESH or DROP MODEL statement; returns its command tag';

CREATE FUNCTION @extschema@.parser_status() RETURNS text
    AS 'MODULE_PATHNAME', 'moe_statement_parser_status'
    LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.parser_status() IS
    'whether CREATE MODEL can be written as a statement of its own, and if not, why';

CREATE FUNCTION @extschema@.language_call() RETURNS language_handler
    AS 'MODULE_PATHNAME', 'moe_statement_language_call'
    LANGUAGE C;
COMMENT ON FUNCTION @extschema@.language_call() IS 'handler of language moe_ml';

CREATE FUNCTION @extschema@.language_inline(internal) RETURNS void
    AS 'MODULE_PATHNAME', 'moe_statement_language_inline'
    LANGUAGE C STRICT;
COMMENT ON FUNCTION @extschema@.language_inline(internal) IS 'DO of language moe_ml';

CREATE FUNCTION @extschema@.language_validate(oid) RETURNS void
    AS 'MODULE_PATHNAME', 'moe_statement_language_validate'
    LANGUAGE C STRICT;
COMMENT ON FUNCTION @extschema@.language_validate(oid) IS 'validator of language moe_ml';

CREATE TRUSTED LANGUAGE moe_ml
    HANDLER @extschema@.language_call
    INLINE @extschema@.language_inline
    VALIDATOR @extschema@.language_validate;
COMMENT ON LANGUAGE moe_ml IS 'statements on models: DO LANGUAGE moe_ml $$ CREATE MODEL ... $$';
