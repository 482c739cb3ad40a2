"""The component `handlers`: the handler modules of this process, imported."""

from collections.abc import Callable
from functools import partial
from threading import Thread

import structlog
from attrs import evolve

from sz_runtime.components import Component, ComponentContext
from sz_runtime.config import Config
from sz_runtime.handler_modules import ModuleProblem, import_handler_modules
from sz_runtime.handlers import LocalHandlerRegistry
from sz_runtime.mailbox import Mailbox

_log = structlog.get_logger("schedulezero.handlers")


class LocalHandlers:
    """What the component offers: the registry that the modules have filled."""

    def __init__(self, registry: LocalHandlerRegistry, context: ComponentContext) -> None:
        self.registry = registry
        self._context = context

    async def load(self, modules: tuple[str, ...]) -> list[str]:
        """Import modules, in a thread, since that can take long. What fails is reported and returned; the schedules
        that wait for it are parked, and the other modules go on."""
        found = await _in_thread(partial(import_handler_modules, modules, self.registry))
        problems = [str(problem) for problem in found]
        for problem in problems:
            self._context.manager.warn(problem)
        return problems

    async def reload(self, running: Config, new: Config) -> tuple[Config, list[str]]:
        """Import modules that were added. What was imported stays: changed code needs a new process."""
        before, after = running.components.handlers.local.modules, new.components.handlers.local.modules
        added = tuple(module for module in after if module not in before)
        if not added or not new.components.handlers.local.enabled:
            return running, []
        problems = await self.load(added)
        local = evolve(running.components.handlers.local, modules=(*before, *added))
        if set(local.modules) == set(after):
            local = evolve(local, modules=after)
        handlers = evolve(running.components.handlers, local=local)
        lines = problems or [f"handler modules imported: {', '.join(added)}"]
        return evolve(running, components=evolve(running.components, handlers=handlers)), lines


async def _in_thread(load: Callable[[], list[ModuleProblem]]) -> list[ModuleProblem]:
    """In a thread that holds nobody: a module that never ends its import must keep neither the node from stopping nor
    the process from ending."""
    mailbox: Mailbox[list[ModuleProblem]] = Mailbox()
    mailbox.bind()
    Thread(target=lambda: mailbox.post([load()]), name="sz-imports", daemon=True).start()
    while not (done := mailbox.drain(1)):
        await mailbox.wait()
    return done[0]


async def _serve(context: ComponentContext) -> None:
    handlers = LocalHandlers(context.manager.registry, context)
    await handlers.load(context.config.components.handlers.local.modules)
    _log.info("handlers_loaded", methods=len(handlers.registry.entries()))
    context.started(handlers)
    await context.stopping.wait()


HANDLERS = Component(_serve)
