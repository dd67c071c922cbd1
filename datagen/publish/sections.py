"""Sections that the cards of datasets and of students have in common, as Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from datagen.contracts.licences import BINDING
from datagen.listing import summary
from datagen.publish.history import ASKING, History, Step, option_of
from datagen.publish.licences import RULES
from datagen.publish.picture import describe_pipeline
from datagen.synthesis._templates import Templates

if TYPE_CHECKING:
    from datagen.publish.gates import Checked

PICTURE = "pipeline.svg"
N_HASH = 12  # hex digits that are shown
_EVERYWHERE = ("method", "max_rejected_share", "max_prompt_chars", "max_error_share", "cache_epoch")  # of any stage
_CHECKING = ("verify", "filter", "select", "label_quality")
_CURRENCY = "in the currency of the prices in the parameters"


def section(title: str, *paragraphs: str) -> str:
    """A heading and what stands below it; nothing where there is nothing to say."""
    told = [one for one in paragraphs if one]
    return "\n\n".join([f"## {title}", *told]) if told else ""


def table(head: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[int] = ()) -> str:
    """A Markdown table, with the columns `right` set to the right; empty without rows."""
    cells = [[_cell(one) for one in row] for row in rows]
    if not cells:
        return ""
    rule = ["---:" if i in right else "---" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(head), rule, *cells])


def folded(title: str, content: str) -> str:
    """What only some will read."""
    return f"<details>\n<summary>{escape(title)}</summary>\n\n{content}\n\n</details>"


def fenced(text: str, language: str = "") -> str:
    """A block of code that nothing in the text can close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def overridden(checked: "Checked") -> str:
    """A warning at the head of the card, where a gate was overridden."""
    if not checked.allowed:
        return ""
    told = [f"> - `{gate}`: {line(text)}" for gate, text in sorted(checked.allowed.items())]
    n = "a failed check" if len(told) == 1 else f"{len(told)} failed checks"
    return "\n".join([f"> **Published over {n}**, which its publisher overrode by name:", ">", *told])


def pipeline(history: History) -> str:
    """The picture, and each step in a line."""
    steps = [f"{i}. {_told(step)}" for i, step in enumerate(history.steps, 1)]
    return section("How it was made", f"![{line(describe_pipeline(history))}]({PICTURE})", "\n".join(steps))


def models(history: History, checked: "Checked") -> str:
    """Who wrote, judged or started what, at which revision."""
    licences = {source.name: source.licence for source in checked.resolved.sources}
    rows = [
        (
            one.role,
            f"`{one.stage}`",
            f"`{one.name}`",
            one.backend,
            licences.get(one.name) or "",
            ", ".join(f"{name} {value}" for name, value in one.sampling.items()),
            f"`{one.revision}`" if one.revision else "",
        )
        for one in history.models
    ]
    return section("Models", table(("role", "step", "model", "asked through", "licence", "sampling", "revision"), rows))


def verification(history: History) -> str:
    """What judged the rows, how many it let pass, and its thresholds."""
    behind, told = history.behind_rows, list[str]()
    for step in (one for one in history.steps if one in behind and one.stage in _CHECKING):
        settings = [
            f"`{name}={_value(value)}`"
            for name, value in step.params.items()
            if name not in _EVERYWHERE and value is not None
        ]
        told.append(f"{_told(step)} Its settings: {', '.join(settings)}." if settings else _told(step))
        rows = [
            (
                f"`{one.method}`",
                _summary(f"datagen.verify.{one.method}"),
                f"{one.n:,}",
                f"{one.n_passed:,}",
                share(one.n_passed, one.n),
            )
            for one in step.judged
        ]
        told.append(table(("verifier", "what it checks", "judged", "passed", "share"), rows, right=(2, 3, 4)))
    return section("Checks of the rows", *told)


def funnel(history: History) -> str:
    """How many rows each step read, kept and dropped, by reason."""
    counted = [(step, step.rows) for step in history.steps if step.rows]
    rows = [
        (f"`{step.stage}`", f"{of['in']:,}", f"{of['out']:,}", f"{of['rejected']:,}", share(of["rejected"], of["in"]))
        for step, of in counted
    ]
    reasons = [
        (f"`{step.stage}`", f"`{reason}`", f"{n:,}", share(n, of["in"]))
        for step, of in counted
        for reason, n in step.rejected.items()
    ]
    return section(
        "Rows kept and dropped",
        table(("step", "in", "kept", "dropped", "share dropped"), rows, right=(1, 2, 3, 4)),
        "Every row that a step read is in its output or among its rejections, with a reason:" if reasons else "",
        table(("step", "reason", "rows", "share of those read"), reasons, right=(2, 3)),
    )


