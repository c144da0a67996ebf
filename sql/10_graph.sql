-- The graph of tables: what is found by rule, what is declared, what the data say.

CREATE FUNCTION @extschema@.load() RETURNS void
    AS 'MODULE_PATHNAME', 'moe_graph_load'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.load() IS
    'load the library into the session, so that SECURITY LABEL FOR moe_ml is accepted';

CREATE FUNCTION @extschema@.declare(table_name regclass, column_name name, declaration text) RETURNS void
    AS 'MODULE_PATHNAME', 'moe_graph_declare'
    LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.declare(regclass, name, text) IS
    'declare a column: time, ignore, numeric, category, text, known, known at <column>, key, references <table>; '
    'or with a NULL column a table: timeless, ignore; a NULL declaration takes it back';

CREATE FUNCTION @extschema@.list_graph_tables(
        OUT schema text, OUT table_name text, OUT time_column text, OUT time_reason text,
        OUT rows bigint, OUT columns integer, OUT key text[])
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'moe_graph_list_tables'
    LANGUAGE C STABLE;
COMMENT ON FUNCTION @extschema@.list_graph_tables() IS 'the rows of view graph_tables';

CREATE VIEW @extschema@.graph_tables AS
    SELECT * FROM @extschema@.list_graph_tables();
COMMENT ON VIEW @extschema@.graph_tables IS
    'tables with a foreign key in or out, with the row time each would have in a model';
COMMENT ON COLUMN @extschema@.graph_tables.time_column IS 'since when a row is visible; NULL: always';
COMMENT ON COLUMN @extschema@.graph_tables.time_reason IS 'how the time column was chosen, or why there is none';
COMMENT ON COLUMN @extschema@.graph_tables.rows IS 'the planner''s estimate';
COMMENT ON COLUMN @extschema@.graph_tables.key IS 'columns of the primary key';

CREATE FUNCTION @extschema@.list_graph_edges(
        OUT name text, OUT child regclass, OUT child_columns text[],
        OUT parent regclass, OUT parent_columns text[])
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'moe_graph_list_edges'
    LANGUAGE C STABLE;
COMMENT ON FUNCTION @extschema@.list_graph_edges() IS 'the rows of view graph_edges';

CREATE VIEW @extschema@.graph_edges AS
    SELECT * FROM @extschema@.list_graph_edges();
COMMENT ON VIEW @extschema@.graph_edges IS 'foreign keys between tables that the user may read';
COMMENT ON COLUMN @extschema@.graph_edges.name IS 'the constraint''s name';

CREATE FUNCTION @extschema@.list_graph_columns(
        OUT table_name regclass, OUT column_name text, OUT role text, OUT encoding text,
        OUT known_at text, OUT reason text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'moe_graph_list_columns'
    LANGUAGE C STABLE;
COMMENT ON FUNCTION @extschema@.list_graph_columns() IS 'the rows of view graph_columns';

CREATE VIEW @extschema@.graph_columns AS
    SELECT * FROM @extschema@.list_graph_columns();
COMMENT ON VIEW @extschema@.graph_columns IS 'what each column of the graph''s tables is to a model';
COMMENT ON COLUMN @extschema@.graph_columns.role IS 'key, foreign key, time, feature or ignored';
COMMENT ON COLUMN @extschema@.graph_columns.known_at IS
    'the column whose time says when the value became known; NULL: together with the row';

CREATE FUNCTION @extschema@.graph(
        entity regclass, key name DEFAULT NULL, using_tables regclass[] DEFAULT NULL,
        time_columns text[] DEFAULT NULL, ignored_columns text[] DEFAULT NULL,
        OUT hops integer, OUT table_name regclass, OUT link text, OUT time_column text, OUT rows bigint)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'moe_graph_show'
    LANGUAGE C STABLE;
COMMENT ON FUNCTION @extschema@.graph(regclass, name, regclass[], text[], text[]) IS
    'the tables that a model FOR EACH row of this table would learn from; '
    'the further arguments are those of CREATE MODEL';

CREATE FUNCTION @extschema@.graph_check(
        entity regclass, key name DEFAULT NULL, using_tables regclass[] DEFAULT NULL,
        time_columns text[] DEFAULT NULL, ignored_columns text[] DEFAULT NULL,
        OUT item text, OUT rows bigint, OUT nulls bigint, OUT dangling bigint, OUT not_finite bigint,
        OUT first_time timestamp, OUT last_time timestamp)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'moe_graph_check'
    LANGUAGE C STABLE;
COMMENT ON FUNCTION @extschema@.graph_check(regclass, name, regclass[], text[], text[]) IS
    'read the graph of a table; per table its rows, NaN and infinite values and time range (UTC), '
    'per foreign key its NULL and dangling values';

GRANT SELECT ON @extschema@.graph_tables, @extschema@.graph_edges, @extschema@.graph_columns TO PUBLIC;
