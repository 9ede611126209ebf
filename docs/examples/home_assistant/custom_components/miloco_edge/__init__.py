"""Rules about a camera of Home Assistant, decided by miloco-edge on this network."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

from aiohttp import ClientError
from homeassistant.components.camera import async_get_image
from homeassistant.config_entries import ConfigEntry
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator, UpdateFailed

from .client import decide, request

LOG = logging.getLogger(__name__)
PLATFORMS = [Platform.BINARY_SENSOR]
FRAMES, SPACING_S, INTERVAL = 4, 0.5, timedelta(seconds=15)


class Decisions(DataUpdateCoordinator[dict[str, dict[str, Any]]]):
    """The newest decision of each rule."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry) -> None:
        super().__init__(
            hass, LOG, config_entry=entry, name="miloco-edge", update_interval=INTERVAL
        )
        self.rules: list[str] = entry.data["rules"]

    async def _async_update_data(self) -> dict[str, dict[str, Any]]:
        settings = self.config_entry.data
        frames: list[bytes] = []
        try:
            while len(frames) < FRAMES:
                if frames:
                    await asyncio.sleep(SPACING_S)
                frames.append((await async_get_image(self.hass, settings["camera"])).content)
            return await decide(
                async_get_clientsession(self.hass),
                settings["url"],
                settings.get("api_key"),
                request(frames, self.rules, fps=1 / SPACING_S),
            )
        except (HomeAssistantError, ClientError, TimeoutError, KeyError) as error:
            raise UpdateFailed(f"no decisions: {error}") from error


async def async_setup_entry(hass: HomeAssistant, entry: ConfigEntry) -> bool:
    """Begin to ask."""
    entry.runtime_data = Decisions(hass, entry)
    await entry.runtime_data.async_config_entry_first_refresh()
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    return True


async def async_unload_entry(hass: HomeAssistant, entry: ConfigEntry) -> bool:
    """Stop asking."""
    return await hass.config_entries.async_unload_platforms(entry, PLATFORMS)
