"""The only wiring: config, experiment, teachers, workdir and one stage trained with them."""
