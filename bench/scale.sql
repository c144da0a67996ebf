-- The star schema of bench/scale: `rows` orders, and customers, products and stores in proportion.
-- psql variable: rows. Everything is a function of row numbers, so two runs make the same tables.
SET client_min_messages = warning;
SET synchronous_commit = off;
SET max_parallel_workers_per_gather = 0;
DROP SCHEMA IF EXISTS star CASCADE;
CREATE SCHEMA star;
SET search_path = star;

SELECT greatest(:rows / 20, 10) AS customers, greatest(:rows / 1000, 10) AS products, greatest(:rows / 20000, 5) AS stores \gset

CREATE FUNCTION star.draw(purpose int, i bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT hashint8extended(i, purpose) & 9007199254740991 $$;

CREATE UNLOGGED TABLE customers (customer_id int PRIMARY KEY, signed_up timestamp NOT NULL, country text NOT NULL,
    segment text, birth_year int, newsletter boolean NOT NULL);
CREATE UNLOGGED TABLE products (product_id int PRIMARY KEY, listed_at timestamp NOT NULL, category text NOT NULL,
    title text NOT NULL, price numeric(8,2) NOT NULL, weight real);
CREATE UNLOGGED TABLE stores (store_id int PRIMARY KEY, opened_at timestamp NOT NULL, city text NOT NULL, floor_m2 int NOT NULL);
CREATE UNLOGGED TABLE orders (customer_id int, product_id int, store_id int, placed_at timestamp NOT NULL,
    quantity int NOT NULL, amount numeric(10,2) NOT NULL, discount real, weight double precision NOT NULL,
    online boolean NOT NULL, channel text NOT NULL, note text);

INSERT INTO customers
SELECT i, timestamp '2021-01-01' + i * (interval '1000 days' / :customers), 'country ' || draw(1, i) % 30,
    CASE WHEN draw(2, i) % 10 > 0 THEN 'segment ' || draw(3, i) % 5 END, 1940 + draw(4, i) % 65, draw(5, i) % 3 = 0
FROM generate_series(1, :customers) AS i;

INSERT INTO products
SELECT i, timestamp '2021-01-01' + i * (interval '1000 days' / :products), 'category ' || draw(6, i) % 40,
    (ARRAY['red', 'blue', 'small', 'large', 'plain'])[1 + draw(7, i) % 5] || ' thing ' || i, 1 + (draw(8, i) % 50000) / 100.0,
    CASE WHEN draw(9, i) % 8 > 0 THEN (draw(10, i) % 20000) / 1000.0 END
FROM generate_series(1, :products) AS i;

INSERT INTO stores
SELECT i, timestamp '2020-01-01' + i * interval '1 hour', 'city ' || draw(11, i) % 200, 50 + draw(12, i) % 5000
FROM generate_series(1, :stores) AS i;

-- Orders come in about the order in which they were placed; one in fifty arrives up to a week late. Keys are skewed:
-- the tenth of all customers that orders most has a quarter of the orders.
INSERT INTO orders
SELECT 1 + floor(:customers * u ^ 1.7)::int, CASE WHEN h & 127 > 0 THEN 1 + floor(:products * v ^ 2.0)::int END,
    1 + ((h >> 7) % :stores)::int,
    timestamp '2022-01-01' + (i::float8 / :rows * 94608000 - CASE WHEN (h >> 20) % 50 = 0 THEN (h >> 26) % 604800 ELSE 0 END) * interval '1 second',
    1 + ((h >> 30) & 7)::int, (100 + (h >> 11) % 99900) / 100.0, CASE WHEN (h >> 3) & 3 = 0 THEN ((h >> 9) % 50)::real / 100 END,
    ((h >> 17) % 100000)::float8 / 1024, (h >> 5) & 1 = 0, (ARRAY['web', 'app', 'shop', 'phone'])[1 + ((h >> 41) & 3)],
    CASE WHEN (h >> 43) & 3 = 0 THEN (ARRAY['gift wrap', 'leave at door', 'call first', 'fragile'])[1 + ((h >> 45) & 3)] || ' ' || (h >> 2) % 100000000 END
FROM (SELECT i, h, (h % 1048573) / 1048573.0::float8 AS u, ((h >> 21) % 1048573) / 1048573.0::float8 AS v
      FROM (SELECT i, hashint8extended(i, 0) & 9007199254740991 AS h FROM generate_series(1, :rows) AS i) AS hashed) AS drawn;

ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customers, ADD FOREIGN KEY (product_id) REFERENCES products,
    ADD FOREIGN KEY (store_id) REFERENCES stores;
VACUUM ANALYZE customers;
VACUUM ANALYZE products;
VACUUM ANALYZE stores;
VACUUM ANALYZE orders;
