"""What a journal says, message by message: who published it, who was given it, what became of it."""

from collections import Counter, defaultdict

SETTINGS = {"mode": "concurrent", "tags": None, "above": None, "invisible_for": 60.0,
            "max_retries": 16, "start": "latest", "durable_acks": False}
HAPPENED = ("committed", "unknown")     # what may have happened


def overlaps(event, begin, end):
    return event["begin"] <= end and event["end"] >= begin


def verdicts_of(settle):
    """A function of a delivery: what a settlement says of it (None: nothing), and whether that
    counts even behind a message of its device that comes again."""
    if settle["verb"] != "settle":
        named = settle["offsets"]
        return lambda d: (settle["verb"], True) if named is None or d.offset in named else (None, False)
    by_offset = {offset: verb for verb in ("ack", "nack", "reject") for offset in settle[verb + "s"]}
    rest = settle["rest"]
    return lambda d: (by_offset.get(d.offset, rest), d.offset in by_offset or rest == "nack")


class Message:
    """A message as its publisher knows it."""

    def __init__(self, fields, event):
        self.id = fields["id"]
        self.topic = event["topic"]
        self.zone = fields["zone"]
        self.device = fields["device"]
        self.tag = fields.get("tag")
        self.v = fields.get("v")
        self.offset = fields.get("offset")
        self.undone = bool(fields.get("undone"))
        self.xact = event["xact"]
        self.published = event
        self.outcome = None             # the event, if there is one
        self.result = "unknown"         # and what is known in the end
        self.twice = False              # forgotten after its answer, and then perhaps published by the second session
        self.offsets = set()            # all that it had

    @property
    def end(self):
        return self.outcome["end"] if self.outcome else float("inf")


class Delivery:
    """One message in one lease."""

    def __init__(self, row, claim):
        self.id = row["id"]
        self.offset = row["offset"]
        self.device = row["device"]
        self.tag = row.get("tag")
        self.attempt = row["attempt"]
        self.claim = claim
        self.lease = claim["lease"]
        self.topic, self.group, self.zone = claim["topic"], claim["group"], claim["zone"]
        self.begin, self.end = claim["begin"], claim["end"]
        self.fates = {"open"}           # "ack", "nack", "dead", "back" or "open": what may be
        self.settled = []               # the settlements that count it
        self.sent_back = []             # those that may have sent it back with an earlier one


