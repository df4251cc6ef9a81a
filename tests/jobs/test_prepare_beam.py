"""Apache Beam gives what the processes of one machine give."""

import logging
import sys

import pytest

from vsumjax.data.prepared import shards
from vsumjax.data.prepared.preparation import Settings
from vsumjax.jobs import prepare
from vsumjax.types import InputError

REPORTS = ("report.json", "report.html")


@pytest.fixture(autouse=True)
def _quiet_beam():
  """Importing Beam logs a warning where the Google Cloud libraries are not installed."""
  logging.disable(logging.WARNING)
  yield
  logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def settings(make_config):
  return Settings(make_config().task.prompt, videos_per_shard=3)


def in_this_process(tasks, update):
  for task in tasks:
    yield shards.run_task(task, {})


def run(corpus, out, settings, run_tasks):
  manifest = corpus / "manifest.jsonl"
  return prepare.prepare(manifest, out, settings, run_tasks=run_tasks, max_failed_share=0)


def contents(out):
  return {path.name: path.read_bytes() for path in out.iterdir() if path.name not in REPORTS}


@pytest.fixture
def direct():
  return prepare.on_beam("DirectRunner", ["--direct_num_workers=2"], 60)


def test_beam_and_processes_make_the_same_records(corpus, settings, tmp_path, direct):
  run(corpus, str(tmp_path / "a"), settings, prepare.on_this_machine(2, 60))
  run(corpus, f"file://{tmp_path}/b", settings, direct)
  assert contents(tmp_path / "a") == contents(tmp_path / "b")
  assert len(list((tmp_path / "b").glob("shard-*.arrayrecord"))) == 2


def test_beam_goes_on_where_processes_stopped(corpus, settings, tmp_path, direct):
  def one_task(tasks, update):
    yield from in_this_process(tasks[:1], update)
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    run(corpus, str(tmp_path / "a"), settings, one_task)
  first = tmp_path / "a" / "shard-00000-of-00002.arrayrecord"
  made_ns = first.stat().st_mtime_ns
  run(corpus, str(tmp_path / "a"), settings, direct)
  assert first.stat().st_mtime_ns == made_ns
  run(corpus, str(tmp_path / "b"), settings, in_this_process)
  assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(
  ("runner", "flags", "message"),
  [
    ("NoRunner", [], "--runner NoRunner: Unexpected pipeline runner"),
    ("DirectRunner", ["--direct_nm_workers=2"], "has no flag --direct_nm_workers"),
    ("DataflowRunner", [], "--runner DataflowRunner: "),
  ],
)
def test_a_wrong_runner_is_refused(corpus, settings, tmp_path, runner, flags, message):
  with pytest.raises(InputError, match=message):
    run(corpus, str(tmp_path / "a"), settings, prepare.on_beam(runner, flags, 60))


def test_without_beam_it_says_what_to_install(corpus, settings, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "apache_beam", None)
  with pytest.raises(
    InputError, match=r"DirectRunner needs Apache Beam: pip install vsumjax\[beam"
  ):
    run(corpus, str(tmp_path / "a"), settings, prepare.on_beam("DirectRunner", [], 60))
