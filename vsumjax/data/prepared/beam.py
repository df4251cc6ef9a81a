"""Runs preparation tasks as an Apache Beam pipeline, on many machines."""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence

from vsumjax.data.prepared import preparation, processes
from vsumjax.data.prepared.preparation import Outcome, Task
from vsumjax.data.prepared.storage import Folder
from vsumjax.types import InputError


def run_tasks(
  tasks: Sequence[Task], *, runner: str, flags: Sequence[str], stall_s: float
) -> Generator[Outcome, None, None]:
  """Runs the tasks, waits for the pipeline to end, and yields the outcome of every task.

  A task that is run twice, as Beam may do, writes the same files under the same names.

  Args:
    tasks: each makes one shard.
    runner: a runner that Beam knows, as DirectRunner, DataflowRunner, FlinkRunner.
    flags: of the runner, as --region=europe-west4.
    stall_s: as in `prepare_processes.run_tasks`.

  Raises:
    InputError: Beam is not installed, or does not know the runner or a flag.
    RuntimeError: the pipeline failed.
  """
  try:
    import apache_beam as beam
  except ImportError:
    raise InputError(
      f"{runner} needs Apache Beam: pip install vsumjax[beam]; without --runner, the processes of"
      " this machine prepare the videos"
    ) from None
  if not tasks:
    return
  with _create_pipeline(runner, flags) as pipeline:
    _ = (
      pipeline
      | "tasks" >> beam.Create(tasks)
      | "spread" >> beam.Reshuffle()
      | "prepare" >> beam.Map(functools.partial(_run_task, stall_s=stall_s))
    )
  outcomes = preparation.finished(Folder(tasks[0].out), tasks)
  yield from (outcomes[task.index] for task in tasks)


def _run_task(task: Task, stall_s: float) -> int:
  # In a process of its own: a decoder that crashes must not take Beam's worker with it.
  [outcome] = processes.run_tasks([task], num_workers=1, stall_s=stall_s)
  return outcome.task


def _create_pipeline(name: str, flags: Sequence[str]):
  import apache_beam as beam
  from apache_beam.options.pipeline_options import PipelineOptions
  from apache_beam.runners import create_runner
  from apache_beam.runners.portability.portable_runner import PortableRunner

  options = PipelineOptions(list(flags))
  known = options.get_all_options()
  unknown = options.get_all_options(retain_unknown_options=True).keys() - known.keys()
  try:
    runner = create_runner(name)
    pipeline = beam.Pipeline(runner, options)
  except (ImportError, ValueError) as error:
    raise InputError(f"--runner {name}: {' '.join(str(error).split())}") from None
  # Beam drops what it does not know; a job server, as Flink's, knows more than Beam.
  if unknown and not isinstance(runner, PortableRunner):
    raise InputError(f"--runner {name}: Beam has no flag --{min(unknown)}")
  return pipeline
