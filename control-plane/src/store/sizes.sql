-- How much there is of each namespace, kept up with every change: nobody counts a million keys to add one.
ALTER TABLE config_heads ADD COLUMN entities BIGINT NOT NULL DEFAULT 0;
ALTER TABLE config_heads ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0;

UPDATE config_heads SET entities = sizes.entities, bytes = sizes.bytes
FROM (
    SELECT environment, 'keys' AS ns, count(*) AS entities, sum(length(entity)) AS bytes
    FROM api_keys GROUP BY environment
    UNION ALL
    SELECT environment, 'config', count(*), sum(length(entity)) FROM (
        SELECT environment, entity FROM environments
        UNION ALL SELECT environment, entity FROM upstreams
        UNION ALL SELECT environment, entity FROM plans
        UNION ALL SELECT environment, entity FROM routes
    ) AS objects GROUP BY environment
) AS sizes
WHERE config_heads.environment = sizes.environment AND config_heads.ns = sizes.ns;
