"""The demo chain on the corpus of `data/fake.py`: teacher -> mentor -> student, minutes on 2 cores.

  configs/demo.py:teacher
  configs/demo.py:student,seed=1,distil=false,root=runs/other

Stages differ in size and in `objective.teachers` only. `root` is the folder of the whole chain;
`corpus` holds its videos and tokenizer, and is `root` if not given.
"""

from ml_collections import ConfigDict

# width, depth, mlp, exits. The decoders have 24 : 9 : 1 parameters in their layers.
SIZES = {
  "teacher": (128, 6, 256, (6,)),
  "mentor": (96, 4, 192, (4,)),
  "student": (32, 4, 64, (1, 2, 3, 4)),
}
STEPS = {"teacher": 300, "mentor": 300, "student": 200}


def get_config(arg: str) -> ConfigDict:
  """arg: the stage, then key=value pairs (seed, distil, root, corpus), separated by commas."""
  stage, *pairs = arg.split(",")
  options = {"seed": "0", "distil": "true", "root": "runs/demo"} | dict(
    pair.split("=", 1) for pair in pairs
  )
  seed, root = int(options["seed"]), options["root"]
  corpus = options.get("corpus", root)
  teachers = _teachers(stage, root) if options["distil"] == "true" else ()
  return ConfigDict(
    {
      "tokenizer": f"{corpus}/tokenizer.model",
      "model": _model(*SIZES[stage]),
      "prompt": {
        "window": 1,  # DEEVISum's: one segment a sequence
        "segment_s": 2.0,
        "frames_per_segment": 1,
        "tokens_per_frame": 9,
        "image_size": 48,
        "text_tokens": 40,
        "title_tokens": 12,
        "score_tokens": ("1", "2", "3", "4", "5"),
      },
      "data": {
        "sets": ({"manifest": f"{corpus}/corpus/manifest.jsonl"},),
        "train_split": "train",
        "validation_split": "validation",
        "test_split": "test",
        "targets": "histogram",
        "num_workers": 0,
        "num_threads": 2,
      },
      "train": {
        "num_steps": STEPS[stage],
        "batch_size": 32,
        "seed": seed,
        "checkpoint_every": 100,
        "eval_every": 100,
        "log_every": 20,
      },
      "optimizer": {
        "learning_rate": 1e-3,
        "warmup": 0.1,
        "weight_decay": 0.05,
        "clip_norm": 1.0,
      },
      "objective": {
        "ce_weight": 1.0,
        "exit_weights": (1.0,) * len(SIZES[stage][-1]),
        "teachers": teachers,
      },
    }
  )


def _model(width: int, depth: int, mlp_dim: int, exits: tuple[int, ...]) -> dict:
  """Gemma 2's mechanisms behind a SigLIP tower of the same width."""
  return {
    "img": {
      "image_size": 48,
      "patch_size": 8,
      "width": width,
      "depth": 2,
      "mlp_dim": 2 * width,
      "num_heads": 4,
    },
    "llm": {
      "vocab_size": 1024,
      "width": width,
      "depth": depth,
      "mlp_dim": mlp_dim,
      "num_heads": 4,
      "num_kv_heads": 2,
      "head_size": width // 4,
      "query_scale": width / 4,
      "attention_cap": 50.0,  # Gemma 2
      "final_cap": 30.0,  # Gemma 2
      "post_norms": True,
      "sliding_window": 32,  # on what follows the prefix only
    },
    "exits": {"layers": exits},
    "dtype": "float32",
    "remat": False,
  }


def _teachers(stage: str, root: str) -> tuple:
  """φ and ψ of 0.5 and T = 2 are the values of DEEVISum's published code."""
  above = {"teacher": (), "mentor": ("teacher",), "student": ("mentor", "teacher")}[stage]
  return tuple(
    {
      "name": name,
      "workdir": f"{root}/{name}",
      "cache": f"{root}/{name}_cache",
      "weight": 0.5,
      "temperature": 2.0,
      "direction": "forward",
    }
    for name in above
  )
