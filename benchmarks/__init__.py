"""Scripts that measure, and the checkpoint synthesizer that they and the tests use."""