def prompts(history: History) -> str:
    """The templates that a method asked by, where those of this version are those that were used."""
    told: list[str] = []
    for step in history.steps:
        revision = step.manifest.get("made_with", {}).get("templates")
        if not revision:
            continue
        own = step.params.get("templates")
        folder = history.root / own if own else None
        texts = _templates(step.method, folder, revision)
        head = f"`{step.stage}` asked by the templates `{revision}`"
        if texts:
            told.append(f"{head}; a `$name` stands for a value.")
            told += [folded(name, fenced(text, "text")) for name, text in texts.items()]
        else:
            told.append(f"{head}, which are not those of this version of datastill.")
    return section("Prompts", *told)


def checks(checked: "Checked") -> str:
    """What was checked before the push."""
    rows = [(f"`{gate}`", "passed", line(text)) for gate, text in sorted(checked.passed.items())]
    rows += [(f"`{gate}`", "**overridden**", line(text)) for gate, text in sorted(checked.allowed.items())]
    return section("Checks before publishing", table(("check", "outcome", "what it found"), rows))


def licence(checked: "Checked") -> str:
    """The licence and what it follows from."""
    resolved = checked.resolved
    named = line(resolved.name or resolved.licence or "")
    if resolved.licence:
        link = f"[{named}]({resolved.url})" if resolved.url else named
        head = f"{link}. It follows from the licences of data, teachers and starting points; others bind nothing:"
    else:
        head = f"**Not settled**: {line(resolved.refused or 'a source names none')}"
    rows = [
        (
            f"[{line(one.title or one.name)}]({one.url})" if one.url else line(one.title or one.name),
            one.kind,
            one.licence + (", as its publisher states" if one.stated else ""),
            one.notice,
        )
        for one in resolved.sources
    ]
    asked = {
        one.licence: RULES[one.licence] for one in resolved.sources if one.kind in BINDING and one.licence in RULES
    }
    told = [f"- [{name}]({rule.url}): {line(rule.says)}" for name, rule in sorted(asked.items())]
    conditions = "What each asks, as datastill reads it:\n\n" + "\n".join(told) if told else ""
    return section("Licence", head, table(("source", "part in it", "licence", "notice"), rows), conditions)


def cost(history: History) -> str:
    """Tokens and what they cost, and how long the steps took on the machine that ran them."""
    rows: list[Sequence[str]] = []
    total, n_tokens = 0.0, 0
    for step in (one for one in history.steps if one.stage in ASKING):
        calls = sum(n for name, n in _calls(step).items() if name.startswith("calls."))
        asked = calls or (step.rows or {}).get("in", 0)
        tokens = [f"{n:,}" for n in step.tokens] if step.tokens else ["not counted"] * 2
        rows.append(
            (f"`{step.stage}`", f"{asked:,}", *tokens, "no prices" if step.cost is None else f"{step.cost:.4g}")
        )
        total, n_tokens = total + (step.cost or 0), n_tokens + sum(step.tokens or ())
    head = ("step", "answers asked for", "prompt tokens", "completion tokens", "cost")
    told = [table(head, rows, right=(1, 2, 3, 4))]
    n_left = (history.last.rows or {}).get("out", 0)
    if n_left and n_tokens:
        whole = f", {total:.4g} in all, {total / n_left:.4g} a row, {_CURRENCY}" if total else ""
        told.append(f"{n_tokens / n_left:,.0f} tokens for each row that is left, dropped ones included{whole}.")
    runs = [_timed(step) for step in history.steps if "seconds" in step.run]
    if runs:
        told.append("The last run of each step, on the machine that ran it; answers that its ledger held took no time:")
        told.append(table(("step", "seconds", "CPU seconds", "MiB at most", "joules"), runs, right=(1, 2, 3, 4)))
    return section("Cost", *told)


def _timed(step: Step) -> Sequence[str]:
    run = step.run
    figures = [
        run["seconds"],
        run.get("cpu_seconds"),
        run.get("peak_memory_bytes", 0) / 2**20 or None,
        run.get("joules"),
    ]
    return (f"`{step.stage}`", *(f"{figure:,.1f}" if figure is not None else "" for figure in figures))


