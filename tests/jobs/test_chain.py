"""A chain: what does not fit is refused before anything is trained; what is finished is kept."""

import json

import pytest

from vsumjax.data import tokenizer
from vsumjax.data.teacher_cache.reader import verify
from vsumjax.experiment.config import load_chain, load_config
from vsumjax.experiment.experiment import build_experiment
from vsumjax.jobs import chain
from vsumjax.types import InputError

SMALL = {"train.num_steps": 2, "train.batch_size": 8, "train.eval_every": 2}


def _teacher(root, name, **changes):
  return {
    "name": name,
    "workdir": str(root / name),
    "cache": str(root / f"{name}_cache"),
    "weight": 0.5,
    "temperature": 2.0,
    "direction": "forward",
  } | changes


@pytest.fixture
def make_chain(write_config, config_values, tmp_path):
  """`make_chain(mentor={"prompt.window": 1})`: teacher -> mentor -> student, a stage changed."""

  def make(order=("teacher", "mentor", "student"), **changes):
    taught_by = {"teacher": (), "mentor": ("teacher",), "student": ("mentor", "teacher")}
    stages = []
    for name in order:
      teachers = tuple(_teacher(tmp_path, above) for above in taught_by[name])
      values = config_values(**SMALL | {"objective.teachers": teachers} | changes.get(name, {}))
      path = write_config(tmp_path / f"{name}.py", values)
      cache = "" if name == "student" else str(tmp_path / f"{name}_cache")
      stages.append(
        {"name": name, "config": str(path), "workdir": str(tmp_path / name), "cache": cache}
      )
    path = tmp_path / "chain.py"
    path.write_text(
      "import json\nfrom ml_collections import ConfigDict\n"
      f"def get_chain():\n  return ConfigDict(json.loads({json.dumps({'stages': stages})!r}))\n"
    )
    return path

  return make


def test_a_chain_runs_once_and_goes_on_where_it_was_stopped(make_chain, tmp_path, run_cli):
  """Two stages; the three of the demo are in test_demo.py."""
  path = make_chain(order=("teacher", "mentor"))
  status, _, err = run_cli("chain", "--config", path)
  assert status == 0, err
  headings = ["1/4 teacher: cross entropy", "2/4 teacher: its logits", "3/4 mentor: cross entropy"]
  assert all(heading in err for heading in headings), err
  for name in ("teacher", "mentor"):
    verify(tmp_path / f"{name}_cache")
  digest = (tmp_path / "mentor" / "FINISHED.json").read_text()
  (tmp_path / "mentor" / "FINISHED.json").unlink()
  (tmp_path / "teacher_cache" / "MANIFEST.json").unlink()
  status, _, err = run_cli("chain", "--config", path)
  assert status == 0, err
  assert "train " not in err  # the mentor stood at its last step
  assert (tmp_path / "mentor" / "FINISHED.json").read_text() == digest
  verify(tmp_path / "teacher_cache")


@pytest.fixture
def unlabelled(corpus, tmp_path):
  """The corpus's videos for training under other names, without labels."""
  lines = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
  kept = [line for line in lines if line["split"] == "train"]
  for line in kept:
    del line["labels"]
    line["id"] += "_unlabelled"
    for field in ("media", "transcript"):
      line[field] = str(corpus / line[field])
  path = tmp_path / "unlabelled.jsonl"
  path.write_text("".join(json.dumps(line) + "\n" for line in kept))
  return path


def _sets(corpus, unlabelled, weight):
  return (
    {"manifest": str(corpus / "manifest.jsonl")},
    {"manifest": str(unlabelled), "weight": weight},
  )


def test_a_chain_teaches_with_videos_without_labels(
  make_chain, corpus, unlabelled, tmp_path, run_cli
):
  path = make_chain(
    order=("teacher", "mentor"),
    teacher={"data.sets": _sets(corpus, unlabelled, 0)},
    mentor={"data.sets": _sets(corpus, unlabelled, 1)},
  )
  status, _, err = run_cli("chain", "--config", path)
  assert status == 0, err
  cache = json.loads((tmp_path / "teacher_cache" / "MANIFEST.json").read_text())
  task = build_experiment(load_config(str(tmp_path / "mentor.py"))).task
  source = task.training_source()
  assert cache["identity"]["num_examples"] == len(source)
  labels = [video.labels is not None for video in source.videos]
  assert labels == sorted(labels, reverse=True) and sum(labels) * 2 == len(labels)
  part, other = source.parts
  assert (part.num_examples, part.weight) == (other.num_examples, other.weight)


def test_a_finished_teacher_caches_sets_that_it_never_saw(
  trained, corpus, unlabelled, config_values, write_config, tmp_path, run_cli
):
  cache, manifests = tmp_path / "cache", (corpus / "manifest.jsonl", unlabelled)
  asked = ("--checkpoint", trained, "--out", cache, "--manifest", *manifests)
  for more in ((), ("--verify",)):
    status, _, err = run_cli("cache-teacher", *asked, *more)
    assert status == 0, err
  status, _, err = run_cli("cache-teacher", "--checkpoint", trained, "--out", cache, "--verify")
  assert status != 0 and "examples_digest" in err
  teacher = _teacher(tmp_path, "any", workdir=str(trained), cache=str(cache))
  values = config_values(
    **SMALL | {"data.sets": _sets(corpus, unlabelled, 3), "objective.teachers": (teacher,)}
  )
  path = write_config(tmp_path / "student.py", values)
  status, _, err = run_cli("train", "--config", path, "--workdir", tmp_path / "student")
  assert status == 0, err


