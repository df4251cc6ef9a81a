"""`vsumjax convert`, as a user calls it: what it prints, its exit status, what it leaves."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from vsumjax import testing
from vsumjax.convert import check, formats, native, weights
from vsumjax.convert.tensors import LazyTensor, full
from vsumjax.convert.weights import Facts, Weights
from vsumjax.data import tokenizer
from vsumjax.types import InputError


def _random_weights(seed=0):
  config, rng = testing.tiny_config(), np.random.default_rng(seed)

  def lazy(name, shape):
    array = rng.normal(0, 0.1, shape).astype(np.float32)
    read = lambda region: array[full(region, shape)]  # noqa: E731
    return LazyTensor(name, shape, array.dtype, "memory", read, array.ndim)

  shapes = weights.leaf_shapes(config, 5)
  facts = Facts("random", 60, ("1", "2", "3", "4", "5"), testing.SCORE_IDS)
  leaves = {name: lazy(name, shape) for name, shape in shapes.items()}
  return Weights(config, leaves, facts, {}, "memory")


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
  """A folder of ours with early exits; don't change it."""
  path = tmp_path_factory.mktemp("ours") / "ours"
  formats.write_weights(path, formats.NATIVE, _random_weights(), 0, lambda count: None)
  return path


def _same(a, b):
  a, b = formats.open_weights(a), formats.open_weights(b)
  assert a.tensors.keys() == b.tensors.keys()
  for name, tensor in a.tensors.items():
    np.testing.assert_array_equal(tensor.array(), b.tensors[name].array())
  return True


def _needs_transformers():
  import warnings

  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("torch", reason="torch is not installed")
    return pytest.importorskip("transformers", reason="transformers is not installed")


def test_to_hugging_face_and_back(run_cli, ours, tmp_path):
  _needs_transformers()
  there, back = tmp_path / "there", tmp_path / "back"
  status, out, err = run_cli("convert", "--from", ours, "--to", there, "--format", "hf")
  assert status == 0, err
  assert out.startswith(f"{there}: hf, 37 tensors in float32, 0.1 MB in ")
  assert "logits against transformers\n  max difference  " in out
  assert err == "convert: 1/1, done in 0 s  MB\n"
  report = json.loads((there / "conversion.json").read_text())
  assert report["source"] == str(ours)
  assert report["check"]["max_difference"] < 1e-4
  assert report["check"]["mean_kl"] < 1e-8
  status, out, err = run_cli("convert", "--from", there, "--to", back)
  assert status == 0, err
  assert "logits against transformers" in out
  assert _same(ours, back)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "there"]


def test_to_npz_and_back(run_cli, ours, tmp_path):
  status, out, err = run_cli("convert", "--from", ours, "--to", tmp_path / "x.npz")
  assert status == 0, err
  assert "numbers not checked: big_vision cannot be imported" in out or "mean KL" in out
  names = ["x.npz", "x.npz.conversion.json", "x.npz.exits.safetensors", "x.npz.vsumjax.json"]
  assert sorted(path.name for path in tmp_path.iterdir()) == names
  status, _, err = run_cli("convert", "--from", tmp_path / "x.npz", "--to", tmp_path / "back")
  assert status == 0, err
  assert _same(ours, tmp_path / "back")


def test_an_npz_alone_needs_a_config(run_cli, ours, tmp_path):
  npz, config = tmp_path / "x.npz", tmp_path / "model.json"
  run_cli("convert", "--from", ours, "--to", npz, "--no-check")
  (tmp_path / "x.npz.vsumjax.json").unlink()
  status, _, err = run_cli("convert", "--from", npz, "--to", tmp_path / "a")
  assert status == 2
  assert "give --model NAME or --model-json FILE" in err
  status, _, err = run_cli(
    "convert", "--from", npz, "--to", tmp_path / "a", "--model", "paligemma_3b_224"
  )
  assert status == 2
  assert f"{npz}: " in err
  model = dataclasses.asdict(testing.tiny_config()) | {"exits": {"layers": [3]}}
  config.write_text(json.dumps(model))
  status, out, err = run_cli(
    "convert", "--from", npz, "--to", tmp_path / "a", "--model-json", config, "--no-check"
  )
  assert status == 0, err
  assert "numbers not checked: it was not asked for" in out
  assert formats.open_weights(tmp_path / "a").config.exits.layers == (3,)


def test_changes(run_cli, ours, tmp_path):
  arguments = ["--image-size", 32, "--vocab-size", 70, "--dtype", "bfloat16", "--no-check"]
  status, _, err = run_cli("convert", "--from", ours, "--to", tmp_path / "x", *arguments)
  assert status == 0, err
  opened = formats.open_weights(tmp_path / "x")
  assert opened.tensors["img/pos_embedding"].shape == (1, 64, 16)
  assert opened.tensors["llm/embedder/input_embedding"].shape == (70, 32)
  assert {tensor.dtype.name for tensor in opened.tensors.values()} == {"bfloat16"}


