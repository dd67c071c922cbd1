"""Where progress is kept outside every output: the ledger, checkpoints, converted models, locks."""

import os
from pathlib import Path


def home() -> Path:
    """`$DATASTILL_HOME`, else `.cache` in `$DVC_ROOT` or beside the nearest `.dvc` above, else the user's cache folder.

    DVC sets `$DVC_ROOT` to the main checkout's root in queued and temporary experiments too, so they share answers.
    """
    if named := os.environ.get("DATASTILL_HOME"):
        return Path(named).expanduser().absolute()
    if root := os.environ.get("DVC_ROOT"):
        return Path(root) / ".cache"
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".dvc").is_dir():
            return folder / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "datastill"
