-- moe_ml: schema-wide objects. Parts 10 and up follow in order; the build joins them into one install script.

\echo Use "CREATE EXTENSION moe_ml" to load this file. \quit

GRANT USAGE ON SCHEMA @extschema@ TO PUBLIC;
