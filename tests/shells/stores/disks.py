"""Disks that fill up or cannot be written, for real: the kernel refuses, nothing is simulated."""

import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path


def _mount(*words: str) -> bool:
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0


@cache
def can_mount() -> bool:
    """Whether this user may mount a small file system."""
    with tempfile.TemporaryDirectory() as directory:
        if os.geteuid() != 0 or not _mount("-t", "tmpfs", "-o", "size=64k", "none", directory):
            return False
        subprocess.run(["umount", directory], check=True)
    return True


@contextmanager
def small_disk(directory: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of this size."""
    assert _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(directory))
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """No byte is left on the disk of this directory."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    yield
    ballast.unlink()


@contextmanager
def limited_file_size(kilobytes: int) -> Iterator[None]:
    """No file of this process may grow beyond this size, which every user may ask of the kernel."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Nothing in this directory can be written: a read-only mount where we may mount, else permissions."""
    if can_mount():
        assert _mount("--bind", str(directory), str(directory))
        assert _mount("-o", "remount,bind,ro", str(directory))
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(directory)], check=True)
    else:
        modes = {path: path.stat().st_mode for path in (*directory.iterdir(), directory)}
        for path, mode in modes.items():
            path.chmod(mode & 0o555)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
