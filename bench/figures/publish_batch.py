"""publish_batch of 1,000 against INSERT ... SELECT FROM unnest of the same arrays into a bare table."""

import bench

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


def measure(it):
    def rate(script):
        it.run("CHECKPOINT")
        return 1000 * it.pgbench(script, seconds=bench.scaled(8 / TURNS), fetched=0, device_ids="{}", payloads="{}")

    def iotmq():
        it.new_topic("bench")
        return rate(PUBLISH)

    def bare():
        it.run("CALL new_bare()")
        return rate(INSERT)

    return [bench.compare("publish_batch of 1,000", 1.3, turns=TURNS, iotmq=iotmq, bare=bare)]
