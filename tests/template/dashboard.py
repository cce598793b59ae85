"""Draws the dashboard of schedule.yaml with sample data: python tests/template/dashboard.py [-]   (to docs/dashboard.svg, or stdout)

Positions, titles, colours, annotations, searches and the columns of tables come from the template. The samples are one day of sweeps of
three tokens: one provider was down for a while, and one consent was withdrawn. The picture is always the same."""

import json
import math
import random
import re
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass
from xml.sax.saxutils import escape

from template import ROOT, Stack

PICTURE = ROOT / "docs/dashboard.svg"

PERIOD, DAY, MARGIN = 300, 86_400, 900
RUN_TIMES = range(0, DAY, PERIOD)
# Name, lifetime of its access token, seconds until its refresh token expires.
TOKENS = [
    ("myapp/prod/upwork", 3600 * 4, None),
    ("myapp/prod/xero", 3600 * 2, 60 * 86_400),
    ("myapp/prod/zoom", 3600, 9 * 86_400),
]
OUTAGE = (range(7 * 3600, 9 * 3600), "myapp/prod/xero", "ProviderUnavailable")
WITHDRAWN = (range(22 * 3600, DAY), "myapp/prod/zoom", "ReauthorizationRequired")

UNIT, GAP = 60, 4  # pixels of a cell of CloudWatch's grid, and between widgets
PALETTE = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2"]
FONT = "font-family=\"'Amazon Ember',Helvetica,Arial,'DejaVu Sans',sans-serif\""


def sampled() -> tuple[dict, list[dict]]:
    """Values of each metric: (name, error type or None) → {seconds of the day: value}. And the log's lines of failures, in order."""
    random_numbers = random.Random(1)
    values, failures = defaultdict(dict), []

    def observe(name, time, value, choose, second=None):
        samples = values[name, second]
        samples[time] = choose(samples[time], value) if time in samples else value

    def add(name, time, second=None):
        observe(name, time, 1, int.__add__, second)

    for time in RUN_TIMES:
        values["Duration", None][time] = 8 + random_numbers.random() * 6
        values["Secrets", None][time] = len(TOKENS)
    for number, (secret, lifetime, refresh_token_expiry) in enumerate(TOKENS):
        issued_at = -lifetime * (number + 1) // 5
        failing_since = None
        for time in RUN_TIMES:
            failure = next((error for times, name, error in (OUTAGE, WITHDRAWN) if name == secret and time in times), None)
            outcome = "Skipped"
            if time >= issued_at + lifetime - MARGIN:
                outcome = "Failed" if failure else "Refreshed"
            if outcome == "Failed":
                failing_since = time if failing_since is None else failing_since
                # The back-off grows: 1, 3, 7, 15, then 30 minutes. A recorded refusal is returned by every run.
                runs_since = (time - failing_since) // PERIOD
                if failure == "ProviderUnavailable" and runs_since not in (0, 1, 2, 4, 7, 13, 19):
                    outcome = "BackingOff"
                else:
                    add("Failed", time, failure)
                    failures.append({"secretId": secret, "errorType": failure, "expiresInSeconds": issued_at + lifetime - time})
            if outcome == "Refreshed":
                issued_at, failing_since = time, None
                exchange = 180 + random_numbers.expovariate(1 / 60)
                values["ExchangeMilliseconds", None][time] = exchange
                values["Duration", None][time] = exchange + 90
            if outcome != "Failed":
                add(outcome, time)
            observe("SecondsUntilExpiry", time, issued_at + lifetime - time, min)
            if refresh_token_expiry:
                observe("SecondsUntilRefreshTokenExpiry", time, refresh_token_expiry - time, min)
    return values, failures


