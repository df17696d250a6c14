"""Prose that a skill may be trained on: texts that come with packages of the index, under licences that allow it."""