def test_a_changed_checkpoint_is_still_checked(run_cli, ours, tmp_path):
  """Hugging Face reads the resized, extended and rounded weights as we do."""
  _needs_transformers()
  arguments = ["--image-size", 32, "--vocab-size", 70, "--dtype", "bfloat16", "--format", "hf"]
  status, _, err = run_cli("convert", "--from", ours, "--to", tmp_path / "x", *arguments)
  assert status == 0, err
  report = json.loads((tmp_path / "x" / "conversion.json").read_text())
  assert report["check"]["max_difference"] < 1e-4


def test_other_numbers_are_refused(run_cli, ours, tmp_path, monkeypatch):
  _needs_transformers()
  theirs = check.our_logits
  monkeypatch.setattr(check, "our_logits", lambda *args: theirs(*args)[..., ::-1])
  status, _, err = run_cli("convert", "--from", ours, "--to", tmp_path / "x", "--format", "hf")
  assert status == 2
  assert "our logits differ from those of transformers: mean KL" in err
  assert list(tmp_path.iterdir()) == []


def test_too_little_memory_is_said(ours, monkeypatch):
  monkeypatch.setattr(check, "_available_bytes", lambda: 10**6)
  monkeypatch.setattr(check.importlib.util, "find_spec", lambda name: name)
  found = check.compare(ours, formats.HUGGINGFACE, formats.open_weights(ours))
  assert found.reason.endswith("GB of memory in float32, and 0.0 GB are available")


@pytest.mark.parametrize("library", ["transformers", "torch"])
def test_a_missing_library_is_said(ours, monkeypatch, library):
  monkeypatch.setattr(check.importlib.util, "find_spec", lambda name: name != library or None)
  found = check.compare(ours, formats.HUGGINGFACE, formats.open_weights(ours))
  assert found.table() == f"numbers not checked: {library} is not installed"


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--from", "{missing}", "--to", "{out}"], "no such file or folder"),
    (["--from", "{ours}", "--to", "{ours}"], "exists"),
    (["--from", "{ours}", "--to", "{out}", "--format", "npz"], "named *.npz"),
    (["--from", "{ours}", "--to", "{out}.npz", "--format", "hf"], "named *.npz"),
    (["--from", "{ours}", "--to", "{out}", "--vocab-size", "10"], "cannot shrink"),
    (["--from", "{ours}", "--to", "{out}", "--image-size", "17"], "patch_size"),
    (["--from", "{ours}", "--to", "{out}", "--model", "paligemma_3b_224"], "for npz only"),
    (["--from", "{ours}", "--to", "{out}", "--model", "paligema"], "unknown"),
  ],
)
def test_wrong_requests_leave_nothing(run_cli, ours, tmp_path, arguments, message):
  names = {"ours": ours, "out": tmp_path / "out", "missing": tmp_path / "missing"}
  status, out, err = run_cli("convert", *(argument.format(**names) for argument in arguments))
  assert (status, out) == (2, "")
  assert message in err
  assert err.count("\n") == 1
  assert list(tmp_path.iterdir()) == []


def test_a_source_that_breaks_half_way_leaves_nothing(run_cli, ours, tmp_path):
  source = shutil.copytree(ours, tmp_path / "source")
  for file in (source / native.PARAMS).rglob("d/*"):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
  before = sorted(tmp_path.iterdir())
  for target in ("a", "a.npz"):
    status, _, err = run_cli("convert", "--from", source, "--to", tmp_path / target)
    assert status == 2
    assert str(source / native.PARAMS) in err
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_is_foreseen(run_cli, ours, tmp_path, monkeypatch):
  usage = shutil.disk_usage(tmp_path)._replace(free=1000)
  monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
  status, _, err = run_cli("convert", "--from", ours, "--to", tmp_path / "x")
  assert status == 2
  assert "GB are free there" in err


def test_a_tokenizer_that_does_not_fit(run_cli, ours, tmp_path):
  source = shutil.copytree(ours, tmp_path / "source")
  tokenizer.train_tokenizer(["a b"], source / "tokenizer.model", vocab_size=300, num_markers=4)
  status, _, err = run_cli("convert", "--from", source, "--to", tmp_path / "x", "--format", "hf")
  assert status == 2
  assert "give --vocab-size" in err
  assert not (tmp_path / "x").exists()


def test_a_trained_student_travels(run_cli, trained, tmp_path):
  """Workdir -> Hugging Face -> ours: the parameters, what the exits mean, the tokenizer."""
  there = tmp_path / "there"
  status, out, err = run_cli("convert", "--from", trained, "--to", there, "--format", "hf")
  assert status == 0, err
  assert "reads 4 tokens a frame, pooled from 16; Hugging Face's PaliGemma does not pool" in out
  assert _same(trained, there)
  before, after = formats.open_weights(trained), formats.open_weights(there)
  assert after.config == before.config
  assert after.facts.prompt_digest == before.facts.prompt_digest != ""
  assert after.facts.score_tokens == ("1", "2", "3", "4", "5")
  assert (there / "tokenizer.model").read_bytes() == (trained / "tokenizer.model").read_bytes()


def test_a_run_that_has_not_finished(trained, tmp_path):
  run = shutil.copytree(trained, tmp_path / "run")
  (run / "FINISHED.json").unlink()
  with pytest.raises(InputError, match="training has not finished there"):
    formats.open_weights(run)
