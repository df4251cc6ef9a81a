"""A model without eyes: title, captions and the place of a segment in its video -> importance.

  launch/evaluate.py folds --config configs/tvsum_text.py:corpus=runs/tvsum_text/corpus

See docs/tvsum_text.md for the corpus, and for what the options were worth. They are:
  corpus          folder of the tokenizer and of a manifest, which cross-validation replaces
  position        cells of the bar that tells where a segment lies, 0 for none
  length          cells of the bar that tells how long it lasts, 0 for none
  title, caption  tokens that titles and captions may take, 0 for none
  segments        given (the manifest's) or fixed (2 seconds)
  ranking         weight of the loss of order, beside 1 of the cross entropy
  steps, lr       of the training
  keep            "best" uses the parameters of the lowest validation loss, "last" the last
"""

from ml_collections import ConfigDict

from configs import chains

OWN_TOKENS = 54  # of the prompt's own words and of both bars, at most
WIDTH, DEPTH, IMAGE = 32, 2, 16

DEFAULTS = {
  "corpus": "runs/tvsum_text/corpus",
  "position": "10",
  "length": "10",
  "title": "0",
  "caption": "0",
  "segments": "given",
  "ranking": "1.0",
  "steps": "300",
  "lr": "3e-3",
  "keep": "last",
}


def get_config(arg: str = "") -> ConfigDict:
  options = chains.parse(arg, DEFAULTS)
  title, caption, steps = (int(options[name]) for name in ("title", "caption", "steps"))
  return ConfigDict(
    {
      "tokenizer": f"{options['corpus']}/tokenizer.model",
      "model": _model(),
      "prompt": {
        "window": 1,
        "segment_s": 2.0,
        "frames_per_segment": 0,
        "tokens_per_frame": 1,
        "image_size": IMAGE,
        "text_tokens": OWN_TOKENS + title + caption,
        "title_tokens": max(title, 1),
        "score_tokens": ("1", "2", "3", "4", "5"),
        "segmentation": options["segments"],
        "position": int(options["position"]),
        "length": int(options["length"]),
      },
      "data": {
        "sets": ({"manifest": f"{options['corpus']}/manifest.jsonl"},),
        "targets": "histogram",
        # The corpus has its captions as sounds.
        "without": ("frames", *("text",) * (not title), *("sound",) * (not caption)),
        "num_workers": 0,
        "num_threads": 2,
      },
      "train": {
        "num_steps": steps,
        "batch_size": 64,
        "seed": 0,
        "checkpoint_every": steps,
        "eval_every": steps // 6,
        "log_every": 50,
        "keep_best": {"best": "validation/loss", "last": ""}[options["keep"]],
      },
      "optimizer": {"learning_rate": float(options["lr"]), "warmup": 0.1, "weight_decay": 0.05}
      | {"clip_norm": 1.0},
      "objective": {
        "ce_weight": 1.0,
        "exit_weights": (1.0,),
        "teachers": (),
        "ranking_weight": float(options["ranking"]),
      },
    }
  )


def _model() -> dict:
  """Gemma 2's mechanisms; the vision tower is never built, as there is no frame to look at."""
  return {
    "img": {"image_size": IMAGE, "patch_size": IMAGE, "depth": 1, "num_heads": 1}
    | {"width": 8, "mlp_dim": 8},
    "llm": {"vocab_size": 1024, "width": WIDTH, "depth": DEPTH, "mlp_dim": 2 * WIDTH}
    | {"num_heads": 4, "num_kv_heads": 2, "head_size": WIDTH // 4, "query_scale": WIDTH / 4}
    | {"attention_cap": 50.0, "final_cap": 30.0, "post_norms": True}
    | {"sliding_window": 32},  # on what follows the prefix only
    "exits": {"layers": (DEPTH,)},
    "dtype": "float32",
    "remat": False,
  }
