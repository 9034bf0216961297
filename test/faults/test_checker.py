#!/usr/bin/python3
"""The checker finds each kind of violation in a journal made by hand, and nothing in a good one."""

import os
import tempfile
import unittest

import checker
import journal

LEASE = 3 << 43         # of the third cursor
EPOCH = 1 << 32         # the first offset of epoch 1


class Run:
    """Builds a journal: each call is an event of one second, one after another."""

    def __init__(self, **settings):
        self.events, self.clock, self.transactions = [], 0.0, 0
        self.settings = {"mode": "concurrent", "tags": None, "above": None, "invisible_for": 10, "max_retries": 1,
                         "start": "earliest", **settings}
        self.log, self.effects = [], []
        self.add("topic", topic="t", zones=["z"], action="create", result="committed")
        self.add("group", topic="t", group="g", action="create", settings=self.settings, result="committed")

    def add(self, kind, **fields):
        self.clock += 1
        self.events.append({"kind": kind, "begin": self.clock - 0.9, "end": self.clock - 0.1, **fields})
        return self.events[-1]

    def publish(self, *messages, result="committed", logged=None, **more):
        """Each message is (offset, device) or more of its fields; in the log if committed."""
        self.transactions += 1
        xact = f"p-{self.transactions}"
        fields = [{"id": f"{xact}.{n}", "zone": "z", "device": m[1], "tag": None, "v": 0, "offset": m[0],
                   **(m[2] if len(m) > 2 else {})} for n, m in enumerate(messages, 1)]
        self.add("publish", xact=xact, topic="t", messages=fields)
        self.add("outcome", xact=xact, result=result, **more)
        if result == "committed" if logged is None else logged:
            self.log += [[f["offset"], f["id"], f["device"]] for f in fields if not f.get("undone")]
        return [f["id"] for f in fields]

    def claim(self, lease, *rows, result="committed", invisible_for=None, most=10):
        """Each row is (id, offset) with device, attempt."""
        rows = [dict(zip(("id", "offset", "device", "attempt"), row + ("d", 1)[len(row) - 2:]))
                for row in rows]
        return self.add("claim", topic="t", group="g", lease=None if lease is None else LEASE + lease, zone="z", most=most,
                        invisible_for=invisible_for, rows=rows, result=result)

    def settle(self, lease, verb="ack", offsets=None, count=None, effects=(), result="committed", stored=None):
        if result == "committed" if stored is None else stored:
            self.effects += [["g", id, LEASE + lease] for id in effects]
        return self.add("settle", topic="t", group="g", zone="z", lease=LEASE + lease, verb=verb, offsets=offsets,
                        count=count, effects=list(effects), result=result)

    def mixture(self, lease, acks=(), nacks=(), rejects=(), rest=None, count=None, result="committed"):
        """A call of settle."""
        return self.add("settle", topic="t", group="g", zone="z", lease=LEASE + lease, verb="settle", acks=list(acks),
                        nacks=list(nacks), rejects=list(rejects), rest=rest, count=count, effects=[], result=result,
                        offsets=None if rest else [*acks, *nacks, *rejects])

    def acked_by_consume(self, lease, claim):
        """An ack_lease in a claim that is already there."""
        self.events.append({**self.settle(lease), "begin": claim["begin"], "end": claim["end"]})
        del self.events[-2]

    def alter(self, **settings):
        return self.add("group", topic="t", group="g", action="alter", settings=settings, result="committed")

    def seek(self, to, result="committed"):
        return self.add("move", topic="t", group="g", how="seek", zones={"z": to}, to=None, result=result)

    def fetch(self, *rows):
        """By a reader that keeps its position; each row is (id, offset)."""
        return self.add("fetch", topic="t", zone="z", most=10, reader="k",
                        rows=[{"id": id, "offset": offset, "device": "d", "tag": None} for id, offset in rows],
                        **{"from": rows[0][1]})

    def told(self, position, hint, first):
        return self.add("told", topic="t", zone="z", reader="k", position=position, hint=hint, first=first)

    def state(self, next=100, leases=(), waiting=(), dead=(), log=None, gaps=()):
        return self.add("state", topic="t", zones={"z": {"earliest": 1, "log": list(self.log if log is None else log),
                                                         "gaps": [list(gap) for gap in gaps]}},
                        cursors=[{"group": "g", "zone": "z", "next": next, "leases": [list(pair) for pair in leases],
                                  "waiting": list(waiting), "dead": list(dead)}],
                        effects=[list(row) for row in self.effects])

    def rules(self):
        return sorted({violation.rule for violation in checker.check(self.events)[1]})


