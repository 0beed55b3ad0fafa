"""README.md of the study: tables of ours beside what was published, verdicts by rule, figures."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from small_data_study import few, figures
from small_data_study.tables import HERE
from small_data_study.training import LATE, OFFICIAL, Data
from tinydl import viz
from tinydl.files import DataError
from tinydl.study import (
    Estimate,
    Looks,
    Study,
    claims,
    estimate,
    markdown_table,
    paired_difference,
    reproduction,
    write_json,
)

PUBLISHED = json.loads((HERE / "published.json").read_text(encoding="utf-8"))
FIVE, VOTE = f"{OFFICIAL}, five views", f"{OFFICIAL}, vote of five"
BEGIN, END = "<!-- study table -->", "<!-- end of study table -->"

Scores = dict[str, dict[int, float]]  # accuracies in % by cell and seed


class Results(NamedTuple):
    """Of one table."""

    planned: int  # seeds
    recipe: str
    cells: Sequence[str]  # all of it, in order
    runs: list[tuple[dict[str, Any], dict[str, Any]]]  # those that are done
    scores: dict[str, Scores]  # by held-out set

    def of(self, held_out: str, cell: str) -> list[float]:
        return [value for _, value in sorted(self.scores.get(held_out, {}).get(cell, {}).items())]

    def difference(self, held_out: str, a: str, b: str) -> Estimate | None:
        """Of the seeds that both have."""
        one, other = (self.scores.get(held_out, {}).get(cell, {}) for cell in (a, b))
        both = sorted(one.keys() & other.keys())
        return paired_difference([one[s] for s in both], [other[s] for s in both]) if both else None

    def numbers(self, cell: str, *path: str) -> list[Any]:
        """What the lines of its runs say under these names."""
        found = []
        for run, result in self.runs:
            if run["cell"] == cell:
                value: Any = result
                for name in path:
                    value = value[name]
                found.append(value)
        return found


def gather(
    study: Study, names: Sequence[str], data: Callable[[str], Data], again: bool
) -> dict[str, Results]:
    """Score what is done; looks at labels are written down first. Tables a and b report the authors'
    "test", training images 50,000-59,999, and their development set, the official test images; the others
    the latter.
    """
    found = {}
    for name in names:
        table, runs = study.tables[name], study.results(name)
        (kind,) = {cell.get("data", "mnist") for cell in table.cells.values()} or {"mnist"}
        labels = {held_out: digits.labels for held_out, digits in data(kind).held_out.items()}
        held_out = [LATE, OFFICIAL] if name in ("a", "b") else [OFFICIAL]
        predicted = [pair for pair in runs if "digest" in pair[1]]
        scores = study.scores(name, labels, held_out, again) if predicted else {}
        found[name] = Results(len(table.seeds), table.recipe, list(table.cells), runs, scores)
        if name == "f-vote" and "f" in found:
            said = [
                {(run["cell"], run["seed"]): classes[OFFICIAL] for run, classes in study.predictions(one)}
                for one in ("f", "f-vote")
            ]
            for (cell, draw), classes in few.votes(*said).items():
                right = 100 * float(np.mean(classes == labels[OFFICIAL][: len(classes)]))
                found["f"].scores.setdefault(VOTE, {}).setdefault(cell, {})[draw] = right
    return found


# ---- Words for numbers


def mean_of(values: Sequence[float], digits: int = 2) -> str:
    if not values:
        return "-"
    mean, error, n = estimate(values)
    return f"{mean:.{digits}f}" + (f" ± {error:.{digits}f}" if n > 1 else "")


def interval_of(values: Sequence[float], digits: int = 2) -> str:
    if len(values) < 2:
        return "-"
    low, high = estimate(values).interval()
    return f"{low:.{digits}f} to {high:.{digits}f}"


def progress(own: Results) -> str:
    done, all_runs = len(own.runs), len(own.cells) * own.planned
    if not own.cells:
        return "Not begun: it waits for its trials."
    if not done:
        return f"Not begun: 0 of {all_runs} runs."
    seconds = sum(result["cpu seconds"] for _, result in own.runs)
    return f"{done} of {all_runs} runs, {seconds / 3600:.2f} core-hours."


def family(own: Results, held_out: str, pairs: Sequence[tuple[str, str]]) -> str:
    """A table of claims: paired differences a - b, corrected for their number."""
    found = {f"{a} − {b}": own.difference(held_out, a, b) for a, b in pairs}
    known = {name: one for name, one in found.items() if one is not None}
    if not known:
        return ""
    rows = []
    for name, claim in claims(known, own.planned, len(found)).items():
        mean, error, n = claim.estimate
        spread = f"{mean:+.2f}" + (f" ± {error:.2f}" if n > 1 else "")
        ends = f"{claim.low:+.2f} to {claim.high:+.2f}" if n > 1 else "-"
        rows.append([name, str(n), spread, ends, claim.verdict])
    missing = "" if len(known) == len(found) else f" {len(found) - len(known)} pairs are not there yet."
    return (
        f"Paired differences over the same seeds, 95 % t intervals corrected (Holm) for the {len(found)} of "
        f"this table.{missing}\n\n"
        + markdown_table(["difference", "n", "mean ± s.e.", "interval", "verdict"], rows)
    )


# ---- The tables


def table_a(own: Results) -> str:
    rows = []
    for cell in own.cells:
        test, published = own.of(LATE, cell), PUBLISHED["a"][cell]
        verdict = reproduction(estimate(test), published, own.planned) if test else "not run"
        other = PUBLISHED["a, their second table"].get(cell)
        printed = f"{published:.2f}" + (
            f" and {other:.2f}" if other is not None and other != published else ""
        )
        line = [cell, str(len(test)), mean_of(test), interval_of(test), printed, verdict]
        rows.append([*line, mean_of(own.of(OFFICIAL, cell))])
    pairs = []
    for row in dict.fromkeys(cell.partition(" / ")[0] for cell in own.cells):
        for b, a in itertools.combinations(("NoGR", "SpectReg", "DataGrad"), 2):
            pairs.append((f"{row} / {a}", f"{row} / {b}"))
    head = ["cell", "n", "test, ours", "95 % interval", "published", "verdict", "dev, ours"]
    return f"{markdown_table(head, rows)}\n\n{family(own, LATE, pairs)}"


def table_b(own: Results) -> str:
    rows = [
        [cell, str(len(test)), mean_of(test), interval_of(test), mean_of(own.of(OFFICIAL, cell))]
        for cell in own.cells
        if (test := own.of(LATE, cell))
    ]
    pairs = [
        (cell, f"{cell.partition(' / ')[0]} / none") for cell in own.cells if not cell.endswith("/ none")
    ]
    ranked = sorted((name for name in own.cells if name.startswith("2000 ") and own.of(LATE, name)),
                    key=lambda cell: -estimate(own.of(LATE, cell)).mean)  # fmt: skip
    ours = " > ".join(cell.partition(" / ")[2] for cell in ranked)
    return (
        markdown_table(["digits / method", "n", "test, ours", "95 % interval", "dev, ours"], rows)
        + f"\n\nOrder of the means at 2,000 (no claim by itself): {ours or 'not run'}. The authors': "
        + f"{' > '.join(PUBLISHED['b, ranking'])} (the second and third equal).\n\n{family(own, LATE, pairs)}"
    )


def table_e(own: Results) -> str:
    rows = []
    for cell in own.cells:
        test, published = own.of(OFFICIAL, cell), PUBLISHED["e"].get(cell)
        verdict = reproduction(estimate(test), published, own.planned) if test else "not run"
        before, after = (own.numbers(cell, f"half J² {when}") for when in ("before", "after"))
        line = [
            cell,
            str(len(test)),
            mean_of(test),
            interval_of(test),
            "" if published is None else f"{published:.2f}",
        ]
        rows.append([*line, verdict, mean_of(before, 3), mean_of(after, 3)])
    head = ["cell", "n", "test, ours", "95 % interval", "published", "verdict", "½ mean ‖J‖² before", "after"]
    return (
        f"{markdown_table(head, rows)}\n\nPublished are 3.656 before and .977 after, of the last 16 shuffled "
        "samples only, and one seed; ours are over all 10,000 images.\n\n"
        + family(own, OFFICIAL, [("Jacobian", "none")])
    )


def table_samples(own: Results) -> str:
    rows = []
    for cell in own.cells:
        test, published = own.of(OFFICIAL, cell), PUBLISHED["e-samples"][cell]
        verdict = reproduction(estimate(test), published, own.planned) if test else "not run"
        rows.append(
            [cell, str(len(test)), mean_of(test, 1), interval_of(test, 1), f"{published:.1f}", verdict]
        )
    pairs = [
        (cell, f"{cell.partition(' / ')[0]} / none") for cell in own.cells if not cell.endswith("/ none")
    ]
    head = ["samples / method", "n", "test, ours", "95 % interval", "published", "verdict"]
    return f"{markdown_table(head, rows)}\n\n{family(own, OFFICIAL, pairs)}"


def table_tuned(own: Results, pairs: Sequence[tuple[str, str]]) -> str:
    """c, d, f: what was tuned on held-out training images, scored on the official ones."""
    rows = []
    for cell in own.cells:
        if test := own.of(OFFICIAL, cell):
            line = [cell, str(len(test)), mean_of(test), interval_of(test)]
            more = (
                [mean_of(own.of(FIVE, cell)), told_of_votes(own.of(VOTE, cell))] if FIVE in own.scores else []
            )
            rows.append([*line, *more])
    wide = max(map(len, rows), default=0)
    head = ["cell", "n", "test", "95 % interval", "mean of five views", "vote of five networks"][:wide]
    known = [pair for pair in pairs if set(pair) <= set(own.cells)]
    return f"{markdown_table(head, rows)}\n\n{family(own, OFFICIAL, known)}" if rows else ""


def told_of_votes(values: Sequence[float]) -> str:
    return f"{mean_of(values)} (n = {len(values)})" if values else "-"


def crossings(own: Results) -> str:
    """How many times the digits augmentation needs for the accuracy of adversarial features."""
    sizes = sorted({int(cell.partition(",")[0]) for cell in own.cells})
    rows, ways = [], ("augmentation", "AFG")
    curves = {way: [own.of(OFFICIAL, f"{size}, {way}") for size in sizes] for way in ways}
    whole = [len(values) == own.planned for way in ways for values in curves[way]]
    if not whole or not all(whole):
        return ""
    augmented, features = (np.array(curves[way]) for way in ways)
    for at, size in enumerate(sizes):
        ratio, low, high = few.crossing(sizes, augmented, features, at)
        rows.append([str(size), f"{ratio:.2f}", f"{low:.2f} to {high:.2f}"])
    table = markdown_table(["digits", "ratio", "95 % bootstrap interval"], rows)
    return (
        "How many times the digits augmentation needs for AFG's accuracy, interpolated in log N between the "
        f"sizes of the table (published: about 2):\n\n{table}"
    )


def twice(ways: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """As tuned, and with the choices that are the same at every size."""
    return [*ways, *((f"{a}, fixed", f"{b}, fixed") for a, b in ways)]


def pairs_of(own: Results, ways: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """("…, a", "…, b") for each beginning that has both."""
    found = []
    for cell in own.cells:
        for a, b in ways:
            start = cell.removesuffix(f", {a}")
            if start != cell and f"{start}, {b}" in own.cells:
                found.append((cell, f"{start}, {b}"))
    return found


def table_g(own: Results) -> str:
    kinds = [cell for cell in own.cells if own.numbers(cell, "accuracy")]
    if not kinds:
        return ""
    names = list(own.numbers(kinds[0], "places")[0])

    def cell_of(cell: str, place: str) -> str:
        norm, relative, top = np.mean(own.numbers(cell, "places", place), axis=0)
        return f"{norm:.2f} / {relative:.3f} / {top:.2f}"

    where = markdown_table(
        ["inputs", *kinds], [[name, *(cell_of(cell, name) for cell in kinds)] for name in names]
    )
    rows = []
    for what, key, sizes in (
        ("white noise of", "noise", ("0.3", "0.6", "1")),
        ("a step of length", "attack", ("0.5", "1", "2")),
    ):
        rows += [[f"{what} {s}", *(mean_of(own.numbers(cell, key, s), 1) for cell in kinds)] for s in sizes]
    clean = ["none", *(mean_of(own.numbers(cell, "accuracy")) for cell in kinds)]
    n = ", ".join(f"{cell} {len(own.numbers(cell, 'loss'))}" for cell in kinds)
    return f"""Seeds: {n}. Means over seeds of the median over 1,000 inputs of ‖∂logits/∂x‖_F, of the same
