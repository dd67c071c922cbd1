"""Oracles: counts by hand."""

from pydantic import ValidationError
from pytest import approx, mark, raises

from datagen.contracts.errors import ParamsError
from datagen.contracts.records import Example, Rejection
from trainers.encoders import Config, _class_weights, draw, names_of, parse
from trainers.text_pairs import TextPair

JOINT = ((1.0, 0.3, 1.0, 0.0), (1.0, 0.2, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0))


def test_a_class_weighs_rows_without_over_rows_with_it():
    """1 to 3, at least 1; 3 to 1, as 0.2 does not hold; 3 to 1; and the cap where no row holds it."""
    pairs = [TextPair([2, 3], None, list(row)) for row in JOINT]
    config = Config.model_validate({"class_weights": "inverse", "max_class_weight": 5})
    weights = _class_weights(config, pairs)
    assert weights is not None and weights.tolist() == approx([1, 3, 3, 5])
    low = _class_weights(config.model_copy(update={"max_class_weight": 2.0}), pairs)
    assert low is not None and low.tolist() == approx([1, 2, 2, 2])
    assert _class_weights(config.model_copy(update={"class_weights": "none"}), pairs) is None


def test_rows_are_drawn_in_order_and_each_is_accounted_for():
    rows: list[Example | Rejection] = [Example(id=str(i), text="x") for i in range(30)]
    config = Config.model_validate({"train_share": 0.5, "max_train_rows": 12})
    drawn, others = draw(rows, config, 3)
    assert len(drawn) == 12 and [row.id for row in drawn] == sorted((row.id for row in drawn), key=int)
    assert {row.id for row in drawn} | {row.id for row in others} == {str(i) for i in range(30)}
    assert {row.detail for row in others} == {"12 of 30 rows are drawn"}
    assert draw(rows, config, 3) == (drawn, others)
    assert draw(rows, Config.model_validate({"train_share": 1e-9}), 0)[0][0] in rows


def test_names_are_those_of_all_rows_whatever_their_weight():
    rows = [
        Example(id="a", text="x", labels=[{"name": "sad", "weight": 0.0}]),
        Rejection(id="b", stage="s", reason="r", detail=""),
        Example(id="c", text="x", labels=[{"name": "joy", "weight": 1.0}, {"name": "sad", "weight": 1.0}]),
    ]
    assert names_of(rows) == ["joy", "sad"]


@mark.parametrize("labels", [["joy", "joy"], ["joy", " "]])
def test_labels_need_names_of_their_own(labels: list[str]):
    with raises(ParamsError, match="labels: each needs a name"):
        parse({"labels": labels})


def test_a_config_is_frozen():
    with raises(ValidationError):
        Config.model_validate({}).model = "other"  # type: ignore[misc]
