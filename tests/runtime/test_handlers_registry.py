"""Names of handlers: the decorators, the registry, and that nothing is ever overwritten silently."""

import functools
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sz_protocol.kernel.events import MethodInfo
from sz_runtime.call_plan import HandlerError
from sz_runtime.handlers import (
    DEFAULT_REGISTRY,
    HandlerExists,
    LocalHandlerRegistry,
    register_handler,
    register_local,
)


@pytest.fixture(autouse=True)
def _default_registry_as_it_was() -> Iterator[None]:
    before = {entry.key for entry in DEFAULT_REGISTRY.entries()}
    yield
    for entry in DEFAULT_REGISTRY.entries():
        if entry.key not in before:
            DEFAULT_REGISTRY.unregister(*entry.key)


@pytest.fixture
def registry() -> LocalHandlerRegistry:
    return LocalHandlerRegistry()


def line_of(func: Callable[..., Any]) -> int:
    return func.__code__.co_firstlineno


def test_bare_decorator_takes_the_modules_last_part_and_the_functions_name() -> None:
    @register_local
    async def nightly() -> None: ...

    entry = DEFAULT_REGISTRY.get("test_handlers_registry", "nightly")
    assert entry is not None
    assert entry.func is nightly
    assert entry.plan.pool == "async"


def test_decorator_with_a_name_and_options() -> None:
    @register_local("reports", methods=["daily", "weekly"], concurrency=2, isolate=True, aliases=["each_day"])
    def build() -> None: ...

    @register_local("mail")
    def send() -> None: ...

    @register_local()
    def plain() -> None: ...

    for name in ("daily", "weekly", "each_day"):
        entry = DEFAULT_REGISTRY.get("reports", name)
        assert entry is not None
        assert (entry.func, entry.concurrency, entry.isolate) == (build, 2, True)
    assert DEFAULT_REGISTRY.get("reports", "build") is None
    assert DEFAULT_REGISTRY.get("mail", "send") is not None
    assert DEFAULT_REGISTRY.get("test_handlers_registry", "plain") is not None


def test_the_registry_registers_as_the_design_document_does(registry: LocalHandlerRegistry) -> None:
    async def collect() -> None: ...

    def clean() -> None: ...

    registry.register(handler_id="edge-001", func=collect, methods=[collect.__name__])
    registry.register("edge-001", clean)
    assert registry.methods() == (
        MethodInfo("edge-001", "clean", "thread", None),
        MethodInfo("edge-001", "collect", "async", None),
    )


def test_a_second_function_under_one_name_is_an_error_that_names_both_places(registry: LocalHandlerRegistry) -> None:
    """The published system lets a second register_handler overwrite the first."""

    def first() -> None: ...

    def second() -> None: ...

    registry.register("h", first, ["job"])
    with pytest.raises(HandlerExists) as caught:
        registry.register("h", second, ["other", "job"])
    for place in (f"{__file__}:{line_of(first)}", f"{__file__}:{line_of(second)}", "h.job"):
        assert place in str(caught.value)
    assert registry.get("h", "other") is None, "all names or none"
    entry = registry.get("h", "job")
    assert entry is not None
    assert entry.func is first


def test_two_closures_of_one_factory_are_two_functions(registry: LocalHandlerRegistry) -> None:
    def make(n: int) -> Callable[[], int]:
        def job() -> int:
            return n

        return job

    registry.register("h", make(1))
    with pytest.raises(HandlerExists):
        registry.register("h", make(2))


def test_the_same_function_again_changes_nothing(registry: LocalHandlerRegistry) -> None:
    def job() -> None: ...

    registry.register("h", job)
    registry.register("h", job, concurrency=3)
    assert registry.methods() == (MethodInfo("h", "job", "thread", 3),)


def write_module(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)
    importlib.invalidate_caches()
    sys.modules.pop(name, None)


MODULE = """
from sz_runtime.handlers import register_local

{before}
@register_local
def job():
    return {n}
"""


def test_reloading_a_module_replaces_its_functions_quietly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    write_module(tmp_path, "sz_reloaded", MODULE.format(before="", n=1))
    module = importlib.import_module("sz_reloaded")
    write_module(tmp_path, "sz_reloaded", MODULE.format(before="\n\n# moved down\n", n=2))
    sys.modules["sz_reloaded"] = module
    importlib.reload(module)
    entry = DEFAULT_REGISTRY.get("sz_reloaded", "job")
    assert entry is not None
    assert entry.func() == 2
    sys.modules.pop("sz_reloaded")
    importlib.import_module("sz_reloaded")


def test_the_same_name_twice_in_one_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    twice = MODULE.format(before="", n=1) + MODULE.format(before="", n=2)
    write_module(tmp_path, "sz_twice", twice)
    with pytest.raises(HandlerExists, match=r"sz_twice\.job is registered twice: .*py:5, .*py:12"):
        importlib.import_module("sz_twice")


class Device:
    def __init__(self, name: str) -> None:
        self.name = name

    @register_handler
    async def collect(self) -> str:
        return self.name

    @register_handler(methods=["check", "verify"], concurrency=1, aliases=["inspect"])
    def check_alerts(self, limit: int) -> int:
        return limit

    def not_a_handler(self) -> None: ...


