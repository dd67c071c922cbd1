"""Under what a dataset or student may be published: computed from the licences of all that it was made of, or refused.

Each licence has a rule that says what may become of its material, and who says so. The output's licence is one under
which every source's material may be published: the most demanding of theirs. Terms of models (Gemma, Llama, OpenRAIL)
travel on to what the model gave, and beside others they are all named. Refused are unknown licences, those that allow
no derivatives, pairs that exclude each other, such as share-alike beside non-commercial, and students of Llama 2 or 3
that are another language model.

This is a reading of licences, and no legal advice: conservative where a text leaves room. A student counts as made of
its data, and a teacher's rows as made of the teacher, whatever a court may say of either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from datagen.contracts.errors import ParamsError
from datagen.contracts.licence_names import UNKNOWN, licence_id
from datagen.contracts.licences import BINDING, Kind, Sources, join, source, sources_of
from datagen.publish.places import without_places

Group = Literal["free", "permissive", "share-alike", "non-commercial", "terms", "no-derivatives"]

_CC = "https://creativecommons.org/licenses"
_CHART = "https://creativecommons.org/faq/, the chart of adapter's licences"
_BY_SA_TO_GPL = "https://wiki.creativecommons.org/wiki/ShareAlike_compatibility:_GPLv3"
_GNU = "https://www.gnu.org/licenses/license-list.html"
_WAIVER = (
    "https://wiki.osmfoundation.org/wiki/Licence/Waiver_and_Permission_Templates/"
    "Cover_letter_and_waiver_template_for_CC_BY_4.0"
)
_NOTICE = "its text asks that its notice goes along, and nothing of the licence of the whole"
_GPL = ("lgpl-2.1", "lgpl-3.0", "gpl-2.0", "gpl-3.0", "agpl-3.0")
_DATABASES = ("odbl", "cdla-sharing-1.0")


@dataclass(frozen=True)
class Rule:
    """What may become of a licence's material.

    Attributes:
        group: `free` asks for nothing; `permissive` for its notice; `share-alike` for the same licence or one of
            `into`; `non-commercial` too, and `terms` for themselves, whatever else holds; `no-derivatives` for nothing
            to be made.
        url: the text.
        says: what it asks and where that is said, by section or page where they were looked up; cards print it.
        into: other licences under which the material may be published; of permissive ones all but those of `not_into`.
        not_into: see there.
        on_hub: whether the Hub's list has it.
    """

    group: Group
    url: str
    says: str
    into: tuple[str, ...] = ()
    not_into: tuple[str, ...] = ()
    on_hub: bool = True


def _creative_commons() -> dict[str, Rule]:
    """CC licences by version.

    Adaptations of BY-SA and BY-NC-SA may be under a later version: Creative Commons for Educators and Librarians,
    page 85.
    """
    rules: dict[str, Rule] = {}
    versions = ("2.0", "2.5", "3.0", "4.0")
    for version in versions:
        later = [one for one in versions if one > version]
        by_sa = [f"cc-by-sa-{one}" for one in later] + (["gpl-3.0"] if version == "4.0" else [])
        by_nc = [f"cc-by-nc-{one}" for one in later] + [f"cc-by-nc-sa-{one}" for one in versions if one >= version]
        by_nc_sa = [f"cc-by-nc-sa-{one}" for one in later]
        by = f"credit, and no terms that restrict what it allows: {_CHART}; beside ODbL its owner's waiver: {_WAIVER}"
        derivatives = {"3.0": "section 3", "4.0": "section 3(a)(2)"}.get(version, "its text")
        nothing = f"{derivatives}: nothing made of it may be published"
        rules |= {
            f"cc-by-{version}": Rule(
                "permissive",
                f"{_CC}/by/{version}/",
                f"{by}; into the GPL: {_GNU}" if version == "4.0" else by,
                not_into=_DATABASES + (() if version == "4.0" else _GPL),
            ),
            f"cc-by-sa-{version}": Rule(
                "share-alike",
                f"{_CC}/by-sa/{version}/",
                f"credit and the same licence: {_CHART}" + (f"; {_BY_SA_TO_GPL}" if version == "4.0" else ""),
                tuple(by_sa),
            ),
            f"cc-by-nc-{version}": Rule(
                "non-commercial", f"{_CC}/by-nc/{version}/", f"credit, no commercial use: {_CHART}", tuple(by_nc)
            ),
            f"cc-by-nc-sa-{version}": Rule(
                "non-commercial",
                f"{_CC}/by-nc-sa/{version}/",
                f"credit, no commercial use and the same licence: {_CHART}",
                tuple(by_nc_sa),
            ),
            f"cc-by-nd-{version}": Rule("no-derivatives", f"{_CC}/by-nd/{version}/", nothing),
            f"cc-by-nc-nd-{version}": Rule(
                "no-derivatives", f"{_CC}/by-nc-nd/{version}/", "its text: nothing made of it may be published"
            ),
        }
    return rules


def _llama(version: str, says: str) -> Rule:
    page = "llama2" if version == "2" else f"llama{version.replace('.', '_')}"
    return Rule("terms", f"https://www.llama.com/{page}/license/", says)


_LLAMA = (
    "section 1(b)(i): a model that it or its outputs improved has a name that begins with Llama, and what contains it "
    "shows 'Built with Llama' and has the licence with it"
)
_ONLY_LLAMA = {
    one: f"section 1(b)(v): neither it nor its outputs improve another large language model than {name} and what is "
    "derived from it"
    for one, name in (("llama2", "Llama 2"), ("llama3", "Meta Llama 3"))
}
_RAIL = "its restrictions of use bind whoever uses the model or what is derived from it"
_OSI = "https://opensource.org/license"
RULES: dict[str, Rule] = {
    "public-domain": Rule("free", "https://creativecommons.org/public-domain/pdm/", "no rights are reserved"),
    "cc0-1.0": Rule("free", "https://creativecommons.org/publicdomain/zero/1.0/", "sections 2 and 3: asks nothing"),
    "pddl": Rule("free", "https://opendatacommons.org/licenses/pddl/1-0/", "section 3.1: asks nothing"),
    "unlicense": Rule("free", "https://unlicense.org", "its text asks nothing"),
    "wtfpl": Rule("free", "http://www.wtfpl.net/about/", "its text asks nothing"),
    # permissive, from the least demanding: of several the last one names the whole
    "zlib": Rule("permissive", f"{_OSI}/zlib", _NOTICE),
    "isc": Rule("permissive", f"{_OSI}/isc-license-txt", _NOTICE),
    "mit": Rule("permissive", f"{_OSI}/mit", _NOTICE),
    "bsd-2-clause": Rule("permissive", f"{_OSI}/bsd-2-clause", _NOTICE),
    "bsd-3-clause": Rule("permissive", f"{_OSI}/bsd-3-clause", _NOTICE),
    "psf-2.0": Rule("permissive", "https://docs.python.org/3/license.html", f"{_NOTICE}; {_GNU}", on_hub=False),
    "apache-2.0": Rule(
        "permissive",
        "https://www.apache.org/licenses/LICENSE-2.0",
        f"section 4: its notices and what was changed go along, the whole may have other terms; not GPL-2.0's: {_GNU}",
        not_into=("gpl-2.0", "lgpl-2.1"),
    ),
    "cdla-permissive-2.0": Rule(
        "permissive", "https://cdla.dev/permissive-2-0/", "sections 2.1 and 3.1: its text goes along", not_into=_GPL
    ),
    # of databases: what is in one may be under another licence, the whole under none but this
    "odc-by": Rule(
        "share-alike",
        "https://opendatacommons.org/licenses/by/1-0/",
        "sections 4.2(a) and 4.4: only under its own terms, with its notices and no further restrictions",
    ),
    **_creative_commons(),
    "odbl": Rule(
        "share-alike",
        "https://opendatacommons.org/licenses/odbl/1-0/",
        "section 4.4: what is made of it is under it too",
    ),
    "cdla-sharing-1.0": Rule(
        "share-alike", "https://cdla.dev/sharing-1-0/", "section 3.1(a): published under it, and nothing else"
    ),
    "lgpl-2.1": Rule("share-alike", f"{_OSI}/lgpl-2-1", "section 3: as it is, or the GPL", ("gpl-2.0", "gpl-3.0")),
    "lgpl-3.0": Rule("share-alike", f"{_OSI}/lgpl-3-0", "section 2(b): as it is, or the GPL", ("gpl-3.0",)),
    "gpl-2.0": Rule("share-alike", f"{_OSI}/gpl-2-0", "section 2(b): the whole is under it"),
    # section 13 lets it be combined with the AGPL's; each part stays under its own, and one dataset has one licence
    "gpl-3.0": Rule("share-alike", f"{_OSI}/gpl-3-0", "section 5(c): the whole is under it"),
    "agpl-3.0": Rule("share-alike", f"{_OSI}/agpl-v3", "section 5(c): the whole is under it"),
    "gemma": Rule(
        "terms",
        "https://ai.google.dev/gemma/terms",
        "sections 1.1(e) and 3.1: they bind models that learn its output, and go along with them",
    ),
    "llama2": _llama("2", _ONLY_LLAMA["llama2"]),
    "llama3": _llama(
        "3",
        f"{_ONLY_LLAMA['llama3']}; section 1(b)(i): a model made of it has a name that begins with Llama 3, and shows "
        "'Built with Meta Llama 3'",
    ),
    "llama3.1": _llama("3.1", _LLAMA),
    "llama3.2": _llama("3.2", _LLAMA),
    "llama3.3": _llama("3.3", _LLAMA),
    "openrail": Rule("terms", "https://www.licenses.ai/ai-licenses", _RAIL),
    "openrail++": Rule("terms", "https://www.licenses.ai/ai-licenses", _RAIL),
    "bigscience-bloom-rail-1.0": Rule("terms", "https://huggingface.co/spaces/bigscience/license", _RAIL),
    "creativeml-openrail-m": Rule(
        "terms",
        "https://huggingface.co/spaces/CompVis/stable-diffusion-license",
        f"section III, paragraphs 4 to 6: {_RAIL}",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """One that was used, as manifests name it; `stated` where its licence is the publisher's word."""

    name: str
    kind: Kind
    licence: str
    title: str = ""
    url: str = ""
    notice: str = ""
    stated: bool = False


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """The output's licence.

    Attributes:
        licence: as the Hub lists it, `other` where it does not; None where it is refused.
        name: of the licence, or of all whose terms travel on.
        url: of its text; empty where there are several.
        sources: all that was used, by name.
        refused: why there is no licence and what to do, in one sentence.
    """

    licence: str | None
    name: str
    url: str
    sources: tuple[Source, ...]
    refused: str | None


