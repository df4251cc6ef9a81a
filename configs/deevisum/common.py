"""What the stages of DEEVISum (2504.21831) share, with the paper's numbers where there are any.

"paper" is the text, "code" the repository published with it. Where the two or its nine training
scripts differ, the choice is named. Departures, each because the original does not do what it says:

- stages are trained one after the other, from cached logits (the code trains all three at once);
- exits are heads that are trained (the code has none);
- levels 1 to 5 and the annotators' histogram instead of keep/drop: a head of two classes caps
  Kendall's τ on TVSum at 0.307, the mean of the annotators reaches 0.378;
- int4 weights of a scale per channel instead of NF4.

Options of every stage, as `configs/deevisum/student_3b.py:root=runs/x,seed=1`:

  root         folder of the chain: <root>/<stage>, <root>/<stage>_cache
  manifest     the videos, with splits train, validation, test; `launch/build_dataset.py` makes one
  unlabelled   more videos of a split train, without labels; half of the examples of the stages that
               have a teacher
  checkpoints  folder with the published paligemma2-*-pt-224 and their tokenizer.model
  steps        of each stage; default: three epochs of 40 TVSum videos at one frame a second
  seed         of parameters and order
"""

from ml_collections import ConfigDict

from configs import chains

DEFAULTS = {
  "root": "runs/deevisum",
  "manifest": "data/tvsum/manifest.jsonl",
  "unlabelled": "",
  "checkpoints": "checkpoints",
  "steps": "1763",  # code: 3 epochs; 3 * 9,400 s / 16
  "seed": "0",
}


def parse(arg: str) -> dict[str, str]:
  return chains.parse(arg, DEFAULTS)


def _sets(options: dict[str, str], is_taught: bool) -> tuple[dict, ...]:
  """A stage without a teacher trains on labels alone, but its cache covers what it will teach."""
  labelled = {"manifest": options["manifest"], "weight": 1}
  if not options["unlabelled"]:
    return (labelled,)
  return labelled, {"manifest": options["unlabelled"], "weight": int(is_taught)}


def stage(size: str, exits: tuple[int, ...], taught_by: tuple[str, ...], arg: str) -> ConfigDict:
  """size: "3b", "10b" or "28b". taught_by: stages whose caches teach this one."""
  options = parse(arg)
  return ConfigDict(
    {
      "tokenizer": f"{options['checkpoints']}/tokenizer.model",
      # code: google/paligemma2-{3b,10b,28b}-pt-224
      "init_from": f"{options['checkpoints']}/paligemma2-{size}-pt-224",
      "model": {
        "family": f"paligemma2_{size}_224",
        "exits": {"layers": exits},
        "quantize": "int4",  # code: 4 bits (NF4) in every script
        # code: r 8 on q, k, v, o, gate, up, down; alpha and dropout at PEFT's defaults, 8 and 0
        "lora": {"rank": 8, "alpha": 8.0, "targets": ("llm/layers/.*",)},
        "param_dtype": "bfloat16",
      },
      "prompt": {
        "window": 1,  # code: a sample is one frame
        "segment_s": 1.0,  # code: one frame a second
        "frames_per_segment": 1,
        "tokens_per_frame": 256,  # 224 pixels, patches of 14
        "image_size": 224,
        "text_tokens": 254,  # code: 512 in all; less 256 image tokens, bos and the line break
        "title_tokens": 32,
        "score_tokens": ("1", "2", "3", "4", "5"),
      },
      "data": {
        "sets": _sets(options, is_taught=bool(taught_by)),
        "targets": "histogram",
        "num_workers": 4,
      },
      "train": {
        "num_steps": int(options["steps"]),
        "batch_size": 16,  # code: 2 rows, accumulated 8 times; a pod takes them at once
        "seed": int(options["seed"]),
        "checkpoint_every": 200,
        "eval_every": 200,
        "log_every": 10,
      },
      "optimizer": {
        "learning_rate": 1e-4,  # code: AdamW, 1e-4, no schedule
        "schedule": "constant",
        "warmup": 0.0,
        "weight_decay": 0.01,  # the default of torch's AdamW, which the code does not change
        "b2": 0.999,  # the same
        "clip_norm": 1.0,  # code
      },
      "objective": {
        "ce_weight": 1.0,
        "exit_weights": (1.0,) * len(exits),
        "teachers": chains.teachers(options["root"], taught_by),
      },
      "mesh": {"data": 1, "fsdp": -1},
    }
  )
