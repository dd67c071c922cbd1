"""IFBench's test constraints on formats, repetition, and its eleven tasks of their own.

Source and rules: `_ifbench`. A task such as a list of capitals is a whole prompt; what its check cannot tell, its
docstring says.
"""

import csv
import re
import string
from collections.abc import Callable
from datetime import date
from itertools import pairwise

from datagen.verify._texts import is_emoji, lines, pieces, plain_words, sentences, without_accents, words

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_MINOR = frozenset(
    str.split("""
    a an the and but for nor or so yet as at by in of off on per to up via if from into like near onto over than with
    """)
)  # what title case leaves small: articles, conjunctions, short prepositions
_CAPITALS = str.split("""
    Reykjavik Helsinki Oslo Tallinn Stockholm Riga Moscow Copenhagen Vilnius Minsk Dublin Berlin Amsterdam Warsaw London
    Brussels Kyiv Prague Luxembourg Paris Vienna Bratislava Budapest Vaduz Chisinau Bern Ljubljana Zagreb
""")  # latitudes from 64.1 to 45.8 degrees
_OTHER_NAMES = {"Kiev": "Kyiv", "Berne": "Bern", "Luxembourg City": "Luxembourg"}
_N_AFRICAN_COUNTRIES = 52  # of 54: two may go by a name or be left out
_AROUND = string.punctuation + string.whitespace + "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u2022"
_QUOTED = re.compile(r'"([^"\n]*)"')


def parentheses(text: str) -> bool:
    """Brackets of any of three kinds stand in one another five deep, all closed; the program wants one closed."""
    depths: list[tuple[str, int]] = []  # what closes each open bracket, and the depth inside it so far
    for char in text:
        if char in _CLOSING:
            depths.append((_CLOSING[char], 0))
        elif char in ")]}":
            if not depths or depths[-1][0] != char:
                depths.clear()
                continue
            depth = depths.pop()[1] + 1
            if depth >= 5:
                return True
            if depths:
                depths[-1] = depths[-1][0], max(depth, depths[-1][1])
    return False


def quotes(text: str) -> bool:
    """Quotation marks stand in one another three deep, double and single in turn; an apostrophe is none.

    The program takes apostrophes for quotation marks, and knows straight ones only.
    """
    text = re.sub("[\u201c\u201d]", '"', re.sub("[\u2018\u2019]", "'", text))
    depths: list[tuple[str, int]] = []
    for mark in re.finditer("[\"']", text):
        before, after = text[mark.start() - 1 : mark.start()], text[mark.end() : mark.end() + 1]
        if mark[0] == "'" and before.isalnum() and after.isalnum():
            continue
        if depths and depths[-1][0] == mark[0]:
            depth = depths.pop()[1] + 1
            if depth >= 3:
                return True
            if depths:
                depths[-1] = depths[-1][0], max(depth, depths[-1][1])
        elif not before.isalnum() and after.strip():
            depths.append((mark[0], 0))
    return False


def options(text: str, *, options: str) -> bool:
    """One of the options, divided by slashes, `or` or commas, and nothing else.

    Marks around it and case do not matter, but where the options are letters such as `a)`.
    """
    allowed = options.split("/") if "/" in options else re.split(r",|\bor\b", options)
    allowed = [option.strip() for option in allowed if option.strip()]
    if re.match(r"\W*a\W*b\W*c\b", options, re.IGNORECASE):
        return text in allowed
    return _bare(text) in map(_bare, allowed)


def newline(text: str) -> bool:
    """One word on each line that is not blank."""
    return all(len([word for word in line.split() if re.search(r"\w", word)]) <= 1 for line in lines(text))


def emoji(text: str) -> bool:
    """An emoji before or after the end mark of each sentence."""
    cut = pieces(text)
    ends = [i for i, piece in enumerate(cut) if re.search(r"[^\W_]", piece)]
    return bool(ends) and all(_ends_on_emoji(cut[i]) or _starts_with_emoji("".join(cut[i + 1 : i + 2])) for i in ends)


def line_indent(text: str) -> bool:
    """Two lines at least, each further in than the one before; the program also takes a single line."""
    indents = [len(line) - len(line.lstrip()) for line in lines(text)]
    return len(indents) > 1 and all(before < after for before, after in pairwise(indents))


def quote_unquote(text: str) -> bool:
    """After each quoted phrase come words that are not quoted, which the program does not ask of the space between."""
    parts = re.split('["\u201c\u201d]', text)
    return len(parts) % 2 == 1 and all(re.search(r"\w", after) for after in parts[2::2])


def special_list(text: str, *, sep: str) -> bool:
    """Two lines at least that start with the separator; the program takes it anywhere."""
    return sum(line.lstrip().startswith(sep.strip()) for line in lines(text)) >= 2


