"""Which file is meant; what cannot be opened is said, never thrown as a traceback."""

from pathlib import Path

import pytest

from sz_runtime.config import ConfigError, load_config


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "deployments" / "edge"
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text("deployment: {mode: autonomous}\n")
    return tmp_path


@pytest.mark.parametrize("path", ["deployments/edge/config.yaml", "deployments/edge", "deployments/edge/", "edge"])
def test_a_deployment_by_file_directory_or_name(path: str) -> None:
    config = load_config(path, environ={})
    assert config.file == "deployments/edge/config.yaml"
    assert config.deployment.name == "edge"
    assert config.components.scheduler.datastore.path == "deployments/edge/schedulezero_jobs.db"
    assert config.origins["deployment.mode"] == "deployments/edge/config.yaml:1"


def test_an_absolute_path_and_a_path_object(here: Path) -> None:
    assert load_config(here / "deployments" / "edge", environ={}).deployment.name == "edge"


def test_a_file_elsewhere_is_called_default(here: Path) -> None:
    (here / "my.yaml").write_text("deployment: {mode: minimal}")
    config = load_config("my.yaml", environ={})
    assert (config.deployment.name, config.origins["deployment.name"]) == ("default", "default")


def test_a_directory_called_what_a_deployment_cannot_be(here: Path) -> None:
    odd = here / "deployments" / "a b"
    odd.mkdir()
    (odd / "config.yaml").write_text("deployment: {}")
    assert load_config(odd, environ={}).deployment.name == "default"


def test_a_directory_of_the_same_name_does_not_hide_the_deployment(here: Path) -> None:
    (here / "edge").mkdir()
    assert load_config("edge", environ={}).file == "deployments/edge/config.yaml"
    (here / "edge" / "config.yaml").write_text("deployment: {name: other}")
    assert load_config("edge", environ={}).deployment.name == "other"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nope.yaml", 'nope.yaml: there is no such file (looked for nope.yaml and deployments/nope.yaml/config.yaml)'),
        ("edg", 'did you mean "edge"?'),
        ("zzz", "deployments here: edge"),
        ("no/such/dir", "no/such/dir: there is no such file (looked for no/such/dir)"),
        ("deployments", "there is no such file (looked for deployments/deployments/config.yaml)"),
        ("deployments/edge/config.yaml/x", "there is no such file"),
        ("loop", "loop: cannot be read: "),
        ("", 'names no file'),
        ("a\0b", 'names no file'),
        ("x" * 5000, "File name too long"),
    ],
)  # fmt: skip
def test_what_cannot_be_found(here: Path, path: str, message: str) -> None:
    (here / "loop").symlink_to("loop")
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ={})
    (problem,) = caught.value.problems
    assert message in str(problem)


def test_a_directory_where_the_file_should_be(here: Path) -> None:
    (here / "deployments" / "odd" / "config.yaml").mkdir(parents=True)
    with pytest.raises(ConfigError, match="is a directory"):
        load_config("deployments/odd", environ={})
