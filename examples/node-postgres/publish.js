// Publishes measurements, a line each: device, number of the measurement, degrees.
//
// A batch is published until there is an answer. The number is the message's key, so that one
// whose answer was lost is not stored twice.

const { setTimeout: sleep } = require('timers/promises');
const { createInterface } = require('readline');
const { Client } = require('pg');

let client = null;

async function publish(measurements) {
  if (!client) {
    client = new Client();
    client.on('error', () => {});     // the next query says it, too
    await client.connect();
  }
  await client.query("SELECT iotmq.publish_batch('telemetry', $1, $2, message_keys => $3)", [
    measurements.map(([device]) => device),
    measurements.map(([, , celsius]) => ({ celsius: Number(celsius) })),
    measurements.map(([, number]) => number),
  ]);
}

async function untilAnswered(measurements) {
  for (;;) {
    try {
      return await publish(measurements);
    } catch (error) {
      if (error.code && !/^(08|57P)|^E/.test(error.code)) throw error;      // not the connection
      console.error(error.message);
      client = null;
      await sleep(1000);
    }
  }
}

(async () => {
  let measurements = [];
  for await (const line of createInterface({ input: process.stdin })) {
    measurements.push(line.split(' '));
    if (measurements.length === 100) {
      await untilAnswered(measurements);
      measurements = [];
    }
  }
  if (measurements.length > 0) await untilAnswered(measurements);
  if (client) await client.end();
})();
