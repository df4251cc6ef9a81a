"""The demo chain on the corpus of `data/fake.py`: teacher -> mentor -> student, minutes on 2 cores.

  launch/train.py --config configs/demo.py:student,seed=1,kd=none,root=runs/other
  launch/chain.py --config configs/demo.py:root=runs/other

Stages differ in size and in `objective` only. Options:
  root, corpus  folder of the chain; folder of its videos and tokenizer (root if not given)
  seed          of parameters and order
  kd            mskd (mentor and teacher), single (the teacher alone) or none
  exits         all, or last for a student without early exits
  direction     of KL: forward, reverse or js
  self          weight of the last exit's lessons to the earlier ones
  ranking       weight of the loss of order
  online        true runs the teachers in every step instead of reading their caches
"""

from ml_collections import ConfigDict

from configs import chains

# width, depth, mlp, exits. The decoders have 24 : 9 : 1 parameters in their layers.
SIZES = {
  "teacher": (128, 6, 256, (6,)),
  "mentor": (96, 4, 192, (4,)),
  "student": (32, 4, 64, (1, 2, 3, 4)),
}
STEPS = {"teacher": 300, "mentor": 300, "student": 200}
TAUGHT_BY = {"teacher": (), "mentor": ("teacher",), "student": ("mentor", "teacher")}

DEFAULTS = {
  "root": "runs/demo",
  "corpus": "",
  "seed": "0",
  "kd": "mskd",
  "exits": "all",
  "direction": "forward",
  "self": "0.0",
  "ranking": "0.0",
  "online": "false",
}


def get_config(arg: str) -> ConfigDict:
  stage, _, rest = arg.partition(",")
  options = chains.parse(rest, DEFAULTS)
  corpus = options["corpus"] or options["root"]
  width, depth, mlp_dim, exits = SIZES[stage]
  exits = {"all": exits, "last": exits[-1:]}[options["exits"]]
  return ConfigDict(
    {
      "tokenizer": f"{corpus}/tokenizer.model",
      "model": _model(width, depth, mlp_dim, exits),
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
        "seed": int(options["seed"]),
        "checkpoint_every": 100,
        "eval_every": 100,
        "log_every": 20,
      },
      "optimizer": {"learning_rate": 1e-3, "warmup": 0.1, "weight_decay": 0.05, "clip_norm": 1.0},
      "objective": {
        "ce_weight": 1.0,
        "exit_weights": (1.0,) * len(exits),
        "teachers": _teachers(stage, options),
        "self_distillation": {"weight": float(options["self"]), "temperature": 2.0},
        "ranking_weight": float(options["ranking"]),
      },
    }
  )


def get_chain(arg: str = "") -> ConfigDict:
  root = chains.parse(arg, DEFAULTS)["root"]
  return chains.chain(root, {name: f"{__file__}:{name},{arg}" for name in SIZES})


def _model(width: int, depth: int, mlp_dim: int, exits: tuple[int, ...]) -> dict:
  """Gemma 2's mechanisms behind a SigLIP tower of the same width."""
  return {
    "img": {"image_size": 48, "patch_size": 8, "depth": 2, "num_heads": 4}
    | {"width": width, "mlp_dim": 2 * width},
    "llm": {"vocab_size": 1024, "width": width, "depth": depth, "mlp_dim": mlp_dim}
    | {"num_heads": 4, "num_kv_heads": 2, "head_size": width // 4, "query_scale": width / 4}
    | {"attention_cap": 50.0, "final_cap": 30.0, "post_norms": True}  # Gemma 2
    | {"sliding_window": 32},  # on what follows the prefix only
    "exits": {"layers": exits},
    "dtype": "float32",
    "remat": False,
  }


def _teachers(stage: str, options: dict[str, str]) -> tuple[dict, ...]:
  names = {"mskd": TAUGHT_BY[stage], "single": TAUGHT_BY[stage][-1:], "none": ()}[options["kd"]]
  teachers = chains.teachers(options["root"], names, options["direction"])
  online = {"true": True, "false": False}[options["online"]]
  return tuple(teacher | {"cache": ""} if online else teacher for teacher in teachers)
