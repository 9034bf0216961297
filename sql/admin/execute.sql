-- Who may execute what: the owner everything, administrators and monitors what access.sql
-- lists, and everybody these. They check the caller's right themselves, or run for whoever
-- may write to a zone's table.
REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA iotmq FROM PUBLIC;
GRANT EXECUTE ON FUNCTION iotmq.topic_table, iotmq.zone_table, iotmq.publish, iotmq.publish_batch,
	iotmq.consume, iotmq.ack, iotmq.nack, iotmq.reject, iotmq.settle, iotmq.extend,
	iotmq.fetch, iotmq.preview_group, iotmq.zones, iotmq.commit_offset, iotmq.committed_offset, iotmq.messages_of_device,
	iotmq.redrive, iotmq.purge_dead_letters, iotmq.retry_now, iotmq.give_up,
	iotmq.message_by_key, iotmq.mirror_source, iotmq.mirror_messages, iotmq.hand_over, iotmq.copy_in_elsewhere, iotmq.copy_in_time, iotmq.message_is_valid, iotmq.copy_in_place,
	iotmq.access_may_administer, iotmq.deadletter_own, iotmq.lease_cursor, iotmq.lag, iotmq.open_leases,
	iotmq.open_waiting, iotmq.count_lag, iotmq.message_status, iotmq.settings_of_topics, iotmq.settings_of_groups,
	iotmq.mirror_groups, iotmq.mirror_letters TO PUBLIC;
GRANT USAGE ON TYPE iotmq.delivery, iotmq.seek_result TO PUBLIC;	-- where default privileges don't
