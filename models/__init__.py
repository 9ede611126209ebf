"""Cards of known models, and the demo model."""
