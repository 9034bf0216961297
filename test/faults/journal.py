"""The journal: what the clients of a run know, kept outside of the database under test.

One JSON object a line, appended by one write each, so that a line survives the death of
the server, and of the client right after it.  Times are of the machine's monotonic
clock: those of several processes compare, and a clock that jumps under the server
doesn't move them.  An event lasted from "begin", before the statement was sent, to
"end", after its answer was read.  "result" is what the client knows: "committed",
"rolled back", "unknown" (the connection was lost), or "refused" (the server said no).

kind      fields
publish   xact, topic, messages: [{id, zone, device, tag, v, offset, undone}]; from the beginning
          of the transaction, written before the commit is sent; undone: rolled back to a savepoint
outcome   xact, result, offsets: {id: offset} where only the answer tells them, repeated: published
          by a second session, too
claim     topic, group, lease, zone, most, invisible_for, rows: [{id, offset, device, tag,
          attempt}], result; one whose answer was lost has no lease and no rows
settle    topic, group, zone, lease, verb (ack, nack, reject), offsets (None: all), count,
          effects: [id], result.  With the verb "settle" also acks, nacks, rejects and rest, and
          offsets None with a rest.  What consume acknowledges is noted as an ack of its own
extend    lease, invisible_for, result
fetch     topic, zone, from, most, rows: as of claim; reader: who keeps the position to itself
told      reader, topic, zone, position, hint, first: fetch sent a reader on to the offset hint,
          and zone_epoch to first (None: it has no gap there yet)
topic     topic, zones, action (create, drop), result
zone      topic, zone, action (add, drop), result
group     topic, group, action (create, alter, drop), settings, result.  Settings are mode,
          tags (list, None: all), above (the filter $.v > above), invisible_for, max_retries,
          start ("earliest", "latest"), durable_acks; with alter only what changes
move      topic, group, how (seek, commit_offset, ...), zones: {zone: new offset}, result
redrive   topic, group, result     purge  topic, group, result
retention at, in seconds from now: a run of maintenance that may drop segments; keeps: none
          with messages of the last so many seconds
crash     forgets: "nothing", "async" (commits that need not wait for the disk) or "tail"
          (any commit), since: nothing from before that time is forgotten
clock     the server's clock jumped
error     sqlstate, message, statement: one that a client didn't expect
leases    leases: [{lease, left, offsets}], waiting: [[cursor, offset]]: one look at what is out;
          left: seconds to the deadline; voided ones are left out
state     topic, zones: {zone: {log: [[offset, id, device]], earliest, gaps: [[last before,
          first offset]], as of zone_epoch}}, cursors: [{group, zone,
          next, leases: [[lease, offset]], waiting: [offset], dead: [offset], expired}],
          effects: [[group, id, lease]]: read while nothing else ran
figures   wrong: [text]: figures of the views that a recount does not confirm
stuck     lag: {group: messages} that the consumers never came to
"""

import json
import os
import threading
import time


class Journal:
    """Writes a journal; any number of threads and processes may write to one file."""

    def __init__(self, path):
        self.path = path
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.lock = threading.Lock()

    def write(self, kind, begin=None, **fields):
        now = time.monotonic()
        event = {"kind": kind, "begin": now if begin is None else begin, "end": now, **fields}
        line = (json.dumps(event, separators=(",", ":")) + "\n").encode()
        with self.lock:
            done = os.write(self.fd, line)
        if done != len(line):
            raise OSError(f"{self.path}: {done} of {len(line)} bytes written")

    def close(self):
        os.close(self.fd)


def read(paths):
    """The events of some journals by their end.  The last line may be torn off."""
    events = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                events.append(json.loads(line))
            except ValueError:
                if number < len(lines):
                    raise ValueError(f"{path}:{number}: no event") from None
    events.sort(key=lambda event: event["end"])
    return events
