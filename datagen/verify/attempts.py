"""What the attempts at each prompt say together: unbiased pass@k, and how many of the passes luck explains.

pass@k, the chance that one of k attempts passes: Chen et al. Evaluating Large Language Models Trained on Code. 2021.
arXiv:2107.03374, equation 1: 1 - C(n-c, k) / C(n, k) for a prompt with c passes in n attempts, averaged over prompts
that have k attempts. A rule that stops on success makes that estimate too high, as c and n depend on each other. There,
whether one of the first k attempts passed is unbiased, since the rule ends no prompt before its k-th attempt or first
pass; a prompt that ended earlier, because its tokens were spent or because the rule judged otherwise than verify does,
is undecided, counted and left out.

Lucky passes: where an answer can be guessed, each attempt is taken to know the answer or to guess it, a guess to hit
with chance g. Of G guesses G (1 - g) are wrong and G g pass, so w wrong answers stand for w g / (1 - g) lucky passes:
the correction for guessing (Frary. Formula scoring of multiple-choice tests. 1988). For a choice among m options g is
1/m and the factor 1 / (m - 1). For small integers nobody says what is guessed. There the factor is the chance that two
wrong answers to one prompt are the same, over all pairs of a family: for m equally likely answers that is 1 / (m - 1)
too. Common mistakes are the same without being guesses, so that this is rather too much than too little. Stopping on
success changes nothing: both counts grow by the same attempts (Wald's identity).
"""

import math
import re
import sqlite3
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from datagen.contracts.records import Prompt, Trace, Verdict
from datagen.verify.answers import find_reference, parse_number

SMALL_INTEGER = 20  # the largest, by size, that counts as one that can be guessed
_TWO_WAY = {"yes", "no", "true", "false"}
_LETTER = re.compile(r"\(?([A-J])\)?\.?")
_OPTION = re.compile(r"(?:^|(?<=[\s,;\['\"(]))([A-J])[).:]", re.MULTILINE)
_SCHEMA = """
    PRAGMA journal_mode=OFF;
    PRAGMA synchronous=OFF;
    CREATE TABLE prompts (
        prompt TEXT, teacher TEXT, family TEXT, n INTEGER, c INTEGER, first INTEGER, options INTEGER, wrong INTEGER,
        PRIMARY KEY (prompt, teacher)
    ) WITHOUT ROWID;
    CREATE TABLE wrong (
        prompt TEXT, teacher TEXT, answer TEXT, n INTEGER, PRIMARY KEY (prompt, teacher, answer)
    ) WITHOUT ROWID;
    BEGIN;
"""
_COUNT = """
    INSERT INTO prompts VALUES (?, ?, ?, 1, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
        family = coalesce(excluded.family, family), n = n + 1, c = c + excluded.c,
        first = min(coalesce(first, excluded.first), coalesce(excluded.first, first)),
        options = excluded.options, wrong = wrong + excluded.wrong
"""
_COUNT_WRONG = "INSERT INTO wrong VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET n = n + 1"


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate of the chance that one of k attempts passes, from c passes in n attempts.

    Exact integers, rounded once: no product of many factors, no difference of nearly equal floats.

    Raises:
        ValueError: not 0 <= c <= n or not 1 <= k <= n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@k is defined for 0 <= c <= n and 1 <= k <= n (got n={n}, c={c}, k={k})")
    subsets = math.comb(n, k)
    return (subsets - math.comb(n - c, k)) / subsets


def n_options(prompt: Prompt) -> int | None:
    """Among how many answers one who guesses chooses: 0 where that is a small integer, None where nobody guesses.

    A choice has a letter as its reference, and options that are lettered from A in the last user message; yes, no, true
    and false are one of two.
    """
    if prompt.reference is None:
        return None
    reference = find_reference(prompt.reference)
    if reference.strip(" .").casefold() in _TWO_WAY:
        return 2
    if letter := _LETTER.fullmatch(reference):
        named = set(_OPTION.findall(prompt.text))
        n = next(i for i, one in enumerate("ABCDEFGHIJK") if one not in named)
        return n if n >= 2 and letter[1] in "ABCDEFGHIJ"[:n] else None
    number = parse_number(reference)
    if number and not number.percent and number.value.denominator == 1 and abs(number.value) <= SMALL_INTEGER:
        return 0
    return None


