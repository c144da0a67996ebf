-- A shop of about 100,000 rows with a hidden cause in it.
--
-- Customers order every so often, each in a rhythm of their own. Some orders lead to a support
-- ticket. THE CAUSE: a customer whose ticket waited more than two days for an answer mostly leaves.
-- Returns happen too, and mean nothing. Nothing here is random: every draw is a hash of what it is
-- for, so that the shop is the same on every machine. psql -v customers=N makes it smaller or larger.

\if :{?customers} \else
\set customers 2400
\endif

CREATE SCHEMA shop;
SET search_path = shop;

CREATE TABLE customers (
    customer_id integer PRIMARY KEY,
    name        text NOT NULL,
    country     text NOT NULL,
    signed_up   timestamp NOT NULL);
CREATE TABLE products (
    product_id integer PRIMARY KEY,
    title      text NOT NULL,
    category   text NOT NULL,
    price      numeric(8,2) NOT NULL);
CREATE TABLE orders (
    order_id    integer PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES customers,
    placed_at   timestamp NOT NULL,
    channel     text NOT NULL);
CREATE TABLE order_lines (
    order_id   integer NOT NULL REFERENCES orders,
    line       integer NOT NULL,
    product_id integer NOT NULL REFERENCES products,
    quantity   integer NOT NULL,
    added_at   timestamp NOT NULL,
    PRIMARY KEY (order_id, line));
CREATE TABLE returns (
    return_id   integer PRIMARY KEY,
    order_id    integer NOT NULL,
    line        integer NOT NULL,
    reason      text NOT NULL,
    returned_at timestamp NOT NULL,
    FOREIGN KEY (order_id, line) REFERENCES order_lines);
CREATE TABLE support_tickets (
    ticket_id       integer PRIMARY KEY,
    customer_id     integer NOT NULL REFERENCES customers,
    order_id        integer REFERENCES orders,
    topic           text NOT NULL,
    hours_to_answer real NOT NULL,
    answered_at     timestamp NOT NULL);

-- A number in [0, 1) that depends on its arguments alone.
CREATE FUNCTION draw(purpose integer, a bigint, b bigint DEFAULT 0) RETURNS float8
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT (hashint8extended(a * 1000003 + b, purpose) & 1073741823) / 1073741824.0::float8 $$;

INSERT INTO customers
SELECT i,
       (ARRAY['Ada','Bo','Cem','Dana','Eli','Fay','Gus','Hana','Ida','Jon','Kim','Lea'])[1 + (draw(1, i) * 12)::int % 12]
           || ' ' || chr(65 + (draw(2, i) * 26)::int % 26) || '.',
       (ARRAY['AT','BR','DE','FR','IN','JP','PL','US'])[1 + (draw(3, i) * 8)::int % 8],
       timestamp '2024-01-01' + draw(4, i) * interval '450 days'
FROM generate_series(1, :customers) AS i;

INSERT INTO products
SELECT i, 'Product ' || i,
       (ARRAY['books','games','garden','kitchen','music','office','sports','toys'])[1 + i % 8],
       round((3 + 90 * draw(5, i) ^ 2)::numeric, 2)
FROM generate_series(1, 400) AS i;

-- Each customer's life, order by order.
DO $$
DECLARE
    c record;
    at timestamp;
    rhythm float8;      -- mean days between orders
    n integer := 0;     -- orders so far, over all customers
    tickets integer := 0;
    hours float8;
    answered timestamp;
    gone timestamp;
BEGIN
    FOR c IN SELECT * FROM customers ORDER BY customer_id LOOP
        rhythm := 8 + 24 * draw(10, c.customer_id);
        at := c.signed_up;
        gone := 'infinity';
        LOOP
            EXIT WHEN at >= '2025-10-01' OR at >= gone;
            n := n + 1;
            INSERT INTO orders VALUES (n, c.customer_id, at,
                (ARRAY['web','app','phone'])[1 + (draw(11, n) * 3)::int % 3]);
            IF draw(12, n) < 0.13 THEN
                tickets := tickets + 1;
                -- Mostly answered within a day; one in three waits for days.
                hours := CASE WHEN draw(13, n) < 0.33 THEN 48 + 72 * draw(14, n) ELSE 1 + 26 * draw(14, n) END;
                answered := at + interval '12 hours' + 36 * draw(15, n) * interval '1 hour' + hours * interval '1 hour';
                IF answered < '2025-10-01' THEN
                    INSERT INTO support_tickets VALUES (tickets, c.customer_id, n,
                        (ARRAY['delivery','payment','quality','account'])[1 + (draw(16, n) * 4)::int % 4],
                        hours, answered);
                END IF;
                IF hours > 48 AND draw(17, n) < 0.85 THEN
                    gone := answered;
                END IF;
            END IF;
            at := at + greatest(0.05, -ln(1 - draw(18, n)) * rhythm) * interval '1 day';
            EXIT WHEN draw(19, n) < 0.004;  -- a few leave for no reason at all
        END LOOP;
    END LOOP;
END $$;

INSERT INTO order_lines
SELECT o.order_id, l, 1 + (draw(20, o.order_id, l) * 400)::int % 400, 1 + (draw(21, o.order_id, l) * 3)::int % 3, o.placed_at
FROM orders AS o, generate_series(1, 3) AS l
WHERE l = 1 OR draw(22, o.order_id, l) < 0.25;

INSERT INTO returns
SELECT row_number() OVER (ORDER BY order_id, line), order_id, line,
       (ARRAY['damaged','too late','wrong size','changed my mind'])[1 + (draw(23, order_id, line) * 4)::int % 4],
       added_at + (2 + 12 * draw(24, order_id, line)) * interval '1 day'
FROM order_lines
WHERE draw(25, order_id, line) < 0.06 AND added_at < '2025-09-15';

ANALYZE;