class History:
    def __init__(self, events):
        self.events = events
        self.by_kind = defaultdict(list)
        for event in events:
            self.by_kind[event["kind"]].append(event)
        self.messages = {}
        self.deliveries = []
        self.chains = defaultdict(list)     # (topic, group, zone, offset): in the order of delivery
        self.leases = defaultdict(list)     # lease: its claims, more than one is a fault
        self.of_claim = defaultdict(list)   # number of a claim: its deliveries
        self.groups = defaultdict(list)     # (topic, group): its events
        for event in self.by_kind["group"]:
            if event["result"] in HAPPENED:
                self.groups[event["topic"], event["group"]].append(event)
        self.read_moves()
        self.read_messages()
        self.read_claims()
        self.settle_unknown_effects()
        self.read_settlements()
        self.settle_unknown_publishes()

    # Where groups were moved ------------------------------------------------------------

    def read_moves(self):
        """All that makes a group go on elsewhere, by (topic, group): seeks, and what makes or
        drops a group or a zone.  "zones" None: all of them; an offset None: nobody knows which."""
        self.moves = defaultdict(list)
        for event in self.by_kind["move"]:
            if event["result"] in HAPPENED:
                self.moves[event["topic"], event["group"]].append(event)
        for key, events in self.groups.items():
            for event in events:
                if event["action"] == "create":
                    start = event.get("settings", {}).get("start", SETTINGS["start"])
                    self.moves[key].append({**event, "zones": None, "to": 0 if start == "earliest" else None})
                elif event["action"] == "drop":
                    self.moves[key].append({**event, "zones": None, "to": None})
        self.zone_events = defaultdict(list)
        for event in self.by_kind["zone"]:
            if event["result"] in HAPPENED:
                self.zone_events[event["topic"], event["zone"]].append(event)
                for key in list(self.groups):
                    if key[0] == event["topic"]:
                        to = 0 if event["action"] == "add" else None
                        self.moves[key].append({**event, "zones": {event["zone"]: to}})
        for moves in self.moves.values():
            moves.sort(key=lambda move: move["end"])

    def moves_of(self, topic, group, zone):
        """(move, offset) of that zone; the offset is None where it isn't known."""
        for move in self.moves[topic, group]:
            if move["zones"] is None:
                yield move, move["to"]
            elif zone in move["zones"]:
                yield move, move["zones"][zone]

    def moved(self, topic, group, zone, begin, end):
        return any(overlaps(move, begin, end) for move, _ in self.moves_of(topic, group, zone))

    def forgotten_from_moves(self, topic, group, zone):
        """(begin, end) of times of which a crash may have forgotten all, from a move on."""
        for move, _ in self.moves_of(topic, group, zone):
            for crash in self.by_kind["crash"]:
                if crash["end"] >= move["begin"] and self.crashed_of(crash, move, durable=True):
                    yield move["begin"], crash["end"]

    def redriven(self, topic, group, begin, end):
        return any(event["topic"] == topic and event["group"] == group and event["result"] in HAPPENED
                   and overlaps(event, begin, end) for event in self.by_kind["redrive"])

    def crashed(self, begin, end, durable=False):
        """Whether a crash in that time may have forgotten what was committed at its beginning."""
        return any(overlaps(crash, begin, end) and crash["forgets"] != "nothing"
                   and (crash["forgets"] == "tail" or not durable)
                   and crash.get("since", float("-inf")) <= end
                   for crash in self.by_kind["crash"])

    def settings(self, key, name, begin=float("-inf"), end=float("inf")):
        """The values that a setting of a group may have had in that time."""
        values = [SETTINGS[name]]
        for event in self.groups[key]:
            given = event.get("settings", {})
            if event["action"] == "drop" or event["begin"] > end:
                continue
            if event["action"] == "create":
                value = given.get(name, SETTINGS[name])
            elif name in given:
                value = given[name]
            else:
                continue
            value = tuple(value) if isinstance(value, list) else value
            if event["result"] == "committed" and (event["action"] == "create" or event["end"] < begin
                                                   and not self.forgotten(event, durable=True)):
                values = [value]
            else:
                values.append(value)
        return set(values)

    def wanted(self, message, key, begin, end):
        """True, False, or None where the group's tags or filter may have been either."""
        answers = {(tags is None or message.tag in tags) and (above is None or message.v > above)
                   for tags in self.settings(key, "tags", begin, end)
                   for above in self.settings(key, "above", begin, end)}
        return answers.pop() if len(answers) == 1 else None

    # What was published, delivered and settled ------------------------------------------

    def read_messages(self):
        # a failover may forget a COMMIT PREPARED, and then the transaction ends a second time
        outcomes = {}
        for event in self.by_kind["outcome"]:
            first = outcomes.get(event["xact"], event)
            outcomes[event["xact"]] = {**event, "begin": min(first["begin"], event["begin"])}
        for event in self.by_kind["publish"]:
            outcome = outcomes.get(event["xact"])
            for fields in event["messages"]:
                message = Message(fields, event)
                message.outcome = outcome
                if outcome:
                    message.result = outcome["result"]
                    message.offset = (outcome.get("offsets") or {}).get(message.id, message.offset)
                if message.undone:
                    message.result = "rolled back"
                elif message.result == "committed" and self.forgotten(outcome, durable=True):
                    message.result = "unknown"
                    message.twice = bool(outcome.get("repeated"))
                message.offsets = {message.offset}
                self.messages[message.id] = message

    def forgotten(self, event, durable):
        """Whether a crash after it may have forgotten what it committed.  A crash is somewhere
        between its begin and its end, when the server is up again."""
        return any(crash["end"] >= event["begin"] and self.crashed_of(crash, event, durable)
                   for crash in self.by_kind["crash"])

    @staticmethod
    def crashed_of(crash, event, durable):
        return (crash["forgets"] != "nothing" and (crash["forgets"] == "tail" or not durable)
                and event["end"] >= crash.get("since", float("-inf")))

    def read_claims(self):
        self.unseen = defaultdict(list)     # (topic, group): claims whose answer was lost
        for number, claim in enumerate(self.by_kind["claim"]):
            claim["number"] = number
            if claim["result"] == "unknown":
                self.unseen[claim["topic"], claim["group"]].append(claim)
            if claim["result"] != "committed" or not claim.get("rows"):
                continue
            self.leases[claim["lease"]].append(claim)
            for row in claim["rows"]:
                delivery = Delivery(row, claim)
                self.deliveries.append(delivery)
                self.of_claim[number].append(delivery)
                self.chains[delivery.topic, delivery.group, delivery.zone, delivery.offset].append(delivery)
        # Of one cursor, later leases have higher ids; cursors come and go with their group and zone.
        first_seen = {}
        for delivery in self.deliveries:
            cursor = delivery.lease >> 43
            first_seen[cursor] = min(first_seen.get(cursor, delivery.end), delivery.end)
        self.order = lambda d: (first_seen[d.lease >> 43], d.lease, d.end, d.offset)
        for chain in self.chains.values():
            chain.sort(key=self.order)

    def settle_unknown_effects(self):
        """A settlement whose answer was lost has happened if its effects are there, once more
        than what is known to have happened explains, and only then."""
        self.effects = None
        for state in self.by_kind["state"]:
            there = Counter((group, lease, id) for group, id, lease in state["effects"])
            self.effects = set(there)
            settles = [settle for settle in self.by_kind["settle"]
                       if settle["effects"] and settle["end"] < state["begin"] and settle["topic"] == state["topic"]]
            known, unknown = Counter(), Counter()
            for settle in settles:
                count = {"committed": known, "unknown": unknown}.get(settle["result"])
                if count is not None:
                    count.update((settle["group"], settle["lease"], id) for id in settle["effects"])
            for settle in settles:
                keys = [(settle["group"], settle["lease"], id) for id in settle["effects"]]
                alone = [key for key in keys if unknown[key] == 1]
                if settle["result"] == "unknown" and alone:
                    settle["result"] = "committed" if there[alone[0]] > known[alone[0]] else "rolled back"
                    settle["by_effects"] = True

    def read_settlements(self):
        self.settlements = defaultdict(list)    # lease: in the order of time
        for settle in self.by_kind["settle"]:
            if settle["result"] in HAPPENED:
                self.settlements[settle["lease"]].append(settle)
        self.miscounted = []
        for lease, settles in self.settlements.items():
            settles.sort(key=lambda settle: settle["begin"])
            for claim in self.leases[lease]:
                deliveries = self.of_claim[claim["number"]]
                for settle in settles:
                    self.apply(settle, deliveries)

    def apply(self, settle, deliveries):
        """What a settlement made of the messages of its lease."""
        maybe_open = [d for d in deliveries if "open" in d.fates]
        certain = settle["result"] == "committed"
        verdicts = verdicts_of(settle)
        back, surely_back = self.taken_back(settle, verdicts, maybe_open)
        touched = [d for d in maybe_open if d not in surely_back and verdicts(d)[0]]
        least = sum(1 for d in touched if d.fates == {"open"} and d not in back)
        again = [d for d in deliveries if d not in maybe_open and verdicts(d)[0] and self.open_again(d, settle)]
        most = len(touched) + len(again)
        if certain and settle.get("count") is not None and not least <= settle["count"] <= most:
            self.miscounted.append((settle, least, most))
        for d in again:
            d.fates = d.fates | self.fates_by(settle, verdicts(d)[0], d)
        for d in maybe_open:
            fates = set() if d in surely_back else self.fates_by(settle, verdicts(d)[0], d)
            if d in touched:
                d.settled.append(settle)
            if d in back:
                fates.add("back")
                d.sent_back.append(settle)
            d.fates = (d.fates - {"open"} if certain and (d in touched or d in surely_back) else d.fates) | fates

    def open_again(self, d, settle):
        """Whether a crash may have forgotten, before a settlement, the one that settled a message: its
        client may go on with the lease over another connection."""
        durable = self.settings((d.topic, d.group), "durable_acks", d.begin, d.end) == {True}
        return any(crash["begin"] <= settle["end"] and crash["end"] >= earlier["begin"]
                   and self.crashed_of(crash, earlier, durable or bool(earlier["effects"]))
                   for earlier in d.settled + d.sent_back for crash in self.by_kind["crash"])

    def fates_by(self, settle, verb, d):
        """What a verdict makes of a message, if it was open."""
        if verb == "nack":
            retries = self.settings((d.topic, d.group), "max_retries", d.begin, settle["end"])
            return {"dead" if d.attempt > most else "nack" for most in retries}
        return {"ack": {"ack"}, "reject": {"dead"}, None: set()}[verb]

    def taken_back(self, settle, verdicts, maybe_open):
        """What goes back, in an orderly group, with an earlier message of its device that was nacked:
        all that may, and those of them that do for certain."""
        back, surely_back = set(), set()
        for d in maybe_open:
            modes = self.settings((d.topic, d.group), "mode", d.begin, settle["end"])
            if verdicts(d)[0] != "nack" or "orderly" not in modes:
                continue
            surely = settle["result"] == "committed" and d.fates == {"open"} and modes == {"orderly"}
            for later in maybe_open:
                if later.device == d.device and later.offset > d.offset and not verdicts(later)[1]:
                    back.add(later)
                    if surely:
                        surely_back.add(later)
        return back, surely_back

    def settle_unknown_publishes(self):
        """What was found anywhere was committed, and so was all of its transaction; if it was
        found after the last crash that may have forgotten it."""
        kept = set()
        for id, offset, event in self.finds():
            message = self.messages.get(id)
            if message is None:
                continue
            if message.offset is None or message.twice:
                message.offset = offset
                message.offsets.add(offset)
            if not any(event["begin"] <= crash["end"] for crash in self.crashes_after(message.outcome)):
                kept.add(id)
        committed = {self.messages[id].xact for id in kept}
        for message in self.messages.values():
            message.torn = message.result == "unknown" and message.xact in committed and message.id not in kept
            if message.result == "unknown" and message.xact in committed:
                message.result = "committed"

    def finds(self):
        """(id, offset, event) of all that anybody has seen of a message."""
        for d in self.deliveries:
            yield d.id, d.offset, d.claim
        for fetch in self.by_kind["fetch"]:
            for row in fetch["rows"]:
                yield row["id"], row["offset"], fetch
        for state in self.by_kind["state"]:
            for held in state["zones"].values():
                for offset, id, _ in held["log"]:
                    yield id, offset, state

    def crashes_after(self, outcome):
        """Those that may have forgotten what a publisher committed."""
        return [crash for crash in self.by_kind["crash"]
                if outcome and crash["forgets"] == "tail" and crash["end"] >= outcome["begin"]
                and self.crashed_of(crash, outcome, durable=True)]


def received(history):
    """(by whom, row, event) of all that anybody was given."""
    for claim in history.by_kind["claim"]:
        for row in claim.get("rows") or ():
            yield f"lease {claim['lease']} of {claim['group']}", row, claim
    for fetch in history.by_kind["fetch"]:
        for row in fetch["rows"]:
            yield f"fetch from {fetch['from']}", row, fetch


def dropped(history, message, until, unread=True):
    """Whether retention, or the drop of its zone or topic, may have taken it from the log;
    retention only if it took something unread."""
    return unread and any(run["end"] - run.get("keeps", 0) > message.published["begin"] and run["begin"] < until
               for run in history.by_kind["retention"]) \
        or any(event["action"] == "drop" and event["begin"] < until and event["end"] > message.published["begin"]
               for event in history.zone_events[message.topic, message.zone]) \
        or any(event["action"] == "drop" and event["result"] in HAPPENED and event["topic"] == message.topic
               for event in history.by_kind["topic"])
