"""How much the texts of a corpus differ from each other: measured afterwards, and enforced while it is written.

    distinct-n           different n-grams of words over all of them: Li et al. 2016, arXiv:1510.03055, who divide by
                         the number of words
    self-BLEU            mean BLEU-4 of a text against all others: Zhu et al. 2018, Texygen, arXiv:1802.01886
    nearest cosine       of a text with any other, by their embeddings
    near-duplicate rate  share of texts that have another one near: by cosine, and by the Jaccard of their word shingles
    topics               Vendi score: Friedman and Dieng 2023, arXiv:2210.02410, with the cosine as the kernel: the
                         effective number of texts that have nothing in common. Unlike cells of k-means it needs neither
                         a number of cells nor a seed
    coverage             of a reference: share of its texts that have one of the corpus at least as near as their fifth
                         neighbour in the reference: Naeem et al. 2020, arXiv:2002.09797, by cosine
    labels               effective number of labels, the exponential of the entropy of their shares: Jost 2006, Entropy
                         and diversity, Oikos 113

All but the cosines depend on how large a corpus is: distinct-n falls and self-BLEU rises with every text. So compare
equal numbers: distinct-n of the first `n_tokens` words, in an order drawn by a seed, self-BLEU of as many texts.

Axes: R texts, E vector.
"""

import math
import random
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datagen.contracts.words import find_words, normalise
from datagen.synthesis.taxonomy import Taxonomy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLEU_ORDER = 4
_EPSILON = 0.1  # in place of no shared n-gram: method 1 of Chen and Cherry 2014, as in Texygen's code
_BLOCK = 1024  # texts compared with all others at once
_ACCEPTED_BLOCK = 8192  # accepted texts that candidates are compared with at once
N_NEIGHBOURS = 5  # k of Naeem et al. 2020


def measure(
    texts: Sequence[str],
    labels: Sequence[Collection[str]],
    vectors: "NDArray[np.float32]",
    *,
    taxonomy: Taxonomy | None = None,
    reference: "NDArray[np.float32] | None" = None,
    max_cosine: float = 0.9,
    min_jaccard: float = 0.8,
    shingle_words: int = 3,
    n_tokens: int | None = None,
    n_class_tokens: int = 200,
    n_self_bleu: int = 500,
    n_enough: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """All of the above of a corpus, of its parts with and without the neutral label, and of each label's texts.

    Args:
        texts: R of them.
        labels: the names of each text's labels; a text counts for every one of them.
        vectors: (R, E) of length one, zeros for a text without a word.
        taxonomy: its labels are those that may be covered, and its neutral one is the neutral one; without it, the
            labels that occur are all, and none is neutral.
        reference: (N, E) vectors of other texts to cover.
        max_cosine: from which on two texts are near-duplicates.
        min_jaccard: likewise, of the sets of their shingles.
        shingle_words: n of the word n-grams that are compared; a shorter text is one shingle.
        n_tokens: words that distinct-n is measured on; None for all.
        n_class_tokens: likewise, of each label's texts; where they have fewer, there is no figure.
        n_self_bleu: texts that self-BLEU is measured on, drawn by the seed.
        n_enough: texts that make a label covered.
        seed: of the order of texts and of the sample.

    Returns:
        Plain JSON: `all`, `neutral` and `not_neutral` with the figures of `measure_group`; `labels` with `counts`,
        `effective` and `covered`, the share of labels with `n_enough` texts; `by_label`. None where there is too little
        to measure.

    Raises:
        ValueError: not as many labels or vectors as texts.
    """
    if not len(texts) == len(labels) == len(vectors):
        raise ValueError(
            f"{len(texts)} texts, {len(labels)} label sets and {len(vectors)} vectors; give one of each a text"
        )
    names = list(taxonomy.names) if taxonomy else sorted({name for of_text in labels for name in of_text})
    neutral = taxonomy.find(taxonomy.neutral) if taxonomy and taxonomy.neutral else None
    shown: dict[str, Any] = {"max_cosine": max_cosine, "min_jaccard": min_jaccard, "shingle_words": shingle_words}

    def group(rows: Sequence[int], n_tokens: int | None, full: bool = True) -> dict[str, Any]:
        figures = measure_group(
            [texts[i] for i in rows], vectors[list(rows)], n_tokens=n_tokens, n_self_bleu=n_self_bleu if full else 0,
            seed=seed, **shown,
        )  # fmt: skip
        if full and reference is not None:
            figures["coverage"] = coverage(vectors[list(rows)], reference)
        return figures

    everything = range(len(texts))
    of_label = {name: [i for i in everything if name in labels[i]] for name in names}
    without = [i for i in everything if neutral not in labels[i]]
    return shown | {
        "all": group(everything, n_tokens),
        "neutral": group(of_label[neutral], n_tokens) if neutral else None,
        "not_neutral": group(without, n_tokens) if neutral else None,
        "labels": label_figures({name: len(rows) for name, rows in of_label.items()}, n_enough),
        "by_label": {name: group(rows, n_class_tokens, full=False) for name, rows in of_label.items()},
    }


def measure_group(
    texts: Sequence[str],
    vectors: "NDArray[np.float32]",
    *,
    max_cosine: float = 0.9,
    min_jaccard: float = 0.8,
    shingle_words: int = 3,
    n_tokens: int | None = None,
    n_self_bleu: int = 500,
    seed: int = 0,
) -> dict[str, Any]:
    """The figures of some texts among themselves; arguments as of `measure`, `n_self_bleu=0` leaves self-BLEU out."""
    words = [find_words(normalise(text)) for text in texts]
    order = random.Random(seed).sample(range(len(texts)), len(texts))
    tokens = [words[i] for i in order]
    n_all = sum(map(len, words))
    cosines = nearest_cosines(vectors)
    by_words = have_similar(words, shingle_words, min_jaccard)
    figures: dict[str, Any] = {
        "texts": len(texts),
        "tokens": n_all,
        "distinct_tokens": n_tokens if n_tokens is not None else n_all,
        "distinct_1": distinct(tokens, 1, n_tokens),
        "distinct_2": distinct(tokens, 2, n_tokens),
        "nearest_cosine": float(cosines.mean()) if len(texts) > 1 else None,
        "near_by_cosine": float((cosines >= max_cosine).mean()) if texts else None,
        "near_by_words": sum(by_words) / len(texts) if texts else None,
        "topics": vendi_score(vectors),
    }
    if n_self_bleu:
        figures |= {"self_bleu": self_bleu(tokens[:n_self_bleu]), "self_bleu_texts": min(n_self_bleu, len(texts))}
    return figures


def distinct(texts: Iterable[Sequence[str]], n: int, n_tokens: int | None = None) -> float | None:
    """Different n-grams over all n-grams, none across two texts, of the first `n_tokens` words; the last text is cut.

    None where the texts have fewer words than that, or no n-gram.
    """
    left = math.inf if n_tokens is None else n_tokens
    seen: set[tuple[str, ...]] = set()
    n_all = 0
    for text in texts:
        words = text if len(text) <= left else text[: int(left)]
        left -= len(words)
        for n_gram in _n_grams(words, n):
            seen.add(n_gram)
            n_all += 1
        if left <= 0:
            break
    return len(seen) / n_all if n_all and (n_tokens is None or left <= 0) else None


def _n_grams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(n)), strict=False)


