"""What plugins this server has."""

from pathlib import Path
from typing import Self

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.file_items import printable
from api.responses import Answer
from tasks.plugins import FailedPlugin, LoadedPlugin, load_plugins

router = APIRouter(tags=["processing"])


class PluginItem(BaseModel):
    """A plugin that works."""

    name: str
    version: str = Field(description="Changes whenever its results may; recorded with what is computed with it")
    origin: str = Field(description="Name of its file, or module of its package")
    adds: list[str] = Field(examples=[["phase feature roundness"]])

    @classmethod
    def of(cls, loaded: LoadedPlugin) -> Self:
        """Tell of a plugin."""
        plugin = loaded.plugin
        return cls(name=plugin.name, version=plugin.version, origin=_told(plugin.origin), adds=list(loaded.additions))


class FailedPluginItem(BaseModel):
    """A plugin that adds nothing."""

    name: str
    origin: str
    reason: str = Field(description="What is wrong with it")

    @classmethod
    def of(cls, failed: FailedPlugin) -> Self:
        """Tell of a plugin."""
        return cls(name=failed.name, origin=_told(failed.origin), reason=printable(failed.reason))


def _told(origin: str) -> str:
    """Where a plugin comes from, without the folders of this server."""
    return printable(Path(origin).name)


class PluginsAnswer(Answer):
    """All plugins that were found when this process started."""

    plugins: list[PluginItem]
    failed: list[FailedPluginItem]


@router.get("/plugins")
async def get_plugins() -> PluginsAnswer:
    """List the plugins, what each adds, and those that do not work, with the reason."""
    found = load_plugins()
    return PluginsAnswer(
        plugins=[PluginItem.of(loaded) for loaded in found.loaded],
        failed=[FailedPluginItem.of(failed) for failed in found.failed],
    )
