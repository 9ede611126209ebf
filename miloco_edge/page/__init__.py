"""The demo page: what it asks, keeps and draws, in plain functions; Gradio is in `app` alone."""
