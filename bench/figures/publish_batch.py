"""publish_batch of 1,000 against INSERT ... SELECT FROM unnest of the same arrays into a bare table."""

from lib import bench

TURNS = 4

# Each transaction sends both arrays as parameters, as a client does; they are fetched once.
ARRAYS = """
\\if :fetched = 0
SELECT device_ids, payloads FROM batch
\\gset
\\set fetched 1
\\endif
"""

PUBLISH = ARRAYS + "SELECT iotmq.publish_batch('bench', :device_ids, :payloads);"

INSERT = ARRAYS + """INSERT INTO bare (device_id, payload)
SELECT * FROM unnest(:device_ids::text[], :payloads::jsonb[]);"""


def rate(it, script):
    it.run("CHECKPOINT")
    return 1000 * bench.pgbench(it, script, seconds=bench.scaled(8 / TURNS), fetched=0, device_ids="{}", payloads="{}")[0]


def measure():
    with bench.database("publish_batch") as it:
        def iotmq(*_):
            it.new_topic("bench")
            return rate(it, PUBLISH)

        def bare(*_):
            it.new_bare()
            return rate(it, INSERT)

        values = bench.alternate("publish_batch", turns=TURNS, iotmq=iotmq, bare=bare)
    ratio = bench.median_ratio(values["iotmq"], values["bare"])
    return [bench.at_least("publish_batch of 1,000", bench.median(values["iotmq"]), bench.median(values["bare"]), ratio, 1.0)]
