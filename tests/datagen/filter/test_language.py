"""`language`; oracle: sentences of known languages, written by hand."""

import re

import pytest

from datagen.contracts.errors import ParamsError
from datagen.contracts.records import Document, Prompt, Rejection, Trace
from datagen.filter.language import Config, language

SENTENCES = {
    "en": "The children walked along the river until they reached the old mill behind the village.",
    "de": "Die Kinder gingen am Fluss entlang, bis sie die alte Mühle hinter dem Dorf erreichten.",
    "fr": "Les enfants marchaient le long de la rivière jusqu'au vieux moulin derrière le village.",
    "es": "Los niños caminaban junto al río hasta que llegaron al viejo molino detrás del pueblo.",
    "ru": "Дети шли вдоль реки, пока не дошли до старой мельницы за деревней.",
    "zh": "孩子们沿着河走,一直走到村子后面的旧磨坊,那里住着一位年老的磨坊主和他的三个女儿。",
    "ar": "سار الأطفال على طول النهر حتى وصلوا إلى الطاحونة القديمة خلف القرية.",
}


def fault(text: str, **params: object) -> str | None:
    config = Config.model_validate({"method": "language", **params})
    (row,) = language(config, [Document(id="d", text=text)], None)
    return f"{row.reason}: {row.detail}" if isinstance(row, Rejection) else None


@pytest.mark.parametrize("wanted", SENTENCES)
def test_a_sentence_stays_where_its_language_is_wanted_and_no_other_does(wanted: str):
    stay = {code for code, text in SENTENCES.items() if fault(text, languages=[wanted]) is None}
    assert stay == {wanted}


def test_several_languages_may_stay_and_capitals_do_not_matter():
    assert fault(SENTENCES["de"], languages=["en", "de"]) is None
    assert fault(SENTENCES["en"].upper()) is None


def test_the_rejection_says_what_it_was_taken_for():
    detail = fault(SENTENCES["ru"], languages=["en", "de"])
    assert detail and re.fullmatch(r"language: ru at 0\.9\d, en or de at 0\.00, the least is 0\.5", detail)


def test_a_short_text_is_not_judged():
    """19 letters; then numbers, which have none."""
    assert fault("Das ist ein kurzer Satz.", min_letters=19)
    assert fault("Das ist ein kurzer Satz.", min_letters=20) is None
    assert fault("1 + 1 = 2, 3 * 4 = 12, 10 / 5 = 2, 7 - 8 = -1", min_letters=1) is None


def test_confidence_is_of_the_wanted_languages_together():
    """A text in two languages: what is said of both is the sum of what is said of each."""
    mixed = f"{SENTENCES['es']} {SENTENCES['fr']}"

    def confidence(*languages: str) -> float:
        said = fault(mixed, languages=[*languages], min_confidence=1)
        assert said
        return float(said.split(" at ")[2].split(",")[0])

    both = confidence("es", "fr")
    assert both == pytest.approx(confidence("es") + confidence("fr"), abs=0.011) and confidence("fr") > 0
    assert fault(mixed, languages=["es", "fr"], min_confidence=both - 0.01) is None
    assert fault(mixed, languages=["fr"], min_confidence=both - 0.01)


def test_the_field_says_which_text_is_judged():
    prompt = Prompt(id="p", messages=[{"role": "user", "content": SENTENCES["en"]}])
    trace = Trace(id="t", prompt=prompt, completion=SENTENCES["de"] * 2)
    config = Config.model_validate({"method": "language", "field": "prompt"})
    bad = Rejection(id="f:1", stage="filter", reason="malformed_json", detail="")
    assert list(language(config, [bad, trace], None)) == [bad, trace]
    (row,) = language(Config.model_validate({"method": "language", "field": "answer"}), [trace], None)
    assert isinstance(row, Rejection) and row.id == "t"


def test_a_language_that_is_not_known_is_refused():
    with pytest.raises(ParamsError, match=r"languages: 'english' is none of those known: .*en, .*zh"):
        fault("x", languages=["english"])