class LoudDevice(Device):
    async def collect(self) -> str:
        return self.name.upper()


def test_marked_methods_of_an_object_are_registered_with_their_object(registry: LocalHandlerRegistry) -> None:
    device = Device("edge-1")
    assert len(registry.register_instance("edge-1", device)) == 4
    assert registry.methods() == (
        MethodInfo("edge-1", "check", "thread", 1),
        MethodInfo("edge-1", "collect", "async", None),
        MethodInfo("edge-1", "inspect", "thread", 1),
        MethodInfo("edge-1", "verify", "thread", 1),
    )
    entry = registry.get("edge-1", "check")
    assert entry is not None
    assert entry.func(limit=3) == 3
    assert entry.plan.required == {"limit"}
    registry.register_instance("edge-1", device)  # the same object again
    with pytest.raises(HandlerExists):
        registry.register_instance("edge-1", Device("its twin"))
    registry.register_instance("edge-2", Device("another id"))


def test_an_overridden_method_stays_a_handler(registry: LocalHandlerRegistry) -> None:
    registry.register_instance("edge", LoudDevice("x"))
    entry = registry.get("edge", "collect")
    assert entry is not None
    assert entry.where.endswith(f":{line_of(LoudDevice.collect)}")


def test_pain_16_aliases_keep_stored_names_working(registry: LocalHandlerRegistry) -> None:
    def send() -> None: ...

    registry.register("mail", send, aliases=["send_mail", "old-mailer.send"])
    for key in (("mail", "send_mail"), ("old-mailer", "send")):
        entry = registry.get(*key)
        assert entry is not None
        assert (entry.func, entry.alias_of) == (send, "mail.send")

    def other() -> None: ...

    with pytest.raises(HandlerExists, match=r"mail\.send_mail is registered twice"):
        registry.register("mail", other, aliases=["send_mail"])
    assert registry.get("mail", "other") is None


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> Any:
    yield 1


def positional(a: int, /, b: int) -> None: ...


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (generator, {}, "is a generator"),
    (async_generator, {}, "is a generator"),
    (positional, {}, "'a' is positional-only"),
    (Device, {}, "is a class; register functions"),
    (Device.check_alerts, {}, "is a method without its object"),
    (42, {}, "42 cannot be called"),
    (print, {"methods": "length"}, "methods must be a list of names, not the string 'length'"),
    (print, {"methods": []}, "methods is empty"),
    (print, {"methods": ["a.b"]}, "'a.b' is no method"),
    (print, {"methods": ["a b"]}, "'a b' is no method"),
    (print, {"methods": [""]}, "'' is no method"),
    (print, {"methods": ["a\n"]}, r"is no method"),
    (print, {"concurrency": 0}, "concurrency must be at least 1, not 0"),
    (print, {"concurrency": True}, "concurrency must be at least 1, not True"),
    (print, {"handler_id": ""}, "'' is no handler id"),
    (print, {"handler_id": "a b"}, "'a b' is no handler id"),
    (print, {"handler_id": "x" * 201}, "is no handler id"),
]


@pytest.mark.parametrize(("func", "options", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
def test_what_could_never_run_is_refused_when_it_is_registered(
    registry: LocalHandlerRegistry, func: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(HandlerError) as caught:
        registry.register(options.pop("handler_id", "h"), func, **options)
    assert message in str(caught.value)
    assert registry.entries() == ()


def test_partials_wrappers_and_callable_objects_are_seen_through(registry: LocalHandlerRegistry) -> None:
    async def job(a: int, b: int) -> None: ...

    @functools.wraps(job)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return job(*args, **kwargs)

    class Caller:
        async def __call__(self, x: int) -> None: ...

    registry.register("partial", functools.partial(job, b=2))
    registry.register("wrapped", wrapper)
    registry.register("object", Caller())
    entries = {entry.handler_id: entry for entry in registry.entries()}
    assert entries["partial"].plan.pool == "async"
    assert entries["partial"].plan.required == {"a"}
    assert (entries["partial"].method, entries["wrapped"].method) == ("job", "job")
    assert entries["wrapped"].plan.required == {"a", "b"}
    assert (entries["object"].method, entries["object"].plan.pool) == ("Caller", "async")
    assert __file__ in entries["object"].where


def test_listeners_hear_of_every_change_until_they_leave(registry: LocalHandlerRegistry) -> None:
    heard: list[int] = []
    leave = registry.subscribe(lambda: heard.append(len(registry.entries())))

    def job() -> None: ...

    registry.register("a", job)
    registry.register("b", job)
    registry.unregister("a", "job")
    assert heard == [1, 2, 1]
    assert registry.unregister("a", "job") is False
    leave()
    leave()
    registry.register("c", job)
    assert heard == [1, 2, 1]


def test_threads_that_register_at_once_cannot_both_have_a_name(registry: LocalHandlerRegistry) -> None:
    refused: list[int] = []
    start = threading.Barrier(8)

    def one(n: int) -> None:
        def job() -> int:
            return n

        start.wait()
        for name in range(50):
            try:
                registry.register("h", job, [f"m{name}"])
            except HandlerExists:
                refused.append(name)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.entries()) == 50
    assert len(refused) == 7 * 50
