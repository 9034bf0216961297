-- What the demo counts with. Publishers and the web server write files, since the
-- database is killed, too; these are loaded when all has ended.

CREATE SCHEMA demo;

-- One row for all that a gateway had acknowledged at once. Ids run on without holes.
CREATE TABLE demo.published (
	first_id bigint PRIMARY KEY,
	last_id bigint NOT NULL,
	urgent_ids bigint[] NOT NULL,		-- those that the threshold group asks for
	at timestamptz NOT NULL
);

-- What the groups got: a row for a batch, a request, a file. Those of analytics are
-- written in the transaction that acknowledges the messages.
CREATE TABLE demo.delivered (
	consumer_group text NOT NULL,
	messages int NOT NULL,
	ids bigint[] NOT NULL,
	latency_ms real[] NOT NULL,			-- from the device to here
	at timestamptz NOT NULL DEFAULT clock_timestamp()
);
