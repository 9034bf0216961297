-- What every figure's database has beside iotmq: a table of messages to load from,
-- the bare table, and loaders. Loading is not measured (but for its WAL): batches
-- of 1,000, one transaction each.

-- One batch of 1,000 messages, kept as arrays as a client would send them. Its row
-- is written by bench.py.
CREATE TABLE batch (device_ids text[], payloads jsonb[]);

-- An empty plain table with a topic's columns, and the same defaults and indexes as one segment.
CREATE PROCEDURE new_bare() LANGUAGE plpgsql AS $$
BEGIN
    DROP TABLE IF EXISTS bare;
    DROP SEQUENCE IF EXISTS bare_offset;
    CREATE SEQUENCE bare_offset;
    CREATE TABLE bare (
        zone text NOT NULL DEFAULT 'default',
        msg_offset bigint NOT NULL DEFAULT nextval('bare_offset'),
        published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        device_id text NOT NULL,
        tag text,
        payload jsonb,
        body bytea,
        properties jsonb
    );
    CREATE UNIQUE INDEX ON bare (msg_offset);
    CREATE INDEX ON bare (device_id, msg_offset);
END $$;

CREATE PROCEDURE load_bare(messages bigint) LANGUAGE plpgsql AS $$
DECLARE
    batch batch;
BEGIN
    SELECT * INTO batch FROM public.batch;
    FOR n IN 1 .. messages / 1000 LOOP
        INSERT INTO bare (device_id, payload)
            SELECT * FROM unnest(batch.device_ids, batch.payloads);
        COMMIT;
    END LOOP;
END $$;

-- With devices, each message is of a random one of so many; else each batch has the same 1,000.
CREATE PROCEDURE load_topic(topic text, messages bigint, zone text DEFAULT NULL, devices int DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    batch batch;
BEGIN
    SELECT * INTO batch FROM public.batch;
    FOR n IN 1 .. messages / 1000 LOOP
        IF devices IS NOT NULL THEN
            SELECT array_agg('device-' || 1 + floor(random() * devices)) INTO batch.device_ids
            FROM generate_series(1, 1000);
        END IF;
        PERFORM iotmq.publish_batch(topic, batch.device_ids, batch.payloads, zone => zone);
        COMMIT;
    END LOOP;
END $$;

-- A zone's past: so many segments of the last 40 hours, all of them full and sealed. Publishing
-- stamps the server's clock; only a superuser can place rows into other times.
CREATE PROCEDURE load_past(topic text, messages bigint, segments int) LANGUAGE plpgsql AS $$
DECLARE
    batch batch;
    width interval := interval '40 hours' / segments;
    start timestamptz := now() - interval '40 hours';
    zone_table regclass := iotmq.zone_table(topic, 'default');
    zone_id int := (SELECT z.zone_id FROM iotmq_internal.zone AS z WHERE z.table_name = zone_table);
    batches bigint := messages / 1000;
    sealed int := 0;
BEGIN
    SELECT * INTO batch FROM public.batch;
    PERFORM iotmq.segment_make_until(zone_id, start, now());
    COMMIT;
    FOR n IN 0 .. batches - 1 LOOP
        EXECUTE format('INSERT INTO %s (device_id, payload, published_at) SELECT *, $3 FROM unnest($1, $2)', zone_table)
            USING batch.device_ids, batch.payloads, start + n * segments / batches * width;
        COMMIT;
    END LOOP;
    FOR step IN 1 .. 3 LOOP             -- each needs a transaction of its own
        sealed := sealed + iotmq.segment_seal(zone_id);
        COMMIT;
    END LOOP;
    ASSERT sealed >= segments, format('%s segments sealed', sealed);
END $$;
