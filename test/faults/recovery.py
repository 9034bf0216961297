"""Rules about what a recovery may lose: a crash that forgets commits, a failover to a standby
that has not got all of them."""

from history import dropped, received
from violation import Violation, of_message

EPOCH_BITS = 32


def acknowledged(message):
    """Whether its publisher was told that it is committed."""
    return message.outcome and message.outcome["result"] == "committed" and not message.undone


def lost(history):
    """The messages that were acknowledged and are not in the log at the end."""
    for state in history.by_kind["state"][-1:]:
        there = logged(state)
        for message in history.messages.values():
            if message.topic == state["topic"] and acknowledged(message) and message.end < state["begin"] \
                    and message.id not in there and not dropped(history, message, state["end"]):
                yield message


def logged(state):
    """The ids of the messages in the log."""
    return {id for held in state["zones"].values() for _, id, _ in held["log"]}


def prefix(history):
    """What is left after a crash is a beginning of what was committed: who was acknowledged
    before another one committed is not lost without it."""
    gone = {message.id for message in lost(history)}
    since = float("-inf")
    for crash in sorted(history.by_kind["crash"], key=lambda crash: crash["end"]):
        before = [message for message in history.messages.values() if acknowledged(message)
                  and message.outcome["begin"] > since and message.end < crash["begin"]]
        kept = max((message for message in before if message.id not in gone),
                   key=lambda message: message.outcome["begin"], default=None)
        for message in before:
            if kept and message.id in gone and message.end < kept.outcome["begin"]:
                yield of_message("no prefix", f"is lost, but {kept.id}, committed after it, is there", message)
        since = crash["end"]


def gaps(history):
    """What was given out and may be forgotten lies in a gap of zone_epoch, or, where a later offset was
    committed first, before one; and nothing that is there lies in a gap."""
    for state in history.by_kind["state"]:
        there = logged(state)
        for zone, held in state["zones"].items():
            for offset, id, _ in held["log"]:
                if in_gap(held["gaps"], offset):
                    yield Violation("gap", f"{id} lies in a gap of {held['gaps']}", state["topic"], zone, offset, id)
        for what, row, event in received(history):
            held = state["zones"].get(event["zone"])
            message = history.messages.get(row["id"])
            if event["topic"] != state["topic"] or event["end"] > state["begin"] or row["id"] in there \
                    or held is None or message is None or message.result == "committed" \
                    or dropped(history, message, state["end"]):
                continue
            if not in_gap(held["gaps"], row["offset"]) and not before_gap(held["gaps"], row["offset"]):
                yield of_message("gap", f"was in {what} and is gone, and no gap shows it: {held['gaps']}", message)


def in_gap(found, offset):
    return any(last_before < offset < first for last_before, first in found)


def before_gap(found, offset):
    return any(offset <= last_before and offset >> EPOCH_BITS == last_before >> EPOCH_BITS for last_before, _ in found)


def readers_are_told(history):
    """Who keeps a position gets all that there is, and is sent on where what it has read is lost,
    and only there."""
    read = {}
    for fetch in history.by_kind["fetch"]:
        if fetch.get("reader"):
            read.setdefault((fetch["reader"], fetch["topic"], fetch["zone"]), set()).update(
                (row["offset"], row["id"]) for row in fetch["rows"])
    for state in history.by_kind["state"][-1:]:
        for (reader, topic, zone), rows in read.items():
            held = {(offset, id) for offset, id, _ in state["zones"].get(zone, {"log": ()})["log"]}
            for offset, id in sorted(held - rows)[:3]:
                yield Violation("reader", f"{reader} was never given {zone}/{offset} {id}", topic, zone, offset, id)
            for told in history.by_kind["told"]:
                if (told["reader"], told["topic"], told["zone"]) == (reader, topic, zone):
                    if told["first"] not in (None, told["hint"]):
                        yield Violation("reader", f"{reader} was told {told['hint']} by the hint and "
                                        f"{told['first']} by zone_epoch", topic, zone, told["position"])
                    if not any(offset == told["position"] - 1 for offset, _ in rows - held) and told["first"] is not None \
                            and told["position"] not in hints(history, reader, zone):
                        yield Violation("reader", f"{reader} was sent on from {zone}/{told['position']}, though what it "
                                        "had read before is there", topic, zone, told["position"])


def hints(history, reader, zone):
    """Where a reader was sent on to."""
    return {told["hint"] for told in history.by_kind["told"] if told["reader"] == reader and told["zone"] == zone}


RULES = (prefix, gaps, readers_are_told)