class Good(unittest.TestCase):
    """What is as promised is no violation."""

    def good(self, run):
        self.assertEqual([str(violation) for violation in checker.check(run.events)[1]], [])

    def test_delivered_and_settled(self):
        run = Run()
        a, b = run.publish((1, "d"), (2, "e"))
        run.claim(1, (a, 1), (b, 2, "e"))
        run.settle(1, effects=[a, b], count=2)
        run.state()
        self.good(run)

    def test_nack_then_dead(self):
        run = Run()
        a, = run.publish((1, "d"))
        run.claim(1, (a, 1))
        run.settle(1, "nack", count=1)
        run.claim(2, (a, 1, "d", 2))
        run.settle(2, "nack", count=1)
        run.state(dead=[1])
        self.good(run)

    def test_expiry(self):
        run = Run()
        a, = run.publish((1, "d"))
        run.claim(1, (a, 1), invisible_for=0.5)
        run.claim(2, (a, 1, "d", 2))
        run.settle(1, result="refused")
        run.settle(2, count=1)
        run.state()
        self.good(run)

    def test_still_to_come_out_or_waiting(self):
        run = Run()
        a, b, c = run.publish((1, "d"), (2, "e"), (3, "f"))
        run.claim(1, (a, 1), (b, 2, "e"))
        run.settle(1, "nack", offsets=[2], count=1)
        run.state(next=3, leases=[(LEASE + 1, 1)], waiting=[2])
        self.good(run)

    def test_seek_back_and_forward(self):
        run = Run()
        a, b = run.publish((1, "d"), (2, "e"))
        run.claim(1, (a, 1), (b, 2, "e"))
        run.settle(1, count=2)
        run.seek(1)
        run.claim(2, (a, 1))
        run.seek(3)
        run.state(next=3)
        self.good(run)

    def test_redrive(self):
        run = Run()
        a, = run.publish((1, "d"))
        run.claim(1, (a, 1))
        run.settle(1, "reject", count=1)
        run.add("redrive", topic="t", group="g", result="committed")
        run.claim(2, (a, 1))
        run.settle(2, count=1)
        run.state()
        self.good(run)

    def test_purge(self):
        run = Run()
        a, = run.publish((1, "d"))
        run.claim(1, (a, 1))
        run.settle(1, "reject", count=1)
        run.add("purge", topic="t", group="g", result="committed")
        run.state()
        self.good(run)

    def test_unknown_publish_either_way(self):
        for logged in (False, True):
            run = Run()
            a, = run.publish((1, "d"), result="unknown", logged=logged)
            if logged:
                run.claim(1, (a, 1))
                run.settle(1, count=1)
            run.state()
            self.good(run)

    def test_unseen_claim(self):
        run = Run()
        a, = run.publish((1, "d"))
        run.claim(None, result="unknown")
        run.claim(2, (a, 1, "d", 2))
        run.settle(2, count=1)
        run.state()
        self.good(run)

    def test_claim_forgotten_in_a_crash(self):
        run = Run()
        a, = run.publish((1, "d"))
        run.claim(1, (a, 1))
        run.add("crash", forgets="async", since=0)
        run.claim(2, (a, 1))
        run.settle(2, count=1)
        run.state()
        self.good(run)

    def test_ack_forgotten_and_given_by_the_same_lease(self):
        run = Run()
        a, b = run.publish((1, "d"), (2, "e"))
        run.claim(1, (a, 1), (b, 2, "e"))
        run.settle(1, offsets=[1], count=1)
        run.add("crash", forgets="async", since=0)
        run.settle(1, count=2)
        run.state()
        self.good(run)

    def test_nack_forgotten_and_acked_by_the_same_lease(self):
        for forgets in ("async", "nothing"):
            run = Run()
            a, b = run.publish((1, "d"), (2, "e"))
            run.claim(1, (a, 1), (b, 2, "e"))
            run.settle(1, "nack", offsets=[1], count=1)
            run.add("crash", forgets=forgets, since=0)
            run.settle(1)
            run.state()
            if forgets == "async":
                self.good(run)
            else:
                self.assertEqual(run.rules(), ["lost"])

    def test_effects_forgotten_and_written_by_the_same_lease(self):
        run = Run()
        a, = run.publish((1, "d"))
        run.claim(1, (a, 1))
        run.settle(1, effects=[a], count=1, stored=False)
        run.add("crash", forgets="tail", since=0)
        run.settle(1, effects=[a], count=1)
        run.state()
        self.good(run)

    def test_alter_forgotten(self):
        run = Run(tags=["alarm"])
        run.alter(tags=None)
        run.add("crash", forgets="tail", since=0)
        run.publish((1, "d"))
        run.state()
        self.good(run)

    def test_move_forgotten(self):
        for forgets in ("tail", "async"):
            run = Run()
            a, = run.publish((1, "d"))
            run.claim(1, (a, 1))
            run.settle(1, count=1)
            run.seek(1)
            run.claim(2, (a, 1))
            run.add("crash", forgets=forgets, since=0)
            run.state()
            if forgets == "tail":
                self.good(run)
            else:
                self.assertEqual(run.rules(), ["lost"])

    def test_claim_forgotten_and_no_more_wanted(self):
        run = Run()
        a, = run.publish((1, "d"))
        run.claim(1, (a, 1))
        run.add("crash", forgets="async", since=0)
        run.alter(tags=["alarm"])
        run.state()
        self.good(run)

    def test_tail_forgotten_of_a_copy(self):
        run = Run()
        a, = run.publish((None, "d"), logged=False)
        run.claim(1, (a, 7), result="unknown")
        run.add("crash", forgets="tail", since=0)
        run.state(next=1, gaps=[(7, EPOCH)])
        self.good(run)

    def test_second_commit_of_what_is_prepared(self):
        """The failover forgets the COMMIT PREPARED, not the PREPARE; the end of the load commits again."""
        run = Run()
        a, = run.publish((1, "d"))
        run.claim(1, (a, 1))
        run.settle(1, count=1)
        run.add("crash", forgets="tail", since=0)
        run.add("outcome", xact="p-1", result="unknown")
        run.claim(2, (a, 1))
        run.settle(2, count=1)
        run.state()
        self.good(run)

    def test_tail_forgotten(self):
        run = Run()
        run.publish((1, "d"), logged=False)
        run.add("crash", forgets="tail", since=0)
        run.state(next=1)
        self.good(run)

    def test_lost_in_a_failover(self):
        run = Run()
        a, = run.publish((1, "d"))
        b, = run.publish((2, "d"), logged=False)
        run.fetch((a, 1), (b, 2))
        run.add("crash", forgets="tail", since=0)
        c, = run.publish((EPOCH, "d"))
        run.told(3, 2, None)
        run.told(3, EPOCH, EPOCH)
        run.fetch((c, EPOCH))
        run.state(next=1, gaps=[(1, EPOCH)])
        self.good(run)

    def test_lost_before_the_last_that_was_kept(self):
        run = Run()
        run.publish((2, "d"))
        run.publish((1, "d"), logged=False)
        run.add("crash", forgets="tail", since=0)
        run.publish((EPOCH, "d"))
        run.state(next=1, gaps=[(2, EPOCH)])
        self.good(run)

    def test_published_again_after_a_failover(self):
        run = Run()
        a, = run.publish((1, "d"), logged=False, repeated=True)
        run.claim(1, (a, 1))
        run.add("crash", forgets="tail", since=0)
        run.claim(2, (a, EPOCH))
        run.state(next=EPOCH + 1, leases=[(LEASE + 2, EPOCH)], log=[[EPOCH, a, "d"]], gaps=[(0, EPOCH)])
        self.good(run)

    def test_orderly_taken_back(self):
        run = Run(mode="orderly")
        a, b = run.publish((1, "d"), (2, "d"))
        run.claim(1, (a, 1), (b, 2))
        run.settle(1, "nack", offsets=[1], count=1)
        run.claim(2, (a, 1, "d", 2), (b, 2))
        run.settle(2, count=2)
        run.state()
        self.good(run)

    def test_settled_by_one_call(self):
        run = Run()
        a, b, c, d = run.publish((1, "d"), (2, "e"), (3, "f"), (4, "g"))
        run.claim(1, (a, 1), (b, 2, "e"), (c, 3, "f"), (d, 4, "g"))
        run.mixture(1, acks=[1], nacks=[2], rejects=[3], count=3)
        run.mixture(1, acks=[1], rest="nack", count=1)
        run.claim(2, (b, 2, "e", 2), (d, 4, "g", 2))
        run.mixture(2, rest="ack", count=2)
        run.state(dead=[3])
        self.good(run)

    def test_orderly_settled_by_one_call(self):
        run = Run(mode="orderly")
        a, b, c, d, e = run.publish((1, "d"), (2, "d"), (3, "e"), (4, "d"), (5, "d"))
        run.claim(1, (a, 1), (b, 2), (c, 3, "e"), (d, 4), (e, 5))
        # 2 is named and done, 4 and 5 go back with 1
        run.mixture(1, acks=[2], nacks=[1], rest="ack", count=3)
        run.claim(2, (a, 1, "d", 2), (d, 4), (e, 5))
        run.mixture(2, nacks=[1], rest="nack", count=3)
        run.claim(3, (d, 4, "d", 2), (e, 5, "d", 2))
        run.mixture(3, rest="ack", count=2)
        run.state(dead=[1])
        self.good(run)

    def test_orderly_given_up(self):
        run = Run(mode="orderly", max_retries=0)
        a, b, c = run.publish((1, "d"), (2, "d"), (3, "e"))
        run.claim(1, (a, 1), (b, 2), (c, 3, "e"))
        run.mixture(1, nacks=[1], rest="ack", count=2)
        run.claim(2, (b, 2))
        run.settle(2, count=1)
        run.state(dead=[1])
        self.good(run)

    def test_settled_by_an_unknown_call(self):
        for happened in (False, True):
            run = Run(mode="orderly", max_retries=9)
            a, b = run.publish((1, "d"), (2, "d"))
            run.claim(1, (a, 1), (b, 2), invisible_for=0.5)
            run.mixture(1, nacks=[1], rest="ack", result="unknown")
            run.claim(2, (a, 1, "d", 2), (b, 2, "d", 1 if happened else 2))
            run.settle(2, count=2)
            run.state()
            self.good(run)

    def test_acknowledged_by_consume(self):
        run = Run(mode="orderly")
        a, b = run.publish((1, "d"), (2, "d"))
        run.claim(1, (a, 1))
        run.acked_by_consume(1, run.claim(2, (b, 2)))
        run.settle(2, count=1)
        run.state()
        self.good(run)

    def test_unwanted(self):
        run = Run(tags=["alarm"])
        run.publish((1, "d"))
        run.state()
        self.good(run)

    def test_dropped_by_retention(self):
        run = Run()
        run.publish((1, "d"))
        run.add("retention", at="1 hour")
        run.state(log=[])
        self.good(run)

    def test_old_and_dropped_by_retention(self):
        run = Run()
        run.publish((1, "d"))
        run.clock += 5
        run.add("retention", at="now", keeps=5)
        run.state(log=[])
        self.good(run)


