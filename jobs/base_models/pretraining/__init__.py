"""A tool of the house, no part of the running site: makes base models from texts.

`jobs/base_models/build_tiny.py` is its command, and docs/base-model.md tells how the
model that ships was made.
"""
