-- Views: what the nodes say, with the node. One that does not answer costs its rows, and a
-- warning. A role may have rights at some nodes only: it sees these.

-- unite(view, comment, columns): makes a view of that name; a column is "name type: comment".
-- For the time of this script.
CREATE FUNCTION iotmq_node.unite(view text, comment text, columns text[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
	declared text;
	sent text;
	taken text;
	one text;
BEGIN
	SELECT string_agg(format('%I %s', c.name, CASE c.type WHEN 'regrole' THEN 'text' ELSE c.type END), ', ' ORDER BY c.place),
		string_agg(format(CASE c.type WHEN 'regrole' THEN 'v.%I::text' ELSE 'v.%I' END, c.name), ', ' ORDER BY c.place),
		string_agg(format(CASE WHEN c.type = 'regrole' THEN 'to_regrole(v.%1$I) AS %1$I'
			WHEN view = 'dead_letter' AND c.name = 'id' THEN 'iotmq_node.deadletter_id(v.node, v.%1$I) AS %1$I'
			ELSE 'v.%1$I' END, c.name), ', ' ORDER BY c.place)
	INTO declared, sent, taken
	FROM (SELECT split_part(u.one, ' ', 1) AS name, split_part(substr(u.one, strpos(u.one, ' ') + 1), ': ', 1) AS type, u.place
		FROM unnest(columns) WITH ORDINALITY AS u (one, place)) AS c;
	EXECUTE format($$
		CREATE FUNCTION iotmq_node.view_%1$s(node int) RETURNS TABLE (%2$s)
			LANGUAGE plproxy VOLATILE PARALLEL UNSAFE
		AS $proxy$
			CLUSTER iotmq_node.server_of(node, current_user);
			RUN ON 0;
			SELECT %3$s FROM iotmq.%1$s AS v;
		$proxy$;
		COMMENT ON FUNCTION iotmq_node.view_%1$s IS 'internal: the view %1$s at a node';
		CREATE FUNCTION iotmq_node.all_%1$s() RETURNS TABLE (%2$s, node int)
			LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
			SET search_path = pg_catalog, pg_temp
		AS $loop$
		DECLARE
			one int;
			answered boolean := false;
			denied text;
		BEGIN
			FOREACH one IN ARRAY iotmq_node.nodes() LOOP
				BEGIN
					RETURN QUERY SELECT v.*, one FROM iotmq_node.view_%1$s(one) AS v;
					answered := true;
				EXCEPTION
					WHEN insufficient_privilege THEN
						denied := SQLERRM;
					WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
						PERFORM iotmq_node.node_warn(one, SQLSTATE, SQLERRM);
				END;
			END LOOP;
			PERFORM iotmq_node.node_denied(NOT answered, denied);
		END
		$loop$;
		COMMENT ON FUNCTION iotmq_node.all_%1$s IS 'internal: the view %1$s of all nodes';
		CREATE VIEW iotmq.%1$s AS SELECT %4$s, v.node FROM iotmq_node.all_%1$s() AS v;
		COMMENT ON VIEW iotmq.%1$s IS %5$L;
		COMMENT ON COLUMN iotmq.%1$s.node IS 'the node that says so'$$,
		view, declared, sent, taken, comment);
	FOREACH one IN ARRAY columns LOOP
		EXECUTE format('COMMENT ON COLUMN iotmq.%s.%I IS %L', view, split_part(one, ' ', 1), substr(one, strpos(one, ': ') + 2));
	END LOOP;
END
$body$;

SELECT iotmq_node.unite('alerts', 'what an operator should look at now', ARRAY[
	'topic text: the topic; NULL: it is about all of them',
	'consumer_group text: the consumer group; NULL: it is about all of them',
	'alert text: lag, delay, dead_letters, time_to_loss, beyond_end, due_late, held_back, cursor_held, maintenance or mirror',
	'value text: how it is',
	'threshold text: how it should be at worst',
	'zone text: the zone; NULL: it is about all of them',
	'look_at text: the query to run next']);
SELECT iotmq_node.unite('consumer_lag', 'how far every group is behind, per zone', ARRAY[
	'topic text: the topic',
	'consumer_group text: the consumer group',
	'zone text: the zone',
	'mode text: concurrent or orderly',
	'earliest_offset bigint: the lowest offset that the log may still hold',
	'next_offset bigint: the next one to deliver',
	'stable_offset bigint: the first one not yet decided',
	'end_offset bigint: the next one to be assigned',
	'lag_messages bigint: ready + inflight + retry',
	'ready_messages bigint: decided and not yet delivered, before filters',
	'inflight_messages bigint: delivered and not yet settled',
	'retry_messages bigint: waiting for another attempt',
	'blocked_devices bigint: devices with waiting messages, in an orderly group',
	'dead_letters bigint: given up',
	'expired_unread bigint: dropped by retention before the group had settled them',
	'lag_time interval: age of the oldest message not settled; NULL: it can''t be read',
	'time_to_loss interval: how long until retention drops an unsettled message',
	'last_consumed_at timestamptz: when a consumer got its last lease or committed an offset']);
SELECT iotmq_node.unite('cursor_holder', 'the open transactions that keep a group from reading a zone', ARRAY[
	'topic text: the topic',
	'consumer_group text: the consumer group',
	'zone text: the zone',
	'pid int: backend; NULL: a prepared transaction',
	'since timestamptz: when its transaction began or was prepared',
	'application_name text: of that backend']);
SELECT iotmq_node.unite('dead_letter', 'messages that a group gave up, with their content', ARRAY[
	'id bigint: the dead letter, for redrive and purge_dead_letters',
	'topic text: the topic',
	'consumer_group text: the consumer group that gave it up',
	'zone text: the zone',
	'msg_offset bigint: its offset in the log',
	'device_id text: the device',
	'tag text: its tag',
	'payload jsonb: its payload',
	'body bytea: its body',
	'properties jsonb: its properties',
	'published_at timestamptz: when it was published',
	'attempts int: how often it was delivered',
	'reason text: why the last attempt failed, as told to nack or reject; lease expired',
	'dead_at timestamptz: when it became a dead letter',
	'message_key text: its key']);
SELECT iotmq_node.unite('dead_letter_depth', 'how many dead letters every group has', ARRAY[
	'topic text: the topic',
	'consumer_group text: the consumer group',
	'dead_letters bigint: its dead letters',
	'oldest_dead_at timestamptz: when the oldest was given up',
	'newest_dead_at timestamptz: when the newest was given up',
	'dead_last_hour bigint: given up in the last hour']);
SELECT iotmq_node.unite('group_lag', 'how far every group is behind, over all zones', ARRAY[
	'topic text: the topic',
	'consumer_group text: the consumer group',
	'mode text: concurrent or orderly',
	'earliest_offset bigint: the lowest offset that the log may still hold, summed over zones',
	'next_offset bigint: the next one to deliver, summed over zones',
	'stable_offset bigint: the first one not yet decided, summed over zones',
	'end_offset bigint: the next one to be assigned, summed over zones',
	'lag_messages bigint: ready + inflight + retry',
	'ready_messages bigint: decided and not yet delivered, before filters',
	'inflight_messages bigint: delivered and not yet settled',
	'retry_messages bigint: waiting for another attempt',
	'blocked_devices bigint: devices with waiting messages, in an orderly group',
	'dead_letters bigint: given up',
	'expired_unread bigint: dropped by retention before the group had settled them',
	'lag_time interval: age of the oldest message not settled',
	'time_to_loss interval: how long until retention drops an unsettled message',
	'last_consumed_at timestamptz: when a consumer got its last lease or committed an offset']);
SELECT iotmq_node.unite('group_settings', 'the settings of the groups that the caller may consume as', ARRAY[
	'topic text: the topic',
	'consumer_group text: the consumer group',
	'mode text: concurrent or orderly',
	'tags text: the tags delivered, as alter_group takes them; *: all',
	'filter jsonpath: which payloads are delivered; NULL: all',
	'invisible_for interval: how long a lease lasts',
	'max_retries int: after so many retries a message is a dead letter',
	'backoff interval[]: the wait after each failed attempt; the last repeats',
	'max_delay interval: from there on it is an alert; NULL: never',
	'max_lag bigint: from there on it is an alert; NULL: never',
	'durable_acks boolean: whether a transaction that does nothing but ack waits for the disk',
	'paused boolean: whether nothing is delivered: see pause_group',
	'created_at timestamptz: when the group was made']);
SELECT iotmq_node.unite('held_back', 'the open transactions that published to a zone and hold its stable offset back', ARRAY[
	'topic text: the topic',
	'zone text: the zone',
	'stable_offset bigint: the first one not yet decided',
	'end_offset bigint: the next one to be assigned',
	'pid int: backend; NULL: a prepared transaction',
	'xid xid: transaction id',
	'since timestamptz: when its transaction began or was prepared',
	'application_name text: of that backend']);
SELECT iotmq_node.unite('in_flight', 'the open leases of every group', ARRAY[
	'lease_id bigint: the lease',
	'topic text: the topic',
	'consumer_group text: the consumer group',
	'zone text: the zone',
	'consumer text: who consumes, as told to consume',
	'leased_at timestamptz: when the lease was given',
	'deadline timestamptz: when it expires',
	'messages int: messages in it that are still open',
	'attempt int: the highest attempt among its messages']);
SELECT iotmq_node.unite('maintenance_run', 'the last 1000 runs of run_maintenance', ARRAY[
	'run_id bigint: grows with each run',
	'started_at timestamptz: when the run began',
	'finished_at timestamptz: when it ended',
	'at timestamptz: the time that stood for now',
	'segments_made int: segments made ahead of time',
	'segments_sealed int: segments that are over and were sealed',
	'segments_dropped int: segments that retention dropped',
	'leases_taken_over int: expired leases whose messages wait for their next attempt now',
	'skipped text[]: what was busy or failed, and is left to the next run']);
SELECT iotmq_node.unite('metrics', 'figures for Prometheus', ARRAY[
	'name text: the metric',
	'labels jsonb: topic, zone and consumer_group, as far as it has them',
	'value double precision: its value',
	'help text: what it means',
	'kind text: counter or gauge']);
SELECT iotmq_node.unite('mirror', 'zones that follow those of other servers: how far they have come', ARRAY[
	'topic text: the topic',
	'zone text: the zone',
	'source text: the foreign server whose zone it follows',
	'lag_messages bigint: how many messages the source had more, when it was asked last; NULL: it was not yet',
	'lag_time interval: what was published within this time may be missing here; NULL: nothing was pulled yet',
	'last_pull timestamptz: when the source was asked last, with success',
	'error text: why the last pull of run_mirrors failed; NULL: it did not',
	'failed_at timestamptz: when it failed',
	'source_zone text: the zone there',
	'next_offset bigint: the next offset to pull: all below it is here',
	'pulled_messages bigint: messages pulled since it is a mirror',
	'missed_messages bigint: offsets that the source had dropped before they were pulled']);
SELECT iotmq_node.unite('overdue_segment', 'segments that retention should have dropped and could not, or that can''t be read', ARRAY[
	'topic text: the topic',
	'zone text: the zone',
	'from_time timestamptz: when the segment begins',
	'to_time timestamptz: when it ends',
	'since timestamptz: when a run first had to leave it',
	'emptied boolean: it has no messages, only its table is left',
	'in_the_way text: who used it, what depends on it, or why it can''t be read, at the last try']);
SELECT iotmq_node.unite('privileges', 'who may do what: the grants of iotmq', ARRAY[
	'topic text: on that topic; NULL: all',
	'consumer_group text: as that group; NULL: not about groups',
	'zone text: to or of that zone; NULL: all, or not about zones',
	'role regrole: the role',
	'action text: publish, consume, read, mirror, monitor or admin']);
SELECT iotmq_node.unite('topic_settings', 'the settings of the topics on which the caller has a right', ARRAY[
	'topic text: the topic',
	'retention interval: how long messages are kept',
	'segment_interval interval: the length of a segment',
	'retention_policy text: time or consumed',
	'max_retention interval: the bound of the policy consumed; NULL: 4 times retention',
	'device_index boolean: whether segments have an index for messages_of_device',
	'dedup_window interval: for how long a message key is unique; NULL: no message keys',
	'zones text[]: the zones on which the caller has a right',
	'created_at timestamptz: when the topic was made']);
SELECT iotmq_node.unite('topic_stats', 'what every topic holds, per zone', ARRAY[
	'topic text: the topic',
	'zone text: the zone',
	'segments bigint: number of segments',
	'earliest_offset bigint: the lowest offset that the log may still hold',
	'end_offset bigint: the next one to be assigned',
	'messages_estimate bigint: messages in the log, counting holes',
	'bytes bigint: size on disk with indexes',
	'oldest_published_at timestamptz: of the oldest message',
	'newest_published_at timestamptz: of the newest message']);
SELECT iotmq_node.unite('waiting_message', 'the messages of every group that wait for another attempt', ARRAY[
	'topic text: the topic',
	'consumer_group text: the consumer group',
	'zone text: the zone',
	'msg_offset bigint: its offset',
	'device_id text: the device',
	'attempt int: the number that its next delivery will have',
	'due_at timestamptz: when it may be delivered; NULL: after an earlier one of its device',
	'reason text: why its last attempt failed, as told to nack; NULL: not told, or it was not delivered yet',
	'redriven boolean: it was a dead letter']);
SELECT iotmq_node.unite('zone_epoch', 'where the offsets of a zone jumped after a recovery: what lies between never came to be', ARRAY[
	'topic text: the topic',
	'zone text: the zone',
	'epoch int: its number; a zone begins with epoch 0',
	'first_offset bigint: the first offset of the epoch',
	'last_before bigint: the last offset before it that a message has, or where the gap before it ends',
	'began_at timestamptz: when its first message was published; NULL: none yet']);

DROP FUNCTION iotmq_node.unite;

