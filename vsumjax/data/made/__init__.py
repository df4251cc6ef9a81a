"""The made corpus: videos with sound, words and annotators, from a seed."""
