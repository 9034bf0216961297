"""What tools/plot.py makes of figures that are odd: it is well-formed XML, within its bounds, and says what is there.

Run by test/t/057_plot.pl; by hand: python3 -B -m unittest discover test/plot
"""

import math
import os
import re
import sys
import tempfile
import unittest
from xml.etree import ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))

import plot
from plot import Line, Mark, Panel

SVG = "{http://www.w3.org/2000/svg}"
NUMBER = r"-?\d+(?:\.\d+)?"


class Picture:
    """A drawn file, taken apart."""

    def __init__(self, panels, **options):
        self.text = plot.svg("A run", panels, **options)
        self.root = ElementTree.fromstring(self.text)
        self.texts = [node.text for node in self.root.iter(SVG + "text")]

    def paths(self, kind="line"):
        """The lines (or with "dot" the dots) that have points, as lists of runs of (x, y)."""
        return [
            [[tuple(map(float, pair)) for pair in re.findall(f"({NUMBER}) ({NUMBER})", run)] for run in self.runs(node)]
            for node in self.root.iter(SVG + "path")
            if node.find(SVG + "title") is not None and ("dot" in node.get("class").split()) == (kind == "dot")
        ]

    @staticmethod
    def runs(node):
        return [run for run in node.get("d").split("M") if run]

    def colors(self):
        """Each label's colours in the legends, from the first panel on."""
        out = {}
        for group in self.root.iter(SVG + "g"):
            for mark, label in zip(list(group), list(group)[1:]):
                if "line" in (mark.get("class") or "") and label.tag == SVG + "text":
                    out.setdefault(label.text, []).append((mark.get("class"), mark.get("stroke-dasharray")))
        return out


