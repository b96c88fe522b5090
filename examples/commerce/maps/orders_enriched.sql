-- Who ordered, and what: as the portal knew it when the order came.
SELECT
    input.*,
    c.name     AS customer,
    c.country,
    c.region,
    p.name     AS plan,
    p.price    AS list_price
FROM input
LEFT JOIN customers AS c ON c.customer_id = input.customer_id
LEFT JOIN products  AS p ON p.product_id = input.product_id
