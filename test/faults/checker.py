#!/usr/bin/python3
"""Judges a run by its journal: what was promised, and what the clients saw.

    checker.py JOURNAL...     prints each violation with the history of its message

The last line is "N violations"; the exit status is 1 if there are any.  Nothing is asked
of the database: what has to be known of it was read while the run stood still and is in
the journal ("state", "figures"; see recount.py).

Each rule below is a function of a History that yields Violations.  Where a client can't
know what happened, since its connection was lost or another call ran at the same time,
a rule takes the side of the database: what it reports is wrong for certain.
"""

import sys
from bisect import bisect_left, bisect_right

import journal
import recovery
from history import HAPPENED, History, dropped, overlaps, received
from violation import Violation, of_delivery, of_message

SLACK = 0.001   # PostgreSQL's clock has microseconds and leases have milliseconds


# What is delivered --------------------------------------------------------------------


def nothing_rolled_back(history):
    """Nothing rolled back was ever delivered, and nothing before its commit was sent."""
    for what, row, event in received(history):
        message = history.messages.get(row["id"])
        where = dict(topic=event["topic"], zone=event["zone"], offset=row["offset"], id=row["id"])
        if message is None:
            yield Violation("unknown message", f"{what} has {row['id']}, which nobody published", **where)
        elif message.result == "rolled back":
            yield Violation("rolled back", f"{what} has {row['id']}, which was rolled back", **where)
        elif message.outcome and event["end"] < message.outcome["begin"]:
            yield Violation("uncommitted", f"{what} has {row['id']} before its commit was sent", **where)
    for state in history.by_kind["state"]:
        for zone, held in state["zones"].items():
            for offset, id, _ in held["log"]:
                message = history.messages.get(id)
                if message is None or message.result == "rolled back":
                    yield Violation("rolled back", f"the log has {id}, which was not committed",
                                    state["topic"], zone, offset, id)


def content(history):
    """What is delivered is what was published."""
    for what, row, event in received(history):
        m = history.messages.get(row["id"])
        if m is None:
            continue
        sent = (m.topic, m.zone, m.device, m.tag, m.offset)
        got = (event["topic"], event["zone"], row["device"], row.get("tag"), row["offset"])
        # COPY doesn't tell offsets: of what a crash has forgotten nobody knows them
        if sent[:-1] != got[:-1] or m.offset is not None and row["offset"] not in m.offsets:
            yield of_message("content", f"was published as {sent}, {what} has {got}", m)


def offset_once(history):
    """An offset is given out once, also if a crash has forgotten its first message."""
    owner = {}
    for message in history.messages.values():
        said = message.outcome and message.outcome["result"] == "committed" and not message.undone
        if message.offset is None or not (said or message.result == "committed"):
            continue
        made_anew = any(event["action"] == "drop" for event in history.zone_events[message.topic, message.zone])
        others = [owner.setdefault((message.topic, message.zone, offset), message) for offset in message.offsets - {None}]
        for other in others:
            if other is message or made_anew:
                continue
            yield of_message("offset twice", f"has the offset of {other.id}", message)


def stored_once(history):
    """A message that was published again with its key is in the log once."""
    for state in history.by_kind["state"]:
        for zone, held in state["zones"].items():
            seen = {}
            for offset, id, _ in held["log"]:
                if id in seen:
                    yield Violation("stored twice", f"the log has {id} at {seen[id]} and {offset}",
                                    state["topic"], zone, offset, id)
                seen[id] = offset


def shape_of_leases(history):
    """One call: one zone, one lease, ascending offsets, no more than asked for; ids don't repeat."""
    for lease, claims in history.leases.items():
        if len(claims) > 1:
            yield Violation("lease id twice", f"lease {lease} was given out {len(claims)} times",
                            claims[0]["topic"], claims[0]["zone"], claims[0]["rows"][0]["offset"])
    for claim in history.by_kind["claim"]:
        offsets = [row["offset"] for row in claim.get("rows") or ()]
        if offsets != sorted(set(offsets)):
            yield Violation("order in a lease", f"lease {claim['lease']}: {offsets}",
                            claim["topic"], claim["zone"], offsets[0])
        if len(offsets) > claim["most"]:
            yield Violation("too many", f"lease {claim['lease']}: {len(offsets)} messages of {claim['most']} asked for",
                            claim["topic"], claim["zone"], offsets[0])