def resolve(*paths: Path, stated: Mapping[str, str]) -> Resolved:
    """The licence of what was made into `paths`, the parts of one dataset.

    Args:
        paths: dataset or model directories.
        stated: source to its licence, on the publisher's word, where its manifest has none or one without a rule.

    Raises:
        ParamsError: a licence is stated for a source that there is not, or that has another one.
    """
    found = join(*map(sources_of, paths))
    if not any(one["kind"] in BINDING for one in found.values()):
        found = join(found, source("rows", "data", UNKNOWN))  # of something they are made, which no manifest names
    found = cast(Sources, without_places(found))
    _check_stated(stated, found)
    facts = ("title", "url", "notice")
    sources = tuple(
        Source(
            name=name,
            kind=cast(Kind, one["kind"]),
            licence=licence_id(stated[name]) if name in stated else one["licence"],
            stated=name in stated and licence_id(stated[name]) != one["licence"],
            **{fact: one.get(fact, "") for fact in facts},
        )
        for name, one in found.items()
    )
    binding = [one for one in sources if one.kind in BINDING]
    resolved = _combine(binding)
    is_model = any((path / "config.json").is_file() for path in paths)
    if resolved.licence and (why := _improves_another(binding, is_model=is_model)):
        resolved = _refused(why)
    return replace(resolved, sources=sources)


