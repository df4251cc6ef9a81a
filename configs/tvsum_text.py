"""A model without eyes on TVSum: title, captions and place of a segment -> how important it is.

launch/train.py --config configs/tvsum_text.py:corpus=runs/tvsum_text/corpus
"""

from ml_collections import ConfigDict

from configs import chains

DEFAULTS = {
  "corpus": "runs/tvsum_text/corpus",
  "manifest": "",
  "seed": "0",
  "segments": "fixed",
  "window": "1",
  "width": "48",
  "depth": "2",
  "steps": "300",
  "batch": "64",
  "lr": "1e-3",
  "wd": "0.05",
  "position": "10",
  "length": "0",
  "context": "0",
  "text": "48",
  "title": "16",
  "ranking": "0.0",
  "ce": "1.0",
  "ema": "0.0",
  "keep": "",
  "targets": "histogram",
  "eval": "50",
  "without": "",
  "exits": "last",
}


def get_config(arg: str = "") -> ConfigDict:
  o = chains.parse(arg, DEFAULTS)
  width, depth, window = int(o["width"]), int(o["depth"]), int(o["window"])
  exits = tuple(range(1, depth + 1)) if o["exits"] == "all" else (depth,)
  return ConfigDict(
    {
      "tokenizer": f"{o['corpus']}/tokenizer.model",
      "model": {
        "img": {
          "image_size": 16,
          "patch_size": 16,
          "depth": 1,
          "num_heads": 1,
          "width": 8,
          "mlp_dim": 8,
        },
        "llm": {"vocab_size": 1024, "width": width, "depth": depth, "mlp_dim": 2 * width}
        | {"num_heads": 4, "num_kv_heads": 2, "head_size": width // 4, "query_scale": width / 4}
        | {"attention_cap": 50.0, "final_cap": 30.0, "post_norms": True}
        | {"sliding_window": 32},
        "exits": {"layers": exits},
        "dtype": "float32",
        "remat": False,
      },
      "prompt": {
        "window": window,
        "segment_s": 2.0,
        "frames_per_segment": 0,
        "tokens_per_frame": 1,
        "image_size": 16,
        "text_tokens": int(o["text"]),
        "title_tokens": int(o["title"]),
        "score_tokens": ("1", "2", "3", "4", "5"),
        "context_s": float(o["context"]),
        "segmentation": o["segments"],
        "position": int(o["position"]),
        "length": int(o["length"]),
      },
      "data": {
        "sets": ({"manifest": o["manifest"] or f"{o['corpus']}/manifest.jsonl"},),
        "targets": o["targets"],
        "without": tuple(filter(None, ["frames", *o["without"].split("+")])),
        "num_workers": 0,
        "num_threads": 2,
      },
      "train": {
        "num_steps": int(o["steps"]),
        "batch_size": int(o["batch"]),
        "seed": int(o["seed"]),
        "checkpoint_every": 10_000,
        "eval_every": int(o["eval"]),
        "log_every": 50,
        "ema_decay": float(o["ema"]),
        "keep_best": o["keep"],
      },
      "optimizer": {"learning_rate": float(o["lr"]), "warmup": 0.1, "weight_decay": float(o["wd"])}
      | {"clip_norm": 1.0},
      "objective": {
        "ce_weight": float(o["ce"]),
        "exit_weights": (1.0,) * len(exits),
        "teachers": (),
        "ranking_weight": float(o["ranking"]),
      },
    }
  )
