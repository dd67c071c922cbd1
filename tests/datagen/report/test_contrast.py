"""Whoever sees little can read the page: contrasts by the formula of WCAG 2.2, in light and in dark."""

import re
from pathlib import Path

import pytest

import datagen.report

STYLE = Path(datagen.report.__file__).with_name("style.css").read_text()
TEXT, GRAPHIC = 4.5, 3.0  # 1.4.3 and 1.4.11, level AA
GROUNDS = ("paper", "card")


def colours(dark: bool) -> dict[str, str]:
    """The style's own colours; dark ones take the place of light ones."""
    before, _, after = STYLE.partition("@media (prefers-color-scheme: dark)")
    light, night = (dict(re.findall(r"--([\w-]+): #(\w{6});", part)) for part in (before, after.partition("* {")[0]))
    return light | night if dark else light


def luminance(colour: str) -> float:
    """Relative, of sRGB."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """From 1 to 21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_formula_s_ends():
    """Black on white is 21; #767676 is the lightest grey that reads on white, 4.54 by WCAG's own examples."""
    assert contrast("000000", "ffffff") == pytest.approx(21) and contrast("767676", "ffffff") == pytest.approx(
        4.54, abs=0.01
    )


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_graphics_stand_out(dark: bool):
    found = colours(dark)
    wanted = dict.fromkeys(("ink", "soft", "kept", "dropped", "after"), TEXT)
    wanted |= dict.fromkeys(("control", "teacher", *(f"line{i}" for i in range(8))), GRAPHIC)
    low = {
        f"{name} on {ground}": round(contrast(found[name], found[ground]), 2)
        for name, least in wanted.items()
        for ground in GROUNDS
        if contrast(found[name], found[ground]) < least
    }
    assert not low
    assert contrast(found["ink"], found["mark"]) >= TEXT and contrast(found["soft"], found["track"]) >= TEXT
    assert contrast(found["kept"], found["dropped-fill"]) > 1.3, "kept and dropped differ in lightness, too"