def _check_stated(stated: Mapping[str, str], found: Sources) -> None:
    if strangers := [name for name in stated if name not in found]:
        raise ParamsError(f"--licence-of {strangers[0]}: no such source; there are {', '.join(found)}")
    for name, text in stated.items():
        known = found[name]["licence"]
        if known in RULES and known != licence_id(text):
            raise ParamsError(
                f"--licence-of {_quoted(name)}={text}: its manifest says {known}, which a publisher's word does not "
                f"change; leave --licence-of out, or publish against it with --allow licence"
            )


def _improves_another(binding: Sequence[Source], *, is_model: bool) -> str:
    """Why a student of Llama 2 or 3 may not be published: it is another language model; empty where it may.

    Of an encoder or of a student from scratch the terms do not say that it is none, so it counts.
    """
    bases = [one for one in binding if one.kind == "base"]
    for one in binding:
        others = [base for base in bases if base.licence != one.licence]
        if one.licence in _ONLY_LLAMA and one.kind != "base" and (others or (is_model and not bases)):
            start = f"starts from {others[0].name!r}, under {others[0].licence}" if others else "starts from nothing"
            return (
                f"{one.name!r} is under {one.licence}, and the student {start} ({RULES[one.licence].says}): start from "
                f"a model under {one.licence}, or leave {one.name!r} out"
            )
    return ""