class Picture:
    def __init__(self, stack: Stack):
        self.stack, self.parts = stack, []
        self.values, self.failures = sampled()
        self.body = json.loads(stack.resources["Dashboard"]["Properties"]["DashboardBody"])
        for widget in self.body["widgets"]:
            x, y, width, height = (widget[side] * UNIT + GAP / 2 for side in ("x", "y", "width", "height"))
            self.widget(widget, x, y, width - GAP, height - GAP)
        bottom = max(widget["y"] + widget["height"] for widget in self.body["widgets"]) * UNIT
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * UNIT} {bottom}" {FONT} font-size="13" fill="#16191f">'
        self.svg = "\n".join([head, f'<rect width="{24 * UNIT}" height="{bottom}" fill="#eaeded"/>', *self.parts, "</svg>", ""])

    def text(self, x, y, text, **style):
        attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
        self.parts.append(f'<text x="{x:g}" y="{y:g}"{attributes}>{escape(str(text))}</text>')

    def line(self, points, colour, **style):
        attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}"{attributes}/>')

    def widget(self, widget, x, y, width, height):
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="#fff" stroke="#d5dbdb"/>')
        self.text(x + 14, y + 26, widget["properties"]["title"], font_weight="bold", font_size=15)
        if widget["type"] == "alarm":
            self.alarms(widget["properties"]["alarms"], x + 14, y + 42, width - 28)
        elif widget["type"] == "log":
            self.table(widget["properties"]["query"], x + 14, y + 50, width - 28)
        else:
            self.chart(widget["properties"], x, y, width, height)

    def table(self, query, x, y, width):
        """The result of a query of the form `stats FUNCTION(FIELD) as COLUMN, … by FIELD | sort COLUMN asc`, over the failures."""
        group = re.search(r" by (\w+)", query)[1]
        columns = [(function, field, name) for function, field, name in re.findall(r"(\w+)\((\*|\w+)\) as (\w+)", query)]
        (order,) = re.findall(r"sort (\w+) asc", query)
        lines = defaultdict(list)
        for each in self.failures:
            lines[each[group]].append(each)
        rows = []
        for value, found in lines.items():
            results = {"count": len(found)} | {field: each for field, each in found[-1].items()}
            rows.append({group: value} | {name: results["count" if function == "count" else field] for function, field, name in columns})
        names = [group, *(name for _, _, name in columns)]
        step = width / len(names)
        self.line([(x, y + 8), (x + width, y + 8)], "#aab7b8")
        for number, name in enumerate(names):
            self.text(x + number * step, y, name, font_size=12, fill="#545b64")
        for below, row in enumerate(sorted(rows, key=lambda row: row[order]), 1):
            for number, name in enumerate(names):
                self.text(x + number * step, y + 30 * below, row[name])
            self.line([(x, y + 30 * below + 10), (x + width, y + 30 * below + 10)], "#eaeded")

    def alarms(self, arns, x, y, width):
        """The states at the end of the day, computed from the definition of each alarm and the samples."""
        names = {self.stack.value_of(name, "Arn"): name for name in self.stack.of_type("AWS::CloudWatch::Alarm")}
        across = 4
        step = width / across
        for number, arn in enumerate(arns):
            left, top = x + number % across * step, y + number // across * 62
            raised = self.is_raised(self.stack.resources[names[arn]]["Properties"])
            colour, state = ("#d13212", "In alarm") if raised else ("#1d8102", "OK")
            self.parts.append(
                f'<rect x="{left:g}" y="{top:g}" width="{step - 10:g}" height="54" fill="{colour}" fill-opacity="0.1" stroke="{colour}"/>'
            )
            self.text(left + 12, top + 22, names[arn], font_weight="bold")
            self.text(left + 12, top + 42, state, fill=colour)

    def is_raised(self, alarm) -> bool:
        last = DAY - PERIOD
        name = alarm["MetricName"]
        if name in ("ReauthorizationRequired", "TokenNotStored"):
            found = [self.values.get(("Failed", name), {}).get(last)]
        else:
            found = [samples.get(last) for (metric, _), samples in self.values.items() if metric == name]
        found = [value for value in found if value is not None]
        if not found:
            return alarm["TreatMissingData"] == "breaching"
        value = sum(found) if alarm["Statistic"] == "Sum" else min(found)
        below = alarm["ComparisonOperator"] == "LessThanThreshold"
        return value < float(alarm["Threshold"]) if below else value >= float(alarm["Threshold"])

    def series(self, properties) -> list["Series"]:
        """The series of the widget's rows, each with its own statistic and period."""
        found, before = [], []
        for row in properties["metrics"]:
            options = row[-1] if isinstance(row[-1], dict) else {}
            if "expression" in options:
                name, statistic, period = re.search(r"""MetricName="(\w+)"', '(\w+)', (\d+)""", options["expression"]).groups()
                for (metric, second), samples in self.values.items():
                    if metric == name and second:
                        found.append(Series(second, PALETTE[len(found)], False, aggregated(samples, statistic, int(period))))
                continue
            cells = [cell for cell in row if isinstance(cell, str)]
            before = before if cells == ["..."] else [old if new == "." else new for new, old in zip(cells, before or cells)]
            samples = defaultdict(int)
            for (metric, _), counts in self.values.items():
                for time, count in counts.items() if metric == before[1] else ():
                    samples[time] += count
            statistic = options.get("stat") or properties["stat"]
            on_the_right = options.get("yAxis") == "right"
            colour = options.get("color", PALETTE[len(found) % len(PALETTE)])
            found.append(
                Series(
                    options.get("label", before[1]), colour, on_the_right, aggregated(samples, statistic, properties["period"])
                )
            )
        return found

    def chart(self, properties, x, y, width, height):
        series, stacked = self.series(properties), properties.get("stacked", False)
        annotations = properties.get("annotations", {}).get("horizontal", [])
        area = x + 58, y + 44, x + width - 34, y + height - 56
        left, top, right, bottom = area
        times = sorted({time for each in series for time in each.samples})
        base = dict.fromkeys(times, 0)
        on_the_left = [each for each in series if not each.on_the_right]
        reached = [sum(each.samples.get(time, 0) for each in on_the_left) for time in times] if stacked else [0]
        reached += [value for each in on_the_left for value in each.samples.values()] + [each["value"] for each in annotations]
        axis = Axis(area, reached)
        for value in axis.marks():
            level = axis.level(value)
            self.line([(left, level), (right, level)], "#eaeded" if value else "#aab7b8")
            self.text(left - 6, level + 4, short(value), text_anchor="end", font_size=11, fill="#545b64")
        for hour in range(0, 25, 4):
            self.text(
                axis.place(hour * 3600), bottom + 16, f"{hour % 24:02}:00", text_anchor="middle", font_size=11, fill="#545b64"
            )
        annotated = []
        for each in annotations:
            level = axis.level(each["value"])
            self.line([(left, level), (right, level)], each["color"], stroke_dasharray="5 3")
            halo = {"stroke": "#fff", "stroke_width": 4, "paint_order": "stroke"}
            annotated.append((left + 4, level - 4, each["label"], {"font_size": 11, "fill": each["color"]} | halo))
        for each in series:
            if each.on_the_right:
                other = Axis(area, [0, *each.samples.values()])
                for value in other.marks():
                    self.text(right + 6, other.level(value) + 4, short(value), font_size=11, fill="#545b64")
                self.curve(each, other)
            elif stacked:
                above = {time: base[time] + each.samples.get(time, 0) for time in times}
                edge = [(time, above[time]) for time in times] + [(time, base[time]) for time in reversed(times)]
                path = " ".join(f"{axis.place(time):.1f},{axis.level(value):.1f}" for time, value in edge)
                if any(each.samples.values()):
                    self.parts.append(f'<polygon points="{path}" fill="{each.colour}" fill-opacity="0.8"/>')
                base = above
            else:
                self.curve(each, axis)
        for x, y, label, style in annotated:
            self.text(x, y, label, **style)
        place, row = left - 36, bottom + 36
        for each in series:
            wide = 24 + 7.2 * len(each.label)
            if place + wide > right + 20:
                place, row = left - 36, row + 16
            self.parts.append(f'<rect x="{place:g}" y="{row - 9:g}" width="10" height="10" fill="{each.colour}"/>')
            self.text(place + 14, row, each.label, font_size=12)
            place += wide

    def curve(self, series, axis):
        points = sorted(series.samples.items())
        # Points on the straight line between their neighbours are left out.
        corners = [
            point
            for before, point, after in zip([None, *points], points, [*points[1:], None])
            if not (before and after) or abs(2 * point[1] - before[1] - after[1]) > 1e-6
        ]
        self.line([(axis.place(time), axis.level(value)) for time, value in corners], series.colour, stroke_width=1.5)


