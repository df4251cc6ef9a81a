"""From segment scores to a summary and its measures, on the host: no device, model or reader."""
