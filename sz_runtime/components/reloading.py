"""A changed configuration on a running node: what can change does, the rest is said."""

from typing import TYPE_CHECKING, Any

from sz_runtime.components.choosing import choose
from sz_runtime.components.component import ReloadRefused
from sz_runtime.config.keys import table
from sz_runtime.config.load import load_config
from sz_runtime.config.loaded import Config, plain
from sz_runtime.config.secret_text import redacted

if TYPE_CHECKING:
    from sz_runtime.components.manager import ComponentManager


async def reload(manager: "ComponentManager", config: Config | None) -> list[str]:
    """Let every running component that can (it has `async reload(running, new)`, which returns the configuration that
    runs now and lines for a person) take over what concerns it; then say what is left."""
    if config is None:
        config = _read_again(manager)
    choose(config)
    if manager.config.is_on("scheduler") and manager.scheduler is None:
        raise ReloadRefused("the scheduler does not run now, so that its schedules cannot be changed; try again later")
    lines: list[str] = []
    running = manager.config
    for value in list(manager.components.values()):
        take_over = getattr(value, "reload", None)
        if take_over is not None:
            running, said = await take_over(running, config)
            lines += said
    manager.config = running
    return lines + needs_restart(running, config)


def _read_again(manager: "ComponentManager") -> Config:
    if manager.loader is not None:
        return manager.loader()
    if not manager.config.file:
        raise ReloadRefused("this node was not started from a file: its program has to hand in a configuration")
    return load_config(manager.config.file)


def needs_restart(running: Config, new: Config) -> list[str]:
    """A line for each key whose new value does not run yet."""
    lines = []
    for key in table()[0].values():
        if running.value(key) != new.value(key):
            name = key.name.rpartition(".")[2]
            before, after = (_shown(plain(key, c.value(key)), name) for c in (running, new))
            lines.append(f"{key.name}: {before} -> {after}: needs a restart")
    before_others, after_others = running.components.others, new.components.others
    for component in dict.fromkeys((*before_others, *after_others)):
        if before_others.get(component) != after_others.get(component):
            lines.append(f"components.{component}: changed: needs a restart")
    return lines


def _shown(value: Any, name: str) -> str:
    shown = redacted(value, name)
    return "nothing" if shown is None else str(shown).lower() if isinstance(shown, bool) else str(shown)
