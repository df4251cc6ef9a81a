"""Measures of generated language: captions, retrieval and answers. On the host, without Java."""
