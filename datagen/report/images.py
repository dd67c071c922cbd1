"""The report's sections about condensed images: what they look like, how matching went, and what students learn."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datagen.contracts.dataset import iterate, read_manifest
from datagen.report.charts import line_chart
from datagen.report.condensed import find_sets, written_by
from datagen.report.markup import css, percent, section, text, wide

MAX_IMAGES = 10  # of a class that are shown
MAX_CLASSES = 20
REGIMES = {"hard": "hard labels", "soft": "soft labels", "teacher": "a teacher's labels"}
KINDS = {"whole": "everything", "condensed": "condensed", "coresets": "coreset"}

Row = dict[str, Any]


def image_sections(condensed: Path | None, evaluation: Path | None) -> str:
    """The sections, as HTML.

    Args:
        condensed: folder with a condensed set for each method, or one set.
        evaluation: dataset that evaluate_images wrote of them.

    Raises:
        DataError: either was written by another stage.
    """
    sets = find_sets(condensed, "condense_images") if condensed else {}
    return "".join(
        (
            *(_contact_sheet(name, path) for name, path in sets.items()),
            _comparison(written_by(evaluation, "evaluate_images")["figures"]) if evaluation else "",
        )
    )


def _contact_sheet(name: str, path: Path) -> str:
    """The images of each class side by side, and the loss of matching."""
    manifest = read_manifest(path)
    classes, size = manifest["classes"], manifest["bytes"]["total"]
    shown: dict[int, list[bytes]] = {label: [] for label in range(min(len(classes), MAX_CLASSES))}
    n_images = 0
    for row in iterate(path):
        n_images += 1
        if len(shown.get(row["label"], [b""] * MAX_IMAGES)) < MAX_IMAGES:
            shown[row["label"]].append(row["image"]["bytes"])
    sheet = "".join(
        f"<figure><figcaption>{text(classes[label])}</figcaption>{''.join(map(_image, images))}</figure>"
        for label, images in shown.items()
    )
    of = f"{manifest['images_per_class']} a class, {size:,} bytes with all that students need"
    how = "made" if manifest["images_are"] == "made" else "chosen"
    intro = f"{n_images:,} images, {of}, {how} by <code>{text(manifest['method'])}</code>."
    if (at := manifest.get("diverged_at")) is not None:
        intro += f" The run diverged at iteration {at:,}; this is the set before it."
    if len(classes) > MAX_CLASSES:
        intro += f" The first {MAX_CLASSES} of {len(classes)} classes."
    curve = [(float(one["iteration"]), one["loss"]) for one in json.loads((path / "loss.json").read_text())]
    loss = line_chart(curve, "iteration") if len(curve) > 1 else ""
    loss = f"<h3>loss of an iteration</h3>{loss}" if loss else ""
    return section(f"Condensed images: {text(name)}", intro, f'<div class="sheet">{sheet}</div>{loss}')


def _image(png: bytes) -> str:
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _comparison(figures: Mapping[str, Any]) -> str:
    """A table for each regime and net: every arm with its interval, and how condensed sets stand."""
    entries: list[tuple[str, str, Mapping[str, Any]]] = [("whole", "everything", figures["whole"])]
    for kind in ("condensed", "coresets"):
        entries += [(kind, name, one) for name, one in figures[kind].items()]
    nets: Sequence[str] = list(next(iter(figures["whole"]["regimes"].values())))
    parts: list[str] = []
    for regime, said in REGIMES.items():
        arms = [one for one in entries if regime in one[2]["regimes"]]
        if len(arms) < 2:
            continue
        head = "<th></th><th></th>" + '<th class="number">bytes</th>' + "".join(f"<th>{text(net)}</th>" for net in nets)
        rows = "".join(_arm(*one, regime, nets) for one in arms)
        table = f'<table class="facts arms"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        parts.append(f"<h3>{said}</h3>{wide(table, said)}")
    standings = "".join(
        f"<li><code>{text(name)}</code> on {text(net)}: {text(str(stands))}</li>"
        for name, one in figures["condensed"].items()
        for net, stands in one["standing"].items()
    )
    intro = (
        f"Accuracy on test images of students of {figures['n_nets']} nets, {figures['n_seeds']} seeds each, trained "
        "on sets of equal bytes, equally long, and longer on everything; lines are 95 % intervals over the seeds. The "
        "learning rate of each arm was chosen on validation images."
    )
    return section("What students learn from condensed images", intro, "".join(parts) + f"<ul>{standings}</ul>")


def _arm(kind: str, name: str, entry: Mapping[str, Any], regime: str, nets: Sequence[str]) -> str:
    by_net: Mapping[str, Any] = entry["regimes"][regime]
    cells = "".join(f"<td>{_bar(kind, by_net[net]['accuracy']) if net in by_net else ''}</td>" for net in nets)
    return (
        f'<tr><th scope="row">{text(name)}</th><td>{KINDS[kind]}</td>'
        f'<td class="number">{entry["bytes"][regime]:,}</td>{cells}</tr>'
    )


def _bar(kind: str, accuracy: Mapping[str, Any]) -> str:
    low, high = max(0.0, accuracy["low"]), min(1.0, accuracy["high"])
    return (
        f'<div class="bar" title="95 % interval {percent(low)} to {percent(high)}"><span class="track">'
        f'<i class="fill {"after" if kind == "condensed" else "before"}" style="width:{css(accuracy["mean"])}"></i>'
        f'<i class="interval" style="left:{css(low)};width:{css(high - low)}"></i></span>'
        f'<span class="number">{percent(accuracy["mean"])}</span></div>'
    )
