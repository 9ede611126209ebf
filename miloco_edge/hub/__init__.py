"""Cameras, windows, the gate, rules, the scheduler and events. Knows an engine by its protocol."""