def self_bleu(texts: Sequence[Sequence[str]]) -> float | None:
    """Mean BLEU-4 of each text against all others, in [0, 1]: higher is more alike. None for fewer than two texts.

    Of each n-gram its two greatest counts in a text are kept, so the time grows with the number of words; a library
    that takes one text and its references takes the square. The closest length of a reference counts for brevity, of
    two equally close the shorter; a text shares no n-gram of an order with `0.1` in place of 0.
    """
    if len(texts) < 2:
        return None
    lengths = Counter(map(len, texts))
    logs = [0.0] * len(texts)
    shares_word = [True] * len(texts)
    for n in range(1, BLEU_ORDER + 1):
        counts = [Counter(_n_grams(text, n)) for text in texts]
        greatest: dict[tuple[str, ...], tuple[int, int, int]] = {}  # count, whose, and the greatest of the others
        for i, of_text in enumerate(counts):
            for n_gram, count in of_text.items():
                first, whose, second = greatest.get(n_gram, (0, -1, 0))
                greatest[n_gram] = (count, i, first) if count > first else (first, whose, max(second, count))
        for i, of_text in enumerate(counts):
            shared = 0
            for n_gram, count in of_text.items():
                first, whose, second = greatest[n_gram]
                shared += min(count, second if whose == i else first)
            shares_word[i] &= n > 1 or shared > 0
            logs[i] += math.log((shared or _EPSILON) / max(1, of_text.total())) / BLEU_ORDER
    scores = [
        math.exp(log) * _brevity(len(text), lengths) if shares else 0.0
        for log, text, shares in zip(logs, texts, shares_word, strict=True)
    ]
    return sum(scores) / len(scores)


def _brevity(n_words: int, lengths: Counter[int]) -> float:
    """Papineni et al. 2002, BLEU, section 2.2.2, with the closest length among the other texts."""
    others = (length for length, count in lengths.items() if length != n_words or count > 1)
    closest = min(others, key=lambda length: (abs(length - n_words), length))
    return 1.0 if n_words > closest else math.exp(1 - closest / n_words) if n_words else 0.0