over the length of the centred logits, and of the mean top probability:

{where}

Accuracy on training images 50,000-59,999 (which nothing was tuned on here) under perturbations, in units of
the pixels' standard deviation; the step goes along each image's own gradient of the loss:

{markdown_table(["perturbation", *kinds], [clean, *rows])}"""


def table_step(own: Results) -> str:
    kinds = [cell for cell in own.cells if own.numbers(cell, "loss")]
    columns = ("loss", "slope at the points", "steepest in the gap")
    rows = [[cell, str(len(own.numbers(cell, "loss"))), *(mean_of(own.numbers(cell, c), 3) for c in columns)]
            for cell in kinds]  # fmt: skip
    return markdown_table(["penalty", "n", *columns], rows) if rows else ""


# ---- The page

ABOUT: dict[str, str] = dict(
    part.split("\n", 1) for part in (HERE / "sections.md").read_text(encoding="utf-8").split("\n@ ")[1:]
)
"""What each table's section begins with, by its name: a heading and a paragraph."""


def body(name: str, own: Results) -> str:
    match name:
        case "a":
            return table_a(own)
        case "b":
            return table_b(own)
        case "e":
            return table_e(own)
        case "e-samples":
            return table_samples(own)
        case "g":
            return table_g(own)
        case "g-step":
            return table_step(own)
        case "c":
            return table_tuned(
                own, pairs_of(own, twice([("measured", "matrices"), ("predicted", "matrices")]))
            )
        case "d":
            ways = [("AFG", "none"), ("AFG", "augmentation"), ("augmentation + AFG", "augmentation")]
            return f"{table_tuned(own, pairs_of(own, twice(ways)))}\n\n{crossings(own)}".rstrip()
        case _:
            on_top = [("augmentation + DataGrad", "augmentation"), ("augmentation", "plain")]
            return table_tuned(own, pairs_of(own, twice(on_top)))