def unwanted(history):
    """Nobody gets what his tags and filter leave out.  What waited for a retry is past them."""
    for chain in history.chains.values():
        d = chain[0]
        message = history.messages.get(d.id)
        if message and d.attempt == 1 and not history.redriven(d.topic, d.group, 0, d.end) \
                and history.wanted(message, (d.topic, d.group), message.published["begin"], d.end) is False:
            yield of_delivery("unwanted", f"was delivered in lease {d.lease} against the tags or the filter", d)


def fetch_skips_nothing(history):
    """A fetch returns all that is committed between where it begins and its last row."""
    by_zone = {}
    for message in history.messages.values():
        if message.result == "committed" and message.offset is not None:
            by_zone.setdefault((message.topic, message.zone), []).append(message)
    for messages in by_zone.values():
        messages.sort(key=lambda message: message.offset)
    offsets = {key: [message.offset for message in messages] for key, messages in by_zone.items()}
    for fetch in history.by_kind["fetch"]:
        key = (fetch["topic"], fetch["zone"])
        got = {row["offset"] for row in fetch["rows"]}
        if not got or key not in by_zone:
            continue
        first, last = bisect_left(offsets[key], fetch["from"]), bisect_right(offsets[key], max(got))
        for message in by_zone[key][first:last]:
            if message.offset not in got and not dropped(history, message, fetch["end"]) and not history.zone_events[key]:
                yield of_message("fetch skipped", f"is not in a fetch from {fetch['from']} to {max(got)}", message)


# Repeats --------------------------------------------------------------------------------


def repeats(history):
    """A repeat is explained by a nack, an expiry, a crash, a seek or a redrive, and attempts
    count what failed."""
    for chain in history.chains.values():
        if chain[0].attempt > 1:
            text = unseen_attempts(history, chain[0], 1, None)
            if text:
                yield of_delivery("attempt", text, chain[0])
        for n, (earlier, later) in enumerate(zip(chain, chain[1:])):
            if history.moved(later.topic, later.group, later.zone, earlier.begin, later.end):
                continue
            text = explain(history, earlier, later, chain[:n])
            if text:
                yield of_delivery("repeat", text, later)


def unseen(history, d, begin):
    """How many claims of the group may have had the message without their client seeing it."""
    return sum(1 for claim in history.unseen[d.topic, d.group] if claim["begin"] < d.end and claim["end"] > begin)


def unseen_attempts(history, d, least, since):
    """None if a delivery with that attempt can come when attempt "least" is due."""
    begin = float("-inf") if since is None else since.begin
    most = least + unseen(history, d, begin)
    if least <= d.attempt <= most:
        return None
    return f"came in lease {d.lease} as attempt {d.attempt}, not {least}" + (f" to {most}" if most > least else "")


def explain(history, earlier, later, before):
    """None if the message may come again, else what is wrong with it.  before: its deliveries
    before these two."""
    key = (later.topic, later.group)
    attempts = set()
    redriven = history.redriven(*key, earlier.begin, later.end)
    # a dead letter from before a seek back stays, and can be redriven after the repeat is settled
    if redriven and any(d.fates & {"dead", "open"} for d in before):
        attempts.add(1)
    for fate in earlier.fates:
        if fate == "nack":
            attempts.add(earlier.attempt + 1)
        elif fate == "back":
            attempts.add(earlier.attempt)
        elif fate == "dead" and redriven:
            attempts.add(1)
        elif fate == "open" and may_have_expired(history, earlier, later):
            if any(earlier.attempt <= most for most in history.settings(key, "max_retries", earlier.begin, later.end)):
                attempts.add(earlier.attempt + 1)
            if redriven:
                attempts.add(1)
    durable = history.settings(key, "durable_acks", earlier.begin, later.end) == {True}
    if history.forgotten(earlier.claim, durable=False):
        attempts.add(earlier.attempt)
        if before and explain(history, before[-1], later, before[:-1]) is None:
            return None
    for settle in earlier.settled + earlier.sent_back:
        if history.forgotten(settle, durable=durable or bool(settle["effects"])):
            attempts |= {earlier.attempt, earlier.attempt + 1}
    if not attempts:
        return (f"came in lease {later.lease} (attempt {later.attempt}) after lease {earlier.lease} "
                f"(attempt {earlier.attempt}), of which it is known: {', '.join(sorted(earlier.fates))}")
    texts = [unseen_attempts(history, later, least, earlier) for least in attempts]
    return None if None in texts else texts[0]


