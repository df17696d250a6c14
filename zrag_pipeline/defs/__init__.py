"""The lineage by topic: assets, checks, jobs and sensors, each beside the code that does the work."""
