-- Azure has words of its own for what becomes of a subscription; money is text in an object.
SELECT
    subscription                              AS order_id,
    'azure'                                   AS channel,
    customer                                  AS customer_id,
    replace(plan, 'plan-', '')                AS product_id,
    emailId                                   AS email,
    CASE status
        WHEN 'Subscribed' THEN 'active'
        WHEN 'Suspended' THEN 'paused'
        WHEN 'Renewed' THEN 'renewed'
    END                                       AS status,
    amount->>'currency'                       AS currency,
    amount->>'net'                            AS subtotal,
    amount->>'tax'                            AS tax,
    amount->>'gross'                          AS total,
    term->>'from'                             AS starts_at,
    term->>'to'                               AS ends_at,
    created                                   AS placed_at
FROM input
