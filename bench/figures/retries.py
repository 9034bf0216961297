"""One consumer takes batches of 100 and nacks one message of each, against one that acks all.

A batch is settled in one call. Each nacked message comes again after a second, in a lease
with others. The columns are messages settled a second.
"""

import bench

# The columns are those of the last message: one that came for the first time fails.
NACK_ONE = """
\\set lease_id 0
SELECT * FROM iotmq.consume('bench', 'nacks', 100)
\\aset
\\if :lease_id > 0
\\if :attempt = 1
SELECT iotmq.settle(:lease_id, nacks => ARRAY[:msg_offset]::bigint[], delay => '1 s', rest => 'ack');
\\else
SELECT iotmq.ack(:lease_id);
\\endif
\\endif
"""


def measure(it):
    it.new_topic("bench")
    for group in ("nacks", "acks"):
        it.new_group("bench", group)
    it.run("CALL load_topic('bench', %s)", bench.scaled(2_000_000, 1000))

    def settled(group, script):
        return it.settled("bench", group, script, bench.scaled(6))

    return [bench.compare("1 % nacked once (bare = none)", 0.85,
                          nacks=lambda: settled("nacks", NACK_ONE),
                          acks=lambda: settled("acks", bench.consume("bench", "acks")))]
