"""What pyproject.toml cannot say: `dagster_home/` of the checkout is package data of an installed copy."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["zrag_core*", "zrag_pipeline*"]), "zrag_pipeline.dagster_home"],
    package_dir={"zrag_pipeline.dagster_home": "dagster_home"},
)
