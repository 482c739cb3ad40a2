"""The commit of a checkout, held against what git itself says."""

import subprocess
from pathlib import Path

import pytest

from sz_shells.cli.commit import commit_of


def git(where: Path, *arguments: str) -> str:
    """What git prints."""
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(where), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit on a branch whose name has a slash."""
    root = tmp_path / "main"
    root.mkdir()
    git(root, "init", "-q", "-b", "topic/one")
    git(root, "commit", "-q", "--allow-empty", "-m", "first")
    return root


def test_a_branch(checkout: Path) -> None:
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD")


def test_packed_references(checkout: Path) -> None:
    git(checkout, "tag", "-a", "-m", "annotated: its line is followed by another", "v1")
    git(checkout, "pack-refs", "--all")
    assert not (checkout / ".git" / "refs" / "heads" / "topic" / "one").exists()
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD")


def test_a_branch_that_has_moved_on_since_it_was_packed(checkout: Path) -> None:
    git(checkout, "pack-refs", "--all")
    git(checkout, "commit", "-q", "--allow-empty", "-m", "second")
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD")


def test_a_worktree_and_its_own_branch(checkout: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    git(checkout, "worktree", "add", "-q", "-b", "other", str(tree))
    git(tree, "commit", "-q", "--allow-empty", "-m", "only here")
    assert commit_of(tree) == git(tree, "rev-parse", "HEAD") != git(checkout, "rev-parse", "HEAD")
    git(checkout, "pack-refs", "--all")
    assert commit_of(tree) == git(tree, "rev-parse", "HEAD")
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD")


def test_a_detached_head(checkout: Path) -> None:
    git(checkout, "checkout", "-q", "--detach")
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD")


def test_no_checkout_no_commit(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert commit_of(tmp_path) is None
