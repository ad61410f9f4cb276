"""What a comparison found: one dictionary each, and the table that a person reads."""

import statistics

COLUMNS = [("case", 38), ("ours", 11), ("with S=1", 11), ("peer", 40), ("peer's", 11), ("ratio", 7),
           ("S=1", 7), ("floor", 15), ("aim", 15)]


def alternate(sides, runs):
    """{side: its figures}, of functions that take turns `runs` times."""
    figures = {side: [] for side in sides}
    for _ in range(runs):
        for side, measure in sides.items():
            figures[side].append(measure())
    return figures


def median_ratio(figures, others, smaller_is_better):
    """How many times better: the median over the turns, which cancels what slows down both."""
    pairs = [(b, a) if smaller_is_better else (a, b) for a, b in zip(figures, others)]
    return statistics.median(a / b for a, b in pairs)


def compare(case, unit, figures, ours, peers, one_shard=None, floor_peer=None, floor=None, aim=None,
            smaller_is_better=False, **more):
    """Results of the side `ours` against each of `peers`, all names in `figures`.

    `one_shard` is our side with S=1; the floor holds against `floor_peer`, the aim against the best
    peer. `more` goes into the JSON as it is.
    """
    medians = {side: statistics.median(values) for side, values in figures.items()}
    best = (min if smaller_is_better else max)(peers, key=medians.get)
    for peer in peers:
        result = {"case": case, "unit": unit, **more, "runs": len(figures[ours]),
                  "ours": medians[ours], "peer": peer, "peers": medians[peer],
                  "ratio": median_ratio(figures[ours], figures[peer], smaller_is_better),
                  "turns": {side: figures[side] for side in [ours, peer]}}
        if one_shard is not None:
            result["ours_one_shard"] = medians[one_shard]
            result["ratio_one_shard"] = median_ratio(figures[one_shard], figures[peer],
                                                     smaller_is_better)
        yield judged(**result, floor=floor if peer == floor_peer else None,
                     aim=aim if peer == best else None)


def judged(case, peer, ratio, floor=None, aim=None, at_most=False, **more):
    """A result, with whether its ratio keeps to the floor and the aim, where it has them."""
    result = {"case": case, "peer": peer, "ratio": ratio, **more}
    for name, wanted in [("floor", floor), ("aim", aim)]:
        if wanted is not None:
            met = ratio <= wanted if at_most else ratio >= wanted
            result.update({name: wanted, f"{name}_met": met, "at_most": at_most})
    return result


def at_most(limit, case, unit, figures, ours, peer, **more):
    """The result of what may cost no more than `limit` times what the peer does, with its spread.

    Without a limit it is only told.
    """
    (result,) = compare(case, unit, figures, ours, [peer], **more)
    ratios = [a / b for a, b in zip(figures[ours], figures[peer])]
    quartiles = statistics.quantiles(ratios, method="inclusive") if len(ratios) > 1 else 3 * ratios
    return judged(**{**result, "spread": [quartiles[0], quartiles[-1]]}, floor=limit, at_most=True)


def summary(result):
    """The line that is printed as soon as a result is there."""
    line = f"{result['case']}: {times(result['ratio'])} {result['peer']}"
    if "spread" in result:
        low, high = result["spread"]
        line += f", half of the turns within {times(low)} to {times(high)}"
    return line


def number(value, unit):
    if value is None:
        return ""
    if unit == "s":
        if value < 0.1:
            return f"{value * 1000:.2f} ms"
        return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"
    if unit == "bytes":
        return f"{value / 2**20:.1f} MiB"
    return f"{value:,.0f}/s"


def times(value):
    if value is None:
        return ""
    return f"{value:.3f}x" if value < 10 else f"{value:.1f}x"


def goal(result, name):
    if name not in result:
        return ""
    sign = "<= " if result["at_most"] else ""
    met = "met" if result[f"{name}_met"] else "missed"
    return f"{sign}{result[name]:g}x {met}"


def row(values):
    cells = [f"{value:<{width}}" if name in ("case", "peer") else f"{value:>{width}}"
             for value, (name, width) in zip(values, COLUMNS)]
    return "  ".join(cells).rstrip()


def heading():
    line = row([name for name, _ in COLUMNS])
    return f"{line}\n{'-' * len(line)}"


def line_of(result, repeats_case):
    unit = result.get("unit")
    own = ["", "", ""]
    if not repeats_case:
        own = [result["case"], number(result.get("ours"), unit),
               number(result.get("ours_one_shard"), unit)]
    return row([*own, result["peer"], number(result.get("peers"), unit), times(result["ratio"]),
                times(result.get("ratio_one_shard")), goal(result, "floor"), goal(result, "aim")])


def table(results):
    lines, last = [heading()], None
    for result in results:
        lines.append(line_of(result, result["case"] == last))
        last = result["case"]
    floors = [result for result in results if "floor" in result]
    missed = [result["case"] for result in floors if not result["floor_met"]]
    lines.append(f"\n{len(floors) - len(missed)} of {len(floors)} floors met"
                 + (f"; missed: {'; '.join(missed)}" if missed else ""))
    return "\n".join(lines)
