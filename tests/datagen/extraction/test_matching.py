"""Rates in both directions; oracles: planted copies counted by hand, paraphrases written by hand, random texts."""

import random
from pathlib import Path

import numpy as np
import pytest

from datagen.backends.neighbours import Neighbours
from datagen.extraction.calibration import calibrate
from datagen.extraction.matching import Compared, compare, pair_similarities, rates

# Each of the first was in the training set, the second says it in other words.
PARAPHRASES = [
    ("The cat slept on the warm windowsill all afternoon.", "All through the afternoon, a feline dozed by the window."),
    ("Add two cups of flour and stir until smooth.", "Mix in 2 cups flour, stirring till there are no lumps."),
    ("The train to Berlin was delayed by three hours.", "We waited three more hours for our late Berlin train."),
    ("Photosynthesis turns sunlight into chemical energy.", "Plants make chemical energy from the light of the sun."),
    ("She bought a second-hand bicycle for ninety dollars.", "A used bike cost her 90 dollars."),
    ("The committee rejected the proposal unanimously.", "Every member of the committee voted against the proposal."),
    ("Water boils at a lower temperature at high altitude.", "High up in mountains, water starts boiling sooner."),
    ("The old library closes at six on Saturdays.", "On Saturday, you must leave the old library by 6 pm."),
]
OTHERS = [
    "Violins are tuned in fifths.", "Our dentist moved to another street.", "Penguins huddle to keep warm.",
    "The tax form is due in April.", "He repaired the roof before the storm.", "Goats climb steep cliffs with ease.",
    "This password has expired.", "A comet was seen over Chile.", "My uncle collects Japanese stamps.",
    "The referee stopped the boxing match.", "Lavender grows well in dry soil.", "The museum shows Roman coins.",
    "Copper conducts electricity well.", "The novel begins with a shipwreck.", "Their kitchen was painted green.",
    "Ants follow trails of scent.", "The pilot announced turbulence.", "Sourdough needs a lively starter.",
    "Glaciers carve deep valleys.", "The choir rehearses every Monday.", "A broken gear halted the mill.",
    "The senator gave a short speech.", "Marble statues lined the garden.", "Tea is grown on the hills of Assam.",
]  # fmt: skip


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))


def test_the_embedding_finds_paraphrases_that_strings_do_not():
    """Eight planted ones and four strangers, at thresholds of equal false matches."""
    trained_on, said = (list(texts) for texts in zip(*PARAPHRASES, strict=True))
    extracted, unseen = said + OTHERS[:4], OTHERS[4:]
    compared = compare(extracted, trained_on, unseen)
    found = {
        measure: rates(one, calibrate(one.unseen_in_against, one.unseen_by_extracted, 0.05).value)
        for measure, one in compared.items()
    }
    assert found["cosine"].extracted == pytest.approx(8 / 12) and found["cosine"].against == 1
    assert compared["cosine"].of_extracted.rows[:8].tolist() == list(range(8))
    assert all(found[measure].extracted <= 1 / 12 for measure in ("edit", "indel"))
    similarities = pair_similarities(said, trained_on, "cosine")
    np.testing.assert_allclose(similarities, compared["cosine"].of_extracted.similarities[:8], atol=1e-6)


def random_texts(n: int, seed: int) -> list[str]:
    drawn = random.Random(seed)
    return ["".join(drawn.choices("abcdefgh", k=drawn.randint(20, 60))) for _ in range(n)]


def test_a_source_that_saw_nothing_matches_at_the_false_rate():
    """All three sets come from one distribution; the threshold of the stricter direction holds in both."""
    extracted, against, unseen = random_texts(1000, 1), random_texts(300, 2), random_texts(1000, 3)
    for one in compare(extracted, against, unseen, measures=["edit", "indel"], workers=2).values():
        threshold = calibrate(one.unseen_in_against, one.unseen_by_extracted, 0.1)
        in_against, by_extracted = (
            calibrate(similarities, similarities, 0.1).value
            for similarities in (one.unseen_in_against, one.unseen_by_extracted)
        )
        sd = (2 * 0.1 * 0.9 / 1000) ** 0.5  # of a rate of 1,000 at a threshold read off 1,000
        assert rates(one, in_against).extracted == pytest.approx(0.1, abs=4 * sd)
        assert rates(one, by_extracted).against == pytest.approx(0.1, abs=4 * (0.09 / 1000 + 0.09 / 300) ** 0.5)
        assert threshold.value == max(in_against, by_extracted)
        assert rates(one, threshold.value).extracted < 0.1 + 4 * sd


def test_planted_copies_are_counted_in_both_directions():
    """Of 40 samples 30 are copies of 10 rows of 50, each thrice: 3/4 of the samples, 1/5 of the rows."""
    against = random_texts(50, 4)
    extracted = against[:10] * 3 + random_texts(10, 5)
    (one,) = compare(extracted, against, random_texts(30, 6), measures=["edit"]).values()
    found = rates(one, 1)
    assert (found.extracted, found.against) == (0.75, 0.2)
    found = rates(one, calibrate(one.unseen_in_against, one.unseen_by_extracted, 0.05).value)
    assert found.extracted >= 0.75 and found.against >= 0.2
    assert one.of_against.rows[:10].tolist() == list(range(10))
    assert pair_similarities(["ab", "kitten"], ["ab", "sitting"], "edit").tolist() == pytest.approx([1, 4 / 7])
    assert pair_similarities(["kitten"], ["sitting"], "indel").tolist() == pytest.approx([8 / 13])


def test_a_rate_falls_with_its_threshold():
    of = Neighbours(np.array([0.1, 0.5, 0.5, 0.9], np.float32), np.zeros(4, np.int64))
    unseen = np.array([0.2, 0.5], np.float32)
    one = Compared(of_extracted=of, of_against=of, unseen_in_against=unseen, unseen_by_extracted=unseen)
    found = [rates(one, threshold) for threshold in (0, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 0.95)]
    assert [(rate.extracted, rate.false_extracted) for rate in found] == [(1, 1), (0.75, 0.5), (0.25, 0), (0, 0)]
