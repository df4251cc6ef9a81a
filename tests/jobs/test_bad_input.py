"""What is wrong in files that a user wrote or moved: one line that names it, nothing written."""

import json
import shutil

import pytest


@pytest.fixture
def train_on(run_cli, write_config, config_values, tmp_path):
  """`train_on(manifest=..., overrides=...)` -> the line, after all checks that hold for any."""

  def run(manifest=None, overrides=(), argument=""):
    values = config_values(**({"data.sets": ({"manifest": str(manifest)},)} if manifest else {}))
    path = write_config(tmp_path / "tiny.py", values)
    workdir = tmp_path / "run"
    status, out, err = run_cli(
      "train", "--config", f"{path}{argument}", "--workdir", workdir, *overrides
    )
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("vsumjax train: ")
    assert not workdir.exists()
    return err

  return run


@pytest.fixture
def manifest(corpus, tmp_path):
  """A copy of the corpus' manifest that tests may break, and its lines."""
  path = tmp_path / "mine.jsonl"
  lines = []
  for line in (corpus / "manifest.jsonl").read_text().splitlines():
    record = json.loads(line)
    for field in ("media", "transcript"):
      record[field] = str(corpus / record[field])
    lines.append(record)
  return path, lines


def _without(record, field):
  return {name: value for name, value in record.items() if name != field}


@pytest.mark.parametrize(
  ("change", "named"),
  [
    (lambda record: "{not JSON", "mine.jsonl:2: not JSON"),
    (lambda record: _without(record, "split"), "mine.jsonl:2: lacks the field 'split'"),
    (lambda record: record | {"titel": "x"}, "mine.jsonl:2: unknown field 'titel'"),
    (lambda record: record | {"media": "gone.mp4"}, "mine.jsonl:2: media: there is no file"),
    (lambda record: _without(record, "labels"), "has no labels"),
    (lambda record: record | {"split": "tarin"}, None),
  ],
  ids=["not JSON", "no split", "unknown field", "no media", "no labels", "another split"],
)
def test_a_manifest_line(train_on, manifest, change, named):
  path, lines = manifest
  if named is None:  # a misspelt split is found where the split is empty
    lines = [change(record) for record in lines]
    named = "no video of split 'train'; the splits are: tarin"
  else:
    lines[1] = change(lines[1])
  path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
  assert named in train_on(path)


def test_a_manifest_that_is_not_there(train_on, tmp_path):
  assert f"{tmp_path / 'none.jsonl'}: cannot read the manifest" in train_on(tmp_path / "none.jsonl")


def test_a_video_of_the_manifest_that_is_text(train_on, manifest, tmp_path):
  path, lines = manifest
  (tmp_path / "text.mp4").write_text("not a video\n" * 100)
  lines[0]["media"] = "text.mp4"
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  assert f"{tmp_path / 'text.mp4'}: not a video" in train_on(path)


@pytest.mark.parametrize(
  ("override", "named"),
  [
    ("--config.train.sede=3", "config key train.sede: unknown; did you mean train.seed?"),
    ("--config.train.seed=abc", "config key train.seed: expected int, got 'abc'"),
    ("--config.train.batch_size=6", "train.batch_size: 6 rows do not divide"),
    ("--config.mesh.data=3", "mesh: (data, fsdp, tensor) = (3, 1, 1) does not fit 8 devices"),
    ("--config.mesh.tensor=8", "bias of shape (2, 2, 8) does not divide as (None, 'tensor'"),
    ("--config.tokenizer=none.model", "none.model"),
    ("--config.data.train_split=tarin", "no video of split 'tarin'"),
    ("--config.prompt.text_tokens=3", "prompt.text_tokens"),
  ],
)
def test_a_config_value(train_on, override, named):
  assert named in train_on(overrides=[override])


def test_an_argument_the_config_does_not_take(train_on):
  assert "tiny.py: get_config('foo') failed: TypeError" in train_on(argument=":foo")


def test_a_config_file_that_is_not_there(run_cli, tmp_path):
  status, out, err = run_cli("train", "--config", "none.py:a", "--workdir", tmp_path / "run")
  assert (status, out) == (2, "")
  assert err == "vsumjax train: none.py: no such config file\n"


def test_a_stage_the_demo_does_not_have(run_cli, tmp_path):
  status, out, err = run_cli("train", "--config", "configs/demo.py:foo", "--workdir", tmp_path)
  assert (status, out) == (2, "")
  assert "configs/demo.py: get_config('foo') failed" in err
  assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["evaluate", "summarize", "cache-teacher"])
def test_a_checkpoint_of_another_architecture_or_prompt(
  run_cli, trained, corpus, tmp_path, command
):
  video = [corpus / "media" / "test_000.mp4"] if command == "summarize" else []
  for key, named in (("model", "model.llm.depth"), ("prompt", "prompt.text_tokens")):
    workdir, out = tmp_path / key, tmp_path / "out"
    shutil.copytree(trained, workdir)
    config = json.loads((workdir / "config.json").read_text())
    if key == "model":
      config["model"]["llm"]["depth"] = 4
      config["model"]["exits"]["layers"] = [1, 2, 4]
    else:
      config["prompt"]["text_tokens"] = 70
    (workdir / "config.json").write_text(json.dumps(config))
    status, stdout, err = run_cli(command, *video, "--checkpoint", workdir, "--out", out)
    assert (status, stdout) == (2, "")
    assert named in err or "model.exits.layers" in err
    assert str(workdir) in err
    assert err.count("\n") == 1
    assert not out.exists()
