"""The components of a node and their manager. `specs/components.md` says how they live and how to write one."""

from sz_runtime.components.component import (
    CannotRun,
    Component,
    ComponentContext,
    ComponentFailed,
    Limits,
    ReloadRefused,
    StoppedEarly,
)
from sz_runtime.components.manager import ComponentManager, ComponentStanding

__all__ = [
    "CannotRun",
    "Component",
    "ComponentContext",
    "ComponentFailed",
    "ComponentManager",
    "ComponentStanding",
    "Limits",
    "ReloadRefused",
    "StoppedEarly",
]