def test_a_cache_of_the_labelled_alone_is_refused_before_the_first_step(
  make_chain, corpus, unlabelled, tmp_path, run_cli
):
  path = make_chain(order=("teacher", "mentor"), mentor={"data.sets": _sets(corpus, unlabelled, 1)})
  status, _, err = run_cli("chain", "--config", path)
  assert status != 0
  assert "objective.teachers[0].cache: lacks examples of this stage: config.data.sets" in err
  assert not (tmp_path / "teacher").exists()


def test_a_stage_without_a_teacher_needs_labels(
  corpus, unlabelled, config_values, write_config, tmp_path, run_cli
):
  values = config_values(**SMALL | {"data.sets": _sets(corpus, unlabelled, 1)})
  path = write_config(tmp_path / "alone.py", values)
  status, _, err = run_cli("train", "--config", path, "--workdir", tmp_path / "alone")
  assert status != 0
  assert "has no labels, and no teacher teaches this stage" in err and "data.sets" in err
  assert len(err.strip().splitlines()) == 1


def test_overrides_are_for_every_stage(make_chain, tmp_path, run_cli, monkeypatch):
  trained = {}
  monkeypatch.setattr(chain, "train", lambda config, workdir: trained.update({workdir: config}))
  monkeypatch.setattr(chain, "cache_teacher", lambda *args, **kwargs: None)
  status, _, err = run_cli("chain", "--config", make_chain(), "--config.train.num_steps=1")
  assert status == 0, err
  assert list(trained) == [tmp_path / name for name in ("teacher", "mentor", "student")]
  assert {config.train.num_steps for config in trained.values()} == {1}


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"mentor": {"prompt.text_tokens": 60}}, r"stage 'mentor' .*teachers\[0\]: config.prompt is"),
    ({"teacher": {"data.train_split": "test"}}, r"teachers\[0\].cache: lacks .*data.train_split"),
    ({"teacher": {"data.without": ("sound",)}}, r"teachers\[0\].cache: lacks .*data.without"),
    (
      {"student": {"model.exits.layers": (1, 9)}},
      r"model.exits.layers: the last, 9, must be model.llm.depth",
    ),
    ({"order": ("teacher", "student", "mentor")}, r"teachers\[0\].workdir: .*by a later stage"),
    ({"order": ("mentor", "student")}, r"teachers\[0\].workdir: of no stage .*no such folder"),
  ],
)
def test_stages_that_do_not_fit_are_refused_first(changes, message, make_chain, tmp_path):
  with pytest.raises(InputError, match=message):
    chain.run_chain(load_chain(str(make_chain(**changes))))
  assert not any((tmp_path / name).exists() for name in ("teacher", "mentor", "student"))


def test_texts_that_a_chain_does_not_cache_are_refused_first(make_chain, tmp_path):
  teachers = (_teacher(tmp_path, "teacher", text_weight=1.0),)
  with pytest.raises(InputError, match=r"'mentor'.*teachers\[0\].text_weight: .*scores alone"):
    chain.run_chain(load_chain(str(make_chain(mentor={"objective.teachers": teachers}))))
  assert not (tmp_path / "teacher").exists()


def test_a_teacher_that_is_asked_in_the_step_may_have_learned_from_other_videos(
  make_chain, tmp_path
):
  teachers = (_teacher(tmp_path, "teacher", cache=""),)
  changes = {"objective.teachers": teachers, "data.train_split": "test"}
  loaded = load_chain(
    str(make_chain(order=("teacher", "mentor"), mentor=changes | {"data.test_split": "train"}))
  )
  chain.check_stages([(stage, load_config(stage.config)) for stage in loaded.stages])


def test_another_tokenizer_is_refused_first(make_chain, corpus, tmp_path):
  other = tmp_path / "other.model"
  tokenizer.train_tokenizer(["some other words than those"] * 9, other, 300, 4)
  with pytest.raises(InputError, match=r"stage 'mentor'.*config.tokenizer is not that of stage"):
    chain.run_chain(load_chain(str(make_chain(teacher={"tokenizer": str(other)}))))


def test_another_cache_than_the_stage_writes_is_refused(make_chain, tmp_path):
  teachers = (_teacher(tmp_path, "teacher", cache=str(tmp_path / "elsewhere")),)
  with pytest.raises(InputError, match=r"teachers\[0\].cache: .*elsewhere is not the cache of"):
    chain.run_chain(load_chain(str(make_chain(mentor={"objective.teachers": teachers}))))


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("def get_config():\n  return 1\n", "has no get_chain"),
    ("def get_chain():\n  return 1 / 0\n", r"get_chain\(\) failed: ZeroDivisionError"),
    (
      "from ml_collections import ConfigDict\ndef get_chain():\n"
      "  stage = dict(name='a', config='c', workdir='w')\n"
      "  return ConfigDict({'stages': (stage, stage)})\n",
      r"stages.name: \['a', 'a'\] must differ",
    ),
    (
      "from ml_collections import ConfigDict\ndef get_chain():\n"
      "  a, b = (dict(name=x, config='c', workdir=x, cache='k') for x in 'ab')\n"
      "  return ConfigDict({'stages': (a, b)})\n",
      r"stages.cache: \['k', 'k'\] must differ",
    ),
    (
      "from ml_collections import ConfigDict\ndef get_chain():\n"
      "  return ConfigDict({'stages': ()})\n",
      "stages: names no stage",
    ),
  ],
)
def test_what_is_no_chain_is_refused(content, message, tmp_path):
  path = tmp_path / "bad.py"
  path.write_text(content)
  with pytest.raises(InputError, match=message):
    load_chain(str(path))
