"""`near_duplicates`; oracle: the Jaccard of sets of word tuples, by Python's own sets."""

import math
import random
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest

from datagen.contracts.errors import ParamsError
from datagen.contracts.records import Document, Message, Prompt, Rejection, Trace
from datagen.contracts.words import find_words, normalise, spaced_words
from datagen.filter import Row, _candidates
from datagen.filter import near_duplicates as module
from datagen.filter._shingles import choose_bands, hash_words, jaccards, shingle_sets, sign
from datagen.filter.near_duplicates import Config, near_duplicates

THRESHOLD = 0.8


def documents(texts: list[str]) -> list[Document]:
    return [Document(id=f"d{i}", text=text) for i, text in enumerate(texts)]


def dropped(rows: Sequence[Row], **params: object) -> dict[str, Rejection]:
    """Rejections by id; every other row must come back as it was, and in order."""
    config = Config.model_validate({"method": "near_duplicates", **params})
    out = list(near_duplicates(config, rows, None))
    assert [row.id for row in out] == [row.id for row in rows]
    assert all(one is other for one, other in zip(out, rows, strict=True) if not isinstance(one, Rejection))
    return {row.id: row for row in out if isinstance(row, Rejection)}


def edited(words: list[str], n_changes: int, spread: random.Random) -> list[str]:
    """`n_changes` of the words are others."""
    places = set(spread.sample(range(len(words)), n_changes))
    return [f"new{spread.randrange(10**9)}" if i in places else word for i, word in enumerate(words)]


def random_texts(n: int, seed: int) -> list[list[str]]:
    """Texts of 30 to 120 words; of each two thirds a variant follows with 0 to 6 words changed, and of some another."""
    spread = random.Random(seed)
    texts: list[list[str]] = []
    while len(texts) < n:
        words = [f"w{spread.randrange(5000)}" for _ in range(spread.randint(30, 120))]
        texts.append(words)
        for _ in range(spread.randrange(3)):
            texts.append(edited(words, spread.randrange(7), spread))
    order = list(range(n))
    spread.shuffle(order)
    return [texts[i] for i in order]


def all_similar_pairs(texts: list[list[str]], n: int) -> dict[tuple[int, int], float]:
    """(earlier, later) to Jaccard, where it reaches the threshold; only pairs with a common n-gram can."""
    sets = [{tuple(words[i : i + n]) for i in range(len(words) - n + 1)} for words in texts]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    pairs: set[tuple[int, int]] = set()
    for i, grams in enumerate(sets):
        for gram in grams:
            pairs.update((j, i) for j in holders[gram])
            holders[gram].append(i)
    found = {pair: len(sets[pair[0]] & sets[pair[1]]) / len(sets[pair[0]] | sets[pair[1]]) for pair in pairs}
    return {pair: similarity for pair, similarity in found.items() if similarity >= THRESHOLD}


def test_against_every_pair():
    """3,000 texts: every row named as a cause stays and is as similar as said; at most 2 % of similar pairs stay."""
    texts = random_texts(3000, seed=5)
    pairs = all_similar_pairs(texts, 5)
    found = dropped(documents([" ".join(words) for words in texts]))
    assert len(pairs) > 500  # so that the figures below say something
    for i in range(len(texts)):
        if rejection := found.get(f"d{i}"):
            cause = rejection.detail.split("'")[1]
            assert cause not in found
            assert (int(cause[1:]), i) in pairs
            if rejection.reason == "near_duplicate":
                assert f"Jaccard {pairs[int(cause[1:]), i]:.3f}" in rejection.detail
            else:
                assert texts[i] == texts[int(cause[1:])]
    both_stay = [pair for pair in pairs if not {f"d{i}" for i in pair} & found.keys()]
    assert len(both_stay) <= 0.02 * len(pairs)


def test_the_result_does_not_depend_on_how_the_work_is_cut(monkeypatch: pytest.MonkeyPatch):
    rows = documents([" ".join(words) for words in random_texts(600, seed=8)])
    whole = dropped(rows)
    monkeypatch.setattr(module, "BLOCK", 7)
    monkeypatch.setattr(_candidates, "PART", 50)
    assert dropped(rows) == whole and len(whole) > 50
    monkeypatch.setattr(module, "BLOCK_CHARS", 1)
    assert dropped(rows) == whole


