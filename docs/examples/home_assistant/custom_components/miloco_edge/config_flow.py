"""The form that asks for the server, the camera and the rules."""

from __future__ import annotations

from typing import Any

import voluptuous as vol
from aiohttp import ClientError
from homeassistant.config_entries import ConfigFlow, ConfigFlowResult
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.selector import (
    EntitySelector,
    EntitySelectorConfig,
    TextSelector,
    TextSelectorConfig,
    TextSelectorType,
)

FORM = vol.Schema(
    {
        vol.Required("url", default="http://127.0.0.1:8001"): str,
        vol.Optional("api_key"): TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD)),
        vol.Required("camera"): EntitySelector(EntitySelectorConfig(domain="camera")),
        vol.Required("rules"): TextSelector(TextSelectorConfig(multiline=True)),
    }
)


class MilocoEdgeFlow(ConfigFlow, domain="miloco_edge"):
    """One entry for each camera."""

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask, look whether the server is there, and keep what was said."""
        errors: dict[str, str] = {}
        if user_input is not None:
            rules = [line.strip() for line in user_input["rules"].splitlines() if line.strip()]
            if not rules:
                errors["rules"] = "no_rules"
            elif not await self._answers(user_input["url"]):
                errors["url"] = "cannot_connect"
            else:
                return self.async_create_entry(
                    title=user_input["camera"], data=user_input | {"rules": rules}
                )
        return self.async_show_form(step_id="user", data_schema=FORM, errors=errors)

    async def _answers(self, url: str) -> bool:
        session = async_get_clientsession(self.hass)
        try:
            async with session.get(f"{url.rstrip('/')}/health", timeout=10) as response:
                return response.status == 200
        except (ClientError, TimeoutError):
            return False