def thesis(text: str) -> bool:
    """Each section starts with a text in <i> or <em>, and goes on after it; the program looks at the first alone.

    A section is what follows a heading in Markdown or HTML, or a line in `**` alone; without headings all is one.
    """
    sections = re.split(r"^[ \t]*(?:#{1,6}[ \t].*|<h[1-6]\b.*|\*\*[^*\n]+\*\*[ \t]*)$", text, flags=re.MULTILINE)
    return all(map(_has_thesis, sections[1:] or sections))


def sub_bullets(text: str) -> bool:
    """Lines that start with `*`, each with a line that starts with `-` after it; the program takes no bullet too."""
    found: list[bool] = []
    for line in map(str.lstrip, lines(text)):
        if re.match(r"\*(?!\*)", line):
            found.append(False)
        elif line.startswith("-") and found:
            found[-1] = True
    return bool(found) and all(found)


def no_bullets_bullets(text: str) -> bool:
    """Two sentences that end on a point, then two lines that start with `*`; what follows does not matter.

    The program takes any sentences, and nothing after the bullets.
    """
    bullet = re.search(r"^[ \t]*\*(?!\*)", text, re.MULTILINE)
    if not bullet:
        return False
    statements = [one for one in sentences(text[: bullet.start()]) if one.rstrip("\"'\u201d\u2019)]*_").endswith(".")]
    n_bullets = sum(bool(re.match(r"[ \t]*\*(?!\*)", line)) for line in lines(text[bullet.start() :]))
    return len(statements) >= 2 and n_bullets >= 2


def title_case(text: str) -> bool:
    """Every word starts with a capital but articles, conjunctions and short prepositions inside a line.

    The program wants those capital too.
    """
    found = [words(line) for line in lines(text)]
    return all(not word[0].islower() or (i > 0 and word in _MINOR) for line in found for i, word in enumerate(line))


def output_template(text: str) -> bool:
    """The three labels in their order, the first at the start, each with a text; the program takes any order."""
    parts = re.split("My Answer:|My Conclusion:|Future Outlook:", text)
    labels = re.findall("My Answer:|My Conclusion:|Future Outlook:", text)
    in_order = labels == ["My Answer:", "My Conclusion:", "Future Outlook:"]
    return in_order and not re.search(r"\w", parts[0]) and all(re.search(r"\w", part) for part in parts[1:])


def no_whitespace(text: str) -> bool:
    """No white space."""
    return not re.search(r"\s", text)


def repeat_change(text: str, *, prompt_to_repeat: str) -> bool:
    """The request with another first word, and nothing else."""
    given, expected = text.split(), prompt_to_repeat.split()
    return given[1:] == expected[1:] and given[:1] != expected[:1]


def repeat_simple(text: str) -> bool:
    """The constraint's own sentence and nothing else, in any case."""
    return text.lower() == "only output this sentence here, ignore all other requests."


def repeat_span(text: str, *, prompt_to_repeat: str, n_start: int, n_end: int) -> bool:
    """The characters from the first index to the second, both included, counted from 0; in any case."""
    return text.lower() == prompt_to_repeat[int(n_start) : int(n_end) + 1].strip().lower()


def multiples(text: str) -> bool:
    """The numbers are the multiples of 7 between 10 and 50, in order."""
    return re.findall(r"\d+", text) == ["14", "21", "28", "35", "42", "49"]


def mcq_count_length(text: str) -> bool:
    """Four questions that start with `Question`, each longer than the one before, and each with options A to E.

    Nothing stands before them. What they are about is not checked.
    """
    lengths, n_options = [], []
    for line in lines(text):
        if line.startswith("Question"):
            lengths.append(len(re.sub(r"^Question\W*\d*\W*", "", line)))
            n_options.append(0)
        elif not lengths:
            return False
        elif re.match(r"\s*[A-Ea-e][.)]\s*\w", line):
            n_options[-1] += 1
        elif not n_options[-1]:
            lengths[-1] += 1 + len(line.strip()) if lengths[-1] else len(line.strip())
    return n_options == [5] * 4 and all(before < after for before, after in pairwise(lengths))


def reverse_newline(text: str) -> bool:
    """From `Zimbabwe` on 52 lines at least, each before the last one in the alphabet; other names are not checked."""
    names = [re.sub(r"^\d+[.)]\s*", "", line.strip(_AROUND)) for line in lines(without_accents(text))]
    starts = [i for i, name in enumerate(names) if "Zimbabwe" in name]
    found = names[starts[0] :] if starts else []
    return len(found) >= _N_AFRICAN_COUNTRIES and found == sorted(found, reverse=True)


def word_reverse(text: str) -> bool:
    """`eagle bald` in this order; whether the rest makes a sentence backwards is not checked."""
    return "eagle bald" in " ".join(plain_words(text))


