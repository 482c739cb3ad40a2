"""Which file is meant, and what stands in it."""

import os
from collections.abc import Iterable
from pathlib import Path

from sz_protocol.wire_values import nearest, quote
from sz_runtime.config.problems import ConfigError, Mark, problem_at
from sz_runtime.config.yaml_lines import MAX_BYTES

FILE = "config.yaml"
DIRECTORY = "deployments"


def read_config_file(path: str | os.PathLike[str]) -> tuple[str, bytes]:
    """(path of the file, its bytes) for a file, a directory that holds a config.yaml, or the bare name of a directory
    below ./deployments. Raises ConfigError."""
    given = os.fspath(path)
    if not given or "\0" in given:
        raise _refusal(given, f"{quote(given)} names no file")
    for candidate in _candidates(given):
        try:
            with open(candidate, "rb") as file:
                return candidate, file.read(MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except IsADirectoryError:
            raise _refusal(candidate, f"is a directory, but has to be a file, or a directory with a {FILE}") from None
        except OSError as error:
            raise _refusal(candidate, f"cannot be read: {error.strerror or error}") from None
    raise _refusal(given, _not_found(given))


def _candidates(given: str) -> Iterable[str]:
    if os.path.isdir(given):
        inner = os.path.join(given, FILE)
        if os.path.exists(inner) or not _is_bare(given):
            yield inner
    else:
        yield given
    if _is_bare(given):
        yield os.path.join(DIRECTORY, given, FILE)


def _is_bare(given: str) -> bool:
    return os.path.basename(given) == given


def _not_found(given: str) -> str:
    looked = " and ".join(_candidates(given))
    message = f"there is no such file (looked for {looked})"
    try:
        names = sorted(entry.name for entry in Path(DIRECTORY).iterdir() if (entry / FILE).is_file())
    except OSError:
        names = []
    if not _is_bare(given) or not names:
        return message
    return f"{message}; {nearest(given, names).replace('known here', 'deployments here')}"


def _refusal(file: str, message: str) -> ConfigError:
    return ConfigError([problem_at(file, Mark(0, 0), "", message)])


def deployment_name(file: str) -> str:
    """The name that the place of a file gives its deployment: NAME in deployments/NAME/config.yaml."""
    directory = os.path.dirname(os.path.abspath(file)) if file else ""
    if os.path.basename(os.path.dirname(directory)) == DIRECTORY:
        return os.path.basename(directory)
    return "default"
