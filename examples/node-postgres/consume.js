// Stores the readings of a topic, each exactly once: in one transaction with its acknowledgement.
//
// SIGTERM ends it after the batch at hand.

const { setTimeout: sleep } = require('timers/promises');
const { Client } = require('pg');

const LEASE = 60;       // seconds
let stopping = false;
process.on('SIGTERM', () => { stopping = true; });

// The reading in a message. What is thrown here is the reason of its failure.
async function work({ payload, body }) {
  if (body) throw new Error('not a reading: ' + body.toString('latin1'));
  await sleep(1000 * (payload.pause || 0));             // stands for what takes long
  if (payload.celsius > 1000) throw new Error(`not plausible: ${payload.celsius}`);
  return payload.celsius;
}

async function consume(client) {
  while (!stopping) {
    const { rows } = await client.query(
      `SELECT lease_id, zone, msg_offset, device_id, payload, body
       FROM iotmq.consume('telemetry', 'analytics', 100, invisible_for => $1, wait => '5 s')`, [`${LEASE} s`]);
    try {
      if (rows.length > 0) await handle(client, rows);
    } catch (error) {
      if (error.code !== '55000') throw error;          // the lease is over
      console.error('others have these messages, or they come again');
    }
  }
}

async function handle(client, messages) {
  const { lease_id } = messages[0];
  const done = [], failed = [];
  let extended = Date.now();
  for (const message of messages) {
    try {
      done.push({ ...message, celsius: await work(message) });
    } catch (error) {
      failed.push({ ...message, reason: error.message });
    }
    if (Date.now() > extended + 1000 * LEASE / 3) {
      await client.query('SELECT iotmq.extend($1, $2)', [lease_id, `${LEASE} s`]);
      extended = Date.now();
    }
  }
  await store(client, lease_id, done, failed);
}

async function store(client, lease_id, done, failed) {
  const all = (messages, name) => messages.map((message) => message[name]);
  try {
    await client.query('BEGIN');
    await client.query(
      `INSERT INTO reading (zone, msg_offset, device_id, celsius)
       SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::numeric[])`,
      ['zone', 'msg_offset', 'device_id', 'celsius'].map((name) => all(done, name)));
    await client.query('SELECT iotmq.settle($1, $2, nacks => $3, reasons => $4)', [
      lease_id, all(done, 'msg_offset'), all(failed, 'msg_offset'),
      all(failed, 'reason').map((reason) => reason.replaceAll('\0', '')),      // PostgreSQL's text has no NUL
    ]);
    await client.query('COMMIT');
  } catch (error) {
    if (!error.code || /^(08|57P)|^E/.test(error.code)) throw error;    // the connection
    await client.query('ROLLBACK');
    if (!/^2[23]/.test(error.code)) throw error;
    if (done.length + failed.length === 1) {
      return store(client, lease_id, [], [{ ...done[0], reason: error.message }]);
    }
    for (const one of done) await store(client, lease_id, [one], []);          // which of them is it?
    for (const one of failed) await store(client, lease_id, [], [one]);
  }
}

(async () => {
  while (!stopping) {
    const client = new Client();
    client.on('error', () => {});       // a connection lost between two queries: the next one says it, too
    try {
      await client.connect();
      await consume(client);
      await client.end();
    } catch (error) {
      console.error(error.message);
      client.end().catch(() => {});
      await sleep(1000);                // then with a new connection
    }
  }
})();
