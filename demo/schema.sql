-- What the demo keeps beside the topic. The services' results are plain tables,
-- so that they can be written in the transaction that acknowledges the messages.

CREATE SCHEMA demo;

-- The publishers' ledger: one row a transaction, written in that transaction,
-- so it holds exactly what was committed. Ids run on without holes.
CREATE TABLE demo.published (
	first_id bigint PRIMARY KEY,
	last_id bigint NOT NULL,
	urgent_ids bigint[] NOT NULL,		-- those that the threshold group asks for
	at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What the publishers did on purpose and what they left out.
CREATE TABLE demo.publisher (
	publisher int PRIMARY KEY,
	rolled_back bigint NOT NULL,		-- messages in transactions rolled back, then sent again
	skipped bigint NOT NULL				-- readings of a CSV file that are not numbers
);

-- The consumers' receipts: one row a batch, written with its acknowledgement.
CREATE TABLE demo.delivered (
	consumer_group text NOT NULL,
	messages int NOT NULL,
	ids bigint[],						-- NULL for the archiver: its files hold them
	latency_ms real[] NOT NULL,			-- from published_at to receipt
	at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Analytics: the last readings of each device, its windows, and what stood out.
CREATE TABLE demo.device (
	zone text,
	device_id text,
	recent double precision[] NOT NULL DEFAULT '{}',
	PRIMARY KEY (zone, device_id)
) WITH (fillfactor = 50);

CREATE TABLE demo.device_window (
	zone text,
	device_id text,
	window_start timestamptz,
	readings bigint NOT NULL,
	total double precision NOT NULL,
	lowest double precision NOT NULL,
	highest double precision NOT NULL,
	PRIMARY KEY (zone, device_id, window_start)
) WITH (fillfactor = 70);

CREATE TABLE demo.anomaly (
	id bigint PRIMARY KEY,				-- of the message
	zone text NOT NULL,
	device_id text NOT NULL,
	at timestamptz NOT NULL,
	value double precision NOT NULL,
	z_score double precision NOT NULL
);

-- Threshold: what a webhook would have been called for.
CREATE TABLE demo.alert (
	id bigint PRIMARY KEY,				-- of the message
	zone text NOT NULL,
	device_id text NOT NULL,
	reason text NOT NULL,
	published_at timestamptz NOT NULL
);

-- Archive: how much of each file is valid. Written together with the position,
-- so whatever a crash leaves behind these bytes is cut off and written again.
CREATE TABLE demo.archive_file (
	path text PRIMARY KEY,
	messages bigint NOT NULL,
	bytes bigint NOT NULL
);