def may_have_expired(history, earlier, later):
    """Whether the deadline of an open lease can have been over when the message came again."""
    if any(overlaps(clock, earlier.begin, later.end) for clock in history.by_kind["clock"]):
        return True
    given = earlier.claim["invisible_for"]
    granted = [given] if given is not None else history.settings(
        (earlier.topic, earlier.group), "invisible_for", float("-inf"), earlier.end)
    deadline = earlier.begin + min(granted)
    for extend in history.by_kind["extend"]:
        if extend["lease"] == earlier.lease and extend["begin"] < later.end:
            again = extend["begin"] + extend["invisible_for"]
            if extend["result"] == "committed":
                deadline = again
            elif extend["result"] == "unknown":
                deadline = min(deadline, again)
    return later.end >= deadline - SLACK


def late_settlements(history):
    """Who lost a lease can't settle it: neither after a take-over nor after a move."""
    for chain in history.chains.values():
        for earlier, later in zip(chain, chain[1:]):
            for settle in earlier.settled:
                if settle["result"] == "committed" and settle["begin"] > later.end \
                        and earlier.lease != later.lease and not settle.get("by_effects") \
                        and "back" not in earlier.fates:    # may have been settled by what took it back
                    yield of_delivery("settled too late",
                                      f"was settled in lease {earlier.lease} after lease {later.lease} had it", later)
    for lease, settles in history.settlements.items():
        for claim in history.leases[lease]:
            for settle in settles:
                if settle["result"] != "committed" or not settle.get("count"):
                    continue
                for move, _ in history.moves_of(claim["topic"], claim["group"], claim["zone"]):
                    if move["result"] == "committed" and move.get("how", "seek") != "commit_offset" \
                            and claim["end"] < move["begin"] and move["end"] < settle["begin"]:
                        yield Violation("settled too late", f"lease {lease} was settled after the group was moved",
                                        claim["topic"], claim["zone"], claim["rows"][0]["offset"])


def counts(history):
    """ack, nack and reject count what they settle."""
    for settle, least, most in history.miscounted:
        rows = history.leases[settle["lease"]][0]["rows"]
        messages = [history.messages[row["id"]] for row in rows if row["id"] in history.messages]
        if not any(dropped(history, message, settle["end"]) for message in messages):
            offset = settle["offsets"][0] if settle["offsets"] else rows[0]["offset"]
            yield Violation("count", f"{settle['verb']} on lease {settle['lease']} counted {settle['count']}, "
                            f"not {least} to {most}", settle["topic"], settle["zone"], offset)


def two_leases(history):
    """At no moment are there two leases with one message, or a lease and a retry of it."""
    seen = set()
    for look in history.by_kind["leases"]:
        holder = {}
        for lease in look["leases"]:
            for offset in lease["offsets"]:
                key = (lease["lease"] >> 43, offset)
                other = holder.setdefault(key, lease)
                if other is not lease and key not in seen:
                    seen.add(key)
                    yield Violation("two leases", f"offset {offset} is in lease {other['lease']} "
                                    f"({other['left']:.3f} s left) and in lease {lease['lease']} ({lease['left']:.3f} s left)",
                                    offset=offset)
        for cursor, offset in look["waiting"]:
            if (cursor, offset) in holder and (cursor, offset) not in seen:
                seen.add((cursor, offset))
                yield Violation("lease and retry", f"offset {offset} of cursor {cursor} waits and is in lease "
                                f"{holder[cursor, offset]['lease']}", offset=offset)


# Order of a device ------------------------------------------------------------------------


def order_of_devices(history):
    """In an orderly group no message of a device comes while an earlier one is out or to come."""
    devices = {}
    for d in history.deliveries:
        devices.setdefault((d.topic, d.group, d.zone, d.device), []).append(d)
    for (topic, group, zone, device), deliveries in devices.items():
        if history.settings((topic, group), "mode", 0, float("inf")) == {"orderly"}:
            deliveries.sort(key=history.order)
            yield from order_of_device(history, deliveries)


