"""A summary for a person: chosen segments, the video, pictures and a page."""
