"""How the demo model is trained: Qwen2.5-VL in miniature, from nothing, on drawn scenes.

    python -m models.demo.training.train RUN      vision, then questions; goes on where it stopped
    python -m models.demo.training.grpo RUN       rewards

Needs the extra `train` (torch and transformers).
"""