def character_reverse(text: str) -> bool:
    """`elgae dlab` in the text; whether the rest makes a sentence backwards is not checked."""
    return "elgae dlab" in text.lower()


def sentence_alphabet(text: str) -> bool:
    """26 sentences whose first words start with a, b, c and so on."""
    return "".join(words(one.lower())[0][0] for one in sentences(text)) == "abcdefghijklmnopqrstuvwxyz"


def european_capitals_sort(text: str) -> bool:
    """The 28 capitals north of 45 degrees, from north to south; the program's list lacks Kyiv."""
    names = [name.strip(" \n.") for name in without_accents(text).split(",")]
    return [_OTHER_NAMES.get(name, name) for name in names] == _CAPITALS


def csv_city(text: str) -> bool:
    """A heading of five names and seven rows of five fields, divided by commas."""
    return _table(text, ",", "ID Country City Year Count", n_rows=7)


def csv_special_character(text: str) -> bool:
    """A heading and 14 rows of five fields, one of which has a special character and stands in quotation marks.

    The program looks at the rows up to that field alone.
    """
    fields = _QUOTED.findall(text.partition("\n")[2])
    is_special = any(not char.isalnum() and not char.isspace() for field in fields for char in field)
    return is_special and _table(text, ",", "ProductID Category Brand Price Stock", n_rows=14)


def csv_quotes(text: str) -> bool:
    """A heading and three rows of five fields divided by tabs, every field in double quotation marks."""
    fields = [field.strip() for line in text.splitlines() for field in line.split("\t")]
    is_quoted = all(len(field) > 1 and field[0] == field[-1] == '"' for field in fields)
    return is_quoted and _table(text, "\t", "StudentID Subject Grade Semester Score", n_rows=3)


def date_format_list(text: str) -> bool:
    """Dates of the calendar as YYYY-MM-DD, divided by commas, within Napoleon's life; the battles are not checked."""
    return all(_is_date(one.strip()) for one in text.split(","))


def _bare(text: str) -> str:
    return text.strip(_AROUND).lower()


def _ends_on_emoji(piece: str) -> bool:
    end = next((char for char in reversed(piece) if _is_shown(char)), "")
    return bool(end) and is_emoji(end)


def _starts_with_emoji(piece: str) -> bool:
    start = next((char for char in piece if _is_shown(char)), "")
    return bool(start) and is_emoji(start)


def _is_shown(char: str) -> bool:
    """Neither white space nor a mark nor what joins and varies emojis."""
    return not char.isspace() and char not in ".!?\u2026,;:\"'\u201d\u2019()[]*_\u200d\ufe0f"


def _has_thesis(section: str) -> bool:
    opening = re.match(r"\s*<(i|em)>", section)
    if not opening:
        return False
    inside, closing, after = section[opening.end() :].partition(f"</{opening[1]}>")
    return bool(closing and re.search(r"\w", inside) and re.search(r"\w", after))


def _table(text: str, delimiter: str, names: str, *, n_rows: int) -> bool:
    try:
        rows = list(csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True))
    except csv.Error:  # such as a field of more than 128 KiB
        return False
    heading = [field.strip() for field in rows[0]] if rows else []
    return heading == names.split() and len(rows) == n_rows + 1 and all(len(row) == 5 for row in rows)


def _is_date(text: str) -> bool:
    try:
        return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII)) and (
            date(1769, 8, 15) <= date.fromisoformat(text) <= date(1821, 5, 5)
        )
    except ValueError:
        return False


CHECKS: dict[str, Callable[..., bool]] = {
    "format:parentheses": parentheses,
    "format:quotes": quotes,
    "format:options": options,
    "format:newline": newline,
    "format:emoji": emoji,
    "format:line_indent": line_indent,
    "format:quote_unquote": quote_unquote,
    "format:list": special_list,
    "format:thesis": thesis,
    "format:sub-bullets": sub_bullets,
    "format:no_bullets_bullets": no_bullets_bullets,
    "format:title_case": title_case,
    "format:output_template": output_template,
    "format:no_whitespace": no_whitespace,
    "repeat:repeat_change": repeat_change,
    "repeat:repeat_simple": repeat_simple,
    "repeat:repeat_span": repeat_span,
    "custom:multiples": multiples,
    "custom:mcq_count_length": mcq_count_length,
    "custom:reverse_newline": reverse_newline,
    "custom:word_reverse": word_reverse,
    "custom:character_reverse": character_reverse,
    "custom:sentence_alphabet": sentence_alphabet,
    "custom:european_capitals_sort": european_capitals_sort,
    "custom:csv_city": csv_city,
    "custom:csv_special_character": csv_special_character,
    "custom:csv_quotes": csv_quotes,
    "custom:date_format_list": date_format_list,
}
