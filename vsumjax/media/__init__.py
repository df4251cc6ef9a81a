"""Media files in and out: containers, video, audio, subtitles, where to cut."""
