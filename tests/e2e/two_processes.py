"""One process of a small pod on this machine: `two_processes.py PORT INDEX COUNT train ...`."""

import sys

import jax

if __name__ == "__main__":
  port, index, count = map(int, sys.argv[1:4])
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", 2 // count)
  if count > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # as `--distributed` does
    jax.distributed.initialize(f"127.0.0.1:{port}", count, index)
  from vsumjax import cli

  sys.exit(cli.main(sys.argv[4:]))