def order_of_device(history, deliveries):
    # how far a look back or ahead can find something: until when all before were settled,
    # and the least offset of all after
    settled_by, least_after = [], [float("inf")]
    for d in deliveries:
        last = max((settle["begin"] for settle in d.settled if settle["result"] == "committed"), default=0)
        settled_by.append(max(last, settled_by[-1] if settled_by else 0))
    for d in reversed(deliveries):
        least_after.append(min(d.offset, least_after[-1]))
    least_after.reverse()
    for n, p in enumerate(deliveries):
        yield from overtaken(history, deliveries, n, p, settled_by)
        if least_after[n + 1] < p.offset:
            yield from came_after(history, deliveries, n, p)


def overtaken(history, deliveries, n, p, settled_by):
    """p came while an earlier message of its device was out."""
    for m in range(n - 1, -1, -1):
        if settled_by[m] <= p.end:
            return
        e = deliveries[m]
        if e.offset < p.offset and e.lease != p.lease \
                and any(settle["result"] == "committed" and settle["begin"] > p.end
                        and not history.moved(p.topic, p.group, p.zone, e.begin, settle["end"])
                        and not history.forgotten(e.claim, False) for settle in e.settled):
            yield of_delivery("order", f"came in lease {p.lease} while {e.offset} of the same device "
                              f"was out in lease {e.lease}", p)


def came_after(history, deliveries, n, p):
    """p came, and then an earlier message of its device, which was not settled before."""
    # a lease has at most 10,000 messages, side by side in this order
    together = {e.offset for e in deliveries[max(0, n - 10000):n] if e.lease == p.lease}
    for d in deliveries[n + 1:]:
        if d.offset < p.offset and d.lease != p.lease and d.offset not in together:
            if not (history.moved(d.topic, d.group, d.zone, p.begin, d.end)
                    or history.redriven(d.topic, d.group, 0, d.end) or history.forgotten(p.claim, False)):
                yield of_delivery("order", f"came in lease {d.lease} after {p.offset} of the same device "
                                  f"in lease {p.lease}", d)
                return


# Effects ----------------------------------------------------------------------------------


def effects_once(history):
    """Effects committed with an ack are there once, and those rolled back are not."""
    for state in history.by_kind["state"]:
        rows = {}
        for group, id, lease in state["effects"]:
            rows[group, lease, id] = rows.get((group, lease, id), 0) + 1
        known = {}
        for settle in history.by_kind["settle"]:
            if settle["topic"] == state["topic"] and settle["begin"] < state["begin"]:
                for id in settle["effects"]:
                    known.setdefault((settle["group"], settle["lease"], id), []).append(settle)
        for (group, lease, id), n in rows.items():
            results = [settle["result"] for settle in known.get((group, lease, id), ())]
            possible = sum(1 for result in results if result in HAPPENED)
            if n > max(possible, 0) or n > 1:
                yield Violation("effects", f"{group}: {id} has {n} effects of lease {lease}, settled: "
                                f"{', '.join(results) or 'never'}", state["topic"], id=id)
        for (group, lease, id), settles in known.items():
            if (group, lease, id) not in rows and any(
                    settle["result"] == "committed" and settle["end"] < state["begin"]
                    and not history.forgotten(settle, durable=True) for settle in settles):
                yield Violation("effects", f"{group}: the effect of {id} in lease {lease} is gone",
                                state["topic"], id=id)


# Nothing is lost ----------------------------------------------------------------------------


def all_or_none(history):
    """A transaction whose commit got no answer is committed as a whole or not at all."""
    for message in history.messages.values():
        if message.torn and history.by_kind["state"] \
                and not dropped(history, message, float("inf")):
            yield of_message("torn", f"is nowhere, but others of transaction {message.xact} are there", message)


