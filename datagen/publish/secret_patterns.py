"""How keys, passwords and personal data look: patterns that ordinary text does not match.

Each vendor's own prefix and length says what a key is; nothing is told from how random a text looks, which would find
hashes, ids and base64 in every dataset. So a key without a prefix is not found, nor are names and addresses.

Source: the formats that vendors publish, as in GitHub's list of secret scanning patterns
(https://docs.github.com/en/code-security/secret-scanning/introduction/supported-secret-scanning-patterns); IBAN: ISO
13616, check digits by ISO 7064 (mod 97-10); cards: ISO/IEC 7812 with the issuers' ranges and lengths; e-mail addresses
and phone numbers: datagen/filter/personal_data.py. Names that RFC 2606 and 6761 keep for examples, and the numbers
555-0100 to 555-0199 that are for fiction, are nobody's.
"""

import ipaddress
import re
from collections.abc import Iterator

from datagen.filter.personal_data import PATTERNS, has_luhn_digit

_KEYS = {
    "AWS key": (r"(?:AKIA|ASIA)[A-Z2-7]{16}", "AKIA", "ASIA"),
    "GitHub token": (r"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{50,255}", "ghp_", "gho_", "ghu_", "ghs_", "ghr_",
                     "github_pat_"),
    "GitLab token": (r"glpat-[\w-]{20,}", "glpat-"),
    "Hugging Face token": (r"hf_[A-Za-z]{30,40}", "hf_"),
    "OpenAI or Anthropic key": (r"sk-(?:proj-|svcacct-|admin-|ant-[a-z0-9]+-)?[\w-]{20,}", "sk-"),
    "Google key": (r"AIza[\w-]{35}", "AIza"),
    "Slack token": (r"xox[abprs]-[\w-]{10,}", "xox"),
    "Stripe key": (r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}", "k_live_", "k_test_"),
    "npm token": (r"npm_[A-Za-z0-9]{36}", "npm_"),
    "PyPI token": (r"pypi-AgE[\w-]{50,}", "pypi-AgE"),
    "JSON web token": (r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}", "eyJ"),
    "private key": (r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----\s*\S{16}", "PRIVATE KEY"),
    "password in an address": (r"[a-z][a-z0-9+.-]{1,20}://[^\s/:@'\"<>{}$]{1,64}:[^\s/:@'\"<>{}$*]{3,64}@[\w.-]+", "://"),
}  # fmt: skip
_KEY_PATTERNS = {kind: re.compile(rf"(?<![A-Za-z0-9_]){said[0]}") for kind, said in _KEYS.items()}
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_IP = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_ISSUED = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|6(?:011|5\d\d)\d{12}|35[2-8]\d{13}"
)
_FICTION = re.compile(r"555\D{0,2}01\d\d$")
_NOBODY = re.compile(
    r"(?:example|someone|user|username|you|yourname)@.*"
    r"|.*@(?:[\w-]+\.)*(?:example(?:\.\w+)?|test|invalid|localhost|localdomain|local)",
    re.IGNORECASE,
)
_HAS_DIGITS = re.compile(r"\d[\d .()-]{5,}\d|\d\.\d{1,3}\.\d")
LIKELY = "|".join(
    [r"@|://|PRIVATE KEY|[0-9][0-9 .()-]{5,}[0-9]|[0-9]\.[0-9]{1,3}\.[0-9]|[A-Z]{2}[0-9]{2}[ A-Z0-9]{11,}"]
    + [re.escape(one) for said in _KEYS.values() for one in said[1:] if one not in ("://", "PRIVATE KEY")]
)  # what any match holds, as Rust's regex reads it: the rest of the texts need no look


def find_kinds(text: str, *, numbers: bool = True) -> Iterator[str]:
    """What kinds of keys and personal data a text holds, one for each place; of an id its `numbers` say nothing."""
    for kind, pattern in _KEY_PATTERNS.items():
        if any(prefix in text for prefix in _KEYS[kind][1:]):
            yield from (kind for found in pattern.finditer(text) if _is_key(kind, found[0]))
    if "@" in text:
        yield from ("e-mail address" for found in PATTERNS["email"].finditer(text) if not _NOBODY.fullmatch(found[0]))
    if numbers and _HAS_DIGITS.search(text):
        yield from ("phone number" for found in PATTERNS["phone"].finditer(text) if not _FICTION.search(found[0]))
        yield from ("card number" for found in PATTERNS["card"].finditer(text) if _is_card(found[0]))
        yield from ("IBAN" for found in _IBAN.finditer(text) if _is_iban(found[0]))
        yield from ("IP address" for found in _IP.finditer(text) if _is_host(found[0]))


def _is_key(kind: str, found: str) -> bool:
    """Not a stand-in, such as sk-xxxxxxxx or a word of words."""
    if kind in ("password in an address", "private key"):
        return True
    return any(c.isdigit() or c.isupper() for c in found[4:]) and len(set(found)) > 8


def _is_card(found: str) -> bool:
    digits = re.sub(r"\D", "", found)
    return bool(_ISSUED.fullmatch(digits)) and has_luhn_digit(digits) and len(set(digits)) > 2


def _is_iban(found: str) -> bool:
    compact = found.replace(" ", "")
    if not 15 <= len(compact) <= 34:
        return False
    turned = compact[4:] + compact[:4]
    return int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


def _is_host(found: str) -> bool:
    """A public address; one of short numbers is a version or a section as likely, and none."""
    parts = found.split(".")
    if any(int(part) > 255 or (part[0] == "0" and len(part) > 1) for part in parts):
        return False
    return sum(len(part) > 1 for part in parts) >= 2 and ipaddress.ip_address(found).is_global