@dataclass
class Series:
    label: str
    colour: str
    on_the_right: bool
    samples: dict[int, float]


class Axis:
    """Coordinates of times and values in an area (left, top, right, bottom)."""

    def __init__(self, area, values):
        self.area = area
        lowest, highest = min(0, *values), max(*values, 1)
        self.step = nice((highest - lowest) / 4)
        self.lowest, self.highest = math.floor(lowest / self.step) * self.step, math.ceil(highest / self.step) * self.step

    def marks(self):
        return [self.lowest + number * self.step for number in range(round((self.highest - self.lowest) / self.step) + 1)]

    def place(self, time):
        return self.area[0] + time / DAY * (self.area[2] - self.area[0])

    def level(self, value):
        return self.area[3] - (value - self.lowest) / (self.highest - self.lowest) * (self.area[3] - self.area[1])


def aggregated(samples: dict[int, float], statistic: str, period: int) -> dict[int, float]:
    """The statistic of each period, by the start of the period. Missing counts are 0."""
    by_period = defaultdict(list)
    for time, value in samples.items():
        by_period[time // period * period].append(value)
    calculate = {"Sum": sum, "Minimum": min, "Maximum": max, "p50": statistics.median}[statistic]
    found = {time: calculate(values) for time, values in by_period.items()}
    return {time: found.get(time, 0) for time in range(0, DAY, period)} if statistic == "Sum" else found


def nice(step: float) -> float:
    """The smallest number that is not less than `step`, of 1, 2, 2.5 and 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= step - 1e-9)


def short(value: float) -> str:
    for size, letter in [(1e6, "M"), (1e3, "k")]:
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def drawn() -> str:
    return Picture(Stack(SecretPrefix="myapp/prod/")).svg


if __name__ == "__main__":
    if sys.argv[1:] == ["-"]:
        sys.stdout.write(drawn())
    else:
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_text(drawn())
