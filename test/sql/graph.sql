-- The graph as found from the catalog: rules, declarations, errors, privileges.
CREATE SCHEMA graph_test;
SET search_path = graph_test;

CREATE TABLE customers (
    customer_id int PRIMARY KEY,
    email text,
    born date,
    balance numeric,
    vip boolean,
    last_login timestamptz
);
CREATE TABLE orders (
    order_id bigint PRIMARY KEY,
    customer_id int NOT NULL REFERENCES customers,
    placed_at timestamptz NOT NULL,
    shipped_at timestamptz,
    updated_at timestamptz,
    total numeric,
    state text
);
CREATE TABLE shipments (
    shipment_id int PRIMARY KEY,
    order_id bigint REFERENCES orders,
    shipped_at timestamp
);
CREATE TABLE unrelated (id int PRIMARY KEY);

-- The row time: what says when a row began; not a birth, not what is overwritten.
SELECT table_name, time_column, time_reason FROM moe_ml.graph_tables WHERE schema = 'graph_test';
SELECT hops, table_name, link, time_column FROM moe_ml.graph('customers');
SELECT name, child, child_columns, parent FROM moe_ml.graph_edges WHERE child::text !~ '[.]';

-- Other times are hidden until they have come; what is overwritten in place is left out.
SELECT column_name, role, encoding, known_at, reason FROM moe_ml.graph_columns WHERE table_name = 'orders'::regclass;

-- Names by which the rule decides, each in a table of its own with a foreign key.
CREATE TABLE times (
    a_creation_date date, b_birth_date date, c_modified timestamp, d_lastUpdate timestamp, e_valid_from date,
    f_valid_to date, g_due_on date, h_ts timestamptz, i_deleted_at timestamp, j_hire_date date, k_expires_at date
);
DO $$
DECLARE
    col record;
BEGIN
    FOR col IN SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute
        WHERE attrelid = 'times'::regclass AND attnum > 0
    LOOP
        EXECUTE format('CREATE TABLE %I (customer_id int REFERENCES customers, %I %s)',
            'rule_' || left(col.attname, 1), substr(col.attname, 3), col.type);
    END LOOP;
END $$;
SELECT table_name, time_column, time_reason FROM moe_ml.graph_tables
WHERE schema = 'graph_test' AND table_name LIKE 'rule%';
DROP TABLE rule_a, rule_b, rule_c, rule_d, rule_e, rule_f, rule_g, rule_h, rule_i, rule_j, rule_k, times;

-- Between several: the table's own event, then creation, then a beginning, then NOT NULL, then order.
CREATE TABLE rentals (customer_id int REFERENCES customers, created_at date, rental_date date);
CREATE TABLE tickets (customer_id int REFERENCES customers, opened_on date, created_at date, closed_on date);
CREATE TABLE logs (customer_id int REFERENCES customers, day1 date, day2 date NOT NULL);
SELECT table_name, time_column, time_reason FROM moe_ml.graph_tables
WHERE table_name IN ('rentals', 'tickets', 'logs') AND schema = 'graph_test';
DROP TABLE rentals, tickets, logs;

-- Declarations win over rules.
SELECT moe_ml.declare('orders', 'shipped_at', 'time');
SELECT moe_ml.declare('orders', 'total', 'known at updated_at');
SELECT moe_ml.declare('orders', 'state', 'text');
SELECT moe_ml.declare('customers', 'email', 'ignore');
SELECT moe_ml.declare('customers', 'born', 'known');
SELECT moe_ml.declare('customers', 'vip', 'numeric');
SELECT table_name, column_name, role, encoding, known_at, reason FROM moe_ml.graph_columns
WHERE table_name IN ('orders'::regclass, 'customers'::regclass);
SECURITY LABEL FOR moe_ml ON TABLE orders IS 'timeless';
SELECT moe_ml.declare('orders', 'shipped_at', NULL);
SELECT hops, table_name, link, time_column FROM moe_ml.graph('customers');
SECURITY LABEL FOR moe_ml ON TABLE orders IS 'ignore';
SELECT hops, table_name, link, time_column FROM moe_ml.graph('customers');
SECURITY LABEL FOR moe_ml ON TABLE orders IS NULL;

