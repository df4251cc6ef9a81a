"""The task `score`: how important each segment of a video is."""
