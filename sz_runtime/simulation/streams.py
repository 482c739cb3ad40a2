"""Randomness of a simulated world: every draw comes from a named stream derived from the seed.

One stream per purpose, so that removing one fault from a plan (the shrinker does) leaves the draws of everything else
as they were.
"""

from hashlib import blake2b
from random import Random


def stream(seed: int, *names: str | int) -> Random:
    """The random stream of (seed, names...), the same in every process and under every PYTHONHASHSEED."""
    material = "\0".join((str(seed), *map(str, names))).encode()
    return Random(int.from_bytes(blake2b(material, digest_size=16).digest(), "big"))
