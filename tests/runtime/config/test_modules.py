"""Handler modules are looked for and never imported."""

import sys
from pathlib import Path

import pytest

from sz_runtime.config import ConfigError, check_modules, parse_config

EXPLODES = "raise RuntimeError('imported')\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "shop_app" / "jobs"
    package.mkdir(parents=True)
    (tmp_path / "shop_app" / "__init__.py").write_text(EXPLODES)
    (package / "nightly.py").write_text(EXPLODES)
    (tmp_path / "single.py").write_text(EXPLODES)
    return tmp_path


def problems(*modules: str) -> list[str]:
    text = "components:\n  handlers:\n    local:\n      modules:\n" + "".join(f"        - {name}\n" for name in modules)
    return [str(problem) for problem in check_modules(parse_config(text))]


def test_modules_in_the_current_directory_are_found_without_importing_them() -> None:
    assert problems("shop_app", "shop_app.jobs.nightly", "single", "json.decoder", "sz_runtime.config") == []
    assert not {"shop_app", "single"} & set(sys.modules)


def test_missing_modules_are_problems_at_their_lines() -> None:
    found = problems("single", "nowhere_app.tasks", "shop_app.jobs.weekly", "single.inner", "json.decoder.x")
    assert [line.split(": ")[:2] for line in found] == [
        ["config.yaml:6", "components.handlers.local.modules[1]"],
        ["config.yaml:7", "components.handlers.local.modules[2]"],
        ["config.yaml:8", "components.handlers.local.modules[3]"],
        ["config.yaml:9", "components.handlers.local.modules[4]"],
    ]
    assert 'cannot be found: it is not installed, and not in the current directory "' in found[0]
    assert "there is no weekly in the package shop_app.jobs" in found[1]
    assert "single is a module, not a package" in found[2]


def test_a_module_written_a_moment_ago_is_found(here: Path) -> None:
    assert len(problems("just_now")) == 1
    (here / "just_now.py").write_text("")
    assert problems("just_now") == []


def test_modules_from_flags_are_said_to_be() -> None:
    (found,) = check_modules(parse_config("{}", overrides={"handlers.local.modules": "nowhere_app"}))
    assert str(found).startswith("flag: components.handlers.local.modules[0]: ")


def test_disabled_handlers_need_no_modules() -> None:
    assert check_modules(parse_config("components: {handlers: {local: {enabled: false, modules: [nowhere]}}}")) == []


@pytest.mark.parametrize("name", ["my/app.py", "my-app", "a..b", ".a", "a b", "3a"])
def test_what_is_no_module_name_is_refused_when_loading(name: str) -> None:
    with pytest.raises(ConfigError, match="has to be a module as it is imported"):
        parse_config(f"components: {{handlers: {{local: {{modules: ['{name}']}}}}}}")