class AttemptCounts:
    """Attempts and passes of every prompt and teacher, in a temporary database: a million prompts take no memory."""

    def __enter__(self) -> "AttemptCounts":
        self._file = tempfile.NamedTemporaryFile(prefix="datastill-attempts-")
        self._db = sqlite3.connect(self._file.name, isolation_level=None)
        self._db.executescript(_SCHEMA)
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        self._file.close()

    def count(self, trace: Trace, verdict: Verdict, passed: bool) -> None:
        """One attempt that was judged."""
        key = (trace.prompt.id, trace.teacher)
        options = n_options(trace.prompt)
        wrong = options is not None and verdict.reason == "wrong_answer"
        first = trace.sample_index if passed else None
        self._db.execute(_COUNT, (*key, trace.prompt.family, passed, first, options, wrong))
        if wrong and options == 0:
            number = parse_number(verdict.answer or "")
            self._db.execute(_COUNT_WRONG, (*key, str(number.value) if number else verdict.answer))

    def count_bad_answer(self, prompt_id: str, teacher: str) -> None:
        """One attempt that failed before it could be judged; the prompt's family stands in its other attempts."""
        self._db.execute(_COUNT, (prompt_id, teacher, None, False, None, None, False))

    def has_judged(self, prompt_id: str) -> bool:
        """Whether an attempt at the prompt was judged."""
        query = "SELECT 1 FROM prompts WHERE prompt = ? AND family IS NOT NULL"
        return self._db.execute(query, (prompt_id,)).fetchone() is not None

    def pass_at_k(self, *, stopped: bool) -> dict[str, Any]:
        """{overall, by_family} of {k: {rate, prompts}} for k in powers of two, each over the prompts that have it.

        Args:
            stopped: a prompt's attempts ended on success.
        """
        query = "SELECT family, n, c, first, count(*) FROM prompts GROUP BY family, n, c, first"
        groups = self._db.execute(query).fetchall()
        largest = max((n for _, n, *_ in groups), default=0)
        overall: dict[int, _Mean] = defaultdict(_Mean)
        by_family: dict[str, dict[int, _Mean]] = defaultdict(lambda: defaultdict(_Mean))
        for family, n, c, first, n_prompts in groups:
            for k in (2**i for i in range(largest.bit_length())):
                if stopped:
                    value = 1.0 if first is not None and first < k else 0.0 if n >= k else None
                else:
                    value = pass_at_k(n, c, k) if n >= k else None
                overall[k].add(value, n_prompts)
                if family is not None:  # of a prompt without one judged attempt nobody told the family
                    by_family[family][k].add(value, n_prompts)
        families = {family: _rates(means, stopped) for family, means in sorted(by_family.items())}
        return {"overall": _rates(overall, stopped), "by_family": families}

    def lucky_passes(self) -> dict[str, Any]:
        """{overall, by_family} of {expected, passes, share, prompts} over what can be guessed; empty where nothing can.

        `not_estimated` are passes on small integers where no prompt has two wrong answers to compare.
        """
        factors = self._integer_factors()
        rows = self._db.execute(
            "SELECT family, options, sum(wrong), sum(c), count(*) FROM prompts WHERE options IS NOT NULL GROUP BY 1, 2"
        )
        overall = Counter[str]()
        by_family: dict[str, Counter[str]] = defaultdict(Counter[str])
        for family, options, wrong, passes, n_prompts in rows:
            factor = 1 / (options - 1) if options else factors.get(family, factors.get(None)) if wrong else 0.0
            for counts in (overall, by_family[family]):
                counts["prompts"] += n_prompts
                if factor is None:
                    counts["not_estimated"] += passes
                else:
                    counts["passes"] += passes
                    counts["expected"] += wrong * factor  # pyright: ignore[reportArgumentType]  # a Counter adds floats as well
        if not by_family:
            return {}
        families = {family: _share(counts) for family, counts in sorted(by_family.items())}
        return {"overall": _share(overall), "by_family": families}

    def _integer_factors(self) -> dict[str | None, float]:
        """By family, and under None over all, the chance that two wrong answers to one prompt are the same."""
        rows = self._db.execute(
            "SELECT family, sum(same), sum(w * (w - 1)) FROM ("
            "SELECT prompts.family AS family, sum(wrong.n * (wrong.n - 1)) AS same, sum(wrong.n) AS w "
            "FROM wrong JOIN prompts USING (prompt, teacher) GROUP BY prompt, teacher) GROUP BY family"
        )
        pairs: dict[str | None, tuple[int, int]] = {family: (same, all_pairs) for family, same, all_pairs in rows}
        pairs[None] = (sum(same for same, _ in pairs.values()), sum(all_pairs for _, all_pairs in pairs.values()))
        return {family: same / all_pairs for family, (same, all_pairs) in pairs.items() if all_pairs}


class _Mean:
    """A sum over prompts; None is a prompt that says nothing."""

    def __init__(self) -> None:
        self.total, self.n, self.n_undecided = 0.0, 0, 0

    def add(self, value: float | None, n: int) -> None:
        if value is None:
            self.n_undecided += n
        else:
            self.total, self.n = self.total + n * value, self.n + n


def _rates(means: Mapping[int, _Mean], stopped: bool) -> dict[str, Any]:
    return {
        str(k): {"rate": round(mean.total / mean.n, 4), "prompts": mean.n}
        | ({"undecided": mean.n_undecided} if stopped and mean.n_undecided else {})
        for k, mean in means.items()
        if mean.n
    }


def _share(counts: Mapping[str, float]) -> dict[str, float]:
    expected, passes = counts.get("expected", 0.0), counts.get("passes", 0)
    share = min(1.0, expected / passes) if passes else 0.0
    rest = {"not_estimated": counts["not_estimated"]} if counts.get("not_estimated") else {}
    return {
        "expected": round(expected, 2),
        "passes": passes,
        "share": round(share, 4),
        "prompts": counts["prompts"],
    } | rest
