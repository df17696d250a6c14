"""What every topic of the pipeline stands on: paths, warehouse, tracking, settings, hand-overs."""
