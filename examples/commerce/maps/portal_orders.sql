-- The portal's own orders: their numbers get a word in front, so that they meet no other channel's.
SELECT
    'portal-' || order_id  AS order_id,
    'portal'               AS channel,
    customer_id,
    product_id,
    email,
    status,
    currency,
    subtotal,
    tax,
    total,
    starts_at,
    ends_at,
    placed_at
FROM input