def nothing_lost(history):
    """Each committed message is settled for each group that wants it, or a dead letter, or
    out, or waits, or is still to come."""
    for state in history.by_kind["state"]:
        log = {(zone, offset) for zone, held in state["zones"].items() for offset, _, _ in held["log"]}
        messages = [m for m in history.messages.values()
                    if m.topic == state["topic"] and m.result == "committed" and m.end < state["begin"]]
        for m in messages:
            if (m.zone, m.offset) not in log and not dropped(history, m, state["end"]):
                yield of_message("lost", "is committed and not in the log", m)
        for cursor in state["cursors"]:
            key = (state["topic"], cursor["group"])
            if cursor.get("pull"):
                continue
            places = Places(cursor)
            for m in messages:
                if m.zone == cursor["zone"] and m.offset is not None:
                    text = missing(history, state, places, m, key, (m.zone, m.offset) in log)
                    if text:
                        yield of_message("lost" if text.startswith("is not") else "dead letter",
                                         f"{text} for {cursor['group']}", m)


class Places:
    """Where the messages of a cursor are."""

    def __init__(self, cursor):
        self.next = cursor["next"]
        self.out = {offset for _, offset in cursor["leases"]}
        self.waiting = set(cursor["waiting"])
        self.dead = set(cursor["dead"])
        self.expired = cursor.get("expired", 1)     # with none, retention has taken nothing from the group


def missing(history, state, places, m, key, in_log):
    """None if a message is where it should be in a group, else what is wrong.  A failover may have
    forgotten a move, and what came of it: then the group is where it was before."""
    text = missing_but(history, state, places, m, key, in_log, (1, 0))
    for gone in history.forgotten_from_moves(*key, m.zone) if text else ():
        if missing_but(history, state, places, m, key, in_log, gone) is None:
            return None
    return text


def missing_but(history, state, places, m, key, in_log, gone):
    """The same, of what was not begun in the time that is gone."""
    def there(begin):
        return not gone[0] <= begin <= gone[1]
    since, certain = last_move(history, m, key, state["begin"], there)
    chain = [d for d in history.chains.get((*key, m.zone, m.offset), ())
             if d.end > since and d.begin < state["begin"] and d.id == m.id and there(d.begin)]
    if m.offset in places.dead:
        return unfounded(history, key, m, chain, since)
    if m.offset in places.waiting or m.offset in places.out or m.offset >= places.next and in_log:
        return None
    if not certain or not in_log and dropped(history, m, state["end"], unread=places.expired):
        return None
    if history.wanted(m, key, max(since, m.published["begin"]), state["begin"]) is not True and not chain:
        return None
    if not chain:
        if unseen_dead(history, m, key, since, state["begin"]):
            return None
        return f"is not delivered though it lies before position {places.next}"
    last = chain[-1]
    # a move at the same time may have come after it, or a crash have forgotten it, and tags since
    # have left it out
    if (history.moved(*key, m.zone, last.begin, last.end) or history.forgotten(last.claim, durable=False)) \
            and history.wanted(m, key, last.begin, state["begin"]) is not True:
        return None
    purged = any((event["topic"], event["group"]) == key and event["result"] in HAPPENED
                 and event["end"] > last.begin for event in history.by_kind["purge"])
    retries = history.settings(key, "max_retries", last.begin, state["begin"])
    if "ack" in last.fates or purged and last.fates & {"dead", "open"}:
        return None
    if "open" in last.fates and unseen(history, last, last.begin) and purged:
        return None
    return (f"is not settled, and gone: last in lease {last.lease} as attempt {last.attempt} "
            f"of {max(retries) + 1}, {', '.join(sorted(last.fates))}")


def unseen_dead(history, m, key, since, until):
    """Whether it can have become a dead letter, and been purged, without anybody seeing it."""
    return any((e["topic"], e["group"]) == key and e["result"] in HAPPENED for e in history.by_kind["purge"]) \
        and any(claim["end"] > since for claim in history.unseen[key])


def last_move(history, m, key, until, there):
    """(since when the group had to get the message, whether it had to at all)."""
    since, certain = float("-inf"), bool(history.groups[key])
    for move, to in history.moves_of(*key, m.zone):
        if move["begin"] >= until or not there(move["begin"]):
            continue
        if to is None:
            must = m.published["begin"] > move["end"]
        else:
            must = m.offset >= to
        if move["result"] == "committed":
            since, certain = move["begin"], must
        else:
            certain = certain and must
    return since, certain


