"""A binary sensor for each rule: unknown where the model does not know."""

from __future__ import annotations

from typing import Any

from homeassistant.components.binary_sensor import BinarySensorEntity
from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddEntitiesCallback
from homeassistant.helpers.update_coordinator import CoordinatorEntity

from . import Decisions


async def async_setup_entry(
    hass: HomeAssistant, entry: ConfigEntry, async_add_entities: AddEntitiesCallback
) -> None:
    """A sensor for each rule of the entry."""
    decisions: Decisions = entry.runtime_data
    async_add_entities(RuleSensor(decisions, entry, rule) for rule in decisions.rules)


class RuleSensor(CoordinatorEntity[Decisions], BinarySensorEntity):
    """Whether a rule holds."""

    _attr_has_entity_name = True

    def __init__(self, decisions: Decisions, entry: ConfigEntry, rule: str) -> None:
        super().__init__(decisions)
        self._rule = rule
        self._attr_name = rule
        self._attr_unique_id = f"{entry.entry_id}_{rule}"

    @property
    def is_on(self) -> bool | None:
        """None where the answer is unknown: neither on nor off."""
        return {"yes": True, "no": False}.get(self._decision.get("answer", ""))

    @property
    def extra_state_attributes(self) -> dict[str, Any]:
        """The probability, and why there is none."""
        return {name: self._decision.get(name) for name in ("p_yes", "reason")}

    @property
    def _decision(self) -> dict[str, Any]:
        return (self.coordinator.data or {}).get(self._rule, {})
