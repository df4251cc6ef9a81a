"""Small files of what the README's and the docs' commands of evaluation read."""

import json

import h5py
import numpy as np

NUM_VIDEOS = 4


def write_evaluation_files(folder):
  """A benchmark, scores of it, captions of its videos; captions, similarities and answers."""
  generator = np.random.default_rng(0)
  scores, captions = {}, {}
  with h5py.File(folder / "tvsum.h5", "w") as file:
    for number in range(1, NUM_VIDEOS + 1):
      group, num_frames = file.create_group(f"video_{number}"), 600 + 60 * number
      picks, ends = np.arange(0, num_frames, 15), np.arange(59, num_frames, 60)
      levels_AN = generator.integers(1, 6, (5, len(ends)))
      group["n_frames"], group["fps"], group["picks"] = num_frames, 30.0, picks
      group["title"], group["category"] = f"A dog, part {number}", "DS"
      group["user_anno"] = np.repeat(levels_AN, 60, axis=1).astype(np.uint8)
      group["gtscore"] = (levels_AN.mean(axis=0)[picks // 60] - 1) / 4
      group["change_points"] = np.stack([ends - 59, ends], axis=1)
      scores[f"video_{number}"] = generator.random(len(picks)).tolist()
      captions[f"video_{number}"] = [
        {"start_s": 0.0, "end_s": 9.0, "text": "A dog waits beside its owner."},
        {"start_s": 9.0, "end_s": num_frames / 30, "text": f"It jumps over bar {number}."},
      ]
  _write(folder / "scores.json", scores)
  _write(folder / "video_captions.json", {"tvsum": captions})
  _write(folder / "captions.json", {"a": "a dog jumps over a bar", "b": "a man sits"})
  _write(folder / "references.json", {"a": ["the dog jumps"], "b": ["a man is sitting", "he sits"]})
  _write(folder / "answers.json", {"1": "dog", "2": "red"})
  _write(folder / "questions.json", {"1": "dog", "2": "blue"})
  np.save(folder / "similarities.npy", generator.random((6, 6), np.float32))


def _write(path, content):
  path.write_text(json.dumps(content))