def unfounded(history, key, m, chain, since):
    """None if a dead letter has a cause."""
    if not chain or history.redriven(*key, 0, float("inf")) or since > float("-inf") and len(
            list(history.moves_of(*key, m.zone))) > 1:
        return None
    last = chain[-1]
    if last.fates & {"dead", "open"} or any(history.forgotten(s, durable=False) for s in last.settled):
        retries = history.settings(key, "max_retries", last.begin, float("inf"))
        if "dead" in last.fates or last.attempt > min(retries) or unseen(history, last, last.begin):
            return None
        return f"is a dead letter after attempt {last.attempt} of {min(retries) + 1}"
    if unseen(history, last, last.begin):
        return None
    return f"is a dead letter, but of its last delivery is known: {', '.join(sorted(last.fates))}"


# What the database says of itself -------------------------------------------------------------


def figures(history):
    """The figures of the views are those of a recount."""
    for event in history.by_kind["figures"]:
        for text in event["wrong"]:
            yield Violation("figure", text)


def progress(history):
    """Consumers that go on come to the end."""
    for event in history.by_kind["stuck"]:
        yield Violation("stuck", f"these groups never came to the end: {event['lag']}")


def errors(history):
    """No client saw an error that it did not expect."""
    for event in history.by_kind["error"]:
        yield Violation("error", f"{event['sqlstate']} {event['message']} [{event['statement']}]")


RULES = (nothing_rolled_back, content, offset_once, stored_once, shape_of_leases, unwanted, fetch_skips_nothing, repeats,
         late_settlements, counts, two_leases, order_of_devices, effects_once, all_or_none, nothing_lost,
         figures, progress, errors, *recovery.RULES)


def check(events):
    """(history, violations)"""
    history = History(events)
    return history, [violation for rule in RULES for violation in rule(history)]


def story(history, violation, most=40):
    """The events that touch the message of a violation, one a line."""
    lines = []
    held = set()                        # the leases that had it
    message = history.messages.get(violation.id)
    since = message.published["begin"] - 1 if message else float("-inf")
    for event in sorted(history.events, key=lambda event: event["begin"]):
        if event["end"] < since and event.get("action") != "create":
            continue
        line = mention(event, violation, held)
        if line:
            lines.append(f"  {event['begin']:.4f} .. {event['end']:.4f} {line}")
    if len(lines) > most:
        lines[most // 2:-most // 2] = ["  ..."]
    return lines


def mention(event, violation, held):
    """How an event touches the message, or None."""
    kind = event["kind"]
    here = event.get("topic") == violation.topic
    if violation.group and event.get("group", violation.group) != violation.group:
        return None
    if kind == "publish":
        for message in event["messages"]:
            if message["id"] == violation.id:
                return f"publish in {event['xact']}: {message}"
    elif kind == "outcome":
        return f"{event['xact']}: {event['result']}" if violation.id and \
            violation.id.rsplit(".", 1)[0] == event["xact"] else None
    elif kind in ("claim", "fetch"):
        for row in event.get("rows") or ():
            if row["id"] == violation.id or row["offset"] == violation.offset and here and \
                    event["zone"] == violation.zone:
                held.add(event.get("lease"))
                return (f"{kind} {event.get('group', '')} lease {event.get('lease')} ({len(event['rows'])} rows, "
                        f"invisible_for {event.get('invisible_for')}) {event.get('result', '')}: {row}")
    elif kind in ("settle", "extend"):
        if event["lease"] in held and (not event.get("offsets") or violation.offset in event["offsets"]):
            return " ".join(f"{name}={value}" for name, value in event.items()
                            if name in ("kind", "verb", "lease", "invisible_for", "count", "result", "group")
                            ) + (" (effects)" if event.get("effects") else "")
    elif kind == "leases":
        found = [(lease["lease"], lease["left"]) for lease in event["leases"]
                 if lease["lease"] in held and violation.offset in lease["offsets"]]
        return f"seen in leases (with seconds left): {found}" if found else None
    elif kind in ("move", "redrive", "purge", "group") and here or kind in ("zone", "crash", "clock", "retention"):
        return " ".join(f"{name}={value}" for name, value in event.items() if name not in ("begin", "end", "topic"))
    return None


def main(paths):
    history, violations = check(journal.read(paths))
    for violation in violations[:50]:
        print(violation)
        if violation.id or violation.offset is not None:
            print("\n".join(story(history, violation)))
    print(f"{len(history.events)} events, {len(history.messages)} messages, {len(history.deliveries)} deliveries")
    print(f"{len(violations)} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
