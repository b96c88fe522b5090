-- AWS counts money in cents, and writes states in capitals.
SELECT
    orderId                                   AS order_id,
    'aws'                                     AS channel,
    account                                   AS customer_id,
    replace(product, 'plan-', '')             AS product_id,
    email,
    lower(state)                              AS status,
    currency,
    net / 100                                 AS subtotal,
    tax / 100                                 AS tax,
    total / 100                               AS total,
    "start"                                   AS starts_at,
    "end"                                     AS ends_at,
    placed                                    AS placed_at
FROM input