def test_rows_added_at_the_end_change_none_before():
    rows = documents([" ".join(words) for words in random_texts(600, seed=9)])
    whole = dropped(rows)
    assert dropped(rows[:400]) == {id: row for id, row in whole.items() if int(id[1:]) < 400}


def test_the_same_text_but_for_case_and_spaces_is_an_exact_duplicate():
    found = dropped(documents(["One  two\nthree.", "Another text", "one two three. ", "one two three!"]))
    assert {id: (row.reason, row.detail) for id, row in found.items()} == {
        "d2": ("exact_duplicate", "same text as 'd0', but for case and spaces"),
        "d3": ("near_duplicate", "near-duplicate of 'd0': Jaccard 1.000 of 5-word shingles, threshold 0.8"),
    }
    assert all(row.stage == "filter" for row in found.values())


def test_a_composed_letter_is_its_parts():
    assert set(dropped(documents(["caf\u00e9", "cafe\u0301"]))) == {"d1"}


def test_texts_without_a_word_are_dropped_for_equal_ones_only():
    assert set(dropped(documents(["!!!", "???", "!!!", "\U0001f600"]))) == {"d2"}


def test_a_chain_of_changes_keeps_its_far_end():
    """Two of 100 words changed leave 86 of 106 shingles, 0.811; four leave 76 of 116, 0.655."""
    words = [f"w{i}" for i in range(100)]
    once = [*words[:20], "x", *words[21:40], "x", *words[41:]]
    twice = [*once[:60], "y", *once[61:80], "y", *once[81:]]
    found = dropped(documents([" ".join(one) for one in (words, once, twice)]))
    assert set(found) == {"d1"} and "Jaccard 0.811" in found["d1"].detail
    assert set(dropped(documents([" ".join(one) for one in (once, words, twice)]))) == {"d1", "d2"}


def test_many_rows_of_one_template_take_a_bounded_time_and_equal_ones_go(caplog: pytest.LogCaptureFixture):
    """3,000 texts of which every two have a Jaccard of 21 / 31, then each of them again, and then one of J = 0.9."""
    template = [f"t{i}" for i in range(30)]
    texts = [" ".join([*template[:14], f"number{i}", *template[15:]]) for i in range(3000)]
    near = " ".join([*texts[0].split()[1:], "end"])  # 25 of 27 shingles
    found = dropped(documents([*texts, *texts, near]), max_compared=20)
    assert {(row.reason, id) for id, row in found.items() if id != "d6000"} == {
        ("exact_duplicate", f"d{i}") for i in range(3000, 6000)
    }
    assert "near-duplicate of 'd0': Jaccard 0.926" in found["d6000"].detail
    assert "rows that stay have a band key that more than max_compared=20 others have" in caplog.text


def test_scripts_without_spaces_have_a_word_a_character():
    """One of 40 characters changed leaves 31 of 41 shingles."""
    text = "".join(chr(0x4E00 + i) for i in range(40))
    other = text[:20] + "\u9fa0" + text[21:]
    assert not dropped(documents([text, other]))
    assert "Jaccard 0.756" in dropped(documents([text, other]), threshold=0.7)["d1"].detail


def test_a_shared_system_message_makes_no_duplicates_and_field_says_what_counts():
    system: Message = {"role": "system", "content": " ".join(f"rule{i}" for i in range(500))}
    prompts = [
        Prompt(id=f"p{i}", messages=[system, {"role": "user", "content": f"question number {i}"}]) for i in range(3)
    ]
    assert not dropped(prompts)
    first, second, _ = prompts
    traces = [
        Trace(id="t0", prompt=first, completion="the same answer"),
        Trace(id="t1", prompt=second, completion="the same answer"),
        Trace(id="t2", prompt=first, completion="another"),
    ]
    assert not dropped(traces)
    assert set(dropped(traces, field="answer")) == {"t1"}
    assert set(dropped(traces, field="prompt")) == {"t2"}
    with pytest.raises(ParamsError, match="have no answer"):
        dropped(prompts, field="answer")


