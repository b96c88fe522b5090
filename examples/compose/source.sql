-- The portal's database: customers and their orders.
CREATE TABLE customers (
    customer_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL,
    email       text NOT NULL,
    region      text NOT NULL CHECK (region IN ('EU', 'US'))
);

CREATE TABLE orders (
    order_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers,
    region      text NOT NULL CHECK (region IN ('EU', 'US')),
    amount      numeric(12, 2) NOT NULL,
    ordered_at  timestamptz NOT NULL DEFAULT now()
);

INSERT INTO customers (name, email, region)
SELECT 'Customer ' || n, 'customer' || n || '@example.com', CASE WHEN n % 2 = 0 THEN 'US' ELSE 'EU' END
FROM generate_series(1, 100) AS n;

INSERT INTO orders (customer_id, region, amount)
SELECT customer_id, region, (10 + n * 0.37)::numeric(12, 2)
FROM customers, generate_series(1, 10) AS n;
