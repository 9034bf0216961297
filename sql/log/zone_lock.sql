-- Locks on a zone that no SQL command takes: see src/log/zone_lock.c.

-- zone_lock_change(zone_id): taken by whoever changes what readers of the zone rely on, to
-- the end of the transaction: until all are told, readers pass no gap.
CREATE FUNCTION iotmq.zone_lock_change(zone_id int) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_zone_lock_change';
COMMENT ON FUNCTION iotmq.zone_lock_change IS 'internal: keeps readers of a zone from passing a gap';

-- zone_lock_pull(zone_id, wait): taken by whoever fills a mirror, or makes it something else,
-- to the end of the transaction; false, only without wait: somebody else has it.
CREATE FUNCTION iotmq.zone_lock_pull(zone_id int, wait boolean) RETURNS boolean
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_zone_lock_pull';
COMMENT ON FUNCTION iotmq.zone_lock_pull IS 'internal: sees to it that one at a time fills a mirror';