def test_bad_rows_go_through():
    bad = Rejection(id="f:2", stage="filter", reason="malformed_json", detail="")
    one, other = documents(["a b c", "a b c"])
    config = Config(method="near_duplicates")
    out = list(near_duplicates(config, [one, bad, other], None))
    assert [(row.id, isinstance(row, Rejection)) for row in out] == [("d0", False), ("f:2", True), ("d1", True)]
    assert list(near_duplicates(config, [bad], None)) == [bad]


def test_bands_are_the_most_selective_that_reach_the_recall():
    """1 - (1 - 0.8^6)^21 = 0.9983; bands of 7 reach 1 - (1 - 0.8^7)^18 = 0.9855."""
    assert choose_bands(0.8, 128, 0.99) == (21, 6)
    assert choose_bands(0.8, 128, 0.98) == (18, 7)
    assert choose_bands(1.0, 128, 0.99) == (1, 128)
    assert choose_bands(0.1, 8, 0.99) is None
    with pytest.raises(ParamsError, match="n_hashes: too few"):
        dropped(documents(["a"]), threshold=0.1, n_hashes=8)


def test_equal_values_of_two_signatures_are_as_frequent_as_the_jaccard_says():
    """Of 4,096 hash functions; Broder's equality, within 4 standard errors."""
    words = [f"w{i}" for i in range(300)]
    sets = shingle_sets([" ".join(words[start : start + 200]).encode() for start in (0, 20, 100)], 1)
    signatures = sign(sets, 4096, seed=3)
    for other, common in ((1, 180), (2, 100)):
        expected = common / (400 - common)
        assert list(jaccards(sets[0], [sets[other], sets[0]])) == [expected, 1]
        error = math.sqrt(expected * (1 - expected) / 4096)
        assert abs(float(np.mean(signatures[0] == signatures[other])) - expected) < 4 * error


def test_shingles_know_the_order_of_words():
    sets = shingle_sets([b"a b c a b c a", b"a b c", b"a c b", b"a b", b""], 3)
    assert [len(one) for one in sets] == [3, 1, 1, 1, 0]  # fewer words than n are one
    assert len(set(sets[1].tolist() + sets[2].tolist() + sets[3].tolist())) == 3
    assert sets[1][0] in sets[0]


def test_words_have_one_hash_wherever_they_stand_and_others_another():
    """Words of 1 to 200 bytes that differ in one, at an end or in the middle; oracle: Python's own comparison."""
    spread = random.Random(7)
    stems = [
        "".join(spread.choice("ab\u00e9\u6c34_7") for _ in range(n)) for n in (*range(1, 20), 63, 64, 65, 128, 200)
    ]
    words = {word for stem in stems for word in (stem, f"{stem}a", f"b{stem}", f"{stem[: len(stem) // 2]}c{stem}")}
    drawn = [spread.choices(sorted(words), k=spread.randrange(30)) for _ in range(300)]
    hashes, firsts = hash_words([" ".join(one).encode() for one in drawn])
    assert np.diff(firsts).tolist() == [len(one) for one in drawn] and len(hashes) == firsts[-1]
    of_word: defaultdict[str, set[int]] = defaultdict(set)
    for word, hash in zip((word for one in drawn for word in one), hashes.tolist(), strict=True):
        of_word[word].add(hash)
    assert all(len(one) == 1 for one in of_word.values()) and len(of_word) == len(words)
    assert len(set.union(*of_word.values())) == len(words)


@pytest.mark.parametrize(
    "characters", ["aZ09_ .,;-(|\t\x1c\x7f", "aZ09_ .,\u00e9\u00a0\u6c34\u0e01\u2019\U0001f600\ud800"]
)
def test_words_in_bytes_are_those_of_the_regular_expression(characters: str):
    """ASCII, where words are cut by a table, and other texts."""
    spread = random.Random(8)
    for _ in range(500):
        text = normalise("".join(spread.choices(characters, k=40)))
        expected = [
            one for part in re.findall(r"\w+", text) for one in re.findall("[\u6c34\u0e01]|[^\u6c34\u0e01]+", part)
        ]
        assert find_words(text) == expected
        assert spaced_words(text).decode("utf-8").split() == expected
