"""Shards of decoded media: what `launch/prepare.py` writes and training reads."""
