"""Texts of three domains, each of its own letters, to learn from and held out."""

import json
from pathlib import Path

LETTERS = {"even": "aceg", "odd": "bdfh", "rare": "xyz"}


def write_texts(folder: Path, *, n_of_each: int = 6, n_tokens: int = 12) -> tuple[Path, Path]:
    """Files `train` and `heldout`: of each domain so many texts of so many bytes, of `rare` two; none in both."""
    rows: dict[str, list[dict[str, str]]] = {"train": [], "heldout": []}
    for name, letters in LETTERS.items():
        for i in range(2 * n_of_each):
            part = "train" if i < (2 if name == "rare" else n_of_each) else "heldout"
            text = "".join(letters[(i + at * (i + 1)) % len(letters)] for at in range(n_tokens - 2)) + f"{i:02}"
            rows[part].append({"id": f"{name}-{i}", "text": text, "domain": name})
    folder.mkdir(parents=True, exist_ok=True)
    for part, mine in rows.items():
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mine))
    return folder / "train.jsonl", folder / "heldout.jsonl"