def nearest_cosines(vectors: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """(R,): the greatest cosine of each row with another one; -1 where there is none."""
    import numpy as np

    best = np.full(len(vectors), -1, np.float32)
    if len(vectors) < 2:
        return best
    for start in range(0, len(vectors), _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ vectors.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -1
        best[start : start + _BLOCK] = cosines.max(axis=1)
    return best


def have_similar(texts: Sequence[Sequence[str]], n: int, min_jaccard: float) -> list[bool]:
    """Whether the shingles of each text have a Jaccard of `min_jaccard` or more with those of another text; exact.

    Two sets that are so similar share one of the first |s| - ceil(min_jaccard |s|) + 1 of each in any common order, and
    in that of rare ones first few others do: Chaudhuri et al. 2006, A primitive operator for similarity joins, ICDE.
    A text without a word is similar to none.
    """
    sets = [set(_n_grams(words, min(n, len(words)))) if words else set[tuple[str, ...]]() for words in texts]
    frequency = Counter(shingle for one in sets for shingle in one)
    found = [False] * len(sets)
    by_shingle: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, one in enumerate(sets):
        first = sorted(one, key=lambda shingle: (frequency[shingle], shingle))
        first = first[: len(one) - math.ceil(min_jaccard * len(one) - 1e-9) + 1]
        for j in {j for shingle in first for j in by_shingle[shingle]}:
            if not (found[i] and found[j]):
                n_shared = len(one & sets[j])
                if n_shared >= min_jaccard * (len(one) + len(sets[j]) - n_shared) - 1e-9:
                    found[i] = found[j] = True
        for shingle in first:
            by_shingle[shingle].append(i)
    return found


def vendi_score(vectors: "NDArray[np.float32]") -> float | None:
    """From 1, where all texts mean the same, to R, where no two have anything in common; None without a text.

    The eigenvalues of the texts' cosines, over R, are those of the (E, E) products of the coordinates.
    """
    import numpy as np

    rows = vectors[np.abs(vectors).max(axis=1) > 0].astype(np.float64) if len(vectors) else vectors
    if not len(rows):
        return None
    square = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    shares = np.linalg.eigvalsh(square / len(rows))
    shares = shares[shares > 1e-12]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def coverage(vectors: "NDArray[np.float32]", reference: "NDArray[np.float32]") -> float | None:
    """Share of the reference's rows that have one of `vectors` as near as their fifth neighbour in the reference.

    None where the reference has no more than five rows, or there are no vectors.
    """
    import numpy as np

    if len(reference) <= N_NEIGHBOURS or not len(vectors):
        return None
    n_covered = 0
    for start in range(0, len(reference), _BLOCK):
        block = reference[start : start + _BLOCK]
        among = block @ reference.T
        rows = np.arange(len(block))
        among[rows, start + rows] = -2
        fifth = np.partition(among, -N_NEIGHBOURS, axis=1)[:, -N_NEIGHBOURS]
        n_covered += int(((block @ vectors.T).max(axis=1) >= fifth).sum())
    return n_covered / len(reference)


def label_figures(counts: Mapping[str, int], n_enough: int) -> dict[str, Any]:
    """`effective`: number of equally frequent labels with the same entropy; `covered`: share with `n_enough` texts."""
    n_all = sum(counts.values())
    entropy = -sum(n / n_all * math.log(n / n_all) for n in counts.values() if n)
    return {
        "counts": dict(counts),
        "effective": math.exp(entropy) if n_all else 0.0,
        "covered": sum(n >= n_enough for n in counts.values()) / len(counts) if counts else 0.0,
        "enough": n_enough,
    }


class Accepted:
    """The texts of a corpus so far; one too near any of them is refused.

    Nothing is approximated: candidates are compared with every accepted text, by one product. Texts of different kinds,
    such as neutral ones and others, need not be compared: give each kind its own.
    """

    def __init__(self, max_cosine: float) -> None:
        """`max_cosine`: from this cosine on a text is refused; at 1 nothing is, and no vector is needed."""
        self.max_cosine = max_cosine
        self._by_text: dict[str, str] = {}
        self._ids: list[str] = []
        self._vectors: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Number of texts that were compared and accepted."""
        return len(self._ids)

    def accept(self, id: str, text: str, vector: "NDArray[np.float32] | None") -> str | None:
        """`accept_all` of one text, with a vector (E,)."""
        return self.accept_all([(id, text)], None if vector is None else vector[None])[0]

    def accept_all(self, texts: Sequence[tuple[str, str]], vectors: "NDArray[np.float32] | None") -> list[str | None]:
        """For each text in order None where it is accepted, else which accepted one it is too near to, and how near.

        Args:
            texts: R ids and texts, compared first, but for case and white space.
            vectors: (R, E) of length one; not looked at where `max_cosine` is 1.

        Raises:
            ValueError: vectors are needed, and there are not as many as texts.
        """
        if self.max_cosine >= 1:
            return [None] * len(texts)
        if vectors is None or len(vectors) != len(texts):
            n = 0 if vectors is None else len(vectors)
            raise ValueError(f"{n} vectors of {len(texts)} texts; below max_cosine=1 each text needs its own")
        n_before = len(self._ids)
        found: list[str | None] = []
        for (id, text), vector, before in zip(texts, vectors, self.nearest(vectors), strict=True):
            as_compared = normalise(text)
            if (same := self._by_text.get(as_compared)) is not None:
                found.append(f"same text as {same!r}, but for case and spaces")
                continue
            beside = self._nearest_from(n_before, vector)
            near = max((one for one in (before, beside) if one), key=lambda one: one[1], default=None)
            if near and near[1] >= self.max_cosine:
                found.append(f"cosine {near[1]:.4f} with {near[0]!r}, max_cosine is {self.max_cosine:g}")
                continue
            self._append(vector)
            self._by_text[as_compared] = id
            self._ids.append(id)
            found.append(None)
        return found

    def nearest(self, vectors: "NDArray[np.float32]", block: int = _ACCEPTED_BLOCK) -> list[tuple[str, float] | None]:
        """For each row the accepted text with the greatest cosine, the first of equals; None where there is none.

        It is compared with `block` accepted texts at a time, which bounds the memory.
        """
        import numpy as np

        if self._vectors is None:
            return [None] * len(vectors)
        best = np.full(len(vectors), -2, np.float32)
        which = np.zeros(len(vectors), np.int64)
        for start in range(0, len(self._ids), block):
            cosines = vectors @ self._vectors[start : min(start + block, len(self._ids))].T
            top = cosines.argmax(axis=1)
            value = cosines[np.arange(len(top)), top]
            better = value > best
            best[better], which[better] = value[better], start + top[better]
        return [(self._ids[i], float(cosine)) for i, cosine in zip(which.tolist(), best, strict=True)]

    def _nearest_from(self, first: int, vector: "NDArray[np.float32]") -> tuple[str, float] | None:
        if self._vectors is None or first == len(self._ids):
            return None
        cosines = self._vectors[first : len(self._ids)] @ vector
        best = int(cosines.argmax())
        return self._ids[first + best], float(cosines[best])

    def _append(self, vector: "NDArray[np.float32]") -> None:
        import numpy as np

        n = len(self._ids)
        if self._vectors is None:
            self._vectors = np.empty((256, len(vector)), np.float32)
        elif n == len(self._vectors):
            grown = np.empty((2 * n, len(vector)), np.float32)
            grown[:n] = self._vectors
            self._vectors = grown
        self._vectors[n] = vector


def rarest(counts: Mapping[str, float], taxonomy: Taxonomy, n: int) -> list[str]:
    """The `n` labels with the fewest texts so far, ties in the taxonomy's order; never the neutral one.

    They are what to ask for next. Where a teacher writes each label that it is asked for now and then, the smallest
    count grows. One that it never writes stays among the rarest, and takes its place in every question.
    """
    neutral = taxonomy.find(taxonomy.neutral) if taxonomy.neutral else None
    return sorted((name for name in taxonomy.names if name != neutral), key=lambda name: counts.get(name, 0))[:n]


class Budget:
    """Which labels to ask for next while many questions are open: what they promise counts as if it were written.

    Otherwise all questions of a time would ask for the same labels, at first for those that the taxonomy begins with.
    """

    def __init__(self, taxonomy: Taxonomy, n: int, n_texts: float) -> None:
        """`n` labels are asked for at once; `n_texts` texts are expected of them, `n_texts / n` of each."""
        self.counts: Counter[str] = Counter()
        self._taxonomy = taxonomy
        self._n = n
        self._n_texts = n_texts
        self._open: deque[list[str]] = deque()

    def ask(self) -> list[str]:
        """The labels of the next question: the `rarest` of what is written and promised."""
        promised = Counter(name for names in self._open for name in names)
        share = self._n_texts / max(self._n, 1)
        expected = {name: self.counts[name] + promised[name] * share for name in self._taxonomy.names}
        names = rarest(expected, self._taxonomy, self._n)
        self._open.append(names)
        return names

    def observe(self, names: Iterable[str]) -> None:
        """Count the labels of the texts that came of the oldest open question, one name for each text that has it."""
        self._open.popleft()
        self.counts.update(names)