class PlotTest(unittest.TestCase):
    def check(self, picture):
        """Every point is a number within the axes of its panel."""
        self.assertNotRegex(picture.text, r"[ \"](nan|-?inf)")
        for runs in picture.paths() + picture.paths("dot"):
            for x, y in (point for run in runs for point in run):
                self.assertTrue(plot.LEFT <= x <= plot.LEFT + plot.WIDTH, x)
                self.assertTrue(plot.TOP <= y <= plot.TOP + plot.HEIGHT, y)
        return picture

    def draw(self, points, **options):
        return self.check(Picture([Panel("P", [Line("l", points)], **options)]))

    def test_points_lie_where_they_should(self):
        (run,), = self.draw([(0, 0), (5, 50), (10, 100)]).paths()
        left, right, top, bottom = plot.LEFT, plot.LEFT + plot.WIDTH, plot.TOP, plot.TOP + plot.HEIGHT
        self.assertEqual(run, [(left, bottom), ((left + right) / 2, (top + bottom) / 2), (right, top)])

    def test_nothing_to_draw(self):
        for panels in ([], [Panel("P", [])], [Panel("P", [Line("l", [])])], [Panel("P", [Line("l", [(1, None)])])],
                       [Panel("P", [Line("l", [(1, 0), (0, 1)])], log="xy")]):
            picture = self.check(Picture(panels))
            self.assertEqual(picture.paths() + picture.paths("dot"), [])
            self.assertEqual(picture.texts.count("no data"), len(panels))
        self.assertIn("l", picture.texts, "the legend names an empty line, too")

    def test_one_sample_is_a_dot(self):
        for log in ("", "x", "y", "xy"):
            for at in ((0, 0), (7, 0), (7, 3.5), (7, -3), (1e9, 1e-9)):
                picture = self.draw([at], log=log)
                drawable = not ("x" in log and at[0] <= 0 or "y" in log and at[1] <= 0)
                self.assertEqual([len(runs) for runs in picture.paths("dot")], [1] * drawable)
                self.assertEqual(picture.paths(), [])

    def test_gaps(self):
        gaps = [None, math.nan, math.inf, -math.inf]
        points = [(0, 1), (1, 2)] + [(2, gap) for gap in gaps] + [(3, 4), (4, math.nan), (5, 6), (6, 7), (7, 8)]
        picture = self.draw(points)
        self.assertEqual([len(run) for run in picture.paths()[0]], [2, 3])
        self.assertEqual([len(run) for run in picture.paths("dot")[0]], [1], "a point between two gaps")

    def test_huge_values(self):
        for unit in ("messages", "ms", "s", "bytes"):
            for values in ([0, 1e18], [-1.7e308, 1.7e308], [1e-300, 2e-300], [5e-324, 0], [1e16, 1e16 + 2], [-1, -1e9]):
                picture = self.draw(list(enumerate(values)), unit=unit)
                self.assertEqual(len(picture.paths()), 1, (unit, values))
                self.assertLessEqual(max(map(plot._width, picture.texts)), plot.WIDTH)
        for log in ("x", "y", "xy"):
            self.draw([(1e-280, 1e-280), (1, 1), (1e300, 1.7e308)], log=log)
        self.draw([(1e18, 1), (1e19, 2)], x="clock")

    def test_x_far_from_zero(self):
        self.assertEqual(len(self.draw([(1.7e9 + n, n) for n in range(3)], x="clock").paths()[0][0]), 3)
        self.draw([(2.0**53, 1), (2.0**53 + 2, 2)], x="number")
        self.draw([(1e17, 1), (1e17, 2)])

    def test_escapes(self):
        odd = "<a> & \"b\" ']]>' \x00\x1b\ud800\ufffe"
        clean = "<a> & \"b\" ']]>' \ufffd\ufffd\ufffd\ufffd"
        picture = Picture([Panel(odd, [Line(odd, [(1, 1)])], unit=odd, x_label=odd, marks=[Mark(1, odd)])], note=odd)
        self.assertEqual(picture.texts.count(clean), 6)
        self.assertEqual(picture.texts.count(odd), 0)

    def test_no_peak_is_lost(self):
        points = [(n / 1000, 10) for n in range(100_000)]
        points[77_777] = (77.777, 1000)
        points[22_222] = (22.222, -1000)
        (run,), = self.draw(points).paths()
        self.assertLess(len(run), 3 * plot.WIDTH)
        self.assertEqual((min(y for _, y in run), max(y for _, y in run)), (plot.TOP, plot.TOP + plot.HEIGHT))

    def test_bands(self):
        bottom, top = plot.TOP + plot.HEIGHT, plot.TOP
        lines = [Line("a", [(0, 1), (1, 1), (2, None), (3, 1)]), Line("b", [(0, None), (1, 1), (2, 2), (3, 1)])]
        picture = self.check(Picture([Panel("P", lines, stacked=True)]))
        a, b = picture.paths()
        x = [plot.LEFT + plot.WIDTH * n / 3 for n in range(4)]
        half = (bottom + top) / 2
        self.assertEqual(a, [[(x[0], half), (x[1], half), (x[1], bottom), (x[0], bottom)], [(x[3], half), (x[3], bottom)]])
        self.assertEqual(b, [[(x[1], top), (x[3], top), (x[3], half), (x[2], bottom), (x[1], half)]])
        for empty in ([], [Line("a", [])], [Line("a", [(1, None)])]):
            self.assertIn("no data", self.check(Picture([Panel("P", empty, stacked=True)])).texts)

    def test_steps(self):
        (run,), = self.draw([(0, 0), (1, 1), (2, None), (3, 1)], steps=True).paths()
        x = [plot.LEFT + plot.WIDTH * n / 3 for n in range(4)]
        bottom, top = plot.TOP + plot.HEIGHT, plot.TOP
        self.assertEqual(run, [(x[0], bottom), (x[1], bottom), (x[1], top), (x[2], top)])
        lines = [Line("a", [(0, 1), (1, None), (2, 1)]), Line("b", [(0, 1), (1, 1), (2, None)])]
        a, b = self.check(Picture([Panel("P", lines, stacked=True, steps=True)])).paths()
        x = [plot.LEFT + plot.WIDTH * n / 2 for n in range(3)]
        half = (bottom + top) / 2
        self.assertEqual(a, [[(x[0], half), (x[1], half), (x[1], bottom), (x[0], bottom)], [(x[2], half), (x[2], bottom)]])
        self.assertEqual(b, [[(x[0], top), (x[1], top), (x[1], half), (x[2], half), (x[2], bottom), (x[1], bottom), (x[1], half), (x[0], half)]])

    def test_level_lines_are_short(self):
        (run,), = self.draw([(n, n == 500) for n in range(1000)]).paths()
        self.assertLessEqual(len(run), 6)

    def test_ticks(self):
        def ticks(values, **options):
            texts = self.draw(list(enumerate(values)), **options).texts
            return texts[texts.index("P") + 1 : texts.index("l")]

        self.assertEqual(ticks([0, 4000])[:5], ["0", "1,000", "2,000", "3,000", "4,000"])
        self.assertEqual(ticks([0, 1])[:2], ["0", "1"], "whole numbers have whole ticks")
        self.assertIn("50 k", ticks([0, 100_000]))
        self.assertIn("500 ms", ticks([0, 900], unit="ms"))
        self.assertIn("1 min", ticks([0, 170_000], unit="ms"))
        self.assertIn("2 h", ticks([0, 4 * 3600], unit="s"))
        self.assertIn("5 d", ticks([0, 20 * 86400], unit="s"))
        self.assertIn("2 MiB", ticks([0, 4 * 2**20], unit="bytes"))
        self.assertIn("22:13:20", ticks([1] * 2, x="clock", span=(1.7e9, 1.7e9 + 60)))
        self.assertEqual(ticks([1, 1000], log="y", unit="ms")[:4], ["1 ms", "10 ms", "100 ms", "1 s"])

    def test_a_label_keeps_its_colour(self):
        def panel(*labels):
            return Panel("P", [Line(label, [(1, 1)]) for label in labels])

        many = [f"line {n}" for n in range(20)]
        colors = Picture([panel("a", "b"), panel("c", "b"), panel("a"), panel(*many)]).colors()
        self.assertEqual(len(set(colors["a"])), 1)
        self.assertEqual(len(set(colors["b"])), 1)
        self.assertNotEqual(colors["c"], colors["b"][:1])
        self.assertEqual(len({tuple(colors[label]) for label in many}), 20, "twenty lines can be told apart")

    def test_legend_and_marks_fit(self):
        long = "x" * 500
        panel = Panel(long, [Line(f"{n} {long}", [(n, n)]) for n in range(5)], marks=[Mark(1, long), Mark(99, "outside")])
        picture = self.check(Picture([panel, panel], columns=1, note=long))
        self.assertLess(max(map(len, picture.texts)), 100)
        self.assertNotIn("outside", picture.texts)
        height = float(picture.root.get("height"))
        self.assertEqual(picture.root.get("viewBox"), f"0 0 {picture.root.get('width')} {picture.root.get('height')}")
        self.assertGreater(height, 2 * (plot.HEIGHT + 5 * plot.LEGEND_ROW))

    def test_the_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "run.svg")
            panels = [Panel("Röhre 管", [Line("ü", [(1, 1), (2, 2)])])]
            plot.draw(path, "Überblick", panels)
            with open(path, encoding="utf-8") as file:
                self.assertEqual(file.read(), plot.svg("Überblick", panels))


if __name__ == "__main__":
    unittest.main()
