"""Under what a dataset or student may be published: computed from the licences of all that it was made of, or refused.

Each licence has a rule that says what may become of its material, and who says so. The output's licence is one under
which every source's material may be published: the most demanding of theirs. Terms of models (Gemma, Llama, OpenRAIL)
travel on to what the model gave, and beside others they are all named. Refused are unknown licences, those that allow
no derivatives, and pairs that exclude each other, such as share-alike beside non-commercial.

This is a reading of licences, and no legal advice: conservative where a text leaves room. A student counts as made of
its data, and a teacher's rows as made of the teacher, whatever a court may say of either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from datagen.contracts.errors import ParamsError
from datagen.contracts.licence_names import UNKNOWN, licence_id
from datagen.contracts.licences import BINDING, Kind, join, source, sources_of

Group = Literal["free", "permissive", "share-alike", "non-commercial", "terms", "no-derivatives"]

_CC = "https://creativecommons.org/licenses"
_SHARE_ALIKE = "https://wiki.creativecommons.org/wiki/ShareAlike_compatibility:_GPLv3"
_GNU = "https://www.gnu.org/licenses/license-list.html"
_APACHE = "https://www.apache.org/legal/resolved.html"
_GPL = ("lgpl-2.1", "lgpl-3.0", "gpl-2.0", "gpl-3.0", "agpl-3.0")


@dataclass(frozen=True)
class Rule:
    """What may become of a licence's material.

    Attributes:
        group: `free` asks for nothing; `permissive` for its notice; `share-alike` for the same licence or one of
            `into`; `non-commercial` too, and `terms` for themselves, whatever else holds; `no-derivatives` for nothing
            to be made.
        url: the text.
        says: where it is said, by section or page.
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
    """CC licences by version: adaptations under later versions since 2.0 (section 4(b); 3(b)(1) in 4.0)."""
    rules: dict[str, Rule] = {}
    versions = ("2.0", "2.5", "3.0", "4.0")
    for version in versions:
        later = [one for one in versions if one > version]
        chart = "https://creativecommons.org/faq/, Can I combine material under different Creative Commons licenses?"
        by_sa = [f"cc-by-sa-{one}" for one in later] + (["gpl-3.0"] if version == "4.0" else [])
        by_nc = [f"cc-by-nc-{one}" for one in later] + [f"cc-by-nc-sa-{one}" for one in versions if one >= version]
        by_nc_sa = [f"cc-by-nc-sa-{one}" for one in later]
        rules |= {
            f"cc-by-{version}": Rule(
                "permissive", f"{_CC}/by/{version}/", f"{chart}; {_GNU}", not_into=() if version == "4.0" else _GPL
            ),
            f"cc-by-sa-{version}": Rule(
                "share-alike", f"{_CC}/by-sa/{version}/", f"{chart}; {_SHARE_ALIKE}", tuple(by_sa)
            ),
            f"cc-by-nc-{version}": Rule("non-commercial", f"{_CC}/by-nc/{version}/", chart, tuple(by_nc)),
            f"cc-by-nc-sa-{version}": Rule("non-commercial", f"{_CC}/by-nc-sa/{version}/", chart, tuple(by_nc_sa)),
            f"cc-by-nd-{version}": Rule("no-derivatives", f"{_CC}/by-nd/{version}/", "section 2(a)(1)(B)"),
            f"cc-by-nc-nd-{version}": Rule("no-derivatives", f"{_CC}/by-nc-nd/{version}/", "section 2(a)(1)(B)"),
        }
    return rules


def _llama(version: str, section: str) -> Rule:
    page = "llama2" if version == "2" else f"llama{version.replace('.', '_')}"
    return Rule("terms", f"https://www.llama.com/{page}/license/", section)


