"""Random arguments, as SQL text: boundary values of each type, and names of what there is."""

BAD_NAMES = ("", "x" * 48, "x" * 49, "it's", 'a"b', "\u00fcn\u00ef", " x", "-x", "*", "a;b", "\\", "$1", "%s", "..", "a\nb",
             "nobody knows me", "x" * 2000)

INTERVALS = ("0", "1 microsecond", "10 ms", "100 ms", "1 s", "1 min", "1 hour", "1 day", "30 days", "31 days", "365 days",
             "366 days", "1000 years", "1001 years", "178000000 years", "-178000000 years", "-1 s", "1 mon -30 days",
             "1 mon -31 days", "2147483647 days", "1.5 s", "1 day -24 hours", "-0.000001 s")

TIMES = ("'infinity'", "'-infinity'", "now()", "'epoch'", "'4714-11-24 00:00:00+00 BC'", "'294276-12-31 23:59:59.999999+00'",
         "now() - interval '1 s'", "now() - interval '1 min'", "now() + interval '1 hour'", "now() + interval '10 days'",
         "'2000-01-01'", "now() + interval '200 years'")
# When maintenance runs: at a time ahead it ends leases that the load holds, as it is documented.
TIMES_PAST = ("'-infinity'", "now()", "now()", "'epoch'", "now() - interval '1 s'", "now() - interval '1 min'", "'2000-01-01'")

INTS = {"int4": (0, 1, -1, 2, 3, 7, 32, 100, 1000, 10000, 10001, 2147483647, -2147483648),
        "int8": (0, 1, -1, 2, 3, 5, 10, 100, 10000, 1 << 31, 1 << 43, (1 << 63) - 1, -(1 << 63), 1 << 62)}

PATHS = ("$.v > 50", "1 == 1", "$.v == null", "$x > 1", "strict $.a.b > 1", "exists($.a[*] ? (@ > 1))", "$.v",
         '$.ts.datetime() < "2020-01-01".datetime()', '$.s like_regex "(a+)+$"', "exists($.**{0 to 300})", "$[last] > 1",
         "$.a > $.b", '"$x" == "a"', "!($.v > 10)", "$.v / 0 > 1")

JSON = ("'null'", "'{}'", "'[]'", "'{\"v\": 77}'", "'{\"v\": 1, \"a\": [1, 2, 3], \"b\": [3, 2]}'", "'\"\\u00fc\"'",
        "'{\"v\": 1e400}'", "'{\"ts\": \"2019-01-01T00:00:00Z\"}'", "'{\"s\": \"aaaaaaaaaaaaaaaaaaaaaaab\"}'", "'12345678901234567890'",
        "(repeat('[', 300) || repeat(']', 300))", "('\"' || repeat('x', 9000) || '\"')", "('\"' || repeat('x', 4200000) || '\"')")

BYTES = ("'\\x'", "'\\x00ff'", "decode(repeat('00', 9000), 'hex')", "decode(repeat('61', 4200000), 'hex')")

TAGS = ("*", "alarm", "alarm || heat", "heat||", "||", " alarm", "alarm ", "a,b", "* || alarm", "t" * 255, "t" * 256, "")

WORDS = {"mode": ("concurrent", "orderly", "ORDERLY", ""), "retention_policy": ("time", "consumed", "never", ""),
         "rest": ("ack", "nack", "reject", "leave"), "schedule": ("* * * * *", "*/5 * * * *", "never", "")}


