"""What a rule has found, and where."""


class Violation:
    def __init__(self, rule, text, topic=None, zone=None, offset=None, id=None, group=None):
        self.rule, self.text, self.group = rule, text, group     # group None: any
        self.topic, self.zone, self.offset, self.id = topic, zone, offset, id

    def __str__(self):
        return f"{self.rule}: {self.text}"


def of_delivery(rule, text, d):
    return Violation(rule, f"{d.topic}/{d.group} {d.zone}/{d.offset} {text}", d.topic, d.zone, d.offset, d.id, d.group)


def of_message(rule, text, m):
    return Violation(rule, f"{m.topic} {m.zone}/{m.offset} {m.id} {text}", m.topic, m.zone, m.offset, m.id)