def write(folder: Path, found: Mapping[str, Results], study: Study) -> None:
    """README.md, results.json and the figures, into the folder."""
    sections = []
    for name, about in ABOUT.items():
        if name not in found:
            continue
        own = found[name]
        text = body(name, own) if own.runs else ""
        figure = getattr(figures, f"of_{name.replace('-', '_')}", None)
        drawn = figure(own) if figure is not None and own.runs else None
        if drawn is not None:
            viz.save(drawn, folder / f"{name}.png", dpi=80)
            text += f"\n\n![{name}]({name}.png)"
        trials = found.get(f"{name}-trials")
        more = f" Trials: {progress(trials)}" if trials is not None else ""
        sections.append(f"{about.strip()}\n\n{progress(own)}{more}\n\n{text}".rstrip())
    front = (HERE / "front.md").read_text(encoding="utf-8")
    page = "\n\n".join([front.rstrip(), *sections, looks(study)]) + "\n"
    (folder / "README.md").write_text(page, encoding="utf-8")
    write_json(folder / "results.json", summary(found))


def looks(study: Study) -> str:
    lines = "\n".join(f"- {line}" for line in Looks(study.folder / "looks.jsonl").report().splitlines())
    return f"## Looks at held-out labels\n\n{lines or '- none'}"


def summary(found: Mapping[str, Results]) -> dict[str, Any]:
    """Means of every cell, for programs."""
    return {
        name: {
            "planned": own.planned,
            "recipe": own.recipe,
            "scores": {
                held_out: {cell: estimate(list(values.values())) for cell, values in scores.items()}
                for held_out, scores in own.scores.items()
            },
        }
        for name, own in found.items()
    }


def headline(found: Mapping[str, Results]) -> str:
    """The table in the project's README, of table a."""
    own = found["a"]
    rows = []
    for row in ("dropout", "dropout, WD", "none, WD", "batchnorm, WD"):
        line = [row]
        for column in ("NoGR", "SpectReg", "DataGrad"):
            cell = f"{row} / {column}"
            test, published = own.of(LATE, cell), PUBLISHED["a"][cell]
            verdict = reproduction(estimate(test), published, own.planned) if test else "not run"
            line.append(f"{mean_of(test)} ({published:.2f}; {verdict})")
        rows.append(line)
    return markdown_table(["2,000 digits, test %", "no penalty", "SpectReg", "DataGrad"], rows)


def renewed(text: str, table: str) -> str:
    """A README with the table between its two marks.

    Raises:
        DataError: a text without them.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"expected {BEGIN} and {END} in the file")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"