def _combine(sources: Sequence[Source]) -> Resolved:
    if refused := _unusable(sources):
        return _refused(refused)
    by_licence = {one.licence: one for one in sources if RULES[one.licence].group != "free"}
    if not by_licence:
        return _named("cc0-1.0")
    terms = [one for one in by_licence if RULES[one].group == "terms"]
    others = [one for one in by_licence if RULES[one].group != "terms"]
    sharing = [one for one in others if RULES[one].group == "share-alike"]
    if terms and sharing:
        return _refused(_excluded(by_licence[sharing[0]], by_licence[terms[0]]))
    under = sorted((one for one in others if _takes_all(one, others)), key=list(RULES).index)
    under = under or [one for one in RULES if _takes_all(one, others)][:1]  # a later version than any has
    if others and not under:
        pairs = ((a, b) for a in others for b in others if not _into(a, b) and not _into(b, a))
        one, other = next(pairs, (others[0], others[-1]))
        return _refused(_excluded(by_licence[one], by_licence[other]))
    travelling = sorted(terms) + [one for one in under[-1:] if RULES[one].group == "non-commercial"]
    if not travelling or len(travelling) == 1:
        return _named(travelling[0] if travelling else under[-1])
    return Resolved(licence="other", name=" and ".join(travelling), url="", sources=(), refused=None)


def _unusable(sources: Sequence[Source]) -> str:
    """Of licences that are unknown, have no rule or allow nothing to be made: why and what to do."""
    told: list[str] = []
    if unknown := [one for one in sources if one.licence == UNKNOWN]:
        named = ", ".join(f"{one.name!r} ({one.kind})" for one in unknown)
        told.append(f"nothing says the licence of {named}: state it by --licence-of {_quoted(unknown[0].name)}=ID")
    for one in sources:
        if one.licence != UNKNOWN and one.licence not in RULES:
            told.append(
                f"{one.name!r} ({one.kind}) is under {one.licence!r}, for which datastill has no rule: state one that "
                f"it is under too by --licence-of {_quoted(one.name)}=ID, of {', '.join(RULES)}"
            )
        elif one.licence in RULES and RULES[one.licence].group == "no-derivatives":
            told.append(f"{one.name!r} is under {one.licence}, so nothing made of it may be published: leave it out")
    return "; ".join(told)


def _into(one: str, other: str) -> bool:
    """Whether material under `one` may be published under `other`."""
    rule, into = RULES[one], RULES[other]
    if one == other or other in rule.into:
        return True
    return rule.group == "permissive" and other not in rule.not_into and into.group not in ("free", "no-derivatives")


def _takes_all(one: str, others: Sequence[str]) -> bool:
    return all(_into(other, one) for other in others)


def _excluded(one: Source, other: Source) -> str:
    return (
        f"{one.name!r} is under {one.licence} and {other.name!r} under {other.licence}, and nothing can be published "
        f"under both ({one.licence}: {RULES[one.licence].says}; {other.licence}: {RULES[other.licence].says}): leave "
        "one of them out, or publish them apart"
    )


def _named(licence: str) -> Resolved:
    rule = RULES[licence]
    return Resolved(licence=licence if rule.on_hub else "other", name=licence, url=rule.url, sources=(), refused=None)


def _refused(why: str) -> Resolved:
    return Resolved(licence=None, name="", url="", sources=(), refused=why)


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name