class Bad(unittest.TestCase):
    """Each kind of violation is found, and under its own name."""

    def bad(self, run, *rules):
        self.assertEqual(run.rules(), sorted(rules))

    def one_message(self, **settings):
        run = Run(**settings)
        a, = run.publish((1, "d"))
        return run, a

    def test_rolled_back(self):
        run = Run()
        a, = run.publish((1, "d"), result="rolled back")
        run.claim(1, (a, 1))
        run.settle(1, count=1)
        self.bad(run, "rolled back")

    def test_rolled_back_to_savepoint(self):
        run = Run()
        a, b = run.publish((1, "d"), (2, "d", {"undone": True}))
        run.claim(1, (a, 1), (b, 2))
        run.settle(1, count=2)
        self.bad(run, "rolled back")

    def test_rolled_back_in_the_log(self):
        run = Run()
        run.publish((1, "d"), result="rolled back", logged=True)
        run.state(next=1)
        self.bad(run, "rolled back")

    def test_uncommitted(self):
        run = Run()
        a, = run.publish((1, "d"))
        run.claim(1, (a, 1))
        run.settle(1, count=1)
        outcome = next(event for event in run.events if event["kind"] == "outcome")
        outcome["begin"], outcome["end"] = 50, 51
        self.bad(run, "uncommitted")

    def test_nobody_published(self):
        run = Run()
        run.claim(1, ("x", 1))
        self.bad(run, "unknown message")

    def test_content(self):
        run, a = self.one_message()
        run.claim(1, (a, 1, "another device"))
        run.settle(1, count=1)
        self.bad(run, "content")

    def test_offset_twice(self):
        run, _ = self.one_message()
        run.publish((1, "e"))
        self.bad(run, "offset twice")

    def test_stored_twice(self):
        run, a = self.one_message()
        run.state(next=1, log=[[1, a, "d"], [2, a, "d"]])
        self.bad(run, "stored twice")

    def test_never_delivered(self):
        run, _ = self.one_message()
        run.state()
        self.bad(run, "lost")

    def test_not_settled_and_gone(self):
        run, a = self.one_message()
        run.claim(1, (a, 1))
        run.state()
        self.bad(run, "lost")

    def test_nacked_and_gone(self):
        run, a = self.one_message()
        run.claim(1, (a, 1))
        run.settle(1, "nack", count=1)
        run.state()
        self.bad(run, "lost")

    def test_dead_letter_gone(self):
        run, a = self.one_message()
        run.claim(1, (a, 1))
        run.settle(1, "reject", count=1)
        run.state()
        self.bad(run, "lost")

    def test_redriven_and_gone(self):
        run, a = self.one_message()
        run.claim(1, (a, 1))
        run.settle(1, "reject", count=1)
        run.add("redrive", topic="t", group="g", result="committed")
        run.state()
        self.bad(run, "lost")

    def test_not_delivered_after_seek(self):
        run, a = self.one_message()
        run.claim(1, (a, 1))
        run.settle(1, count=1)
        run.seek(1)
        run.state()
        self.bad(run, "lost")

    def test_not_in_the_log(self):
        run, a = self.one_message()
        run.claim(1, (a, 1))
        run.settle(1, count=1)
        run.state(log=[])
        self.bad(run, "lost")

    def test_dropped_too_young(self):
        run = Run()
        a, = run.publish((1, "d"))
        run.claim(1, (a, 1))
        run.settle(1, count=1)
        run.add("retention", at="now", keeps=60)
        run.state(log=[])
        self.bad(run, "lost")

    def test_dropped_unread_and_not_counted(self):
        run = Run()
        run.publish((1, "d"))
        run.add("retention", at="1 hour")
        run.state(log=[])["cursors"][0]["expired"] = 0
        self.bad(run, "lost")

    def test_unfounded_dead_letter(self):
        run, a = self.one_message()
        run.claim(1, (a, 1))
        run.settle(1, count=1)
        run.state(dead=[1])
        self.bad(run, "dead letter")

    def test_dead_too_early(self):
        run, a = self.one_message(max_retries=3)
        run.claim(1, (a, 1), invisible_for=0.5)
        run.state(dead=[1])
        self.bad(run, "dead letter")

    def test_acked_and_repeated(self):
        run, a = self.one_message()
        run.claim(1, (a, 1))
        run.settle(1, count=1)
        run.claim(2, (a, 1))
        self.bad(run, "repeat")

    def test_repeated_before_the_deadline(self):
        run, a = self.one_message()
        run.claim(1, (a, 1), invisible_for=60)
        run.claim(2, (a, 1, "d", 2))
        self.bad(run, "repeat")

    def test_repeated_in_spite_of_extend(self):
        run, a = self.one_message()
        run.claim(1, (a, 1), invisible_for=0.5)
        run.add("extend", lease=LEASE + 1, invisible_for=60, result="committed")
        run.claim(2, (a, 1, "d", 2))
        self.bad(run, "repeat")

    def test_out_and_no_more_wanted(self):
        run, a = self.one_message()
        run.claim(1, (a, 1))
        run.alter(tags=["alarm"])
        run.state()
        self.bad(run, "lost")

    def test_alter_safe_before_a_crash(self):
        run = Run(tags=["alarm"])
        run.alter(tags=None)
        run.add("crash", forgets="tail", since=run.clock)
        run.publish((1, "d"))
        run.state()
        self.bad(run, "lost")

    def test_delivered_before_prepare(self):
        run, a = self.one_message()
        outcome = run.events[-1]
        run.claim(1, (a, 1))
        run.events[-1].update(begin=outcome["begin"] - 0.2, end=outcome["begin"] - 0.1)
        run.add("crash", forgets="tail", since=0)
        run.add("outcome", xact="p-1", result="unknown")
        run.claim(2, (a, 1))
        run.settle(2, count=1)
        self.bad(run, "uncommitted")

    def test_durable_ack_forgotten(self):
        run, a = self.one_message(durable_acks=True)
        run.claim(1, (a, 1))
        run.settle(1, count=1)
        claim = run.events[-2]
        run.add("crash", forgets="async", since=claim["end"] + 0.05)
        run.claim(2, (a, 1, "d", 2))
        self.bad(run, "repeat")

    def test_attempt_skipped(self):
        run, a = self.one_message(max_retries=9)
        run.claim(1, (a, 1))
        run.settle(1, "nack", count=1)
        run.claim(2, (a, 1, "d", 3))
        self.bad(run, "repeat")

    def test_first_attempt_is_not_one(self):
        run, a = self.one_message(max_retries=9)
        run.claim(1, (a, 1, "d", 2))
        self.bad(run, "attempt")

    def test_more_attempts_than_retries(self):
        run, a = self.one_message(max_retries=0)
        run.claim(1, (a, 1))
        run.settle(1, "nack", count=1)
        run.claim(2, (a, 1, "d", 2))
        self.bad(run, "repeat")

    def test_settled_after_take_over(self):
        run, a = self.one_message()
        run.claim(1, (a, 1), invisible_for=0.5)
        run.claim(2, (a, 1, "d", 2))
        run.settle(1, count=1)
        self.assertIn("settled too late", run.rules())

    def test_settled_after_seek(self):
        run, a = self.one_message()
        run.claim(1, (a, 1))
        run.seek(1)
        run.settle(1, count=1)
        self.bad(run, "settled too late")

    def test_miscounted(self):
        run, a = self.one_message()
        run.claim(1, (a, 1))
        run.settle(1, count=2)
        self.bad(run, "count")

    def miscounted_after(self, forgets, since, effects=False, **settings):
        """An ack that the crash can't have forgotten is counted once more."""
        run, a = self.one_message(**settings)
        run.claim(1, (a, 1))
        run.settle(1, effects=[a] if effects else [], count=1)
        run.add("crash", forgets=forgets, since=since if since is not None else run.clock)
        run.settle(1, count=1)
        self.bad(run, "count")

    def test_miscounted_though_nothing_is_forgotten(self):
        self.miscounted_after("nothing", 0)

    def test_miscounted_though_safe_before_the_crash(self):
        self.miscounted_after("async", None)

    def test_miscounted_though_durable(self):
        self.miscounted_after("async", 0, durable_acks=True)

    def test_miscounted_though_with_effects(self):
        self.miscounted_after("async", 0, effects=True)

    def test_miscounted_before_the_crash(self):
        run, a = self.one_message()
        run.claim(1, (a, 1))
        run.settle(1, count=1)
        run.settle(1, count=1)
        run.add("crash", forgets="tail", since=0)
        self.bad(run, "count")

    def test_miscounted_by_one_call(self):
        run = Run(mode="orderly")
        a, b, c = run.publish((1, "d"), (2, "d"), (3, "e"))
        run.claim(1, (a, 1), (b, 2), (c, 3, "e"))
        run.mixture(1, nacks=[1], rest="ack", count=3)
        self.bad(run, "count")

    def test_rest_acked_and_repeated(self):
        run = Run()
        a, b = run.publish((1, "d"), (2, "e"))
        run.claim(1, (a, 1), (b, 2, "e"))
        run.mixture(1, nacks=[1], rest="ack", count=2)
        run.claim(2, (a, 1, "d", 2), (b, 2, "e"))
        self.bad(run, "repeat")

    def test_named_and_taken_back(self):
        run = Run(mode="orderly")
        a, b = run.publish((1, "d"), (2, "d"))
        run.claim(1, (a, 1), (b, 2))
        run.mixture(1, acks=[2], nacks=[1], count=2)
        run.claim(2, (a, 1, "d", 2), (b, 2))
        self.bad(run, "repeat")

    def test_taken_back_and_gone(self):
        run = Run(mode="orderly")
        a, b = run.publish((1, "d"), (2, "d"))
        run.claim(1, (a, 1), (b, 2))
        run.mixture(1, nacks=[1], rest="ack", count=1)
        run.claim(2, (a, 1, "d", 2))
        run.settle(2, count=1)
        run.state()
        self.bad(run, "lost")

    def test_acknowledged_by_consume_and_repeated(self):
        run = Run()
        a, b = run.publish((1, "d"), (2, "e"))
        run.claim(1, (a, 1))
        run.acked_by_consume(1, run.claim(2, (b, 2, "e")))
        run.claim(3, (a, 1))
        self.bad(run, "repeat")

    def test_two_leases(self):
        run = Run()
        run.add("leases", leases=[{"lease": LEASE + n, "left": 5.0, "offsets": [7, n]} for n in (1, 2)], waiting=[])
        self.bad(run, "two leases")

    def test_lease_and_retry(self):
        run = Run()
        run.add("leases", leases=[{"lease": LEASE + 1, "left": 5.0, "offsets": [7]}], waiting=[[3, 7]])
        self.bad(run, "lease and retry")

    def test_lease_id_twice(self):
        run = Run()
        a, b = run.publish((1, "d"), (2, "e"))
        run.claim(1, (a, 1))
        run.claim(1, (b, 2, "e"))
        self.bad(run, "lease id twice")

    def test_order_in_a_lease(self):
        run = Run()
        a, b = run.publish((1, "d"), (2, "e"))
        run.claim(1, (b, 2, "e"), (a, 1))
        self.bad(run, "order in a lease")

    def test_too_many(self):
        run = Run()
        a, b = run.publish((1, "d"), (2, "e"))
        run.claim(1, (a, 1), (b, 2, "e"), most=1)
        self.bad(run, "too many")

    def test_unwanted(self):
        run, a = self.one_message(tags=["alarm"])
        run.claim(1, (a, 1))
        self.bad(run, "unwanted")

    def test_filtered_out(self):
        run, a = self.one_message(above=10)
        run.claim(1, (a, 1))
        self.bad(run, "unwanted")

    def test_order_overtaken(self):
        run = Run(mode="orderly")
        a, b = run.publish((1, "d"), (2, "d"))
        run.claim(1, (b, 2))
        run.settle(1, count=1)
        run.claim(2, (a, 1))
        run.settle(2, count=1)
        self.bad(run, "order")

    def test_order_while_out(self):
        run = Run(mode="orderly")
        a, b = run.publish((1, "d"), (2, "d"))
        run.claim(1, (a, 1))
        run.claim(2, (b, 2))
        run.settle(1, count=1)
        run.settle(2, count=1)
        self.bad(run, "order")

    def test_order_before_a_retry(self):
        run = Run(mode="orderly")
        a, b = run.publish((1, "d"), (2, "d"))
        run.claim(1, (a, 1))
        run.settle(1, "nack", count=1)
        run.claim(2, (b, 2))
        run.settle(2, count=1)
        run.claim(3, (a, 1, "d", 2))
        run.settle(3, count=1)
        self.bad(run, "order")

    def test_effect_twice(self):
        run, a = self.one_message()
        run.claim(1, (a, 1))
        run.settle(1, count=1, effects=[a])
        run.effects *= 2
        run.state()
        self.bad(run, "effects")

    def test_effect_gone(self):
        run, a = self.one_message()
        run.claim(1, (a, 1))
        run.settle(1, count=1, effects=[a], stored=False)
        run.state()
        self.bad(run, "effects")

    def test_effect_of_a_refused_ack(self):
        run, a = self.one_message()
        run.claim(1, (a, 1))
        run.settle(1, effects=[a], result="refused", stored=True)
        run.state(leases=[(LEASE + 1, 1)])
        self.bad(run, "effects")

    def test_torn(self):
        run = Run()
        a, b = run.publish((1, "d"), (2, "e"), result="unknown", logged=False)
        run.log.append([1, a, "d"])
        run.claim(1, (a, 1))
        run.settle(1, count=1)
        run.state()
        self.assertIn("torn", run.rules())

    def test_fetch_skipped(self):
        run = Run()
        a, b = run.publish((1, "d"), (2, "e"))
        run.add("fetch", topic="t", zone="z", most=10, rows=[{"id": b, "offset": 2, "device": "e", "tag": None}],
                **{"from": 1})
        self.bad(run, "fetch skipped")

    def test_figure_stuck_and_error(self):
        run = Run()
        run.add("figures", wrong=["lag_messages is 1, counted: 2"])
        run.add("stuck", lag={"g": 1})
        run.add("error", sqlstate="XX000", message="tuple concurrently updated", statement="SELECT")
        self.bad(run, "figure", "stuck", "error")


    def test_no_prefix(self):
        run = Run()
        run.publish((1, "d"), logged=False)
        run.publish((2, "d"))
        run.add("crash", forgets="tail", since=0)
        run.state(next=1)
        self.bad(run, "no prefix")

    def test_gap_that_nothing_shows(self):
        run = Run()
        a, = run.publish((1, "d"), logged=False)
        run.claim(1, (a, 1))
        run.add("crash", forgets="tail", since=0)
        run.state(next=1)
        self.bad(run, "gap")

    def test_message_in_a_gap(self):
        run = Run()
        run.publish((2, "d"))
        run.state(next=1, gaps=[(1, EPOCH)])
        self.bad(run, "gap")

    def test_reader_that_missed_some(self):
        run = Run()
        a, b = run.publish((1, "d"), (2, "d"))
        run.fetch((a, 1))
        run.state(next=1)
        self.bad(run, "reader")

    def test_reader_sent_elsewhere(self):
        run = Run()
        a, = run.publish((1, "d"))
        b, = run.publish((2, "d"), logged=False)
        run.fetch((a, 1), (b, 2))
        run.add("crash", forgets="tail", since=0)
        run.told(3, EPOCH + 1, EPOCH)
        run.state(next=1, gaps=[(1, EPOCH)])
        self.bad(run, "reader")

    def test_reader_sent_on_for_nothing(self):
        run = Run()
        a, = run.publish((1, "d"))
        run.fetch((a, 1))
        run.told(2, EPOCH, EPOCH)
        run.state(next=1)
        self.bad(run, "reader")


class Files(unittest.TestCase):
    def test_survives_a_torn_line(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "journal")
            writer = journal.Journal(path)
            writer.write("clock", by=1)
            writer.write("clock", by=2)
            writer.close()
            with open(path, "a", encoding="utf-8") as file:
                file.write('{"kind":"cl')
            self.assertEqual([event["by"] for event in journal.read([path])], [1, 2])

    def test_refuses_a_torn_line_in_the_middle(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "journal")
            with open(path, "w", encoding="utf-8") as file:
                file.write('{"kind":"cl\n{"kind":"clock","begin":1,"end":2}\n')
            with self.assertRaises(ValueError):
                journal.read([path])

    def test_story_names_what_happened(self):
        run = Run()
        a, = run.publish((1, "d"))
        run.claim(1, (a, 1))
        run.settle(1, count=1)
        run.claim(2, (a, 1))
        history, violations = checker.check(run.events)
        text = "\n".join(checker.story(history, violations[0]))
        for word in ("publish in p-1", "p-1: committed", f"lease {LEASE + 1}", "verb=ack", f"lease {LEASE + 2}"):
            self.assertIn(word, text)


if __name__ == "__main__":
    unittest.main()
