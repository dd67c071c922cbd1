"""The row browser at many rows: time to write it, memory, first paint, time until all is searchable, and searches.

A run of generated prompts and answers, four to a prompt, is written, reported on and opened in headless Chromium from
its file, with no server. A search counts from the keystroke's event until the list has been painted.

python -m benchmarks.report [--rows 1000 100000] [--repeats 5] [--words 45 60]
"""

import argparse
import asyncio
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from datagen.contracts.dataset import DatasetWriter, content_hash
from datagen.contracts.records import Prompt, Rejection, Trace, Verdict
from tests.chromium import chromium, find_chromium

N_SAMPLES = 4  # answers to a prompt
QUERIES = ("e", "the", "lantern", "xylophone", "lantern river", '"of the lantern"', "no such words")
WORDS = """
the of and to in that is was for it with as his on be at by this had not are but from or have an they which one
river lantern kitchen engine morning garden letter window number seven apples train harbour winter music stone
because therefore divided added total remaining hundred cost dollars hours minutes answer question write story
"""
SEARCH = """(async (query) => {
  const box = document.getElementById("search");
  box.value = query;
  sought.clear();  // what the page remembers of words that it looked for
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  await painted();
  const start = performance.now();
  box.dispatchEvent(new Event("input", { bubbles: true }));
  await painted();
  return [performance.now() - start, document.getElementById("found").textContent];
})(QUERY)"""


def write_run(root: Path, n_rows: int, n_asked: int, n_answered: int) -> None:
    """data/prompts, data/traces and data/verified, where a third of the answers fails; words of a prompt, an answer."""
    chooser, words = random.Random(0), WORDS.split()

    def write(n: int, rare: int) -> str:
        return " ".join(chooser.choices(words, k=n)) + (" xylophone" if rare % 997 == 0 else "")

    n_prompts = n_rows // N_SAMPLES
    origin = {"method": "seed_prompts", "params": {}, "inputs": {}}
    with DatasetWriter(root / "data/prompts", Prompt, {"stage": "prompts"} | origin) as prompts:
        asked = [
            Prompt(id=f"{i:016x}", messages=[{"role": "user", "content": write(n_asked, i)}], family=f"family{i % 24}")
            for i in range(n_prompts)
        ]
        for prompt in asked:
            prompts.read()
            prompts.write(prompt)
    made_of = {"inputs": {"prompts": content_hash(root / "data/prompts")}}
    teacher = {"model": "generated"}
    manifest = {"stage": "traces", "method": "n_samples", "params": {"temperature": 1.0}, "teacher": teacher} | made_of
    with DatasetWriter(root / "data/traces", Trace, manifest) as traces:
        answers: list[Trace] = []
        for prompt in asked:
            for index in range(N_SAMPLES):
                traces.read()
                answers.append(
                    Trace(
                        id=f"{prompt.id}#{index}.{chooser.getrandbits(32):08x}",
                        prompt=prompt,
                        sample_index=index,
                        completion=write(n_answered, len(answers)),
                        teacher=teacher["model"],
                        seed=index,
                        request_key=f"{chooser.getrandbits(128):032x}",
                        finish_reason="stop",
                        n_prompt_tokens=n_asked,
                        n_completion_tokens=n_answered,
                    )
                )
                traces.write(answers[-1])
    made_of = {"inputs": {"traces": content_hash(root / "data/traces")}}
    manifest = {"stage": "verify", "method": "math_answer", "params": {}} | made_of
    with DatasetWriter(
        root / "data/verified", Trace, manifest, tables={"rejected": Trace, "verdicts": Verdict}
    ) as kept:
        for number, answer in enumerate(answers):
            kept.read()
            passed = number % 3 > 0
            reason = None if passed else ("wrong_answer", "no_answer")[number % 2]
            detail = "" if passed else f"the answer is not {number}"
            kept.add(
                "verdicts",
                Verdict(
                    id=answer.id, method="math_answer", status="pass" if passed else "fail", score=float(passed),
                    reason=reason, detail=detail,
                ),
            )  # fmt: skip
            if passed:
                kept.write(answer)
            else:
                kept.add("rejected", answer)
                kept.reject(Rejection(id=answer.id, stage="verify", reason=reason or "", detail=detail))


def report(root: Path) -> None:
    """Run the stage there, and say what it took."""
    inputs = [word for name in ("prompts", "traces", "verified") for word in (f"--{name}", f"data/{name}")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "datagen.cli", "report", *inputs, "--out", "report", "--metrics", "report.json"]
    subprocess.run(command, cwd=root, check=True, capture_output=True, env={"PYTHONPATH": str(Path.cwd())})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    facts = json.loads((root / "report.run.json").read_text())
    size = (root / "report/rows.html").stat().st_size
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    memory = facts["peak_memory_bytes"]
    print(
        f"  written in {cpu:.1f} s of CPU, peak memory {memory / 1e6:.0f} MB, rows.html {size / 1e6:.1f} MB", flush=True
    )


async def browse(page: Path, repeats: int) -> None:
    """Open the page and search it."""
    program = find_chromium()
    assert program, "no Chromium here; apt-get install chromium"
    async with chromium(program) as tab:
        for name in ("index.html", "rows.html"):
            paints: list[float] = []
            readies: list[float] = []
            for _ in range(repeats):
                start = time.perf_counter()
                ready = "document.body.dataset.ready" if name == "rows.html" else "document.readyState === 'complete'"
                await tab.open(page.with_name(name).as_uri(), ready)
                readies.append(time.perf_counter() - start)
                await tab.until("performance.getEntriesByName('first-contentful-paint').length")
                paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
                paints.append(await tab.evaluate(paint) / 1000)
            print(
                f"  {name}: first paint {statistics.median(paints):.2f} s (worst {max(paints):.2f}), "
                f"all there after {statistics.median(readies):.2f} s",
                flush=True,
            )
        for query in QUERIES:
            taken = [await tab.evaluate(SEARCH.replace("QUERY", json.dumps(query))) for _ in range(repeats)]
            times = [ms for ms, _ in taken]
            print(f"  search {query!r}: {statistics.median(times):.0f} ms (worst {max(times):.0f}), {taken[0][1]}")
        heap = await tab.evaluate("performance.memory.usedJSHeapSize")
        print(
            f"  script heap {heap / 1e6:.0f} MB; console {tab.said or 'silent'}; requests {sorted(set(tab.requested))}"
        )


def main() -> None:
    """Print all of it for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 100_000], help="answers in the run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--words",
        type=int,
        nargs=2,
        default=[45, 60],
        help="of a prompt and of an answer",
        metavar=("PROMPT", "ANSWER"),
    )
    arguments = parser.parse_args()
    for n_rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{n_rows:,} answers to {n_rows // N_SAMPLES:,} prompts", flush=True)
            write_run(Path(folder), n_rows, *arguments.words)
            report(Path(folder))
            asyncio.run(browse(Path(folder, "report/rows.html"), arguments.repeats))


if __name__ == "__main__":
    main()