-- Declarations that make no sense.
\set VERBOSITY terse
SELECT moe_ml.declare('orders', 'total', 'money');
SELECT moe_ml.declare('orders', NULL, 'time');
SELECT moe_ml.declare('orders', 'total', 'time');
SELECT moe_ml.declare('orders', 'total', 'known at nothing');
SELECT moe_ml.declare('orders', 'total', 'known at state');
SELECT moe_ml.declare('orders', 'nothing', 'time');
SELECT moe_ml.declare(NULL, 'nothing', 'time');
SECURITY LABEL FOR moe_ml ON FUNCTION moe_ml.load() IS 'time';
SELECT moe_ml.declare('orders', 'state', 'numeric');
SELECT moe_ml.declare('orders', 'placed_at', 'time');
SELECT moe_ml.declare('orders', 'shipped_at', 'time');
SELECT moe_ml.declare('orders', 'placed_at', NULL);
-- A declaration that a later change made void is told where it is used.
SELECT moe_ml.declare('orders', 'order_id', 'numeric');
ALTER TABLE orders ADD COLUMN size int;
SELECT moe_ml.declare('orders', 'size', 'numeric');
ALTER TABLE orders ALTER COLUMN size TYPE text;
SELECT hops, table_name, link, time_column FROM moe_ml.graph('customers');
ALTER TABLE orders DROP COLUMN size;
SELECT moe_ml.declare('orders', 'order_id', NULL);
\set VERBOSITY default
SELECT moe_ml.declare('orders', 'total', 'money');

-- The options of CREATE MODEL.
SELECT table_name, time_column FROM moe_ml.graph('customers', time_columns => '{orders.updated_at, graph_test.shipments.none}');
SELECT hops, table_name, link, time_column FROM moe_ml.graph('customers', time_columns => '{orders.updatedat}');
SELECT hops, table_name, link, time_column FROM moe_ml.graph('customers', time_columns => '{ordrs.updated_at}');
SELECT hops, table_name, link, time_column FROM moe_ml.graph('customers', time_columns => '{orders.total}');
SELECT hops, table_name, link, time_column FROM moe_ml.graph('customers', ignored_columns => '{total}');
SELECT hops, table_name, link, time_column FROM moe_ml.graph('customers', ignored_columns => '{orders.customer_id}');
SELECT hops, table_name, link, time_column FROM moe_ml.graph('customers', using_tables => '{orders}');

-- Errors that name the object.
SELECT hops, table_name, link, time_column FROM moe_ml.graph('customers', using_tables => '{orders,unrelated}');
SELECT hops, table_name, link, time_column FROM moe_ml.graph('customers', using_tables => '{shipments}');
SELECT hops, table_name, link, time_column FROM moe_ml.graph('customers', 'email');
SELECT hops, table_name, link, time_column FROM moe_ml.graph('customers', 'e_mail');
CREATE TABLE keyless (customer_id int REFERENCES customers, code text);
SELECT hops, table_name, link, time_column FROM moe_ml.graph('keyless');
CREATE UNIQUE INDEX ON keyless (code);
SELECT count(*) FROM moe_ml.graph('keyless', 'code');
CREATE SEQUENCE counter;
SELECT hops, table_name, link, time_column FROM moe_ml.graph('counter');
SELECT hops, table_name, link, time_column FROM moe_ml.graph(NULL);

-- Privileges: a model may learn only from what its user may SELECT, column by column.
CREATE ROLE regress_graph_reader;
SELECT moe_ml.declare('customers', 'email', NULL);
SET ROLE regress_graph_reader;
SELECT hops, table_name, link, time_column FROM moe_ml.graph('graph_test.customers');
RESET ROLE;
GRANT USAGE ON SCHEMA graph_test TO regress_graph_reader;
GRANT SELECT ON orders, keyless, shipments TO regress_graph_reader;
GRANT SELECT (customer_id, born, balance, vip) ON customers TO regress_graph_reader;
SET ROLE regress_graph_reader;
SELECT hops, table_name, link, time_column FROM moe_ml.graph('customers');
SELECT table_name FROM moe_ml.graph('customers', ignored_columns => '{customers.email}');
SELECT item, rows FROM moe_ml.graph_check('customers', ignored_columns => '{customers.email}');
SELECT table_name FROM moe_ml.graph_tables WHERE schema = 'graph_test';
SELECT moe_ml.declare('orders', 'total', 'ignore');
RESET ROLE;

-- Row-level security decides what is read.
INSERT INTO customers (customer_id, email) VALUES (1, 'one'), (2, 'two'), (3, 'three');
INSERT INTO orders (order_id, customer_id, placed_at) VALUES (1, 1, '2024-01-01'), (2, 2, '2024-01-02'), (3, 3, '2024-01-03');
GRANT SELECT ON customers TO regress_graph_reader;
ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON customers FOR SELECT TO regress_graph_reader USING (customer_id < 3);
SELECT item, rows, dangling FROM moe_ml.graph_check('customers', using_tables => '{orders}');
SET ROLE regress_graph_reader;
SELECT item, rows, dangling FROM moe_ml.graph_check('customers', using_tables => '{orders}');
RESET ROLE;

SET client_min_messages = warning;
DROP SCHEMA graph_test CASCADE;
DROP ROLE regress_graph_reader;
