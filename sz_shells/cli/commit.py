"""Which commit a checkout is at, read from its files: git itself need not be installed."""

from pathlib import Path

DEEPEST = 5
"""A symbolic reference points at another one; git follows this many."""


def commit_of(root: Path) -> str | None:
    """The commit that is checked out at `root`, in hexadecimal; None where it is no checkout, or one without a commit.

    A worktree has a file `.git` that names its directory, whose `commondir` names the one with the branches. A branch
    is a file of its own, or a line of `packed-refs`.
    """
    try:
        own = root / ".git"
        if own.is_file():
            own = root / own.read_text("utf-8").strip().removeprefix("gitdir: ")
        shared = own / "commondir"
        common = own / shared.read_text("utf-8").strip() if shared.is_file() else own
        text = (own / "HEAD").read_text("utf-8").strip()
        for _ in range(DEEPEST):
            if not text.startswith("ref: "):
                return text or None
            text = _read(own, common, text.removeprefix("ref: "))
    except (OSError, UnicodeDecodeError):
        pass
    return None


def _read(own: Path, common: Path, name: str) -> str:
    """What a reference holds; empty where there is none (yet)."""
    for place in (own, common):
        if (place / name).is_file():
            return (place / name).read_text("utf-8").strip()
    packed = common / "packed-refs"
    lines = packed.read_text("utf-8").splitlines() if packed.is_file() else []
    return next((line.split(" ")[0] for line in lines if line.endswith(f" {name}")), "")