def quote(text):
    """A string literal of any text."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Values:
    """What exists is named by text that stays the same from run to run; lease ids, offsets and
    the like are asked from functions of the schema fuzz when the statement runs."""

    def __init__(self, dice, topics, roles):
        self.dice, self.topics, self.roles = dice, topics, roles
        self.unknown = set()

    def chance(self, share):
        return self.dice.random() < share

    def argument(self, name, type_name):
        """An SQL expression for a parameter."""
        if self.chance(0.03):
            return f"NULL::{type_name}"
        if type_name.endswith("[]"):
            return self.array(name, type_name)
        return self.value(name, type_name)

    def array(self, name, type_name):
        shape = self.dice.random()
        if shape < 0.08:
            return f"'{{}}'::{type_name}"
        items = [self.value(name, type_name[:-2]) for _ in range(self.dice.choice((1, 1, 2, 2, 3, 5)))]
        if shape < 0.16:
            items.insert(self.dice.randrange(len(items) + 1), "NULL")
        elif shape < 0.24:
            items.append(items[0])
        elif shape < 0.30:
            row = f"ARRAY[{items[0]}, {items[-1]}]"
            return f"ARRAY[{row}, {row}]::{type_name}"
        elif shape < 0.33 and type_name in ("bigint[]", "integer[]"):
            return f"'[5:6]={{1,2}}'::{type_name}"
        elif shape < 0.35:
            return f"array_fill({items[0]}, ARRAY[{self.dice.choice((65, 1001, 10001))}])::{type_name}"
        return f"ARRAY[{', '.join(items)}]::{type_name}"

    def value(self, name, type_name):
        dice = self.dice
        if type_name == "text":
            return quote(self.text(name)) + "::text"
        if type_name in ("bigint", "integer"):
            return self.integer(name, type_name)
        if type_name == "interval":
            usual = ("10 ms", "100 ms", "1 s", "1 min") if name in ("wait", "invisible_for", "delay") else ("1 hour", "1 day")
            return f"'{dice.choice(usual if self.chance(0.6) else INTERVALS)}'::interval"
        if type_name == "timestamp with time zone":
            return f"({dice.choice(TIMES_PAST if name == 'at' else TIMES)})::timestamptz"
        if type_name == "boolean":
            return dice.choice(("true", "false")) + "::boolean"
        if type_name == "jsonb":
            return f"({dice.choice(JSON[3:5] if self.chance(0.6) else JSON)})::jsonb"
        if type_name == "bytea":
            return f"({dice.choice(BYTES[:2] if self.chance(0.8) else BYTES)})::bytea"
        if type_name == "jsonpath":
            return quote(dice.choice(PATHS[:2] if self.chance(0.5) else PATHS)) + "::jsonpath"
        if type_name == "regrole":
            return f"{quote(dice.choice(self.roles))}::regrole" if self.chance(0.9) else dice.choice(("0", "10", "4294967295")) + "::oid::regrole"
        self.unknown.add(type_name)
        return f"NULL::{type_name}"

    def text(self, name):
        dice = self.dice
        if self.chance(0.06):
            return dice.choice(BAD_NAMES)
        if name == "topic":
            return dice.choice(self.topics)
        if name in ("zone", "zones", "source_zone"):
            return dice.choice(("z1", "z1", "z2", "extra"))
        if name == "consumer_group":
            return dice.choice(("c", "o", "o", "k", "extra", "extra2"))
        if name in ("device_id", "device_ids"):
            return f"d{dice.randrange(5)}" if self.chance(0.95) else "d" * dice.choice((255, 256))
        if name in ("tag", "tags"):
            return dice.choice(TAGS[1:2] if self.chance(0.6) else TAGS)
        if name in WORDS:
            return dice.choice(WORDS[name][:2] if self.chance(0.8) else WORDS[name])
        if name in ("reason", "reasons"):
            return dice.choice(("broken", "r" * 5000, "\u00fc" * 600, ""))
        if name in ("message_key", "message_keys"):
            return f"k{dice.randrange(8)}"
        if name == "reset":
            return dice.choice(("retention", "tags", "filter", "max_lag", "topic"))
        return dice.choice(("a", "b", *BAD_NAMES))

    def integer(self, name, type_name):
        dice = self.dice
        if name in ("lease_id", "ack_lease") and self.chance(0.85):
            return f"fuzz.lease({dice.randrange(1000)})"
        if name == "ids" and self.chance(0.8):
            return f"fuzz.dead({dice.randrange(1000)})"
        if name in ("msg_offsets", "acks", "nacks", "rejects", "from_offset", "to_offset", "next_offset", "msg_offset") \
                and self.chance(0.7):
            return f"{dice.randrange(1, 60)}::bigint"
        if name in ("max_messages", "messages") and self.chance(0.8):
            return f"{dice.choice((1, 2, 5, 50, 1000))}::{type_name}"
        return f"({dice.choice(INTS['int4' if type_name == 'integer' else 'int8'])})::{type_name}"