_OSI = "https://opensource.org/license"
RULES: dict[str, Rule] = {
    "public-domain": Rule("free", "https://creativecommons.org/public-domain/pdm/", "no rights are reserved"),
    "cc0-1.0": Rule("free", "https://creativecommons.org/publicdomain/zero/1.0/", "sections 2 and 3"),
    "pddl": Rule("free", "https://opendatacommons.org/licenses/pddl/1-0/", "section 3.1"),
    "unlicense": Rule("free", "https://unlicense.org", "its first two paragraphs"),
    "wtfpl": Rule("free", "http://www.wtfpl.net/about/", "term 0"),
    # permissive, from the least demanding: of several the last one names the whole
    "zlib": Rule("permissive", f"{_OSI}/zlib", _APACHE),
    "isc": Rule("permissive", f"{_OSI}/isc-license-txt", _APACHE),
    "mit": Rule("permissive", f"{_OSI}/mit", _APACHE),
    "bsd-2-clause": Rule("permissive", f"{_OSI}/bsd-2-clause", _APACHE),
    "bsd-3-clause": Rule("permissive", f"{_OSI}/bsd-3-clause", _APACHE),
    "psf-2.0": Rule("permissive", "https://docs.python.org/3/license.html", f"{_APACHE}; {_GNU}", on_hub=False),
    "apache-2.0": Rule(
        "permissive",
        "https://www.apache.org/licenses/LICENSE-2.0",
        f"{_APACHE}; {_GNU}",
        not_into=("gpl-2.0", "lgpl-2.1"),
    ),
    "cdla-permissive-2.0": Rule("permissive", "https://cdla.dev/permissive-2-0/", "sections 2 and 3", not_into=_GPL),
    "odc-by": Rule("permissive", "https://opendatacommons.org/licenses/by/1-0/", "section 4.2", not_into=_GPL),
    **_creative_commons(),
    "odbl": Rule("share-alike", "https://opendatacommons.org/licenses/odbl/1-0/", "section 4.4"),
    "cdla-sharing-1.0": Rule("share-alike", "https://cdla.dev/sharing-1-0/", "section 3.1"),
    "lgpl-2.1": Rule("share-alike", f"{_OSI}/lgpl-2-1", "section 3", ("gpl-2.0", "gpl-3.0", "agpl-3.0")),
    "lgpl-3.0": Rule("share-alike", f"{_OSI}/lgpl-3-0", "section 2(b)", ("gpl-3.0", "agpl-3.0")),
    "gpl-2.0": Rule("share-alike", f"{_OSI}/gpl-2-0", "section 2(b)"),
    "gpl-3.0": Rule("share-alike", f"{_OSI}/gpl-3-0", "sections 5(c) and 13", ("agpl-3.0",)),
    "agpl-3.0": Rule("share-alike", f"{_OSI}/agpl-v3", "section 5(c)"),
    "gemma": Rule(
        "terms", "https://ai.google.dev/gemma/terms", "sections 1.1(e), 3.1: they bind what learns its output"
    ),
    "llama2": _llama("2", "section 1(b)(v): outputs improve no other language model"),
    "llama3": _llama("3", "section 1(b)(v): outputs improve no other language model"),
    "llama3.1": _llama("3.1", "section 1(b)(i): models of outputs are named Llama, and its notice goes along"),
    "llama3.2": _llama("3.2", "section 1(b)(i), as of 3.1"),
    "llama3.3": _llama("3.3", "section 1(b)(i), as of 3.1"),
    "openrail": Rule("terms", "https://www.licenses.ai/ai-licenses", "use restrictions travel on"),
    "openrail++": Rule("terms", "https://www.licenses.ai/ai-licenses", "use restrictions travel on"),
    "bigscience-bloom-rail-1.0": Rule(
        "terms", "https://huggingface.co/spaces/bigscience/license", "section III, paragraph 5"
    ),
    "creativeml-openrail-m": Rule(
        "terms", "https://huggingface.co/spaces/CompVis/stable-diffusion-license", "section III, paragraph 5"
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
        stated: source to its licence, on the publisher's word; it goes before what the manifest says.

    Raises:
        ParamsError: a licence is stated for a source that there is not.
    """
    found = join(*map(sources_of, paths)) or source("rows", "data", UNKNOWN)
    if strangers := [name for name in stated if name not in found]:
        raise ParamsError(f"--licence-of {strangers[0]}: no such source; there are {', '.join(found)}")
    facts = ("title", "url", "notice")
    sources = tuple(
        Source(
            name=name,
            kind=cast(Kind, one["kind"]),
            licence=licence_id(stated[name]) if name in stated else one["licence"],
            stated=name in stated,
            **{fact: one.get(fact, "") for fact in facts},
        )
        for name, one in found.items()
    )
    return replace(_combine([one for one in sources if one.kind in BINDING]), sources=sources)


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
        f"under both ({RULES[one.licence].says}): leave one of them out, or publish them apart"
    )


def _named(licence: str) -> Resolved:
    rule = RULES[licence]
    return Resolved(licence=licence if rule.on_hub else "other", name=licence, url=rule.url, sources=(), refused=None)


def _refused(why: str) -> Resolved:
    return Resolved(licence=None, name="", url="", sources=(), refused=why)


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name