def commands(history: History) -> str:
    """The exact commands, with their parameters."""
    names = section_names(history.steps)
    params = {names[step.path]: dict(step.params) for step in history.steps}
    read = [
        f"`--{option_of(name)}` of `{step.stage}`, SHA-256 `{hash}`"
        for step in history.steps
        for name, hash in step.hashes.items()
        if name not in step.parents
    ]
    lines = [command_of(step, names[step.path]) for step in history.steps]
    published = [step for step in history.steps if step.path in history.published]
    hashes = [f"`{step.hash}` of `{step.path}/manifest.json`" for step in published]
    stages = [step.dvc_stage for step in published]
    asked = any("api" in one.backend or one.backend == "vllm_server" for one in history.models)
    return section(
        "Make it again",
        f"With datastill {metadata.version('datastill')}, `params.yaml` as below"
        + (f", and what was read: {'; '.join(read)}." if read else "."),
        fenced("\n".join(lines), "bash"),
        folded("params.yaml", fenced(yaml.safe_dump(params, sort_keys=False, allow_unicode=True, width=100), "yaml")),
        f"What is made again is the same to the byte if `sha256sum` says {' and '.join(hashes)}.",
        f"In the project that it is from, `dvc repro {' '.join(stages)}` makes it." if all(stages) else "",
        "A server's address and key are not among the parameters: add `--set base_url=URL` to the steps that ask one."
        if asked
        else "",
    )


def command_of(step: Step, name: str) -> str:
    """How a step is run by hand."""
    words = ["datastill", step.stage, "--params params.yaml", *([f"--section {name}"] if name != step.stage else [])]
    for argument, hash in step.hashes.items():
        words.append(f"--{option_of(argument)} {step.given(argument) or f'{argument}-{hash[:N_HASH]}'}")
    return " ".join([*words, f"--out {step.path}"])


def section_names(steps: Iterable[Step]) -> dict[str, str]:
    """Path of a step to its section of params.yaml: DVC's, else the stage's name; of equal ones with what it wrote."""
    wanted = {step.path: step.option("--section") or step.stage for step in steps}
    several = {name for name in wanted.values() if list(wanted.values()).count(name) > 1}
    written = {path: f"{name}_{re.sub(r'[^a-zA-Z0-9]+', '_', Path(path).name)}" for path, name in wanted.items()}
    return {path: written[path] if name in several else name for path, name in wanted.items()}


def citations(history: History) -> str:
    """BibTeX of the papers whose methods ran."""
    if not history.papers:
        return ""
    told = "The methods that ran are from these papers:"
    return section("Citation", told, fenced("\n\n".join(paper.bibtex for paper in history.papers), "bibtex"))


def _told(step: Step) -> str:
    method = f" by `{step.method}`" if step.method and step.method != step.stage else ""
    rows = f" Kept {step.rows['out']:,} of {step.rows['in']:,} rows." if step.rows else ""
    return f"**{step.stage}**{method}: {summary_of(step)}{rows}"


def steps_of(history: History) -> str:
    """How many, in words."""
    n = len(history.steps)
    return "1 step" if n == 1 else f"{n} steps"


def summary_of(step: Step) -> str:
    """The first line of its method's docstring, else of its stage's."""
    named = [module for module in step.modules if module.rpartition(".")[2] == step.method]
    return _summary(next(iter([*named, *step.modules]), ""))


def _summary(module: str) -> str:
    return summary(module) if module else ""


def _calls(step: Step) -> Mapping[str, int]:
    return step.manifest.get("figures", {}).get("steps", {})


def _templates(method: str, own: Path | None, revision: str) -> dict[str, str]:
    """Text of each template, where they are those of the revision."""
    packaged = resources.files("datagen.synthesis") / "templates" / method
    if not packaged.is_dir() or (own is not None and not own.is_dir()):
        return {}
    templates = Templates(method, own)
    names = sorted(Path(one.name).stem for one in packaged.iterdir())
    return {name: templates[name].template for name in names} if templates.revision == revision else {}


def _cell(value: object) -> str:
    return line(str(value)).replace("|", "\\|")


def line(text: str) -> str:
    """One line, in which nothing is markup of HTML."""
    return re.sub(r"<(?=[a-zA-Z/!])", "&lt;", " ".join(str(text).split()))


def _value(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def share(n: int, of: int) -> str:
    """In percent; empty where there are none."""
    return f"{100 * n / of:.1f} %" if of else ""


def interval(of: Mapping[str, float] | None, *, sign: str = "+") -> str:
    """A mean and its 95 % interval; a difference has its `sign`."""
    if not of:
        return ""
    mean, low, high = (format(of[name], f"{sign}.4f") for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"
